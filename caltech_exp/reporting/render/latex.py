"""A table of the report for a paper: booktabs, upright, as wide as one column of a journal where it can be.

The text needs pdfLaTeX and packages of its base; the first line of every file says which.
"""

import math
import re
import textwrap
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import pandas as pd
import tabulate

from caltech_exp.reporting.render.blocks import Column, Table, Value, printable, shown

MARK = "% caltech_exp report: needs "
"""How the file of a table begins; a file that begins otherwise is not the report's."""
LONG = 45
"""Lines up to which a table stays on one page."""
COLUMN, LINE = 60, 80
"""Letters across a column of a journal and across an article's line, about. Spaces within a cell do not count, a
gap between two cells does."""
MOST_LETTERS, LEAST_LETTERS = 16, 12
"""Letters above which the texts of a column wrap, and for which it needs room then."""
FEW_COLUMNS = 4
"""Columns up to which a table need not take the whole width: in one of more columns the labels wrap."""
SIZE = r"\footnotesize\setlength{\tabcolsep}{2pt}\medmuskip=1mu"
NUMBER = re.compile(r"[+−]?[\d,]+(\.\d+)?( ± [\d.]+)?")
LETTERS = tabulate.LATEX_ESCAPE_RULES | {
    "[": "{[}", "*": "{*}",  # bare ones after \\ would be its arguments: \\[4em], \\*
    "|": r"\textbar{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "×": r"$\times$", "σ": r"$\sigma$", "−": "$-$",
    "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
    "ß": r"\ss{}", "Æ": r"\AE{}", "æ": r"\ae{}", "Ø": r"\O{}", "ø": r"\o{}", "Ł": r"\L{}", "ł": r"\l{}",
    "Œ": r"\OE{}", "œ": r"\oe{}",
}  # fmt: skip
ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0307": r"\.", "\u0308": r"\"", "\u030a": r"\r", "\u030b": r"\H", "\u030c": r"\v", "\u0327": r"\c",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LatexColumn:
    """A column of a table as LaTeX.

    bold          the rows whose cells are bold
    most_letters  that a text of the column has unless it wraps to the room that the other columns leave
    """

    column: Column
    values: Sequence[Value]
    bold: Collection[int]
    most_letters: int

    @cached_property
    def texts(self) -> list[str]:
        """The cells as plain text; why a difference has no interval stands on a second line."""
        texts = [shown(self.column, value) for value in self.values]
        return [text.replace(" (", "\n(") for text in texts] if self.column.is_number else texts

    @cached_property
    def lines(self) -> list[str]:
        """What stands in the column as plain text; a heading breaks between words."""
        return [*self.column.heading.split(), *"\n".join(self.texts).split("\n")]

    @property
    def letters(self) -> int:
        return max(len(line.replace(" ", "")) for line in self.lines)

    @property
    def wraps(self) -> bool:
        return not self.column.is_number and self.letters > self.most_letters

    @property
    def side(self) -> str:
        return "r" if self.column.is_number else "l"

    @property
    def heading(self) -> str:
        """On some lines, the last one level with the others' last."""
        if self.wraps:
            return rf"\parbox[b]{{\hsize}}{{\raggedright\hspace{{0pt}}{_breakable(self.column.heading)}}}"
        lines = textwrap.wrap(printable(self.column.heading), max(map(len, self.lines)) or 1)
        return self._stack([latex(line) for line in lines], "b")

    @property
    def cells(self) -> list[str]:
        return [self._cell(text, is_bold=row in self.bold) for row, text in enumerate(self.texts)]

    def _cell(self, text: str, *, is_bold: bool) -> str:
        if self.wraps:
            cell = _breakable(text)
        else:
            first, *others = text.split("\n")
            small = [rf"\scriptsize {latex(line)}" for line in others]
            cell = self._stack([self._number(first, is_bold=is_bold), *small], "t")
        return rf"\bfseries {cell}" if is_bold and not cell.startswith("$") else cell

    def _number(self, text: str, *, is_bold: bool) -> str:
        """A number as a formula, a mean without a deviation below the other means; other texts as they are."""
        if not self.column.is_number or not NUMBER.fullmatch(text):
            return latex(text)
        first, plus_minus, second = text.replace("−", "-").replace(",", "{,}").partition(" ± ")
        first = rf"\mathbf{{{first}}}" if is_bold else first
        if plus_minus:
            return rf"${first} \pm {second}$"
        return rf"${first}\phantom{{{{}} \pm 0.000}}$" if " ± " in "".join(self.texts) else f"${first}$"

    def _stack(self, lines: Sequence[str], place: str) -> str:
        """Lines above each other, the first (`t`) or the last (`b`) level with the row."""
        if len(lines) < 2:
            return "".join(lines)
        return rf"\begin{{tabular}}[{place}]{{@{{}}{self.side}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def to_latex(table: Table) -> str:
    """The table without its details; a `longtable` if it is long, a `table*` if it cannot be so narrow."""
    places = [place for place, column in enumerate(table.columns) if not column.is_detail]
    first_number = next((place for place in places if table.columns[place].is_number), 0)
    columns = []
    for place in places:
        bold = {row for row in table.best if place in (places[0], first_number)}
        bold |= {row for row, column in table.best_cells if column == place}
        most = 0 if place == places[0] and len(places) > FEW_COLUMNS else MOST_LETTERS
        columns.append(LatexColumn(table.columns[place], [row[place] for row in table.rows], bold, most))
    wraps = any(column.wraps for column in columns)
    narrow, wide = (_room(columns, letters) for letters in (COLUMN, LINE))
    is_long = _height(columns, wide) > LONG
    width = rf"p{{{max(wide, LEAST_LETTERS) / LINE:.2f}\linewidth}}" if is_long else "X"
    wrapped = rf">{{\raggedright\arraybackslash\hspace{{0pt}}}}{width}"  # 0pt: hyphenates a first word, too
    sides = f"@{{}}{''.join(wrapped if column.wraps else column.side for column in columns)}@{{}}"
    caption, label = latex(table.caption), f"tab:{table.name.replace('_', '-')}"
    frame = pd.DataFrame(dict(enumerate(column.cells for column in columns)))
    frame = frame.set_axis([column.heading for column in columns], axis=1)
    write = partial(frame.to_latex, index=False, escape=False, column_format=sides)
    if is_long:
        body = write(longtable=True, caption=caption, label=label)
        needs = r"\usepackage{booktabs,array,longtable} and pages of one column"
        return f"{MARK}{needs}\n{{{SIZE}\\setlength{{\\LTcapwidth}}{{\\linewidth}}\n{body}}}\n"
    body = str(write())
    if wraps:
        body = body.replace(r"\begin{tabular}", r"\begin{tabularx}{\linewidth}", 1)
        body = body.removesuffix("\\end{tabular}\n") + "\\end{tabularx}\n"
    least = max((min(column.letters, LEAST_LETTERS) for column in columns if column.wraps), default=0)
    kind = "table" if narrow >= least and _height(columns, narrow) <= LONG else "table*"
    return (
        f"{MARK}\\usepackage{{booktabs{',tabularx' if wraps else ''}}}\n\\begin{{{kind}}}\\centering{SIZE}\n"
        f"\\caption{{{caption}}}\\label{{{label}}}\\smallskip\n{body}\\end{{{kind}}}\n"
    )


