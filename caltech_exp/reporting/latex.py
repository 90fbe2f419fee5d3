"""A table of the report for a paper: booktabs, rounded as on the page, no wider than the line.

The text needs nothing but pdfLaTeX and packages of its base; every file says which.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

import tabulate

from caltech_exp.reporting.grid import Column, Grid, Value, shown
from caltech_exp.reporting.markup import printable

PACKAGES = r"% Needs \usepackage{booktabs,graphicx,longtable,lscape}"
LONG, LONG_TURNED = 30, 18
"""Rows up to which a table stays together, upright and turned; longer ones break between pages."""
WIDE = 115
"""Characters across up to which a table stands upright; wider ones are turned by a quarter, as long ones are."""
HEADING_WIDTH, CELL_WIDTH = 11, 26
"""Characters of a line in headings and in texts, where words allow it."""
GAP = 3
"""Characters between two columns."""
FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
LETTERS = tabulate.LATEX_ESCAPE_RULES | {
    "|": r"\textbar{}",
    "[": "{[}",  # as they are, what ends the line before would take them for its own: \\[4em], \\*
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "σ": r"\ensuremath{\sigma}",
    "−": r"\ensuremath{-}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "Æ": r"\AE{}",
    "æ": r"\ae{}",
    "Ø": r"\O{}",
    "ø": r"\o{}",
    "Ł": r"\L{}",
    "ł": r"\l{}",
    "Œ": r"\OE{}",
    "œ": r"\oe{}",
}
ACCENTS = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}


def to_latex(grid: Grid) -> str:
    """A `table` environment, or a `longtable` where it has many rows. Both fit an article's line."""
    headings = [_lines(column.heading, HEADING_WIDTH) for column in grid.columns]
    cells = [
        [_lines(_shown(column, value), CELL_WIDTH) for column, value in zip(grid.columns, row, strict=True)]
        for row in grid.rows
    ]
    across = sum(
        GAP + max(len(line) for cell in column for line in cell) for column in zip(headings, *cells, strict=True)
    )
    sides = "".join("l" if column.kind == "text" else "r" for column in grid.columns)
    head = [r"\toprule", _row(headings, sides, "b"), r"\midrule"]
    rows = [_row(row, sides, "t") for row in cells]
    caption = rf"\caption{{{latex(grid.caption)}}}\label{{tab:{grid.name.replace('_', '-')}}}"
    long = len(rows) > (LONG if across <= WIDE else LONG_TURNED)
    if long:
        lines = _long(caption, sides, head, rows)
    else:
        tabular = [rf"\begin{{tabular}}{{{sides}}}", *head, *rows, r"\bottomrule", r"\end{tabular}}"]
        lines = [
            r"\begin{table}",
            r"\centering",
            caption,
            r"\par\smallskip\footnotesize",
            FIT,
            *tabular,
            r"\end{table}",
        ]
    if long or across > WIDE:
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([PACKAGES, *lines]) + "\n"


def _long(caption: str, sides: str, head: Sequence[str], rows: Sequence[str]) -> list[str]:
    return [
        r"\scriptsize",
        r"\setlength{\tabcolsep}{3pt}",
        r"\setlength{\LTcapwidth}{\linewidth}",
        rf"\begin{{longtable}}{{{sides}}}",
        rf"{caption}\\",
        *(*head, r"\endfirsthead"),
        *(*head, r"\endhead"),
        *(r"\bottomrule", r"\endfoot"),
        *rows,
        r"\end{longtable}",
    ]


def latex(text: str) -> str:
    """Text that LaTeX shows letter by letter; `?` for letters that its own fonts do not have."""
    return re.sub("-(?=-)", "-{}", "".join(map(_letter, printable(text))))


def _letter(letter: str) -> str:
    known = LETTERS.get(letter)
    if known is not None:
        return known
    if letter.isascii():
        return letter
    parts = unicodedata.normalize("NFD", letter)
    base, accent = parts[0], ACCENTS.get(parts[1:])
    return f"{accent}{{{base}}}" if accent and base.isascii() and base.isalpha() else "?"


def _shown(column: Column, value: Value) -> str:
    """As on the page, a number with a real minus."""
    text = shown(column, value)
    return text if isinstance(value, str) else text.replace("-", "−")


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(printable(text), width, break_long_words=False) or [""]


def _row(cells: Iterable[Sequence[str]], sides: str, place: str) -> str:
    """A line of the table; what a column `b` or `t` has more lines than one are below or above the others'."""
    return " & ".join(_cell(lines, side, place) for lines, side in zip(cells, sides, strict=True)) + r" \\"


def _cell(lines: Sequence[str], side: str, place: str) -> str:
    texts = [latex(line) for line in lines]
    if len(texts) == 1:
        return texts[0]
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r"\\".join(texts) + r"\end{tabular}"
