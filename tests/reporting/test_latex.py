"""Tables for a paper: nothing that LaTeX stumbles over, nothing beyond the line.

The tests marked `latex` compile them. The others hold what LaTeX demands of them where there is no LaTeX.
"""

import os
import re
import shutil
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.class_blocks import class_studies
from caltech_exp.reporting.collect import collect
from caltech_exp.reporting.grid import Column, Grid
from caltech_exp.reporting.latex import ACCENTS, LETTERS, LONG, to_latex
from caltech_exp.reporting.latex import latex as as_latex
from caltech_exp.reporting.page import report_grids
from caltech_exp.reporting.readings import readings
from caltech_exp.reporting.table_files import write_tables

PRINTABLE = "".join(letter for letter in string.printable if letter.isprintable())
HOSTILE = '=HYPERLINK("x"), a "b" & 50 % $c_d$ #{e} ~^\\ <f> | g'
FOREIGN = "Zürich Ørsted naïve Łódź façade Šibenik ±1 2×3 σ – — … “a” 日本 Ωμέγα 😀 \u202e"
COLUMNS = (Column("row", "text"), Column("mean"), Column("± of it", "half"), Column("difference", "signed"))
GRID = Grid("a_b", "50 % & more", COLUMNS, ((HOSTILE, 0.123456789, 0.01, -0.25), ("-1", "diverged", None, 0.5)))
LONG_GRID = Grid("long", FOREIGN, COLUMNS, ((FOREIGN, 0.5, 0.25, -0.125),) * (3 * LONG))
WIDE_GRID = Grid("wide", PRINTABLE, (Column("x" * 40, "text"),) * 12, ((PRINTABLE,) * 12,))
STARTS = ("[", "[4em]", "*x", "[x", "a---b", "*")
"""What LaTeX would take for an argument of the line before."""
STARTS_GRID = Grid(
    *("starts", "[a] *b", (Column("[4em] of", "text"), Column("*mean"))),
    tuple((f"{start} start{number}", 0.5) for number, start in enumerate(STARTS)),
)
ODD = (GRID, LONG_GRID, WIDE_GRID, STARTS_GRID, Grid("empty", "", COLUMNS, ()))

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx,longtable,lscape}
\begin{document}
%s
\end{document}
"""
COMMAND = "|".join(map(re.escape, sorted({*LETTERS.values()} - {"`", "'", "``", "''"}, key=len, reverse=True)))
ACCENTED = rf"(?:{'|'.join(map(re.escape, ACCENTS.values()))})\{{[A-Za-z]\}}"
TEXT = re.compile(rf"(?:{COMMAND}|{ACCENTED}|-\{{\}}(?=-)|[^\\&%$#_^{{}}~<>|])*")
"""Text that LaTeX takes for letters: known commands, and letters that mean nothing to it."""
STACKED = re.compile(r"\\begin\{tabular\}\[[bt]\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}")


@pytest.fixture(scope="module")
def tables(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every table of a whole report, and some odd ones, by name."""
    collected = collect(simulated)
    folder = tmp_path_factory.mktemp("tables")
    write_tables(
        folder, folder / "index", [*report_grids(collected, class_studies(collected), readings(collected)), *ODD]
    )
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.tex"))}


def test_numbers_are_rounded_with_a_real_minus() -> None:
    text = to_latex(GRID)
    assert r"0.123 & \ensuremath{\pm}0.010 & \ensuremath{-}0.250 \\" in text
    assert r"-1 & diverged & \textendash{} & +0.500 \\" in text
    assert r"\caption{50 \% \& more}\label{tab:a-b}" in text


def test_every_letter_is_shown() -> None:
    text = as_latex(HOSTILE)
    for special in (
        r"\&",
        r"\%",
        r"\$c\_d\$",
        r"\#\{e\}",
        r"\textasciitilde{}\^{}\textbackslash{}",
        r"\textbar{}",
    ):
        assert special in text
    assert as_latex("--") == "-{}-"
    assert as_latex("a---b") == "a-{}-{}-b"
    assert as_latex("[4em] *x") == "{[}4em] {*}x"  # after \\ or \toprule they would be arguments
    assert as_latex("é日") == r"\'{e}?"


def test_many_rows_break_between_pages_and_wide_tables_are_turned() -> None:
    assert r"\begin{longtable}" in to_latex(LONG_GRID)
    assert r"\begin{longtable}" not in to_latex(WIDE_GRID)
    assert r"\begin{landscape}" in to_latex(WIDE_GRID)
    assert r"\begin{landscape}" not in to_latex(GRID)


@given(st.text(max_size=40) | st.text(PRINTABLE + FOREIGN, max_size=40))
def test_any_text_is_letters_to_latex(text: str) -> None:
    written = as_latex(text)
    assert written.isascii()
    assert TEXT.fullmatch(written)


def test_every_row_of_every_table_has_its_cells_and_every_environment_its_end(tables: dict[str, str]) -> None:
    assert {"agreement", "conclusions", "per_class", "cost_by_row", "scratch.lr"} <= set(tables)
    assert len(tables) > len(list(THE_REPORT.select())) + len(ODD)
    for name, text in tables.items():
        flat = STACKED.sub(lambda match: match[1].replace(r"\\", " "), text)  # cells of several lines as one
        assert re.findall(r"\\begin\{(\w+)\}", flat) == re.findall(r"\\end\{(\w+)\}", flat)[::-1], name
        (sides,) = re.findall(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}", flat)
        rows = [line for line in flat.splitlines() if line.endswith(r" \\")]
        assert rows, name
        for row in rows:
            cells = re.split(r"(?<!\\) & ", row.removesuffix(r" \\"))
            assert len(cells) == len(sides), (name, row)
            assert all(TEXT.fullmatch(cell) for cell in cells), (name, row)


@pytest.fixture(scope="module")
def compiled(tables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What LaTeX says of a document with every table, and the text on its pages."""
    if not all(map(shutil.which, ("pdflatex", "pdftotext"))):
        reason = "no LaTeX here: make test-latex installs it on Debian"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("latex")
    (folder / "all.tex").write_text(DOCUMENT % "\n".join(tables.values()), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(2):  # the second time with the widths that the first one measured
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    subprocess.run(["pdftotext", "-layout", "all.pdf"], cwd=folder, check=True, timeout=60)
    log = (folder / "all.log").read_text(encoding="utf-8", errors="replace")
    return log, (folder / "all.txt").read_text(encoding="utf-8")


@pytest.mark.latex
def test_all_tables_compile_and_fit_the_page(compiled: tuple[str, str]) -> None:
    log, _ = compiled
    said = [line for line in log.splitlines() if re.match(r"Overfull|Missing character|.*Warning", line)]
    assert said == []


@pytest.mark.latex
def test_the_page_shows_what_the_table_holds(compiled: tuple[str, str], tables: dict[str, str]) -> None:
    _, text = compiled
    words = " ".join(text.split())
    for table in range(1, len(tables) + 1):
        assert f"Table {table}:" in words
    assert "50 % $c d$ #{e}" in words  # an underscore is drawn as a line
    assert "−0.250" in words
    assert "±0.010" in words
    assert "Ørsted" in words
    for number, start in enumerate(STARTS):
        assert f"{start} start{number}" in words