def _room(columns: Sequence[LatexColumn], letters: int) -> float:
    """The letters of a line that are left to each column that wraps."""
    wrapping = sum(column.wraps for column in columns)
    taken = sum(column.letters for column in columns if not column.wraps) + len(columns) - 1
    return (letters - taken) / max(1, wrapping)


def _height(columns: Sequence[LatexColumn], room: float) -> int:
    """The lines of the table's rows, about, where a column that wraps has room for so many letters."""
    heights = (
        [math.ceil(len(text) / max(room, 1)) if column.wraps else text.count("\n") + 1 for text in column.texts]
        for column in columns
    )
    return sum(map(max, zip(*heights, strict=True)))


def _breakable(text: str) -> str:
    """Text that may break after `=`, `_`, `/` and `.`, too: `transfer.batch_size=1024`."""
    return re.sub(r"(\\_|[=/.])(?=[A-Za-z])", r"\1\\allowbreak{}", latex(text))


def latex(text: str) -> str:
    """Text that LaTeX shows letter by letter; `?` for letters that its own fonts do not have."""
    return re.sub("-(?=-)", "-{}", "".join(map(_letter, printable(text))))


def _letter(letter: str) -> str:
    if letter.isascii() or letter in LETTERS:
        return str(LETTERS.get(letter, letter))
    parts = unicodedata.normalize("NFD", letter)
    base, accent = parts[0], ACCENTS.get(parts[1:])
    return f"{accent}{{{base}}}" if accent and base.isascii() and base.isalpha() else "?"
