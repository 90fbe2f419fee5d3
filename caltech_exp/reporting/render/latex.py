"""A table of the report for a paper: booktabs, upright, as wide as one column of a journal.

The text needs nothing but pdfLaTeX and packages of its base; the first line of every file says which.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import tabulate

from caltech_exp.reporting.render.blocks import Column, Interval, Table, Value, printable, shown

MARK = "% caltech_exp report: needs "
"""How the file of a table begins; a file that begins otherwise is not the report's."""
LONG = 45
"""Lines up to which a table stays on one page."""
COLUMN, LINE = 241.5, 345.0
"""Points (1/72.27 inch) across a column of a journal, and across an article's line."""
GAP = 4.0
"""Points between two columns of a table."""
SYLLABLES = 31.0
"""Points that a long word needs where it is hyphenated."""
BOLD = 1.07
"""How much wider a cell is whose first number is bold, or whose letters are."""
LETTER_WIDTH = 4.25
LETTERS_BY_WIDTH = {
    2.4: "ijl.,:;'`!|", 2.8: " f", 3.3: "rstI()[]-", 3.8: "cez", 4.8: "bdhknpquS", 5.6: "EFLPZ",
    6.6: "wABCDGHKNOQRTUVXY&+=<>~×−", 7.0: "m±", 8.0: "MW@%—",
}  # fmt: skip
LETTER_WIDTHS = {letter: width for width, letters in LETTERS_BY_WIDTH.items() for letter in letters}
"""Points across letters of Computer Modern in the size of footnotes, about; LETTER_WIDTH for the others."""
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
NUMBER = re.compile(r"[+−]?[\d,]+(\.\d+)?( ± [\d.]+)?")


@dataclass(frozen=True, eq=False)
class LatexColumn:
    """A column of a table as LaTeX.

    bold   the rows whose cells are bold
    width  points that the texts wrap to; None for a column as wide as what it holds
    """

    column: Column
    values: Sequence[Value]
    bold: Collection[int]
    width: float | None = None

    @cached_property
    def natural(self) -> float:
        """Points across its widest cell; a heading breaks between words."""
        lines = [
            _points(line) * (BOLD if row in self.bold else 1)
            for row, value in enumerate(self.values)
            for line in self._lines(value)
        ]
        return max([*map(_points, self.column.heading.split()), *lines], default=0.0)

    def least(self, longest_word: float) -> float:
        """Points that it can be narrowed to if its words take at most `longest_word`."""
        if self.column.is_number:
            return self.natural
        texts = [self.column.heading, *(shown(self.column, value) for value in self.values)]
        return min(self.natural, max(_points(word, longest_word) for text in texts for word in _words(text)))

    @property
    def side(self) -> str:
        if self.width is not None:
            return f"p{{{self.width:.0f}pt}}"
        return "r" if self.column.is_number else "l"

    @property
    def heading(self) -> str:
        """On as many lines as keep it within the column, the last one level with the others' last."""
        if self.width is not None:
            return rf"\parbox[b]{{{self.width:.0f}pt}}{{{_wrapped(self.column.heading)}}}"
        lines: list[str] = []
        for word in printable(self.column.heading).split():
            longer = f"{lines[-1]} {word}" if lines else word
            lines[-1:] = [longer] if _points(longer) <= self.natural else [*lines[-1:], word]
        return self._stack([latex(line) for line in lines], "b")

    @property
    def cells(self) -> list[str]:
        return [self._cell(value, is_bold=row in self.bold) for row, value in enumerate(self.values)]

    @property
    def heights(self) -> list[int]:
        """Lines of each cell, about."""
        if self.width is None:
            return [len(self._lines(value)) for value in self.values]
        # A line that ends between words leaves some of its room.
        return [math.ceil(1.2 * _points(shown(self.column, value)) / self.width) for value in self.values]

    def _cell(self, value: Value, *, is_bold: bool) -> str:
        if self.width is not None:
            return _wrapped(shown(self.column, value))  # never bold: its letters would need more than the width
        cell = self._stack([self._number(line, is_bold=is_bold) for line in self._lines(value)], "t")
        return rf"\bfseries {cell}" if is_bold and not cell.startswith("$") else cell

    def _lines(self, value: Value) -> list[str]:
        """A cell as plain text: why a difference has no interval stands below it."""
        if isinstance(value, Interval) and value.reason and value.half_width is None:
            return [shown(self.column, replace(value, reason="")), f"({value.reason})"]
        return [shown(self.column, value)]

    def _number(self, text: str, *, is_bold: bool) -> str:
        """A number as a formula, a mean without a deviation below the other means; other texts as they are."""
        if not self.column.is_number or not NUMBER.fullmatch(text):
            return latex(text)
        first, plus_minus, second = text.replace("−", "-").replace(",", "{,}").partition(" ± ")
        first = rf"\mathbf{{{first}}}" if is_bold else first
        if plus_minus:
            return rf"${first} \pm {second}$"
        return rf"${first}\phantom{{{{}} \pm 0.000}}$" if self._has_pairs else f"${first}$"

    @cached_property
    def _has_pairs(self) -> bool:
        return any(" ± " in shown(self.column, value) for value in self.values)

    def _stack(self, lines: Sequence[str], place: str) -> str:
        """Lines above each other, the first (`t`) or the last (`b`) level with the row."""
        if len(lines) < 2:
            return "".join(lines)
        side = "r" if self.column.is_number else "l"
        return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r"\\".join(lines) + r"\end{tabular}"


