"""Pictures are drawn when what they show has changed, and only then, by this process or by others."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from caltech_exp.reporting.plots.data import ClassCounts, HeatMap, RowPlot, RowPoint
from caltech_exp.reporting.plots.figure_cache import FigureCache, drawing_pool
from caltech_exp.reporting.render.blocks import Picture

ROW = RowPoint("1e-3", "1. Scratch", (0.4, 0.5), 0.45, 0.1, 0.44, 0.01, 0.01, 0.1, "inconclusive")
PLOT = RowPlot("1e-3 is best", (ROW,), "Learning rate")


class Studio:
    """The folder of a cache, and how often a picture in it was drawn."""

    def __init__(self, place: Path) -> None:
        self.folder, self.index = place / "figures", place / ".cache" / "figures.json"
        self.folder.mkdir()
        self.drawn = 0
        self.times: dict[str, int] = {}

    def report(self, data: object = PLOT, name: str = "plot-a", draw: str = "comparisons:draw_sweep") -> Picture:
        cache = FigureCache(self.folder, self.index)
        picture = cache.add(name, draw, data, alternative="what it shows", caption="how")
        cache.finish()
        time = (self.folder / f"{name}.png").stat().st_mtime_ns
        self.drawn += self.times.get(name) != time
        self.times[name] = time
        return picture

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_same_data_is_drawn_once(studio: Studio) -> None:
    pictures = [studio.report() for _ in range(3)]
    assert pictures == [Picture("plot-a", "what it shows", "how")] * 3
    assert studio.drawn == 1
    assert studio.names() == {"plot-a.png", "plot-a.svg"}


def test_equal_data_that_was_built_anew_is_the_same(studio: Studio) -> None:
    for _ in range(2):
        means = np.array([[0.1, 0.2], [0.3, float("nan")]])
        studio.report(HeatMap("t", "x", ("1", "2"), "y", ("a", "b"), means), draw="comparisons:draw_heat_map")
    assert studio.drawn == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (PLOT, RowPlot("1e-3 is best", (ROW, ROW), "Learning rate")),
        (PLOT, RowPlot("another title", (ROW,), "Learning rate")),
        (PLOT, RowPlot("1e-3 is best", (RowPoint("1e-3", "", (0.4, 0.51), 0.45),), "Learning rate")),
        (PLOT, RowPlot("1e-3 is best", (ROW,), "Learning rate", "Simulated")),
    ],
)
def test_other_data_is_drawn_again(studio: Studio, first: object, second: object) -> None:
    studio.report(first)
    studio.report(second)
    assert studio.drawn == 2


def test_another_array_is_drawn_again(studio: Studio) -> None:
    for value in (0.1, 0.1, 0.2):
        means = np.full((2, 2), value)
        studio.report(HeatMap("t", "x", ("1", "2"), "y", ("a", "b"), means), draw="comparisons:draw_heat_map")
    assert studio.drawn == 2


def test_another_drawing_function_draws_again(studio: Studio) -> None:
    studio.report()
    studio.report(draw="comparisons:draw_differences")
    assert studio.drawn == 2


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_picture_that_was_changed_or_lost_is_drawn_again(studio: Studio, kind: str) -> None:
    studio.report()
    path = studio.folder / f"plot-a.{kind}"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    studio.report()
    path.unlink()
    studio.report()
    assert studio.drawn == 3
    assert path.read_bytes() == good


@pytest.mark.parametrize("content", [b"", b"{", b'{"plot-a": 1}', b"\xff"])
def test_damaged_index_is_no_index(studio: Studio, content: bytes) -> None:
    studio.report()
    studio.index.write_bytes(content)
    studio.report()
    assert studio.drawn == 2


def test_pictures_that_are_not_shown_any_more_go_and_others_stay(studio: Studio) -> None:
    studio.report(name="plot-old")
    own = {"mine.png", "plot-mine.svg", "figure-99.png", "plot-old.txt"}
    for name in own:
        (studio.folder / name).write_text("kept")
    studio.report(name="figure-123")
    assert studio.names() == {"figure-123.png", "figure-123.svg", *own}
    studio.report(name="figure-05")
    assert studio.names() == {"figure-05.png", "figure-05.svg", *own}


def test_index_names_nothing_outside_the_folder(studio: Studio) -> None:
    studio.report()
    outside = studio.folder.parent / "plot-a.png"
    outside.write_text("kept")
    studio.index.write_text(studio.index.read_text().replace('"plot-a"', '"../plot-a"'))
    studio.report(name="plot-b")
    assert outside.exists()


def test_pictures_that_other_processes_draw_are_the_same(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with drawing_pool() as pool:
        for folder, given in ((studio.folder, None), (tmp_path / "other", pool)):
            cache = FigureCache(folder, folder / "index", given)
            for name in ("plot-a", "plot-b"):
                cache.add(name, "comparisons:draw_sweep", PLOT, alternative="", caption="")
            cache.finish()
    files = [
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (studio.folder, tmp_path / "other")
    ]
    assert files[0] == files[1]
    assert set(files[0]) == {"plot-a.png", "plot-a.svg", "plot-b.png", "plot-b.svg", "index"}


def test_folder_that_other_processes_cannot_write_is_an_error(studio: Studio) -> None:
    with ProcessPoolExecutor(1) as pool:
        cache = FigureCache(studio.folder / "missing", studio.index, pool)
        cache.add("plot-a", "comparisons:draw_sweep", PLOT, alternative="", caption="")
        with pytest.raises(FileNotFoundError, match="missing"):
            cache.finish()


def test_data_that_cannot_be_compared_is_refused(studio: Studio) -> None:
    with pytest.raises(TypeError):
        studio.report({1, 2})


def test_cached_pictures_import_no_matplotlib(studio: Studio) -> None:
    script = """
