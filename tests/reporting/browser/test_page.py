"""What the page loads, in which themes, on paper, and without scripts."""

import io
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Locator

from tests.reporting.browser.visits import FAILED, HOSTILE, Open, figure, open_everything, table_of

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("is_simulated", [False, True])
def test_nothing_goes_wrong_and_nothing_is_loaded(
    visit: Open, visit_simulated: Open, file: Path, simulated_file: Path, is_simulated: bool
) -> None:
    visited = visit_simulated() if is_simulated else visit()
    open_everything(visited.page)
    visited.page.click("#page-scheme")
    visited.page.wait_for_timeout(300)
    assert visited.errors == []
    own = simulated_file if is_simulated else file
    assert {url for url in visited.requests if not url.startswith("data:")} == {own.as_uri()}
    assert visited.page.locator(".plot canvas").count() >= 2 * visited.page.locator("[data-rows]").count() > 0


def test_policy_stops_scripts_and_requests_of_others(visit: Open) -> None:
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
    visited = visit()
    open_everything(visited.page)
    text = visited.page.locator("main").inner_text()
    assert f"{FAILED} failed: {HOSTILE} (log: /" in text  # among the table's reasons
    detail = visited.page.locator(f"tr[id='{FAILED}'] .detail-text").text_content() or ""
    assert detail.startswith(f"{HOSTILE} (log: /")
    assert detail.endswith("a 'study' & <b> $x$/submissions/first/log.out)")
    assert f"{HOSTILE} (cpu)" in text
    assert "a 'study' & <b> $x$" in text
    assert visited.page.locator("main script, main img[src=x], main a[href*=invalid]").count() == 0
    assert visited.errors == []


def brightness(place: Locator) -> float:
    """Of what is seen there, 0 to 255."""
    with Image.open(io.BytesIO(place.screenshot())) as image:
        return float(ImageStat.Stat(image.convert("L")).mean[0])


def test_theme_follows_the_system_until_the_reader_chooses(visit: Open) -> None:
    page = visit(theme="dark").page
    switch, picture = page.locator("#page-scheme"), page.locator("figure img").first

    def look() -> tuple[str, str, str | None, bool]:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return str(paper), switch.inner_text(), switch.get_attribute("aria-label"), brightness(picture) > 128

    dark = ("rgb(22, 24, 28)", "Light", "Light colours", False)
    light = ("rgb(255, 255, 255)", "Dark", "Dark colours", True)
    assert look() == dark
    page.emulate_media(color_scheme="light")
    page.wait_for_selector("html[data-scheme=light]")
    assert look() == light
    switch.click()
    assert look() == dark
    page.reload()
    assert look() == dark
    switch.press("Enter")
    assert look() == light


def test_printed_page_has_all_parts_and_no_controls(visit: Open) -> None:
    page = visit(theme="dark").page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("#figure-6 img").is_visible()
    assert page.locator("#page-runs").is_visible()
    assert page.locator(".bar, nav, .live, .switch, figcaption button").locator("visible=true").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#page-runs").is_visible()


def test_live_plot_is_not_printed_in_place_of_its_picture(visit: Open) -> None:
    page = visit().page
    plot = figure(page, 6)
    assert not plot.locator("img").is_visible()
    page.emulate_media(media="print")
    assert plot.locator("img").is_visible()
    assert not plot.locator(".live").is_visible()


def test_without_scripts_it_is_a_whole_report(visit: Open) -> None:
    page = visit(java_script_enabled=False).page
    assert page.locator("main figure img").first.is_visible()
    table = table_of(page, "scratch.lr")
    assert "0.446" in table.inner_text()
    table.locator("xpath=ancestor::div[@class='table']").locator(".switch").check()
    assert table.locator("th", has_text="test accuracy").is_visible()
    assert not page.locator("#page-scheme").is_visible()
    page.locator(".appendix > summary").click()
    assert page.locator("#page-runs").is_visible()