def to_latex(table: Table) -> str:
    """The table without its details; a `longtable` if it is long, a `table*` if it cannot be so narrow."""
    places = [place for place, column in enumerate(table.columns) if not column.is_detail]
    first_number = next((place for place in places if table.columns[place].is_number), 0)
    columns = []
    for place in places:
        bold = {row for row in table.best if place in (places[0], first_number)}
        bold |= {row for row, column in table.best_cells if column == place}
        columns.append(LatexColumn(table.columns[place], [row[place] for row in table.rows], bold))
    fitted = _fit(columns, COLUMN)
    is_narrow = _fits(fitted, COLUMN)
    columns = fitted if is_narrow else _fit(columns, LINE)
    is_long = _height(columns) > LONG
    frame = pd.DataFrame(dict(enumerate(column.cells for column in columns)))
    frame = frame.set_axis([column.heading for column in columns], axis=1)
    sides = f"@{{}}{''.join(column.side for column in columns)}@{{}}"
    caption, label = latex(table.caption), f"tab:{table.name.replace('_', '-')}"
    size = rf"\footnotesize\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}\medmuskip=1mu"
    if is_long:
        needs = r"\usepackage{booktabs,longtable} and pages of one column"
        begin, end = rf"{{{size}\setlength{{\LTcapwidth}}{{\linewidth}}", "}"
        body = frame.to_latex(
            index=False, escape=False, column_format=sides, longtable=True, caption=caption, label=label
        )
    else:
        needs, kind = r"\usepackage{booktabs}", "table" if is_narrow else "table*"
        begin = rf"\begin{{{kind}}}\centering{size}" + f"\n\\caption{{{caption}}}\\label{{{label}}}\\smallskip"
        body = frame.to_latex(index=False, escape=False, column_format=sides)
        end = rf"\end{{{kind}}}"
    if columns[-1].width is not None:  # \\ in a cell that wraps ends its line, not the row
        body = re.sub(r"^(?!\\caption)(.*) \\\\$", r"\1 \\tabularnewline", body, flags=re.MULTILINE)
    return f"{MARK}{needs}\n{begin}\n{body}{end}\n"


def _fit(columns: Sequence[LatexColumn], room: float) -> list[LatexColumn]:
    """The columns with the widths of those that wrap so that all fit the room, as far as they can.

    Texts wrap between words, then within those of the first column, then within all.
    """
    for label, word in ((math.inf, math.inf), (SYLLABLES, math.inf), (SYLLABLES, SYLLABLES)):
        widths = [column.natural for column in columns]
        least = [column.least(word if place else label) for place, column in enumerate(columns)]
        while _across(widths) > room and widths != least:
            spare = (place for place, width in enumerate(widths) if width > least[place])
            widest = max(spare, key=widths.__getitem__)
            widths[widest] = max(least[widest], widths[widest] - 1)
        if _across(widths) <= room:
            break
    return [
        replace(column, width=width) if width < column.natural else column
        for column, width in zip(columns, widths, strict=True)
    ]


def _across(widths: Sequence[float]) -> float:
    return sum(widths) + GAP * (len(widths) - 1)


def _fits(columns: Sequence[LatexColumn], room: float) -> bool:
    """Whether the columns are as narrow as the room, and the table does not become long by that."""
    widths = [column.natural if column.width is None else column.width for column in columns]
    return _across(widths) <= room and (
        _height(columns) <= LONG or all(column.width is None for column in columns)
    )


def _height(columns: Sequence[LatexColumn]) -> int:
    """The lines of the table's rows."""
    return sum(map(max, zip(*(column.heights for column in columns), strict=True)))


def _points(text: str, longest_word: float = math.inf) -> float:
    """About how wide the text is set; a word of letters alone takes at most `longest_word`."""
    width = sum(LETTER_WIDTHS.get(letter, LETTER_WIDTH) for letter in text.replace(" ± ", "±"))
    return min(width, longest_word) if text.strip(",.;:").isalpha() else width


def _words(text: str) -> list[str]:
    """The pieces of a text between which a line may break."""
    return re.findall(r"[^\s=_/]+[=_/]*|[=_/]+", printable(text)) or [""]


def _wrapped(text: str) -> str:
    """A paragraph that is ragged on the right and may break after `=`, `_` and `/`, too."""
    words = (r"\allowbreak{}".join(map(latex, _words(word))) for word in printable(text).split())
    return rf"\raggedright\hspace{{0pt}}{' '.join(words)}"


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