import sys
from pathlib import Path
from caltech_exp.reporting.plots.data import ClassCounts
from caltech_exp.reporting.plots.figure_cache import FigureCache
cache = FigureCache(Path(sys.argv[1]), Path(sys.argv[2]))
counts = ClassCounts("t", ("a", "b"), (2, 3), (1, 1))
cache.add("plot-a", "dataset:draw_class_counts", counts, alternative="", caption="")
cache.finish()
assert "matplotlib" not in sys.modules
"""
    studio.report(ClassCounts("t", ("a", "b"), (2, 3), (1, 1)), draw="dataset:draw_class_counts")
    command = [sys.executable, "-c", script, str(studio.folder), str(studio.index)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("has_long_temp_path", [False, True])
def test_processes_draw_whatever_the_environment_says(
    studio: Studio, tmp_path: Path, has_long_temp_path: bool
) -> None:
    script = """
import sys
from pathlib import Path
from caltech_exp.reporting.plots.data import ClassCounts
from caltech_exp.reporting.plots.figure_cache import FigureCache, drawing_pool
with drawing_pool() as pool:
    cache = FigureCache(Path(sys.argv[1]), Path(sys.argv[2]), pool)
    counts = ClassCounts("t", ("a", "b"), (2, 3), (1, 1))
    cache.add("plot-a", "dataset:draw_class_counts", counts, alternative="", caption="")
    cache.finish()
"""
    studio.report(ClassCounts("t", ("a", "b"), (2, 3), (1, 1)), draw="dataset:draw_class_counts")
    (tmp_path / "other").mkdir()
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: black\n")
    temporary = tmp_path / ("long" * 30) if has_long_temp_path else Path("/tmp")
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "other"), str(tmp_path / "index")],
        env={
            **os.environ,
            "MPLBACKEND": "module://no_such.backend",
            "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
            "TMPDIR": str(temporary),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in ("png", "svg"):
        own, other = (folder / f"plot-a.{kind}" for folder in (studio.folder, tmp_path / "other"))
        assert own.read_bytes() == other.read_bytes()
