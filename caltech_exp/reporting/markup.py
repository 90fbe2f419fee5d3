"""Markdown that GitHub renders as meant, whatever stands in the files it is made from."""

import re
from collections.abc import Sequence

from tabulate import tabulate

_WORD = "[A-Za-z0-9]"
_MARKUP = re.compile(rf"([\\`*\[\]<>#|~$]|&(?=#?\w+;)|(?<!{_WORD})_|_(?!{_WORD}))")
"""Characters that mean something; an underscore inside a word (BATCH_SIZE) or a lone & does not."""
NOTHING = "–"
"""What a cell without a value shows."""


def printable(text: object) -> str:
    """One line of printable characters: line breaks become spaces, undecodable and control characters `?`."""
    words = " ".join(str(text).split())
    if words.isprintable():
        return words
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def escape(text: object) -> str:
    """Text from a file as markdown that shows it letter by letter, also in a table's cell."""
    return _MARKUP.sub(r"\\\1", printable(text))


def code(text: object) -> str:
    """A code span, for text outside tables (in a table's cell a pipe would end the cell)."""
    line = printable(text)
    longest = max((len(ticks) for ticks in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A GitHub table of ready-made cells; the columns with the indices `numbers` are aligned right."""
    align = ["right" if column in numbers else "left" for column in range(len(headings))]
    return tabulate(rows, headings, tablefmt="github", colalign=align, disable_numparse=True)


def quote(paragraphs: Sequence[str]) -> str:
    """A block quote of some paragraphs."""
    return "\n>\n".join(f"> {paragraph}" for paragraph in paragraphs)


def listing(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))
