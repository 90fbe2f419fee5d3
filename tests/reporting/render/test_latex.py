"""Tables for a paper: nothing that LaTeX stumbles over, nothing wider than a column of a journal.

The tests marked `latex` compile them. The others check what LaTeX demands of them where there is no LaTeX.
"""

import os
import re
import shutil
import string
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.reporting.render.blocks import Column, Interval, Spread, Table, Value
from caltech_exp.reporting.render.latex import ACCENTS, LETTERS, LONG, MARK, to_latex
from caltech_exp.reporting.render.latex import latex as escape

PRINTABLE = "".join(letter for letter in string.printable if letter.isprintable())
HOSTILE = '=HYPERLINK("x"), a "b" & 50 % $c_d$ #{e} ~^\\ <f> | g'
FOREIGN = "Zürich Ørsted naïve Łódź façade Šibenik ±1 2×3 σ – — … “a” 日本 Ωμέγα 😀 \u202e"
CAPTION = "Validation accuracy after the last epoch; ± is the population standard deviation"
COLUMNS = (
    Column("row", "text"),
    Column("measured", "spread"),
    Column("hours", "amount"),
    Column("of it", "signed"),
)
STARTS = ("[", "[4em]", "*x", "[x", "a---b", "*")
"""What LaTeX would take for an argument of the line before."""


def five_columns(name: str, heading: str, labels: tuple[str, ...], best: int) -> Table:
    """A table of a section as the report has it."""
    columns = (
        Column(heading, "text"),
        Column("measured", "spread"),
        Column("reported", "spread"),
        Column("difference", "difference"),
        Column("verdict", "text"),
        Column("n", "count", is_detail=True),
    )
    verdicts = ("agrees", "inconclusive", "differs")
    rows = tuple(
        (label, Spread(0.46, 0.005), Spread(0.446, 0.016), Interval(-0.0144, 0.025), verdicts[place % 3], 31)
        for place, label in enumerate(labels)
    )
    few: tuple[Value, ...] = (
        "few",
        Spread(0.325, 0.1, bounds=(0.2, 0.4)),
        None,
        Interval(-0.121, None, "n = 2: too few"),
        "agrees",
        2,
    )
    return Table(name, CAPTION, columns, (*rows, few), best=(best,))


FIVE = (
    five_columns("lr", "Learning rate", ("1e-3", "5e-2", "1e-1"), 1),
    five_columns("augment", "Augmentation", ("none", "crop, horizontal flip, grayscale", "all but the flip"), 1),
    five_columns("steps", "Number of epochs", ("20", "STEP_SIZE=30", "weights=long/path_of/net"), 0),
)
ODD = Table(
    "a_b", "50 % & more", COLUMNS, ((HOSTILE, Spread(0.123456789), 0.01234, -0.25), ("-1", "diverged", None, 0.5))
)
TABLES = (
    *FIVE,
    ODD,
    Table("long", FOREIGN, COLUMNS, ((FOREIGN, Spread(0.5, 0.25), 12345.6, -0.125),) * (3 * LONG)),
    Table("wide", PRINTABLE, (Column("accuracy"),) * 9, ((0.5,) * 9,)),
    Table(
        "starts",
        "[a] *b",
        (Column("[4em] of", "text"), Column("*mean")),
        tuple((f"{start} start{number}", 0.5) for number, start in enumerate(STARTS)),
    ),
    Table("wraps", "", (Column("a", "text"), Column("b", "text")), (("word " * 30, "another " * 30),), best=(0,)),
    Table("letters", "", (Column("letters", "text"),), ((HOSTILE,), (FOREIGN[:60],))),
    Table("empty", "", COLUMNS, ()),
)

COMMAND = "|".join(map(re.escape, sorted({*LETTERS.values()} - {"`", "'", "``", "''"}, key=len, reverse=True)))
ACCENTED = rf"(?:{'|'.join(map(re.escape, ACCENTS.values()))})\{{[A-Za-z]\}}"
TEXT = rf"(?:{COMMAND}|{ACCENTED}|-\{{\}}(?=-)|[^\\&%$#_^{{}}~<>|])*"
"""Text that LaTeX takes for letters: known commands, and letters that mean nothing to it."""
NUMBER = r"[+-]?(?:\d|\{,\})+(?:\.\d+)?"
MATH = rf"\$(?:\\mathbf\{{{NUMBER}\}}|{NUMBER})(?: \\pm \d\.\d+|\\phantom\{{\{{\}} \\pm 0\.000\}})?\$"
CELL = re.compile(rf"(?:\\bfseries )?(?:{MATH}|(?:{TEXT}|\\allowbreak\{{\}})*)")
STACKED = re.compile(r"\\begin\{tabular\}\[[bt]\]\{@\{\}[lr]@\{\}\}(.*?)\\end\{tabular\}")
END = r" \\"
SIDE = r"[lr]|>\{\\raggedright\\arraybackslash\\hspace\{0pt\}\}(?:X|p\{0\.\d\d\\linewidth\})"


