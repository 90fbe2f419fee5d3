"""What the report is made of, in the order it is read: each block is data, and a page format renders it.

Texts are inline Markdown whose foreign parts are escaped already (`escape`, `code`): `Heading.text`, `Prose.text`,
captions and so on. Cells and headings of tables are plain text, and so are names (anchors, keys, file names).
"""

import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from caltech_exp.cli import join_words as join_words  # the sections have it from here
from caltech_exp.study.results import MIN_RUNS

_WORD = "[A-Za-z0-9]"
_MARKUP = re.compile(rf"([\\`*\[\]<>#|~$]|&(?=#?\w+;)|(?<!{_WORD})_|_(?!{_WORD}))")
# What means something in Markdown; an underscore inside a word (BATCH_SIZE) or a lone & does not.
NOTHING = "–"
"""What a cell without a value shows."""

Kind: TypeAlias = Literal["text", "count", "accuracy", "signed", "amount", "whole", "spread", "difference"]


@dataclass(frozen=True)
class Spread:
    """A mean with its population standard deviation, None for a single run: `0.460 ± 0.005`.

    bounds  the smallest and the largest value, shown instead of so few runs' mean and deviation: `0.325 to 0.454`
    """

    mean: float
    std: float | None = None
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Interval:
    """A difference with half the width of its 95 % confidence interval, None where there is none.

    reason  why there is none, shown in its place: `−0.121 (n = 2: too few)`
    """

    value: float
    half_width: float | None = None
    reason: str = ""


Value: TypeAlias = str | int | float | Spread | Interval | None


@dataclass(frozen=True)
class Column:
    """A heading and how the values below it are shown.

    text        as it is
    count       12,345
    accuracy    three decimals, as the report prints accuracies
    signed      the same with a sign
    amount      three digits or more, 0.0120, 12.3, 1,234
    whole       rounded, 1,235
    spread      0.460 ± 0.005 (Spread)
    difference  +0.014 ± 0.025 (Interval)

    file_heading  the heading in files of bare numbers, where `heading` leaves something to what stands around it
    is_detail     shown behind the details switch, and in the CSV file
    """

    heading: str
    kind: Kind = "accuracy"
    file_heading: str = ""
    is_detail: bool = False

    @property
    def is_number(self) -> bool:
        return self.kind != "text"


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 (the page's title), 2 (a section) or 3 (a table); `anchor` names the place.

    number      as the report numbers, `2.1`; the text does not repeat it
    is_listed   whether the contents list it
    is_appendix whether the section (level 2) is part of the appendix, which is folded
    """

    level: int
    text: str
    anchor: str
    number: str = ""
    is_listed: bool = True
    is_appendix: bool = False


@dataclass(frozen=True)
class Prose:
    """One paragraph; `is_quiet` for what explains and need not be read first."""

    text: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Note:
    """A caution of some paragraphs, set apart from the text."""

    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """A list of items without an order, after a line that introduces it, if there is one."""

    items: tuple[str, ...]
    head: str = ""


@dataclass(frozen=True)
class Badge:
    """A count under a verdict: `26 agree`; `detail` is a short line below."""

    verdict: str
    count: int
    detail: str = ""

    @property
    def word(self) -> str:
        """The verdict after its count: 1 agrees, 27 agree."""
        plural = {"agrees": "agree", "differs": "differ"}
        return self.verdict if self.count == 1 else plural.get(self.verdict, self.verdict)


@dataclass(frozen=True)
class Badges:
    badges: tuple[Badge, ...]


@dataclass(frozen=True)
class Table:
    """Values under columns, every row as long as `columns`; a text in a column of numbers says why there is none.

    name        of its files, tables/<name>.csv and .tex; empty for a table of the page alone
    caption     one sentence for files, where nothing stands around the table
    keys        a row key per row (`scratch.lr=5e-2`), or empty where rows are no rows of the catalog
    best        indices of the rows that are set in bold
    best_cells  (row, column) of the cells that are set in bold, where whole rows are not
    sortable    whether a reader may change the order: not where a row sums up the others
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    keys: tuple[str, ...] = ()
    best: tuple[int, ...] = ()
    best_cells: tuple[tuple[int, int], ...] = ()
    sortable: bool = True


@dataclass(frozen=True)
class Picture:
    """A picture in figures/<name>.png and .svg.

    alternative  what stands for the picture where it cannot be seen
    caption      what stands below it
    number       of a figure of the report, 0 for a plot that the report does not have
    keys         row keys whose live curves take its place in a browser
    """

    name: str
    alternative: str
    caption: str
    number: int = 0
    keys: tuple[str, ...] = ()

    def path(self, suffix: str) -> str:
        """The file relative to the page: `figures/figure-05.png`."""
        return f"figures/{self.name}.{suffix}"


@dataclass(frozen=True)
class Panel:
    """Blocks side by side where the page is wide enough, below each other elsewhere: a table and its plot."""

    left: tuple["Block", ...]
    right: tuple["Block", ...]


@dataclass(frozen=True)
class Details:
    """Blocks that are folded behind a line."""

    summary: str
    blocks: tuple["Block", ...]


Block: TypeAlias = Heading | Prose | Note | Listing | Badges | Table | Picture | Panel | Details


def shown(column: Column, value: Value) -> str:
    """The value as plain text, rounded as everywhere in the report."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if isinstance(value, Spread):
        if value.bounds:
            return " to ".join(dict.fromkeys(map(accuracy, value.bounds)))
        return accuracy(value.mean) if value.std is None else f"{accuracy(value.mean)} ± {accuracy(value.std)}"
    if isinstance(value, Interval):
        if value.half_width is not None:
            return f"{signed(value.value)} ± {accuracy(value.half_width)}"
        return f"{signed(value.value)} ({value.reason})" if value.reason else signed(value.value)
    match column.kind:
        case "signed":
            return signed(value)
        case "accuracy":
            return accuracy(value)
        case "amount":
            return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"
        case "whole":
            return f"{value:,.0f}"
        case _:
            return f"{value:,}"


def mean_or_diverged(spread: Spread | None, finished: int, diverged: int) -> Value:
    """What a table shows of a row: its mean, the range of fewer than MIN_RUNS runs, or how many diverged."""
    if diverged:
        return f"diverged ({diverged} of {finished + diverged})"
    is_range = spread and 1 < finished < MIN_RUNS
    return spread if spread is None or is_range else replace(spread, bounds=None)


def accuracy(value: float) -> str:
    """`0.460`"""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """`+0.014`, `−0.014`; a difference that rounds to nothing has no sign."""
    text = f"{abs(value):.3f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def printable(text: object) -> str:
    """One line of printable characters: line breaks become spaces, undecodable and control characters `?`."""
    words = " ".join(str(text).split())
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def escape(text: object) -> str:
    """Text from a file as Markdown that shows it letter by letter, also in a table's cell."""
    return _MARKUP.sub(r"\\\1", printable(text))


def code(text: object) -> str:
    """A code span, for text outside tables (in a table's cell a pipe would end the cell)."""
    line = printable(text)
    longest = max((len(ticks) for ticks in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"
