"""The HTML page in a real browser: what it loads, what it shows, what a reader can do with it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, sync_playwright

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import run_id
from caltech_exp.results import Device
from reports.html_page import to_html
from reports.page import report_page
from tests.conftest import CHECKOUT
from tests.reports.conftest import StudyFolder, make_diverged, make_result, row_config

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = CHECKOUT / "build" / "screenshots"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x$ a|b `c` &lt; [l](http://x.invalid)"
FAILED = run_id(row_config("scratch.lr", "1e-1"), 2)
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium; CI fails without it."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        reason = "no Chromium here: make test-browser installs it on Debian"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, stand_in: Path) -> Path:
    """The report of a study whose names, paths and errors do their worst, of two runs a row."""
    folder = tmp_path_factory.mktemp("page")
    study = StudyFolder(folder / "a 'study' & <b> $x$")
    study.start(root=HOSTILE)
    for section in THE_REPORT.sections:
        for table in section.tables:
            for row in table.rows:
                final = row.reported.mean if row.reported else 0.6
                for seed in (0, 1):
                    study.add(
                        make_diverged(row.config, seed) if row.diverges else make_result(row.config, seed, final)
                    )
    study.add(make_result(row_config("scratch.lr", "1e-2"), 2, device=Device(type="cpu", name=HOSTILE)))
    study.submit(FAILED)
    study.fail(FAILED, HOSTILE)
    out = folder / "out"
    (out / "figures").mkdir(parents=True)
    collected = study.collect()
    blocks = report_page(collected, out, str(stand_in))
    page = out / "report.html"
    page.write_text(to_html(blocks, collected, out))
    return page


@pytest.fixture
def visit(chromium: Browser, file: Path) -> Iterator[Open]:
    """Open the page at a width, in a theme."""
    contexts = []

    def open_page(width: int = WIDE, theme: Theme = "light", **options: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        errors: list[str] = []
        requests: list[str] = []

        def on_console(said: ConsoleMessage) -> None:
            if said.type in ("error", "warning"):
                errors.append(said.text)

        def on_dialog(dialog: Dialog) -> None:
            errors.append(dialog.message)
            dialog.dismiss()

        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", on_console)
        page.on("dialog", on_dialog)
        page.on("request", lambda sent: requests.append(sent.url))
        page.goto(file.as_uri())
        return Visit(page, errors, requests)

    yield open_page
    for context in contexts:
        context.close()


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


def test_nothing_goes_wrong_and_nothing_is_loaded(visit: Open, file: Path) -> None:
    seen = visit()
    read_through(seen.page)
    seen.page.click("#theme")
    seen.page.wait_for_timeout(300)
    assert seen.errors == []
    assert {url for url in seen.requests if not url.startswith("data:")} == {file.as_uri()}
    assert seen.page.locator(".panel canvas").count() >= 2 * seen.page.locator("[data-figure]").count() > 0


def test_the_policy_stops_scripts_and_requests_of_others(visit: Open) -> None:
    page = visit().page
    ran = page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.foreign = true";
            document.body.append(script);
            return window.foreign === true;
        }"""
    )
    assert not ran
    assert (
        page.evaluate("fetch('https://example.invalid/').then(() => 'sent', (error) => error.name)") == "TypeError"
    )
    policy = page.locator("meta[http-equiv]").get_attribute("content") or ""
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_every_picture_has_words_for_it(visit: Open) -> None:
    page = visit().page
    words = [image.get_attribute("alt") or "" for image in page.locator("img").all()]
    assert len(words) >= 18
    assert min(len(text) for text in words) > 20
    assert all(image.get_attribute("src").startswith("data:image/") for image in page.locator("img").all())  # type: ignore[union-attr]
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 100)")


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_sorting_by_a_column(visit: Open, how: str) -> None:
    table = table_of(visit().page, "scratch.lr")
    heading = table.locator("thead th").nth(1)
    given = column(table, 0)
    seen = []
    for _ in range(3):
        button = heading.locator("button")
        button.click() if how == "click" else button.press(how)
        seen.append((heading.get_attribute("aria-sort"), column(table, 1)))
    means = sorted(column(table, 1))
    assert seen[0] == ("ascending", means)
    assert seen[1] == ("descending", means[::-1])
    assert seen[2][0] == "none"
    assert column(table, 0) == given


