"""A page that is open in a browser, and what a reader does with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from playwright.sync_api import Locator, Page, expect

from caltech_exp.config import run_id
from tests.reporting.conftest import row_config

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x$ a|b `c` &lt; [l](http://x.invalid)"
"""In names, paths and errors of the study."""
FAILED = run_id(row_config("scratch.lr", "1e-1"), 2)
"""Its run that failed."""
WIDE, NARROW = (1280, 900), (390, 844)
DIVERSE = "section[aria-labelledby=augmentation]"
"""A part of the page with every kind of block."""

Theme: TypeAlias = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Visit:
    """A page that is open, and what it did so far that it must not do."""

    page: Page
    errors: list[str]
    requests: list[str]


Open = Callable[..., Visit]


def open_everything(page: Page, part: str = "main") -> None:
    """Open every fold of a part of the page, show every detail and draw every live plot."""
    page.evaluate(
        """(part) => {
            for (const fold of document.querySelectorAll(`${part} details, details.appendix`)) fold.open = true;
            for (const box of document.querySelectorAll(`${part} .switch`)) box.click();
            for (const button of document.querySelectorAll(`${part} button.explore`)) button.click();
        }""",
        part,
    )
    empty = page.locator(f"{part} .is-live .plots").filter(has_not=page.locator(".plot > * >> nth=1"))
    expect(empty).to_have_count(0)


def table_of(page: Page, name: str) -> Locator:
    """The table after the heading with that anchor."""
    return page.locator(f"xpath=//h3[@id='{name}']/following::table[1]")


def column(table: Locator, index: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()


def bottom(place: Locator) -> float:
    """Where something ends, in pixels from the top of the page."""
    return float(place.evaluate("(element) => element.getBoundingClientRect().bottom + scrollY"))


def figure(page: Page, number: int) -> Locator:
    """A figure of the report with its live plot, in the fold that it stands in."""
    return _live(page.locator(f"#figure-{number}"))


def plot_beside(page: Page, name: str) -> Locator:
    """The live plot beside a table."""
    return _live(page.locator(f"xpath=//h3[@id='{name}']/following::figure[1]"))


def _live(picture: Locator) -> Locator:
    picture.evaluate("(figure) => { const fold = figure.closest('details'); if (fold) fold.open = true; }")
    picture.locator("button.explore").click()
    picture.locator(".plot canvas").first.wait_for(state="attached")
    return picture


def point_at(plot: Locator, epoch: int, accuracy: float) -> None:
    """Move the pointer to that place of the panel of accuracies."""
    plot.locator(".plot").nth(1).scroll_into_view_if_needed()
    place = plot.locator(".plots").evaluate(
        """(plots, [epoch, accuracy]) => {
            const view = Bokeh.index.get(plots.bokehDocuments[1].roots()[0]);
            const box = view.canvas_view.el.getBoundingClientRect();
            return [box.x + view.frame.x_scale.compute(epoch), box.y + view.frame.y_scale.compute(accuracy)];
        }""",
        [epoch, accuracy],
    )
    plot.page.mouse.move(*place)


def drawn(plot: Locator) -> list[int]:
    """Lines, bands and markers in each panel."""
    counts: list[int] = plot.locator(".plots").evaluate(
        "(place) => place.bokehDocuments.map((document) => document.roots()[0].renderers.length)"
    )
    return counts
