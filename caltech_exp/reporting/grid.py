"""A table as numbers: what the page shows rounded, and what tables/*.csv and *.tex hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from caltech_exp.reporting.blocks import Table
from caltech_exp.reporting.markup import NOTHING, escape

Kind: TypeAlias = Literal["text", "count", "share", "signed", "half", "amount", "whole"]
Value: TypeAlias = str | int | float | None


@dataclass(frozen=True)
class Column:
    """A heading and how the values below it are shown.

    text    as it is
    count   12,345
    share   three decimals, as the report prints accuracies
    signed  the same with a sign
    half    half the width of an interval: ±0.012, which files of bare numbers say in the heading
    amount  three digits or more, 0.0123, 12.3, 1,234
    whole   rounded, 1,235
    """

    heading: str
    kind: Kind = "share"
    in_full: str = ""
    """The heading where it leaves something to the column before."""

    @property
    def title(self) -> str:
        """The heading for a file of bare numbers, which nothing beside them explains."""
        return (self.in_full or self.heading) + (", half width" if self.kind == "half" else "")


@dataclass(frozen=True)
class Grid:
    """A table by its name (`scratch.lr`): values under columns, all plain text or plain numbers.

    A text in a column of numbers says why there is no number. `keys` name the rows where they are the catalog's.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    keys: tuple[str, ...] = ()


def shown(column: Column, value: Value) -> str:
    """The value as plain text."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    match column.kind:
        case "signed":
            text = f"{value:+.3f}"
            return "0.000" if float(text) == 0 else text
        case "half":
            return f"±{value:.3f}"
        case "share":
            return f"{value:.3f}"
        case "amount":
            return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
        case "whole":
            return f"{value:,.0f}"
        case _:
            return f"{value:,}"


def grid_block(grid: Grid, *, sortable: bool = True) -> Table:
    """The grid as a block of the page."""
    numbers = tuple(index for index, column in enumerate(grid.columns) if column.kind != "text")
    cells = tuple(_cells(grid.columns, row) for row in grid.rows)
    headings = tuple(escape(column.heading) for column in grid.columns)
    return Table(headings, cells, numbers, grid.keys, sortable)


def _cells(columns: Sequence[Column], row: Sequence[Value]) -> tuple[str, ...]:
    return tuple(escape(shown(column, value)) for column, value in zip(columns, row, strict=True))
