"""Curves of the page: read with pointer and keyboard, run by run."""

import pytest

from tests.reporting.browser.visits import Open, drawn, figure, point_at

pytestmark = pytest.mark.browser


def test_hovering_tells_the_values_of_an_epoch(visit: Open) -> None:
    plot = figure(visit().page, 6)
    value = plot.locator(".series tbody tr").first.locator("td").nth(2)
    assert value.inner_text() == "0.446"
    point_at(plot, 15, 0.9)
    plot.locator("output", has_text="15 of 30").wait_for()
    assert value.inner_text() == "0.223"


def test_a_curve_names_itself_under_the_pointer(visit: Open) -> None:
    plot = figure(visit().page, 6)
    point_at(plot, 25, 0.446 * 25 / 30)
    tip = plot.page.locator(".bk-Tooltip")
    tip.wait_for()
    text = " ".join(str(tip.evaluate("(tip) => tip.shadowRoot.textContent")).split())
    assert "mean of 2 runs epoch: 25 validation accuracy: 0.372" in text


def test_values_by_keyboard(visit: Open) -> None:
    plot = figure(visit().page, 6)
    plot.locator("input[type=range]").press("Home")
    assert plot.locator("output").inner_text() == "1 of 30"
    assert plot.locator(".series tbody tr").first.locator("td").nth(2).inner_text() == f"{0.446 / 30:.3f}"


def test_runs_are_shown_and_hidden(visit: Open) -> None:
    plot = figure(visit().page, 6)
    labels = plot.locator(".series tbody label").all_inner_texts()
    assert [" ".join(label.split()[1:]) for label in labels] == ["mean of 2 runs", "seed 0", "seed 1"]
    assert drawn(plot) == [6, 3]  # band, line and markers of the mean, of two losses and an accuracy
    boxes = plot.locator(".series input")
    boxes.nth(1).check()
    assert drawn(plot) == [10, 5]
    boxes.nth(0).uncheck()
    assert drawn(plot) == [4, 2]


def test_the_curves_of_a_tables_rows(visit: Open) -> None:
    page = visit().page
    fold = page.locator("details.explore[data-name*='Changing learning rate']").first
    fold.locator("summary").click()
    fold.locator(".panel canvas").first.wait_for()
    assert fold.locator(".series tbody tr").count() == 5
    fold.get_by_text("list single runs").click()
    assert fold.locator(".series tbody tr").count() == 5 + 11


def test_a_diverged_row_shows_its_runs(visit: Open) -> None:
    fold = visit().page.locator("details.explore[data-rows*='diverging']").first
    fold.locator("summary").click()
    labels = fold.locator(".series tbody label")
    assert [text.split(", ", 1)[1] for text in labels.all_inner_texts()] == [
        "seed 0, diverged",
        "seed 1, diverged",
    ]
    assert [box.is_checked() for box in labels.locator("input").all()] == [True, True]