def test_labels_sort_by_their_number_and_nothing_comes_last(visit: Open) -> None:
    page = visit().page
    rates = table_of(page, "scratch.lr")
    rates.locator("thead button").first.click()
    rates.locator("thead button").first.click()
    assert column(rates, 0) == ["1e-1", "6e-2", "5e-2", "1e-2", "1e-3"]
    runs = page.locator(f"xpath=//tr[@id='{FAILED}']/ancestor::table")
    for _ in range(2):
        runs.locator("thead button").nth(3).click()
        assert column(runs, 3)[-1] == "–"


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


def drawn(plot: Locator) -> list[int]:
    """Lines, bands and markers in each panel."""
    counts: list[int] = plot.locator(".plots").evaluate(
        "(place) => place.reportDocuments.map((one) => one.roots()[0].renderers.length)"
    )
    return counts


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


def test_a_row_leads_to_its_runs(visit: Open) -> None:
    page = visit().page
    table_of(page, "scratch.lr").locator("tbody a", has_text="1e-1").click()
    group = page.locator(":target")
    assert group.locator(f"tr[id='{FAILED}'] .state").inner_text() == "failed"
    assert group.locator("h3").evaluate("(h) => h.getBoundingClientRect().top < innerHeight")
    group.get_by_text("Back to scratch.lr").click()
    assert page.url.endswith("#scratch.lr")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_page_is_wider_than_the_screen(visit: Open, width: int, theme: Theme) -> None:
    page = visit(width, theme).page
    read_through(page, DIVERSE)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for name in ("top", "scratch.lr", "figure-6", "runs"):
        page.evaluate("(name) => document.getElementById(name).scrollIntoView({behavior: 'instant'})", name)
        page.wait_for_timeout(300)
        page.screenshot(path=SCREENSHOTS / f"{theme}-{width}-{name}.png")


def test_the_theme_follows_the_system_until_the_reader_chooses(visit: Open) -> None:
    page = visit(theme="dark").page

    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    switch = page.locator("#theme")
    assert (paper(), switch.get_attribute("aria-pressed")) == ("rgb(22, 24, 28)", "true")
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-theme=light]")
    assert (paper(), switch.get_attribute("aria-pressed")) == ("rgb(255, 255, 255)", "false")
    switch.click()
    assert paper() == "rgb(22, 24, 28)"
    page.reload()
    assert paper() == "rgb(22, 24, 28)"


def test_hostile_names_are_only_text(visit: Open) -> None:
    seen = visit()
    shown = seen.page.locator("main").inner_text()
    assert f"failed: {HOSTILE} (log: log.out)" in shown  # in the table's reasons
    assert seen.page.locator(f"tr[id='{FAILED}'] .detail").text_content() == f"{HOSTILE} (log: log.out)"
    assert f"{HOSTILE} (cpu)" in shown
    assert "a 'study' & <b> $x$" in shown
    assert seen.page.locator("main script, main img[src=x], main a[href*=invalid]").count() == 0
    assert seen.errors == []


@pytest.mark.parametrize(("width", "theme"), [(WIDE, "light"), (NARROW, "dark")])
def test_axe_finds_no_barrier(visit: Open, theme: Theme, width: int) -> None:
    page = visit(width, theme).page
    read_through(page, DIVERSE)
    found = Axe().run(page)
    said = {one["id"]: [node["target"] for node in one["nodes"]][:3] for one in found.response["violations"]}
    assert json.dumps(said, indent=1) == "{}"


def test_headings_are_in_order_and_landmarks_there(visit: Open) -> None:
    page = visit().page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [page.locator(name).count() for name in ("main", "nav", "header.bar")] == [1, 1, 1]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))")
    assert {*map(str, targets)} <= set(ids)


def test_the_keyboard_skips_to_the_report_and_focus_is_seen(visit: Open) -> None:
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "report"


def test_printed_it_has_the_pictures_and_no_controls(visit: Open) -> None:
    page = visit(theme="dark").page
    figure(page, 6)
    page.emulate_media(media="print")
    assert page.locator("#figure-6 .still").is_visible()
    assert not page.locator("#figure-6 .live, .bar, nav").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_it_is_a_whole_report(visit: Open) -> None:
    page = visit(java_script_enabled=False).page
    assert page.locator("#figure-6 .still").is_visible()
    assert "0.446" in table_of(page, "scratch.lr").inner_text()
    assert not page.locator("#theme").is_visible()


def test_nothing_moves_by_itself(visit: Open) -> None:
    page = visit().page
    page.wait_for_timeout(100)
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
