"""A picture follows the page's light or dark scheme, also where the page's own switch sets it."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from caltech_exp.reporting.plots.style import DARK, INK, new_figure, report_style, save

pytestmark = pytest.mark.browser

PAGE = """<style>
  :root {{ color-scheme: light dark }}
  :root[data-scheme="light"] {{ color-scheme: light }} :root[data-scheme="dark"] {{ color-scheme: dark }}
  body {{ background: light-dark(#ffffff, #16181c) }}
</style><img src="data:image/svg+xml;base64,{}">"""


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    with report_style():
        figure, _ = new_figure(2, 1, "", "")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.fill_between([0, 1], 1, color=INK)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        save(figure, tmp_path, "plot")
    file = tmp_path / "page.html"
    file.write_text(PAGE.format(base64.b64encode((tmp_path / "plot.svg").read_bytes()).decode()))
    return file


def colour(page: Page) -> str:
    """The colour in the middle of the picture."""
    picture = page.locator("img").screenshot()
    with Image.open(io.BytesIO(picture)) as image:
        pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return "#{:02x}{:02x}{:02x}".format(*pixel)


@pytest.mark.parametrize("system", ["light", "dark"])
def test_pictures_follow_the_system_and_the_pages_switch(chromium: Browser, page_file: Path, system: str) -> None:
    page = chromium.new_page(color_scheme=system)  # type: ignore[arg-type]
    page.goto(page_file.as_uri())
    assert colour(page) == (INK if system == "light" else DARK[INK])
    for scheme in ("dark", "light", "dark"):
        page.evaluate("scheme => { document.documentElement.dataset.scheme = scheme }", scheme)
        assert colour(page) == (INK if scheme == "light" else DARK[INK])
    page.close()
