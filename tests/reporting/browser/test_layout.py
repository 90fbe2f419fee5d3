"""What of the simulated study's page is on which screen, and that nothing is wider than its place."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import CHECKOUT
from tests.reporting.browser.visits import NARROW, THEMES, WIDE, Open, Theme, bottom, open_everything, table_of

pytestmark = pytest.mark.browser
SCREENSHOTS = CHECKOUT / "build" / "screenshots"
MOST_SCREENS = 12


def first_screen(page: Page) -> list[Locator]:
    """Title, caution, badges, the best rows and the findings."""
    parts = [page.locator(name) for name in ("h1", ".note", ".badges", "main table")]
    parts.append(page.locator("main > ul:not(.badges)"))
    return [part.first for part in parts]


def wider_than_their_place(page: Page, name: str = ".table table, table.runs") -> list[str]:
    texts: list[str] = page.locator(name).evaluate_all(
        """(tables) => tables
            .filter((table) => table.closest(".scroll").scrollWidth > table.closest(".scroll").clientWidth)
            .map((table) => table.closest(".scroll").ariaLabel)"""
    )
    return texts


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("size", "screens"), [(WIDE, 1), (NARROW, 2)])
def test_answer_is_on_the_first_screen(
    visit_simulated: Open, size: tuple[int, int], screens: int, theme: Theme
) -> None:
    page = visit_simulated(size, theme).page
    parts = first_screen(page)
    assert max(bottom(part) for part in parts) <= screens * size[1]
    assert parts[2].locator(".badge").all_inner_texts() == ["27 agree", "3 inconclusive", "0 differ"]
    assert parts[3].locator("tbody tr").count() == 4
    assert parts[4].locator("li").count() == 5
    assert bottom(page.locator("main figure img").first) <= screens * size[1]


@pytest.mark.parametrize("theme", THEMES)
def test_page_has_at_most_twelve_screens_and_every_table_with_its_plot(
    visit_simulated: Open, theme: Theme
) -> None:
    page = visit_simulated(WIDE, theme).page
    assert page.evaluate("document.documentElement.scrollHeight") <= MOST_SCREENS * WIDE[1]
    headings = page.locator("main h3:visible")
    assert headings.count() == 16
    for name in headings.evaluate_all("(all) => all.map((heading) => heading.id)"):
        panel = page.locator(f"xpath=//h3[@id='{name}']/following::div[@class='panel'][1]")
        assert panel.locator("table").first.is_visible()
        table, plot = (panel.locator(part).first.bounding_box() for part in (".table", "img"))
        assert table
        assert plot
        assert table["x"] + table["width"] <= plot["x"]  # side by side
        assert plot["height"] > 100


def test_no_table_is_wider_than_its_place(visit_simulated: Open) -> None:
    page = visit_simulated(WIDE).page
    assert wider_than_their_place(page) == []
    open_everything(page)
    assert wider_than_their_place(page) == []


def test_no_table_of_five_columns_is_wider_than_a_phone(visit_simulated: Open) -> None:
    page = visit_simulated(NARROW).page
    assert page.locator(".columns-5").count() > 10
    assert (
        wider_than_their_place(page, "section > .panel table, section > .table > table, main > .panel table") == []
    )
    assert wider_than_their_place(page, ".columns-5") == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_no_page_is_wider_than_the_screen(visit_simulated: Open, size: tuple[int, int], theme: Theme) -> None:
    page = visit_simulated(size, theme).page
    width, _ = size
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for name in ("page-top", "scratch.lr", "augmentation", "page-conclusions"):
        page.evaluate("(name) => document.getElementById(name).scrollIntoView({behavior: 'instant'})", name)
        page.screenshot(path=SCREENSHOTS / f"{theme}-{width}-{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    open_everything(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_wide_screen_widens_the_tables(visit_simulated: Open) -> None:
    widths = [
        visit_simulated((width, 900)).page.locator(
            "xpath=//h3[@id='scratch.lr']/following::div[@class='table'][1]"
        )
        for width in (1280, 1800)
    ]
    narrow, wide = (place.bounding_box() for place in widths)
    assert narrow
    assert wide
    assert wide["width"] > 1.4 * narrow["width"]


def test_contents_fit_a_screen_and_name_each_number_once(visit_simulated: Open) -> None:
    page = visit_simulated(WIDE).page
    assert page.locator(".contents").evaluate("(place) => place.scrollHeight <= place.clientHeight")
    assert bottom(page.locator(".contents")) <= WIDE[1]
    numbers = page.locator(".contents .section-number").all_inner_texts()
    assert numbers == ["1", "1.1", "1.2", "1.3", "2", "2.1", "2.2", "2.3", "2.4", "3", "4", "4.1", "4.2", "5"]
    links = page.locator(".contents a").all_inner_texts()
    assert links[0] == "Summary"
    assert links[-9:][0] == "Appendix"


def test_contents_mark_what_is_being_read(visit_simulated: Open) -> None:
    page = visit_simulated(WIDE).page
    assert page.locator(".contents [aria-current]").all_inner_texts() == ["Summary"]
    page.locator(".contents a", has_text="Changing epochs number").click()
    expect(page.locator(".contents [aria-current]")).to_contain_text("1.2")
    assert page.locator(".contents [aria-current]").count() == 1


def test_details_appear_in_the_table(visit_simulated: Open) -> None:
    page = visit_simulated(WIDE).page
    table = table_of(page, "scratch.lr")
    headings = table.locator("thead th:visible")
    assert [" ".join(text.split()) for text in headings.all_inner_texts()] == [
        *("Learning rate", "measured", "reported", "difference ± 95 % interval", "verdict"),
    ]
    box = table.locator("xpath=ancestor::div[@class='table']").locator(".switch")
    box.check()
    assert headings.all_inner_texts()[5:7] == ["n", "test accuracy"]
    assert wider_than_their_place(page) == []
    box.uncheck()
    assert headings.count() == 5


def test_best_row_is_bold_and_numbers_are_right_aligned(visit_simulated: Open) -> None:
    table = table_of(visit_simulated(WIDE).page, "scratch.lr")
    weights = table.locator("tbody th").evaluate_all(
        "(cells) => cells.map((cell) => `${cell.innerText} ${getComputedStyle(cell).fontWeight}`)"
    )
    assert weights == ["1e-3 500", "1e-2 500", "5e-2 700", "6e-2 500", "1e-1 500"]
    assert table.locator("td.number").first.evaluate("(cell) => getComputedStyle(cell).textAlign") == "right"


def test_first_column_stays_in_sight(visit_simulated: Open) -> None:
    page = visit_simulated(NARROW).page
    table = table_of(page, "scratch.lr")
    table.locator("xpath=ancestor::div[@class='table']").locator(".switch").check()
    place = table.locator("xpath=..")
    assert place.get_attribute("tabindex") == "0"  # a keyboard scrolls it
    place.evaluate("(place) => { place.scrollLeft = 200; }")
    label, frame = table.locator("tbody th").first.bounding_box(), place.bounding_box()
    assert label
    assert frame
    assert label["x"] == pytest.approx(frame["x"], abs=1)
    assert table.evaluate("(table) => getComputedStyle(table).borderCollapse") == "separate"


@pytest.mark.parametrize("name", ["page-methods", "figure-6", "page-runs"])
def test_link_opens_the_fold_around_its_target(visit_simulated: Open, name: str) -> None:
    page = visit_simulated(WIDE).page
    target = page.locator(f"#{name}")
    assert not target.is_visible()
    page.evaluate("(name) => { location.hash = name; }", name)
    target.wait_for()
    expect(target).to_be_in_viewport()
