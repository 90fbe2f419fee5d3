"""Blocks as markdown that GitHub renders as it is."""

from collections.abc import Iterable

from caltech_exp.reporting.blocks import Block, Heading, Listing, Note, Picture, Prose, Table
from caltech_exp.reporting.markup import quote, table


def to_markdown(blocks: Iterable[Block]) -> str:
    """The page, an empty line between blocks."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Prose(text):
            return text
        case Note(paragraphs):
            return quote(paragraphs)
        case Listing(items, head):
            lines = "\n".join(f"- {item}" for item in items)
            return f"{head}\n\n{lines}" if head else lines
        case Table(headings, rows, numbers):
            return table(headings, rows, numbers)
        case Picture(_, alternative, caption, png, svg):
            return f"![{alternative}]({png})\n\n{caption} ([SVG]({svg}))"
