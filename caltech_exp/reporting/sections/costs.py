"""What the runs cost: hours, speed and energy, by table, by row and in all."""

from dataclasses import replace

import pandas as pd

from caltech_exp.catalog import split_row_key
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Details,
    Prose,
    Table,
    Value,
    escape,
    join_words,
    shown,
)

JOULES_PER_KWH = 3.6e6
HOURS, KWH = Column("hours", "amount"), Column("energy, kWh", "amount")
DEVICE_WORDS = {"cuda": "GPU", "cpu": "CPU"}
COLUMNS = (
    Column("runs", "count"),
    HOURS,
    Column("minutes per run", "amount"),
    Column("images per second", "whole"),
    KWH,
    Column("runs with energy", "count", is_detail=True),
    Column("device", "text"),
)
CAPTION = "wall time with all attempts, speed of training alone, energy by the GPU's counter."
NOTE = (
    "Wall time per run, including resumed attempts. Each run has a GPU to itself; CPUs may be shared. Images per "
    "second count training alone. Energy comes from the GPU's own counter, if it has one. A run that several rows "
    "share counts in each of them, and once in the last line."
)


def cost_blocks(study: StudyFrames) -> list[Block]:
    """The total in a sentence, then the cost by table and by row."""
    if study.results.empty:
        return [Prose("No run has a result yet.")]
    by_table, by_row = cost_tables(study)
    head, note = Prose(escape(total_sentence(study))), Prose(NOTE, is_quiet=True)
    return [head, by_table, Details("Cost by row", (by_row,)), note]


def total_sentence(study: StudyFrames) -> str:
    """`120 runs took 12.3 hours on H200 (GPU). Energy: 4.56 kWh.`, in plain text."""
    runs = _with_device_names(study.results)
    parts = [
        f"{len(own):,} run{'s' if len(own) > 1 else ''} took {_duration(own['wall_seconds'].sum())} on {device}"
        for device, own in runs.groupby("device_name")
    ]
    joules = runs["energy_joules"].dropna()
    if joules.empty:
        return f"{join_words(parts)}."
    share = "" if len(joules) == len(runs) else f" ({len(joules):,} of {len(runs):,} runs count it)"
    return f"{join_words(parts)}. Energy: {shown(KWH, joules.sum() / JOULES_PER_KWH)} kWh{share}."


def cost_tables(study: StudyFrames) -> tuple[Table, Table]:
    """The cost by table with a last line for all runs, and by row; both leave out what has no result."""
    row_runs = _with_device_names(study.row_runs)
    row_runs["table_key"] = [split_row_key(key)[0] for key in row_runs["key"]]
    by_table = row_runs.drop_duplicates(["table_key", "run_id"]).groupby("table_key", sort=False)
    by_row = row_runs.groupby("key", sort=False)
    hidden = ["device"] if row_runs["device_name"].nunique() == 1 else []
    hidden += [KWH.heading] if row_runs["energy_joules"].isna().all() else []
    columns = tuple(replace(column, is_detail=column.is_detail or column.heading in hidden) for column in COLUMNS)
    tables = [(str(key), *_cost_values(runs)) for key, runs in by_table]
    rows = tuple((*split_row_key(str(key)), *_cost_values(runs)) for key, runs in by_row)
    keys = tuple(map(str, by_row.groups))
    table, row = Column("table", "text"), Column("row", "text")
    total = ("all", *_cost_values(_with_device_names(study.results)))
    return (
        Table("cost_by_table", f"Cost by table: {CAPTION}", (table, *columns), (*tables, total), sortable=False),
        Table("cost_by_row", f"Cost by row: {CAPTION}", (table, row, *columns), rows, keys),
    )


def _cost_values(runs: pd.DataFrame) -> tuple[Value, ...]:
    """The values of COLUMNS for runs with results."""
    hours = float(runs["wall_seconds"].sum()) / 3600
    joules = runs["energy_joules"].dropna()
    return (
        len(runs),
        hours,
        60 * hours / len(runs),
        float(runs["images_per_second"].mean()),
        float(joules.sum()) / JOULES_PER_KWH if len(joules) else None,
        len(joules),
        join_words(sorted(runs["device_name"].unique())),
    )


def _with_device_names(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with a result, and their devices as `H200 (GPU)`."""
    runs = runs[runs["wall_seconds"].notna()]
    return runs.assign(device_name=runs["device"] + " (" + runs["device_type"].map(DEVICE_WORDS) + ")")


def _duration(seconds: float) -> str:
    """`12.3 hours`, below one hour `8.2 minutes`."""
    return f"{shown(HOURS, seconds / 3600)} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