def test_numbers_are_formulas_and_best_ones_bold() -> None:
    text = to_latex(replace(FIVE[0], rows=FIVE[0].rows[:-1]))
    assert r"\bfseries 5e-2 & $\mathbf{0.460} \pm 0.005$ & $0.446 \pm 0.016$ & $-0.014 \pm 0.025$ & inc" in text
    assert r"\caption{Validation accuracy after the last epoch; $\pm$ is the" in text
    assert r"deviation}\label{tab:lr}" in text
    assert "31" not in text  # a detail


def test_few_runs_show_their_range_and_why_there_is_no_interval() -> None:
    text = to_latex(FIVE[0])
    assert r"0.200 to 0.400 & \textendash{}" in text
    remark = r"\scriptsize (n = 2: too few)"
    assert rf"{{@{{}}r@{{}}}}$-0.121\phantom{{{{}} \pm 0.000}}$\\{remark}\end{{tabular}} & " in text


def test_numbers_without_a_deviation_need_no_room_for_one() -> None:
    text = to_latex(replace(ODD, rows=(("a", *ODD.rows[0][1:]), *ODD.rows[1:])))
    assert r"$0.123$ & $0.0123$ & $-0.250$ \\" in text
    assert r"-1 & diverged & \textendash{} & $+0.500$ \\" in text
    assert r"\caption{50 \% \& more}\label{tab:a-b}" in text


def test_cells_alone_can_be_bold() -> None:
    table = Table("x", "", COLUMNS[:2], (("a", Spread(0.5, 0.1)), ("b", Spread(0.25, 0.1))), best_cells=((1, 1),))
    assert "a & $0.500 \\pm 0.100$ \\\\\nb & $\\mathbf{0.250} \\pm 0.100$ \\\\\n" in to_latex(table)


def test_every_letter_is_shown() -> None:
    text = escape(HOSTILE)
    for special in (
        r"\&",
        r"\%",
        r"\$c\_d\$",
        r"\#\{e\}",
        r"\textasciitilde{}\^{}\textbackslash{}",
        r"\textbar{}",
    ):
        assert special in text
    assert escape("--") == "-{}-"
    assert escape("a---b") == "a-{}-{}-b"
    assert escape("[4em] *x") == "{[}4em] {*}x"  # after \\ or \toprule they would be arguments
    assert escape("é日±") == r"\'{e}?$\pm$"


@given(st.text(max_size=40) | st.text(PRINTABLE + FOREIGN, max_size=40))
def test_any_text_is_letters_to_latex(text: str) -> None:
    written = escape(text)
    assert written.isascii()
    assert re.fullmatch(TEXT, written)


def test_the_first_line_says_what_the_file_needs() -> None:
    for table in TABLES:
        first, begin, *_ = to_latex(table).splitlines()
        assert first.startswith(MARK + r"\usepackage{booktabs")
        assert ("longtable" in first) == (len(table.rows) > LONG)
        assert begin.startswith((r"\begin{table}", r"\begin{table*}", r"{\footnotesize"))
        assert not re.search("resizebox|landscape", to_latex(table))


def test_only_tables_that_cannot_be_narrow_go_across_both_columns() -> None:
    wide = {table.name for table in TABLES if r"\begin{table*}" in to_latex(table)}
    assert wide == {"augment", "steps", "wide"}  # long labels beside a range, a remark and `inconclusive`


def test_every_row_has_its_cells_and_every_environment_its_end() -> None:
    for table in TABLES:
        text = STACKED.sub(lambda match: match[1].replace(r"\\", " "), to_latex(table))
        text = re.sub(r"\\parbox\[b\]\{\\hsize\}\{\\raggedright\\hspace\{0pt\}(.*?)\}(?= & | \\)", r"\1", text)
        text = text.replace(r"\scriptsize ", "")
        assert re.findall(r"\\begin\{([\w*]+)\}", text) == re.findall(r"\\end\{([\w*]+)\}", text)[::-1], table.name
        tables = r"\\begin\{(?:tabular|longtable|tabularx\}\{\\linewidth)\}"
        (sides,) = re.findall(rf"{tables}\{{@\{{\}}((?:{SIDE})+)@\{{\}}\}}", text)
        columns = re.findall(SIDE, sides)
        lines = [line for line in text.splitlines() if line.endswith(END)]
        rows = [line for line in lines if not line.startswith((r"\caption", r"\multicolumn"))]
        assert len(rows) >= len(table.rows) + 1
        for row in rows:
            cells = re.split(r"(?<!\\) & ", row.removesuffix(END))
            assert len(cells) == len(columns), row
            assert [cell for cell in cells if not CELL.fullmatch(cell) and r"\phantom" not in cell] == []


