"""One table of the report: its settings, measured beside reported values, and what is behind its details."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from caltech_exp.catalog import Section, table_key
from caltech_exp.catalog import Table as CatalogTable
from caltech_exp.config import RunConfig
from caltech_exp.reporting.comparison import (
    TableRow,
    compare_row,
    seeds_to_decide,
    split_by_weights,
    table_rows,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Heading,
    Interval,
    Listing,
    Prose,
    Spread,
    Table,
    Value,
    code,
    escape,
    join_words,
    mean_or_diverged,
)
from caltech_exp.reporting.sections.sentences import best_rows, table_sentence
from caltech_exp.reporting.stats import MIN_RUNS
from caltech_exp.reporting.wording import (
    OTHER_WEIGHTS,
    as_typed,
    changed_settings,
    computed_with,
    count_line,
    how_to_get,
    shared_settings,
    shorten,
    submit_command,
)

CAPTION = (
    "Validation accuracy after the last epoch: mean ± population standard deviation over the finished runs, one "
    "per seed."
)
MEASURED = Column("measured", "spread")
REPORTED = (
    Column("reported", "spread"),
    Column("difference ± 95 % interval", "difference", file_heading="difference"),
    Column("verdict", "text"),
)
DETAILS = (
    Column("n", "count", is_detail=True),
    Column("test accuracy", is_detail=True),
    Column("95 % interval of the mean, ±", file_heading="95 % interval of the mean, half width", is_detail=True),
)
BALANCED = Column("balanced accuracy", is_detail=True)
STATE = Column("state", "text", is_detail=True)

EXPLAINED_STATES = ("failed", "damaged", "newer", "lost", "cancelled", "not counted")
"""States of runs that do not count though they should, with a reason."""
MIXED = {
    "code": "code versions",
    "libraries": "library versions",
    "device": "devices",
    "device_type": "devices",
    "train_images": "numbers of images",
    "val_images": "numbers of images",
    "test_images": "numbers of images",
    "weights_sha256": "initial weights",
}
"""What must not differ between the runs of a row, by column of StudyFrames.runs."""


@dataclass(frozen=True)
class TableSection:
    """A table of the catalog on the page.

    head     its heading, its question, and the settings that its rows share
    results  its numbers and the sentence on them; a plot may stand beside
    details  what is worth folding
    """

    head: tuple[Block, ...]
    results: tuple[Block, ...]
    details: tuple[Block, ...]


def table_blocks(study: StudyFrames, section: Section, table: CatalogTable) -> TableSection:
    """The table without its pictures."""
    rows = table_rows(study, section, table)
    key = table_key(section.name, table.name)
    numbers, matrix = results_table(rows), results_matrix(rows)
    results: list[Block] = [matrix] if matrix else []
    if not any(row.is_measured for row in rows):
        results = [Prose(f"No results yet. {how_to_get(study, rows, f'table={key}')}")]
    elif not matrix or any(row.is_reported for row in rows):
        results.append(numbers)
    if sentence := table_sentence(table, rows):
        results.append(Prose(sentence))
    return TableSection(
        head=(_heading(section, table, rows[0].suffix), *_introduction(table, rows)),
        results=tuple(results),
        details=(
            *([] if numbers in results else [numbers]),
            *_seed_advice(study, rows),
            *_same_runs(study, rows),
            *uncounted_runs(rows),
            Prose(
                f"Computed with {computed_with([row.config for row in rows])}. Key: {code(key)}.", is_quiet=True
            ),
        ),
    )


def measured_tables(study: StudyFrames) -> list[tuple[Table, str]]:
    """The numbers of every table with a result, and the sentence below it; for a terminal and other programs."""
    parts = split_by_weights(study)
    tables = [
        (table, table_rows(part, section, table)) for part in parts for section, table in part.catalog.tables
    ]
    return [
        (results_table(rows), table_sentence(table, rows).replace("`", ""))
        for table, rows in tables
        if any(row.is_measured for row in rows)
    ]


def _heading(section: Section, table: CatalogTable, suffix: str) -> Heading:
    """The report's number stands at the first table that has it, and not again below its section's."""
    first = next(other for other in section.tables if other.number == table.number)
    number = table.number if first.name == table.name and table.number != section.number else ""
    return Heading(3, escape(table.title), f"{table_key(section.name, table.name)}{suffix}", number)


def _introduction(table: CatalogTable, rows: Sequence[TableRow]) -> list[Prose]:
    """The table's question, and what all rows share."""
    question = [Prose(f"*{escape(table.question)}*")] if table.question else []
    changes = list(dict.fromkeys(word for row in rows for word in changed_settings(row.row.config, row.config)))
    of_figure = f" (Figure {table.settings_figure} of the report)" if table.settings_figure else ""
    changed = f" In this study instead: {', '.join(changes)}." if changes else ""
    settings = shared_settings([row.row.config for row in rows], rows[0].config.classes)
    return [*question, Prose(escape(f"Settings{of_figure}: {settings}.{changed}"), is_quiet=True)]


