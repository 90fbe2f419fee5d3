"""The HTML page, without a browser."""

import base64
import hashlib
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.config import run_id
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.render.blocks import (
    Badge,
    Badges,
    Block,
    Column,
    Details,
    Heading,
    Interval,
    Listing,
    Note,
    Panel,
    Picture,
    Prose,
    Spread,
    Table,
    code,
    escape,
    printable,
)
from caltech_exp.reporting.render.html import (
    BOKEH_SCRIPTS,
    bokeh_scripts,
    cell,
    inline_html,
    inline_text,
    to_html,
)
from caltech_exp.study.results import Device
from tests.conftest import CHECKOUT
from tests.reporting.conftest import SampleStudy, make_result, row_config
from tests.reporting.render.test_blocks import NASTY

TITLE = Heading(1, "Title", "page-top")
TABLE = Table(
    "scratch.lr",
    "",
    (Column("rate", "text"), Column("measured", "spread"), Column("n", "count", is_detail=True)),
    (("1e-3", Spread(0.3, 0.01), 3), ("<b>", None, 0)),
    keys=("scratch.lr=1e-3", "scratch.lr=1e-2"),
    best=(0,),
)


@pytest.fixture
def study(folder: SampleStudy) -> StudyFrames:
    """A study without a run."""
    folder.start()
    return read_study(folder.path)


def own_markup(page: str) -> str:
    """The page without its scripts."""
    return re.sub(r"<script[ >].*?</script>", "", page, flags=re.DOTALL)


def render(study: StudyFrames, *blocks: Block) -> str:
    """What blocks become, without the page around them."""
    page = to_html([TITLE, *blocks], study, study.folder)
    return own_markup(page).partition("</h1>")[2].partition('<details class="appendix"')[0]


