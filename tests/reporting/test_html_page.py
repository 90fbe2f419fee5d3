"""What can be said of the HTML page without a browser."""

import base64
import hashlib
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from caltech_exp.catalog import THE_REPORT, read_catalog
from caltech_exp.catalog.loader import RESERVED
from caltech_exp.cli import UserError
from caltech_exp.reporting.blocks import Heading, Picture, Prose
from caltech_exp.reporting.embedded import LARGE, data_uri
from caltech_exp.reporting.html_page import to_html
from caltech_exp.reporting.page import report_page
from caltech_exp.reporting.plot_library import SCRIPTS, plot_library
from tests.conftest import CHECKOUT
from tests.reporting.conftest import SampleStudy

TITLE = Heading(1, "Title", "top")


def test_the_policy_lets_exactly_the_pages_scripts_run(folder: SampleStudy, tmp_path: Path) -> None:
    page = to_html([TITLE], folder.collect(), tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0])
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert len(scripts) == 7
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_no_section_can_take_an_id_of_the_page(
    folder: SampleStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CALTECH101_ROOT", raising=False)  # no figure is to be drawn
    page = to_html([TITLE], folder.collect(), tmp_path)
    ids = re.findall(r'<[^>]*\sid="([^"]*)"', re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL))
    assert {"report", "runs", "theme", "top"} <= set(ids)
    anchors = {block.anchor for block in report_page(folder.collect(), tmp_path, "") if isinstance(block, Heading)}
    assert "agreement" in anchors
    sections = {section.name for section in THE_REPORT.sections}
    taken = {name for name in {*ids, *anchors} - sections if re.fullmatch("[a-z][a-z0-9_]*", name)}
    assert taken <= set(RESERVED)
    for name in (*taken, "readings"):
        with pytest.raises(UserError, match="give the section another name"):
            read_catalog(f"sections: {{{name}: {{tables: {{b: {{sweep: {{lr: [1]}}}}}}}}}}", "mine", "mine.yaml")


def test_nothing_outside_is_named_to_be_loaded(folder: SampleStudy, tmp_path: Path) -> None:
    page = to_html([TITLE], folder.collect(), tmp_path)
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"<(?:link|iframe|object|embed|base)\b", own) == []
    assert re.findall(r"""(?:src|url)\s*[=(]\s*["']?(?:https?:)?//""", own) == []


def test_the_cautions_stand_over_the_runs_too(folder: SampleStudy, tmp_path: Path) -> None:
    folder.start(stand_in=True)
    page = to_html([TITLE], folder.collect(), tmp_path)
    assert "<strong>These numbers are not Caltech-101:</strong>" in page.partition('<h2 id="runs">')[2]


def test_a_block_that_the_template_does_not_know_is_refused(folder: SampleStudy, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot render PosixPath"):
        to_html([TITLE, Prose("a"), tmp_path], folder.collect(), tmp_path)  # type: ignore[list-item]


@pytest.mark.parametrize(("size", "kind"), [(10, "svg+xml"), (LARGE + 1, "webp")])
def test_a_large_drawing_is_embedded_as_pixels(tmp_path: Path, size: int, kind: str) -> None:
    (tmp_path / "a.svg").write_text(" " * size)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    uri = data_uri(Picture(1, "", "", "a.png", "a.svg"), tmp_path, tmp_path / "cache")
    assert uri.startswith(f"data:image/{kind};base64,")


def test_pixels_are_kept_as_long_as_the_picture_is_the_same(tmp_path: Path) -> None:
    picture, cache = Picture(1, "", "", "a.png", "a.svg"), tmp_path / "cache"
    (tmp_path / "a.svg").write_text(" " * (LARGE + 1))
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    first = data_uri(picture, tmp_path, cache)
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert data_uri(picture, tmp_path, cache) == first
    assert kept.stat().st_mtime_ns == before
    kept.write_bytes(kept.read_bytes()[:-1])
    assert data_uri(picture, tmp_path, cache) == first
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    assert data_uri(picture, tmp_path, cache) != first
    assert len(list(cache.iterdir())) == 1


def test_nothing_for_pages_is_imported_before_one_is_written() -> None:
    slow = {"jinja2", "markdown_it", "bokeh", "matplotlib", "PIL"}
    code = f"import sys, caltech_exp.commands.aggregate; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"


def test_the_plots_need_no_import_of_bokeh() -> None:
    scripts = plot_library()
    assert len(scripts) == len(SCRIPTS)
    assert "Bokeh" in scripts[0]
    assert all("</script" not in script and "<!--" not in script for script in scripts)


def test_without_bokeh_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(UserError, match="need bokeh, which is not installed; run pip install -e"):
        plot_library()
