"""The report as Markdown that GitHub renders as it is."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from caltech_exp.reporting.render.blocks import (
    Badges,
    Block,
    Details,
    Heading,
    Listing,
    Note,
    Panel,
    Picture,
    Prose,
    Table,
    escape,
    shown,
)
from caltech_exp.reporting.render.html import inline_html


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report, an empty line between blocks; the contents stand before the first section."""
    first = next(
        (number for number, block in enumerate(blocks) if isinstance(block, Heading) and block.level > 1),
        len(blocks),
    )
    contents = "\n".join(
        f"{'  ' * (block.level - 2)}- [{_title(block)}](#{block.anchor})"
        for block in blocks[first:]
        if isinstance(block, Heading) and block.is_listed
    )
    parts = (_texts(blocks[:first]), contents, _texts(blocks[first:]))
    return "\n\n".join(filter(None, parts)) + "\n"


def _texts(blocks: Iterable[Block]) -> str:
    return "\n\n".join(map(_text, blocks))


def _text(block: Block) -> str:
    match block:
        case Heading(level):
            # GitHub's own anchors are made of the words, and change with them.
            anchor = f'<a id="{block.anchor}"></a>\n' if level > 1 else ""
            return f"{anchor}{'#' * level} {_title(block)}"
        case Prose(text):
            return text
        case Note(paragraphs):
            return "> [!CAUTION]\n" + "\n>\n".join(f"> {paragraph}" for paragraph in paragraphs)
        case Listing(items, head):
            lines = "\n".join(f"- {item}" for item in items)
            return f"{head}\n\n{lines}" if head else lines
        case Badges(badges):
            return " · ".join(
                f"**{badge.count} {escape(badge.word)}**" + (f" ({badge.detail})" if badge.detail else "")
                for badge in badges
            )
        case Table():
            return _table(block)
        case Picture():
            return f"![{block.alternative}]({block.path('png')})\n\n*{block.caption}* ([SVG]({block.path('svg')}))"
        case Panel(left, right):
            return _texts((*left, *right))
        case Details(summary, content):
            return f"<details><summary>{inline_html(summary)}</summary>\n\n{_texts(content)}\n\n</details>"


def plain_table(table: Table) -> str:
    """A table for a terminal, its name above it, without details but the number of runs; * marks the best rows."""
    places = [place for place, column in enumerate(table.columns) if not column.is_detail or column.heading == "n"]
    rows = [
        [f"{shown(table.columns[place], row[place])}{' *' if place == 0 and number in table.best else ''}"
         for place in places]
        for number, row in enumerate(table.rows)
    ]  # fmt: skip
    headings = [table.columns[place].heading for place in places]
    return f"{table.name}\n{tabulate(rows, headings, disable_numparse=True)}"


def _title(heading: Heading) -> str:
    return f"{heading.number}. {heading.text}" if heading.number else heading.text


def _table(table: Table) -> str:
    """A table for GitHub without the columns behind the details switch; the best rows are bold."""
    places = [place for place, column in enumerate(table.columns) if not column.is_detail]
    rows = []
    for number, row in enumerate(table.rows):
        cells = {place: escape(shown(table.columns[place], row[place])) for place in places}
        best = [place for place in places if number in table.best or (number, place) in table.best_cells]
        cells |= {place: f"**{cells[place]}**" for place in best if cells[place]}
        rows.append(list(cells.values()))
    return tabulate(
        rows,
        [escape(table.columns[place].heading) for place in places],
        tablefmt="pipe",
        colalign=["right" if table.columns[place].is_number else "left" for place in places] if rows else None,
        disable_numparse=True,
    )
