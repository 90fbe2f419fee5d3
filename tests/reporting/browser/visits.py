"""A page that is open in a browser, and what a reader does with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from playwright.sync_api import Locator, Page

from caltech_exp.config import run_id
from tests.reporting.conftest import row_config

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x$ a|b `c` &lt; [l](http://x.invalid)"
"""In names, paths and errors of the study."""
FAILED = run_id(row_config("scratch.lr", "1e-1"), 2)
"""Its run that failed."""
WIDE, NARROW = 1280, 375
DIVERSE = "section[aria-labelledby=augmentation]"
"""A part of the page with every kind of block, plots of figures and of a table's rows among them."""

Theme: TypeAlias = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")


@dataclass(frozen=True)
class Visit:
    """A page that is open, and what it did so far that it must not do."""

    page: Page
    errors: list[str]
    requests: list[str]


Open = Callable[..., Visit]


def read_through(page: Page, sections: str = "main") -> None:
    """Open and scroll through everything in the sections, so that every plot there is drawn."""
    for summary in page.locator(f"{sections} details.explore:visible > summary").all():
        summary.click()
    for shown in page.locator(f"{sections} figure").all():
        shown.scroll_into_view_if_needed()
    waiting = f"{sections} figure:has([data-figure]):not(.has-live)"
    page.wait_for_function("(waiting) => document.querySelector(waiting) === null", arg=waiting)


def table_of(page: Page, name: str) -> Locator:
    """The table after the heading with that anchor."""
    return page.locator(f"xpath=//h3[@id='{name}']/following::table[1]")


def column(table: Locator, index: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()


def figure(page: Page, number: int) -> Locator:
    found = page.locator(f"#figure-{number}")
    found.scroll_into_view_if_needed()
    found.locator(".panel canvas").first.wait_for()
    return found


def point_at(plot: Locator, epoch: int, accuracy: float) -> None:
    """Move the pointer to that place of the panel of accuracies."""
    plot.locator(".panel").nth(1).scroll_into_view_if_needed()
    place = plot.locator(".plots").evaluate(
        """(plots, [epoch, accuracy]) => {
            const view = Bokeh.index.get(plots.reportDocuments[1].roots()[0]);
            const box = view.canvas_view.el.getBoundingClientRect();
            return [box.x + view.frame.x_scale.compute(epoch), box.y + view.frame.y_scale.compute(accuracy)];
        }""",
        [epoch, accuracy],
    )
    plot.page.mouse.move(*place)


def drawn(plot: Locator) -> list[int]:
    """Lines, bands and markers in each panel."""
    counts: list[int] = plot.locator(".plots").evaluate(
        "(place) => place.reportDocuments.map((one) => one.roots()[0].renderers.length)"
    )
    return counts
