"""What the report is made of, in the order it is read: each block is data, and a page format renders it.

Texts are inline markdown whose foreign parts are escaped already (markup.escape, markup.code): `Heading.text`,
`Prose.text`, every cell, and so on. Names that are no text (anchors, keys, file names) are plain.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 (the page's title), 2 (a section) or 3 (a table); `anchor` names the place."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Prose:
    """One paragraph."""

    text: str


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
class Table:
    """Ready-made cells under headings, every row as long as `headings`.

    numbers   indices of the columns that hold numbers
    keys      a name per row (`row_key`), or empty where rows are no rows of the catalog
    sortable  whether the order may be changed by who reads: not where a row sums up the others
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    sortable: bool = True


@dataclass(frozen=True)
class Picture:
    """A figure of the report, or a plot that the report does not have, drawn in two formats.

    number       the figure's in the report, 0 for a plot that the report does not have
    alternative  what stands for the picture where it cannot be seen
    caption      what stands below it
    png, svg     its files, relative to the folder of the page
    row          key of the catalog row whose curves it draws, or empty
    """

    number: int
    alternative: str
    caption: str
    png: str
    svg: str
    row: str = ""


Block: TypeAlias = Heading | Prose | Note | Listing | Table | Picture