def results_table(rows: Sequence[TableRow]) -> Table:
    """A row each: measured, reported, difference, verdict where the report says anything, then the details."""
    table, section = rows[0].table, rows[0].section
    is_reported = any(row.is_reported for row in rows)
    is_balanced = any(_is_resampled(row.config) for row in rows)
    states = [_state(row) for row in rows]
    columns = (
        Column(table.heading, "text"),
        MEASURED,
        *(REPORTED if is_reported else ()),
        *DETAILS,
        *([BALANCED] if is_balanced else []),
        *([STATE] if any(states) else []),
    )
    values: list[tuple[Value, ...]] = []
    for row, state in zip(rows, states, strict=True):
        measured, counts = row.measured, row.is_stable
        values.append(
            (
                row.label,
                measured_value(row),
                *(reported_values(row) if is_reported else ()),
                measured.n,
                row.summary("test_accuracy").mean if counts else None,
                measured.half_width if counts and measured.n >= MIN_RUNS else None,
                *([row.summary("balanced_accuracy").mean if counts else None] if is_balanced else []),
                *([state or "all finished"] if any(states) else []),
            )
        )
    best = {row.config.id for row in best_rows(rows)}
    return Table(
        name=f"{table_key(section.name, table.name)}{rows[0].suffix}",
        caption=f"{table.title}{f', with {OTHER_WEIGHTS}' if rows[0].has_other_weights else ''}. {CAPTION}",
        columns=columns,
        rows=tuple(values),
        keys=tuple(row.key for row in rows),
        best=tuple(number for number, row in enumerate(rows) if row.config.id in best),
    )


def measured_value(row: TableRow) -> Value:
    """The mean with its deviation, the range of fewer than MIN_RUNS runs, or how many diverged."""
    measured = row.measured
    bounds = (measured.minimum or 0.0, measured.maximum or 0.0)
    spread = None if measured.mean is None else Spread(measured.mean, measured.std, bounds)
    return mean_or_diverged(spread, measured.n, len(row.diverged))


def reported_values(row: TableRow) -> tuple[Value, Value, Value]:
    """Reported value, difference, verdict. A mean of the runs that did not diverge has no difference."""
    reported: Value = "diverges" if row.diverges else None
    if row.reported:
        reported = Spread(row.reported.mean, row.reported.std)
    difference = compare_row(row)
    if difference is None:
        return reported, None, None
    if difference.value is None or not row.diverged.empty:
        return reported, None, difference.verdict
    return reported, Interval(difference.value, difference.half_width, difference.reason), difference.verdict


def _is_resampled(config: RunConfig) -> bool:
    """Whether classes count otherwise than in the report, which balanced accuracy is about."""
    return config.sampling != "shuffle" or config.max_per_class > 0


def _state(row: TableRow) -> str:
    """What became of the runs, empty where all finished: `1 of 3 runs finished; 2 failed; mixed devices`."""
    states = list(row.runs["state"])
    mixed = join_words(_mixed(row))
    if set(states) == {"finished"}:
        return f"mixed {mixed}" if mixed else ""
    words = "not submitted" if set(states) <= {"pending"} else count_line(states)
    return f"{words}; mixed {mixed}" if mixed else words


def _mixed(row: TableRow) -> list[str]:
    """In what the results of a row differ that should be alike."""
    results = row.runs[row.runs["state"].isin(["finished", "diverged"])]
    values = {name: {value for value in results[name].tolist() if not pd.isna(value)} for name in MIXED}
    values["code"] = {version for versions in values["code"] for version in versions.split("; ")}
    return list(dict.fromkeys(MIXED[name] for name in MIXED if len(values[name]) > 1))


