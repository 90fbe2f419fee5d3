"""The whole report as data, one file per section, in the report's order."""

from collections.abc import Sequence

from caltech_exp.catalog import augmentation, data, resnet, scratch, transfer
from caltech_exp.catalog.model import DatasetFigure, Figure, Quoted, Reported, Row, Section, Table
from caltech_exp.errors import UserError, unknown

SECTIONS: tuple[Section, ...] = (
    data.SECTION,
    scratch.SECTION,
    transfer.SECTION,
    augmentation.SECTION,
    resnet.SECTION,
)

TEMPLATE = scratch.TEMPLATE
SPLIT_IMAGES = data.SPLIT_IMAGES
SEEDS = (0, 1, 2)
"""Three runs of every configuration, as in the report."""

__all__ = [
    "SECTIONS",
    "SEEDS",
    "SPLIT_IMAGES",
    "TEMPLATE",
    "DatasetFigure",
    "Figure",
    "Quoted",
    "Reported",
    "Row",
    "Section",
    "Table",
    "select",
]


def select(sections: Sequence[str] = (), tables: Sequence[str] = ()) -> list[tuple[Section, Table]]:
    """The tables of the named sections (`all` for every one), narrowed to the named tables if any.

    Tables are named `section.table`. Raises UserError for an unknown name, or a table outside the sections.
    """
    by_name = {section.name: section for section in SECTIONS}
    for name in sections:
        if name not in by_name and name != "all":
            raise unknown("section", name, [*by_name, "all"])
    chosen = [s for s in SECTIONS if not sections or "all" in sections or s.name in sections]
    everything = {f"{s.name}.{t.name}": (s, t) for s in SECTIONS for t in s.tables}
    if not tables:
        return [(s, t) for s in chosen for t in s.tables]
    for name in tables:
        if name not in everything:
            raise unknown("table", name, everything)
        if everything[name][0] not in chosen:
            raise UserError(
                f"table {name!r} is not in section {','.join(sections)}; "
                f"leave section= out, or use section={everything[name][0].name}"
            )
    return [pair for name, pair in everything.items() if name in tables]