def test_policy_lets_exactly_the_scripts_of_the_page_run(study: StudyFrames, tmp_path: Path) -> None:
    page = to_html([TITLE], study, tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    assert policy.startswith("default-src 'none'")
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert len(scripts) == 7
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_no_section_can_take_an_id_of_the_page(study: StudyFrames, tmp_path: Path) -> None:
    page = own_markup(to_html([TITLE], study, tmp_path))
    ids = re.findall(r'<[^>]*\sid="([^"]*)"', page)
    assert {"page-top", "page-report", "page-scheme", "page-appendix", "page-runs"} <= set(ids)
    assert not [name for name in ids if re.fullmatch(r"[a-z][a-z0-9_]*(\..*)?", name)]


def test_page_names_nothing_outside_to_be_loaded(study: StudyFrames, tmp_path: Path) -> None:
    page = own_markup(to_html([TITLE], study, tmp_path))
    assert re.findall(r"<(?:link|iframe|object|embed|base)\b", page) == []
    assert re.findall(r"""(?:src|url)\s*[=(]\s*["']?(?:https?:)?//""", page) == []


def test_unknown_block_is_refused(study: StudyFrames, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot render PosixPath"):
        to_html([TITLE, Prose("a"), tmp_path], study, tmp_path)  # type: ignore[list-item]


def test_blocks_are_rendered(study: StudyFrames) -> None:
    html = render(
        study,
        Prose("one `paragraph`"),
        Prose("small", is_quiet=True),
        Note(("**first**", "second")),
        Listing(("a",), "Only:"),
        Badges((Badge("agrees", 26, "of 29"),)),
        Panel((Prose("left"),), (Prose("right"),)),
        Details("More of `a`", (Prose("inside"),)),
    )
    text = re.sub(r"\s+", " ", html)
    for part in (
        "<p>one <code>paragraph</code></p>",
        '<p class="quiet">small</p>',
        '<div class="note" role="note"> <p><strong>first</strong></p> <p>second</p> </div>',
        "<p>Only:</p> <ul> <li>a</li> </ul>",
        '<li class="badge agrees"><strong>26</strong> agree <small>of 29</small></li>',
        '<div class="panel"> <div> <p>left</p> </div> <div> <p>right</p> </div> </div>',
        "<summary>More of <code>a</code></summary> <p>inside</p> </details>",
    ):
        assert part in text


def test_table_links_its_rows_to_their_runs_and_hides_details(study: StudyFrames) -> None:
    html = render(study, TABLE)
    anchors = study.rows.set_index("key")["config_id"]
    assert f'<a href="#runs-{anchors["scratch.lr=1e-3"]}"' in html
    assert '<tr class="best">' in html
    assert 'data-value="0.3">0.300 <span class="spread">± 0.010</span></td>' in html
    assert '<th scope="col" class="number detail">n</th>' in html
    assert '<input type="checkbox" class="switch"' in html
    assert "&lt;b&gt;" in html
    assert 'href="tables/scratch.lr.csv"' in html


def test_table_without_files_and_details_has_no_tools(study: StudyFrames) -> None:
    table = Table("", "", (Column("a", "text"), Column("b")), (("x", 0.5), ("y", 0.6)), best_cells=((1, 1),))
    html = render(study, table)
    assert "tools" not in html
    assert re.findall(r'<td class="number best[^>]*>([^<]*)</td>', html) == ["0.600"]


def test_cells_keep_a_number_and_what_belongs_to_it_apart() -> None:
    column = Column("", "difference")
    assert cell(Interval(0.1, 0.02), column) == '+0.100 <span class="spread">± 0.020</span>'
    assert cell(Interval(0.1, reason="n = 2: too few"), column) == (
        '+0.100 <span class="reason">(n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}2: too few)</span>'
    )
    assert cell(Spread(0.4, 0.1, (0.3, 0.5)), column) == '0.300 <span class="spread">to 0.500</span>'
    assert cell("a ± <b>", column) == "a ± &lt;b&gt;"
    assert cell("<a.b_c=1.5", column) == "&lt;a.<wbr>b_<wbr>c=<wbr>1.5"


def test_contents_list_sections_and_the_appendix(study: StudyFrames) -> None:
    page = to_html(
        [
            TITLE,
            Heading(2, "From scratch", "scratch", "1"),
            Heading(3, "Template", "scratch.template", is_listed=False),
            Heading(3, "Rates", "scratch.lr", "1.1"),
            Heading(2, "Cost", "page-cost", is_appendix=True),
            Prose("Costs."),
        ],
        study,
        study.folder,
    )
    links = re.findall(r'<li><a href="#([^"]*)"', page)
    assert links == ["page-top", "scratch", "scratch.lr", "page-appendix", "page-cost", "page-runs"]
    assert "<p>Costs.</p>" in page.partition('<details class="appendix"')[2]


def test_picture_offers_its_files_and_live_curves(study: StudyFrames) -> None:
    (study.folder / "figures").mkdir()
    (study.folder / "figures" / "a.svg").write_text("<svg/>")
    html = render(study, Picture("a", "words for it", "caption", number=5, keys=("scratch.lr=1e-3",)))
    assert '<figure id="figure-5" data-rows="[&#34;scratch.lr=1e-3&#34;]">' in html
    assert 'alt="words for it"' in html
    assert f'src="data:image/svg+xml;base64,{base64.b64encode(b"<svg/>").decode()}"' in html
    assert '<a href="figures/a.svg">SVG</a> <a href="figures/a.png">PNG</a>' in html


def test_list_of_runs_says_what_became_of_each(folder: SampleStudy) -> None:
    folder.start()
    config = row_config("scratch.lr", "5e-2")
    folder.add(make_result(config, 0, 0.5, device=Device(type="cuda", name="<b>\n")))
    folder.submit(run_id(config, 1))
    folder.fail(run_id(config, 1), "out of <memory>")
    page = to_html([TITLE], read_study(folder.path), folder.path)
    first, second = (
        re.findall(rf'<tr id="{run_id(config, seed)}">(.*?)</tr>', page, re.DOTALL) for seed in (0, 1)
    )
    assert re.findall("<td[^>]*>(.*?)</td>", first[0])[1:] == [
        *("finished", "0.500", "0.490", "30.0", "&lt;b&gt; (cuda), gpu1, job 1_0", ""),
    ]
    assert re.findall("<td[^>]*>(.*?)</td>", second[0])[1:5] == ["failed", "–", "–", "–"]
    assert "out of &lt;memory&gt; (log: " in second[0]


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("write", [escape, code])
def test_foreign_text_reads_as_itself(text: str, write: type[str]) -> None:
    html = inline_html(write(text))
    bare = html.removeprefix("<code>").removesuffix("</code>")
    assert "<" not in bare
    assert unescape(bare) == printable(text)
    assert inline_text(write(text)) == printable(text)


def test_own_markup_is_rendered() -> None:
    assert inline_html("**a** *b* `c`") == "<strong>a</strong> <em>b</em> <code>c</code>"
    assert inline_html("[CSV](tables/a.csv)") == '<a href="tables/a.csv">CSV</a>'


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "<img src=x>", "![a](b.png)", "[x](javascript:alert(1))", "<http://x>"]
)
def test_neither_html_nor_images_nor_scripts_come_through(text: str) -> None:
    html = inline_html(text)
    assert not any(tag in html for tag in ("<b", "<img", 'href="javascript'))


def test_plots_need_no_import_of_bokeh() -> None:
    scripts = bokeh_scripts()
    assert len(scripts) == len(BOKEH_SCRIPTS)
    assert "Bokeh" in scripts[0]
    assert all("</script" not in script and "<!--" not in script for script in scripts)


def test_missing_bokeh_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(UserError, match="need bokeh, which is not installed; run pip install -e"):
        bokeh_scripts()


def test_aggregate_imports_nothing_for_pages_before_one_is_written() -> None:
    slow = {"jinja2", "markdown_it", "bokeh", "matplotlib", "PIL"}
    code = f"import sys, caltech_exp.commands.aggregate; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"