PACKAGES = r"\usepackage{booktabs,array,tabularx,longtable}"
WIDTHS = r"\setlength{\textwidth}{502pt}\setlength{\columnsep}{18pt}\setlength{\oddsidemargin}{-16pt}"
COLUMNS_OF_A_JOURNAL = rf"\documentclass[twocolumn]{{article}}{PACKAGES}{WIDTHS}"
"""Columns of 242 pt, 8.5 cm, of which two make a page."""
ARTICLE = rf"\documentclass{{article}}{PACKAGES}"


def compile_tables(tables: Iterable[str], preamble: str, folder: Path) -> tuple[str, str]:
    """What LaTeX says of a document with these tables, and the text on its pages."""
    if not all(map(shutil.which, ("pdflatex", "pdftotext"))):
        reason = "no LaTeX here: make test-latex installs it on Debian"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    document = [preamble, r"\begin{document}", *tables, r"\end{document}"]
    (folder / "all.tex").write_text("\n".join(document), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(3):  # the widths of long tables are those that the time before measured
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    subprocess.run(["pdftotext", "-layout", "all.pdf"], cwd=folder, check=True, timeout=60)
    log = (folder / "all.log").read_text(encoding="utf-8", errors="replace")
    return log, (folder / "all.txt").read_text(encoding="utf-8")


def complaints(log: str) -> list[str]:
    """Lines that say that something is lost or more than 5 pt (1.8 mm) too wide."""
    lines = [line for line in log.splitlines() if re.match(r"Overfull|Missing character|.*Warning", line)]
    widths = [re.match(r"Overfull \\hbox \(([\d.]+)pt", line) for line in lines]
    return [line for line, width in zip(lines, widths, strict=True) if not (width and float(width[1]) <= 5)]


def is_long(table: str) -> bool:
    return r"\begin{longtable}" in table


@pytest.mark.latex
def test_odd_tables_compile_fit_and_show_what_they_hold(tmp_path: Path) -> None:
    tables = [to_latex(table) for table in TABLES]
    (long,) = filter(is_long, tables)
    log, text = compile_tables([table for table in tables if table != long], COLUMNS_OF_A_JOURNAL, tmp_path)
    assert "\n".join(complaints(log)) == ""
    words = " ".join(text.split())
    for number in range(1, len(TABLES)):
        assert f"Table {number}:" in words
    assert "50 % $c d$ #{e}" in words  # an underscore is drawn as a line
    assert "−0.250" in words
    assert "0.460±0.005" in words
    for number, start in enumerate(STARTS):
        assert f"{start} start{number}" in words
    log, text = compile_tables([long], ARTICLE, tmp_path)
    assert "\n".join(complaints(log)) == ""
    assert "Ørsted" in text


@pytest.mark.latex
def test_every_table_of_a_report_compiles_and_fits(simulated_report: Path, tmp_path: Path) -> None:
    tables = {path.stem: path.read_text(encoding="utf-8") for path in (simulated_report / "tables").glob("*.tex")}
    assert {"best", "claims", "agreement", "per_class", "cost_by_row", "scratch.lr"} <= set(tables)
    log, text = compile_tables(tables.values(), ARTICLE, tmp_path)
    assert "\n".join(complaints(log)) == ""
    assert f"Table {len(tables)}:" in text
    short = [table for table in tables.values() if not is_long(table)]
    for preamble in (COLUMNS_OF_A_JOURNAL, COLUMNS_OF_A_JOURNAL.replace(WIDTHS, "")):  # 229.5 pt
        log, text = compile_tables(short, preamble, tmp_path)
        assert "\n".join(complaints(log)) == ""
        assert f"Table {len(short)}:" in text
    five_columns = {name for name, table in tables.items() if "& reported &" in table and "measured" in table}
    assert {"best", "scratch.lr", "transfer.batch_size", "resnet.transfer"} <= five_columns
    assert not [name for name in five_columns if r"\begin{table}" not in tables[name]]
