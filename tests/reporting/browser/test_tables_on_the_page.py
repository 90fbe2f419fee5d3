"""Tables of the page: sorted, and leading to their runs."""

import pytest

from tests.reporting.browser.visits import FAILED, Open, column, table_of

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_heading_sorts_by_its_column(visit: Open, how: str) -> None:
    table = table_of(visit().page, "scratch.lr")
    heading = table.locator("thead th").nth(1)
    labels = column(table, 0)
    orders = []
    for _ in range(3):
        button = heading.locator("button")
        button.click() if how == "click" else button.press(how)
        orders.append((heading.get_attribute("aria-sort"), column(table, 1)))
    means = sorted(column(table, 1))
    assert orders[0] == ("ascending", means)
    assert orders[1] == ("descending", means[::-1])
    assert orders[2][0] == "none"
    assert column(table, 0) == labels


def test_labels_sort_by_their_number_and_nothing_comes_last(visit: Open) -> None:
    page = visit().page
    rates = table_of(page, "scratch.lr")
    rates.locator("thead button").first.click()
    rates.locator("thead button").first.click()
    assert column(rates, 0) == ["1e-1", "6e-2", "5e-2", "1e-2", "1e-3"]
    page.locator(".appendix > summary").click()
    runs = page.locator(f"xpath=//tr[@id='{FAILED}']/ancestor::table")
    for _ in range(2):
        runs.locator("thead button").nth(3).click()
        assert column(runs, 3)[-1] == "–"


def test_row_leads_to_its_runs(visit: Open) -> None:
    page = visit().page
    table_of(page, "scratch.lr").locator("tbody a", has_text="1e-1").click()
    group = page.locator(":target")
    assert group.locator(f"tr[id='{FAILED}'] .state").inner_text() == "failed"
    assert group.locator("h3").evaluate("(h) => h.getBoundingClientRect().top < innerHeight")
    group.get_by_text("Back to scratch.lr").click()
    assert page.url.endswith("#scratch.lr")
