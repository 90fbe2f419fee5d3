"""Curves of the page: read with pointer and keyboard, run by run."""

import pytest

from tests.reporting.browser.visits import Open, column, drawn, figure, plot_beside, point_at

pytestmark = pytest.mark.browser


def test_picture_and_live_plot_take_turns(visit: Open) -> None:
    plot = figure(visit().page, 6)
    button = plot.locator("button.explore")
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("picture", "true")
    assert not plot.locator("img").is_visible()
    button.click()
    assert (button.inner_text(), button.get_attribute("aria-expanded")) == ("explore", "false")
    assert plot.locator("img").is_visible()
    assert not plot.locator(".live").is_visible()


def test_plots_are_drawn_only_when_asked_for(visit: Open) -> None:
    page = visit().page
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    assert page.locator(".plot").count() == 0


def test_hovering_tells_the_values_of_an_epoch(visit: Open) -> None:
    plot = figure(visit().page, 6)
    value = plot.locator(".series tbody tr").first.locator("td").nth(3)
    assert value.inner_text() == "0.446"
    point_at(plot, 15, 0.4)
    plot.locator("output", has_text="15 of 30").wait_for()
    assert value.inner_text() == "0.223"


def test_curve_names_itself_under_the_pointer(visit: Open) -> None:
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
    assert plot.locator(".series tbody tr").first.locator("td").nth(3).inner_text() == f"{0.446 / 30:.3f}"


def test_slider_starts_at_the_last_epoch_of_each_row(visit: Open) -> None:
    plot = plot_beside(visit().page, "scratch.epochs")
    assert plot.locator("output").inner_text() == "60 of 60"
    rows = plot.locator(".series")
    assert column(rows, 1) == ["20", "30", "40", "50", "60"]
    assert column(rows, 4) == ["0.328", "0.446", "0.434", "0.451", "0.498"]
    plot.locator("input[type=range]").fill("25")
    assert column(rows, 1) == ["20", "25", "25", "25", "25"]
    assert column(rows, 4)[:2] == ["0.328", f"{0.446 * 25 / 30:.3f}"]


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


def test_curves_of_a_tables_rows(visit: Open) -> None:
    plot = plot_beside(visit().page, "scratch.lr")
    assert plot.locator(".series tbody tr").count() == 5
    plot.get_by_text("list single runs").click()
    assert plot.locator(".series tbody tr").count() == 5 + 11


def test_diverged_row_shows_its_runs(visit: Open) -> None:
    plot = plot_beside(visit().page, "transfer.diverging")
    labels = plot.locator(".series tbody label")
    assert [" ".join(text.split()[1:]) for text in labels.all_inner_texts()] == [
        "seed 0, diverged",
        "seed 1, diverged",
    ]
    assert [box.is_checked() for box in labels.locator("input").all()] == [True, True]
