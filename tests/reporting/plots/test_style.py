"""The look of the pictures: the report's own whatever the user's settings, in light and in dark."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from caltech_exp.reporting.plots.style import (
    DARK,
    INK,
    PAPER,
    SERIES,
    accuracy_axis,
    add_axes,
    entry,
    legend_above,
    new_figure,
    report_style,
    save,
    shades,
    spread,
)

WEB = Path(__file__).parents[3] / "caltech_exp" / "reporting" / "web"
SCRIPT = """
import sys
from itertools import pairwise
from pathlib import Path
from caltech_exp.reporting.plots import style
with style.report_style():
    figure, below = style.new_figure(3, 2, "5e-2 ends highest", "Simulated")
    style.add_axes(figure, 0.5, 0.5 + below, 2, 1).plot([1, 2, 3])
    style.save(figure, Path(sys.argv[1]), "plot")
"""


def example(title: str = "5e-2 ends highest", caution: str = "") -> Figure:
    figure, below = new_figure(3, 2, title, caution)
    axes = add_axes(figure, 0.5, 0.5 + below, 2, 1)
    axes.plot([1, 2, 3], color=SERIES[0])
    legend_above(axes, [entry("measured", SERIES[1], "o")])
    return figure


def drawn_elsewhere(folder: Path, **environment: str) -> tuple[bytes, bytes, str]:
    """Both files of a picture that another process draws, and what it says."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "plot.png").read_bytes(), (folder / "plot.svg").read_bytes(), done.stderr


def test_style_ignores_backend_and_matplotlibrc(tmp_path: Path) -> None:
    own = tmp_path / "matplotlibrc"
    own.write_text("text.usetex: True\nfigure.facecolor: black\nfont.size: 30\nsavefig.dpi: 20\nnonsense: 1\n")
    plain = drawn_elsewhere(tmp_path / "plain")
    for number, (name, value) in enumerate(
        (
            ("MPLBACKEND", "module://matplotlib_inline.backend_inline"),
            ("MPLBACKEND", "inline"),
            ("MATPLOTLIBRC", str(own)),
            ("MPLCONFIGDIR", str(tmp_path)),
        )
    ):
        assert drawn_elsewhere(tmp_path / str(number), **{name: value}) == plain, name
    assert plain[2] == ""


def test_style_leaves_the_callers_settings() -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        with report_style():
            assert mpl.rcParams["font.size"] == 8
        assert mpl.rcParams["font.size"] == 30


def test_files_have_300_dpi_and_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with report_style():
            save(example(), tmp_path / name, "plot")
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "second")
    ]
    assert files[0] == files[1]
    with Image.open(tmp_path / "first" / "plot.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.size == (900, 600)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    svg = files[0]["plot.svg"].decode()
    assert "<dc:date>" not in svg
    assert "matplotlib.org" not in svg


def test_svg_has_a_dark_colour_for_every_light_one(tmp_path: Path) -> None:
    with report_style():
        save(example(caution="Simulated"), tmp_path, "plot")
    svg = (tmp_path / "plot.svg").read_text()
    head, style, body = re.split(r"<style>(@media[^<]*)</style>", svg)
    assert "prefers-color-scheme: dark" in style
    for what, colour in set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", head + body)):
        assert f'[style*="{what}: {colour}"] {{ {what}: {DARK[colour]} !important }}' in style
    assert f"fill: {PAPER}" not in body  # a transparent ground


def test_dark_colours_are_those_of_the_page() -> None:
    pairs = re.findall(r"light-dark\((#\w+), (#\w+)\)", (WEB / "report.css").read_text())
    assert (INK, DARK[INK]) in pairs
    own = set(pairs) & set(DARK.items())
    assert len(own) >= 6, set(DARK.items()) - own


def contrast(first: str, second: str) -> float:
    """Of two colours, as WCAG defines it: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*SERIES, INK])
def test_colours_are_seen_on_both_papers(colour: str) -> None:
    assert contrast(colour, PAPER) >= 2.2
    assert contrast(DARK[colour], DARK[PAPER]) >= 4.5


@pytest.mark.parametrize("title", [r"$\frac$", "$x", r"a $\nosuch{$ b", "<b>&"])
def test_texts_are_no_formulas(title: str, tmp_path: Path) -> None:
    with report_style():
        save(example(title, title), tmp_path, "plot")  # where matplotlib would fail
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_title_is_one_line_within_the_picture() -> None:
    with report_style():
        figure = example("long " * 100)
        figure.canvas.draw()
        text = next(text for text in figure.texts if text.get_text().startswith("long"))
        assert text.get_text().endswith("…")
        assert 0 <= text.get_window_extent().x0 < text.get_window_extent().x1 <= figure.bbox.width


def test_caution_is_wrapped_and_adds_to_the_height() -> None:
    with report_style():
        short, long = example(caution="Simulated"), example(caution="drawn at random " * 10)
        assert 2 < short.get_figheight() < long.get_figheight()
        long.canvas.draw()
        box = next(t for t in long.texts if t.get_text().startswith("drawn")).get_window_extent()
        assert box.x1 <= long.bbox.width


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.8, 0.86, [0.80, 0.82, 0.84, 0.86]),
        (0.857, 0.859, [0.854, 0.856, 0.858, 0.86, 0.862]),
        (0.09, 0.46, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_accuracy_axis_has_tight_limits_and_round_ticks(low: float, high: float, expected: list[float]) -> None:
    with report_style():
        figure, _ = new_figure(4, 3, "", "")
        axes = add_axes(figure, 0.5, 0.5, 3, 2)
        accuracy_axis(axes.yaxis, low, high)
        bottom, top = axes.get_ylim()
        assert bottom <= low < high <= top
        assert top - bottom <= max(1.2 * (high - low), 0.0101)
        ticks = [tick for tick in axes.get_yticks().tolist() if bottom <= tick <= top]
        assert ticks == pytest.approx(expected)


def test_spread_moves_labels_apart_and_no_further() -> None:
    places = spread([0.5, 0.5, 0.51, 0.9], [0.1] * 4, 1.0)
    ordered = sorted(places)
    assert all(upper - lower >= 0.099 for lower, upper in pairwise(ordered))
    assert places[3] == 0.9
    assert spread([0.2, 0.6], [0.1, 0.1], 1.0) == [0.2, 0.6]


def test_shades_are_opacities_of_one_colour() -> None:
    colours = shades(0.6)(np.linspace(0, 1, 5))
    assert len({tuple(colour[:3]) for colour in colours.tolist()}) == 1
    assert colours[0, 3] < colours[-1, 3] == pytest.approx(0.6)