@dataclass(frozen=True)
class SettingsMatrix:
    """The rows of two settings that were varied together, by the values of both."""

    headings: tuple[str, str]
    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: dict[tuple[str, str], TableRow]


def settings_matrix(rows: Sequence[TableRow]) -> SettingsMatrix | None:
    """The table's rows as a matrix, if every pair of two settings' values is a row of it."""
    labels, headings = [row.label.split(", ") for row in rows], rows[0].table.heading.split(", ")
    if any(len(parts) != 2 for parts in (headings, *labels)):
        return None
    down, across = (tuple(dict.fromkeys(parts[side] for parts in labels)) for side in (0, 1))
    cells = {(first, second): row for (first, second), row in zip(labels, rows, strict=True)}
    if len(down) < 2 or len(across) < 2 or len(cells) != len(down) * len(across):
        return None
    return SettingsMatrix((headings[0], headings[1]), down, across, cells)


def results_matrix(rows: Sequence[TableRow]) -> Table | None:
    """The measured means of two settings that were varied together; None for any other table."""
    matrix = settings_matrix(rows)
    if matrix is None:
        return None
    best = {row.config.id for row in best_rows(rows)}
    return Table(
        name="",
        caption=f"{rows[0].table.title}. {CAPTION}",
        columns=(
            Column(matrix.headings[0], "text"),
            *(Column(f"{matrix.headings[1]} {value}", "spread") for value in matrix.across),
        ),
        rows=tuple(
            (first, *(measured_value(matrix.cells[first, second]) for second in matrix.across))
            for first in matrix.down
        ),
        best_cells=tuple(
            (place, 1 + across_place)
            for place, first in enumerate(matrix.down)
            for across_place, second in enumerate(matrix.across)
            if matrix.cells[first, second].config.id in best
        ),
        sortable=False,
    )


def _seed_advice(study: StudyFrames, rows: Sequence[TableRow]) -> list[Listing]:
    """For every inconclusive row how many seeds would decide it, what they cost, and the command."""
    items = []
    for row in rows:
        advice = seeds_to_decide(row)
        if advice is None:
            continue
        if advice.seeds is None:
            items.append(f"{code(row.label)}: no number of seeds; the reported spread alone is too wide.")
            continue
        missing = advice.seeds - row.measured.n
        command = submit_command(study, f"table={row.key}", seeds=advice.seeds)
        device = "CPU" if set(row.finished["device_type"]) == {"cpu"} else "GPU"
        hours = f"{advice.hours:,.1f}" if (advice.hours or 0) >= 0.05 else "less than 0.1"
        cost = "" if advice.hours is None else f", {hours} {device} hours"
        items.append(f"{code(row.label)}: {advice.seeds} seeds ({missing} more{cost}): {code(command)}")
    head = "Seeds that would decide the inconclusive rows, if means and spreads stay as they are:"
    return [Listing(tuple(items), head)] if items else []


def _same_runs(study: StudyFrames, rows: Sequence[TableRow]) -> list[Prose]:
    """Which rows the study's overrides make one and the same run."""
    groups: dict[str, list[TableRow]] = {}
    for row in rows:
        groups.setdefault(row.config.id, []).append(row)
    blocks = []
    for group in (group for group in groups.values() if len(group) > 1):
        configs = [row.row.config.model_dump() for row in group]
        varied = {name for name in configs[0] if any(config[name] != configs[0][name] for config in configs)}
        causes = {name: value for name, value in study.settings.overrides.items() if name in varied}
        labels = join_words([code(row.label) for row in group])
        blocks.append(Prose(f"{labels} are the same run in this study because of {code(as_typed(causes))}."))
    return blocks


def uncounted_runs(rows: Sequence[TableRow]) -> list[Listing]:
    """Every run of the table that should have a result and has none, with the reason in one line."""
    runs = pd.concat([row.runs for row in rows]).drop_duplicates("run_id")
    items = [
        f"{code(run.run_id)} {run.state}" + (f": {escape(run.detail)}" if run.detail else "")
        for run in runs[runs["state"].isin(EXPLAINED_STATES)].itertuples()
    ]
    return [Listing(shorten(items, where=", in `runs.csv`"), "Runs that do not count:")] if items else []
