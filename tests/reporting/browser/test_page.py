"""What the page loads, in which themes, on which screens, on paper, and without scripts."""

from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.reporting.browser.visits import (
    DIVERSE,
    FAILED,
    HOSTILE,
    NARROW,
    THEMES,
    WIDE,
    Open,
    Theme,
    figure,
    read_through,
    table_of,
)

pytestmark = pytest.mark.browser
SCREENSHOTS = CHECKOUT / "build" / "screenshots"


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


def test_hostile_names_are_only_text(visit: Open) -> None:
    seen = visit()
    shown = seen.page.locator("main").inner_text()
    assert f"failed: {HOSTILE} (log: /" in shown  # in the table's reasons
    detail = seen.page.locator(f"tr[id='{FAILED}'] .detail").text_content() or ""
    assert detail.startswith(f"{HOSTILE} (log: /")
    assert detail.endswith("a 'study' & <b> $x$/submissions/first/log.out)")
    assert f"{HOSTILE} (cpu)" in shown
    assert "a 'study' & <b> $x$" in shown
    assert seen.page.locator("main script, main img[src=x], main a[href*=invalid]").count() == 0
    assert seen.errors == []


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
