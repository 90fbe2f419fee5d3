"""The page without eyes, without a mouse, without motion."""

import json
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.reporting.browser.visits import DIVERSE, NARROW, WIDE, Open, Theme, open_everything

pytestmark = pytest.mark.browser


def test_every_picture_has_words_for_it(visit: Open) -> None:
    page = visit().page
    open_everything(page, ".appendix")
    images = page.locator("img").all()
    words = [image.get_attribute("alt") or "" for image in images]
    assert len(words) >= 30
    assert min(len(text) for text in words) > 20
    assert all((image.get_attribute("src") or "").startswith("data:image/") for image in images)
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 100)")


@pytest.mark.parametrize(("size", "theme"), [(WIDE, "light"), (NARROW, "dark")])
def test_axe_finds_no_barrier(visit: Open, theme: Theme, size: tuple[int, int]) -> None:
    page = visit(size, theme).page
    open_everything(page, DIVERSE)
    results = Axe().run(page)
    violations = {
        rule["id"]: [node["target"] for node in rule["nodes"]][:3] for rule in results.response["violations"]
    }
    assert json.dumps(violations, indent=1) == "{}"


def test_headings_are_in_order_and_landmarks_there(visit: Open) -> None:
    page = visit().page
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [page.locator(name).count() for name in ("main", "nav", "header.bar")] == [1, 1, 1]
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1))")
    assert {*map(str, targets)} <= set(ids)


def test_keyboard_skips_to_the_report_and_focus_is_seen(visit: Open) -> None:
    page = visit().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "page-report"


def test_nothing_moves_by_itself(visit: Open) -> None:
    page = visit().page
    page.wait_for_timeout(100)
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
