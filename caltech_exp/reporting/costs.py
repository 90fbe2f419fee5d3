"""What the runs cost: device hours, images per second and energy, by row, by table and in all."""

from collections.abc import Iterable, Sequence

from caltech_exp.catalog import row_key
from caltech_exp.reporting.blocks import Block, Prose
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import listing
from caltech_exp.reporting.measured import mean
from caltech_exp.reporting.outcome import Outcome

JOULES_PER_KWH = 3.6e6
NOTE = (
    "Wall time of a run from its start to its result, over all attempts that it went on from. A GPU a run has to "
    "itself; a CPU it may share with other work. Images per second count training alone. Energy is the GPU's own "
    "count, where it has one. Runs that several rows or tables share count in each of them, and once in all."
)
COLUMNS = (
    Column("runs", "count"),
    Column("hours", "amount"),
    Column("minutes per run", "amount"),
    Column("images per second", "whole"),
    Column("energy, kWh", "amount"),
    Column("runs with energy", "count"),
    Column("device", "text"),
)


def cost_blocks(collected: Collected) -> list[Block]:
    """By table, then by row; nothing but a sentence where there is no result."""
    if not collected.results():
        return [Prose("No run has a result yet.")]
    by_table, by_row = cost_grids(collected)
    return [Prose(NOTE), grid_block(by_table, sortable=False), Prose("*By row:*"), grid_block(by_row)]


def cost_grids(collected: Collected) -> tuple[Grid, Grid]:
    """By table with a last line for all, and by row."""
    tables: list[tuple[Value, ...]] = []
    rows: list[tuple[Value, ...]] = []
    keys = []
    for section, table in collected.catalog.tables:
        of_table: list[Outcome] = []
        for row in collected.of(section, table):
            results = [*row.finished, *row.diverged]
            of_table += results
            if results:
                rows.append((f"{section.name}.{table.name}", row.row.label, *cost_values(results)))
                keys.append(row_key(section.name, table.name, row.row.label))
        unique = list({one.run_id: one for one in of_table}.values())
        tables.append((f"{section.name}.{table.name}", *cost_values(unique)))
    tables.append(("all", *cost_values(collected.results())))
    return (
        Grid("cost_by_table", f"Cost by table. {NOTE}", (Column("table", "text"), *COLUMNS), tuple(tables)),
        Grid(
            "cost_by_row",
            f"Cost by row. {NOTE}",
            (Column("table", "text"), Column("row", "text"), *COLUMNS),
            tuple(rows),
            tuple(keys),
        ),
    )


def cost_values(results: Sequence[Outcome]) -> tuple[Value, ...]:
    """Values of COLUMNS; energy is the sum over the runs that have it."""
    energies = [one.energy_joules for one in results if one.energy_joules is not None]
    hours = sum(one.wall_seconds for one in results) / 3600
    return (
        len(results),
        hours if results else None,
        60 * hours / len(results) if results else None,
        mean(one.images_per_second for one in results),
        sum(energies) / JOULES_PER_KWH if energies else None,
        len(energies),
        devices(results) or None,
    )


def devices(results: Iterable[Outcome]) -> str:
    """`H200 (GPU)`, `EPYC (CPU)`: every device once, in alphabetic order."""
    kinds = {"cuda": "GPU", "cpu": "CPU"}
    distinct = {id(one.device): one.device for one in results}.values()  # results that were kept share theirs
    return listing(sorted({f"{device.name} ({kinds[device.type]})" for device in distinct}))
