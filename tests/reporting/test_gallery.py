"""Pictures are drawn when what they show has changed, and only then."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from caltech_exp.reporting.gallery import Drawing, Gallery, digests
from caltech_exp.reporting.outcome import outcome_of
from tests.reporting.conftest import make_result, row_config


class Studio:
    """A gallery's folder, and how often anything was drawn in it."""

    def __init__(self, place: Path) -> None:
        self.folder, self.index = place / "figures", place / ".cache" / "figures.json"
        self.folder.mkdir()
        self.drawn = 0

    def draw(self) -> Drawing:
        self.drawn += 1
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, str(self.drawn))
        return Drawing(figure, ("a note",))

    def report(self, *shows: object, name: str = "plot-a") -> tuple[str, ...]:
        gallery = Gallery(self.folder, self.index)
        words = gallery.show(name, shows, self.draw)
        gallery.finish()
        return words


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_the_same_is_drawn_once_and_keeps_its_words(studio: Studio) -> None:
    assert [studio.report("x", 1.5, None) for _ in range(3)] == [("a note",)] * 3
    assert studio.drawn == 1


@pytest.mark.parametrize(("first", "second"), [((1,), (2,)), (("1",), (1,)), (("a", "b"), ("ab",)), ((None,), ())])
def test_what_differs_is_drawn_anew(studio: Studio, first: tuple[object, ...], second: tuple[object, ...]) -> None:
    studio.report(*first)
    studio.report(*second)
    assert studio.drawn == 2


def test_another_curve_is_drawn_anew(studio: Studio) -> None:
    config = row_config("scratch.lr", "1e-2")
    for accuracy in (0.3, 0.3, 0.31):
        studio.report(digests([outcome_of(make_result(config, 0, accuracy))]))
    assert studio.drawn == 2


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_that_was_changed_or_lost_is_drawn_anew(studio: Studio, kind: str) -> None:
    studio.report("x")
    path = studio.folder / f"plot-a.{kind}"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    studio.report("x")
    path.unlink()
    studio.report("x")
    assert studio.drawn == 3
    assert path.stat().st_size > 100


@pytest.mark.parametrize("content", [b"", b"{", b'{"plot-a": 1}', b"\xff"])
def test_a_damaged_index_is_no_index(studio: Studio, content: bytes) -> None:
    studio.report("x")
    studio.index.write_bytes(content)
    studio.report("x")
    assert studio.drawn == 2


def test_pictures_that_are_shown_no_more_go_and_others_stay(studio: Studio) -> None:
    studio.report("x", name="plot-old")
    (studio.folder / "mine.png").write_text("kept")
    (studio.folder / "plot-mine.svg").write_text("kept")
    (studio.folder / "figure-99.png").write_text("kept")
    (studio.folder / "plot-old.txt").write_text("kept")
    studio.report("x", name="figure-123")
    kept = {"mine.png", "plot-mine.svg", "figure-99.png", "plot-old.txt"}
    names = {path.name for path in studio.folder.iterdir()}
    assert names == {"figure-123.png", "figure-123.svg", *kept}
    studio.report("x", name="figure-05")  # a figure of three digits goes too
    names = {path.name for path in studio.folder.iterdir()}
    assert names == {"figure-05.png", "figure-05.svg", *kept}


def test_an_index_names_nothing_outside_of_the_folder(studio: Studio) -> None:
    studio.report("x", name="plot-a")
    outside = studio.folder.parent / "plot-a.png"
    outside.write_text("kept")
    studio.index.write_text(studio.index.read_text().replace('"plot-a"', '"../plot-a"'))
    studio.report("x", name="plot-b")
    assert outside.exists()


def one_line(text: str) -> Drawing:
    figure = Figure(figsize=(1, 1))
    figure.text(0.5, 0.5, text)
    return Drawing(figure)


def test_drawn_by_other_processes_it_is_the_same(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with ProcessPoolExecutor(2) as pool:
        for folder, given in ((studio.folder, None), (tmp_path / "other", pool)):
            gallery = Gallery(folder, folder / "index", given)
            for name in ("plot-a", "plot-b"):
                gallery.show_later(name, [name], partial(one_line, name))
            gallery.finish()
    files = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (studio.folder, tmp_path / "other")
    ]
    assert files[0] == files[1]
    assert set(files[0]) == {"plot-a.png", "plot-a.svg", "plot-b.png", "plot-b.svg", "index"}


def test_a_folder_that_other_processes_cannot_write_is_told(studio: Studio) -> None:
    with ProcessPoolExecutor(1) as pool:
        gallery = Gallery(studio.folder / "missing", studio.index, pool)
        gallery.show_later("plot-a", ["a"], partial(one_line, "a"))
        with pytest.raises(FileNotFoundError, match="missing"):
            gallery.finish()
