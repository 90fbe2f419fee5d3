"""One table of the report: question, settings, measured beside reported values, and what is missing."""

from collections.abc import Sequence

from caltech_exp.catalog import Section, row_key
from caltech_exp.catalog import Table as Asked
from caltech_exp.config import RunConfig
from caltech_exp.reporting.blocks import Block, Heading, Listing, Prose
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.counts import NOT_SUBMITTED, row_counts, state_words
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import code, escape, listing
from caltech_exp.reporting.measured import Measured
from caltech_exp.reporting.mixed import mixed_origins
from caltech_exp.reporting.published import NOT_COUNTED
from caltech_exp.reporting.reported import gap
from caltech_exp.reporting.sentences import table_sentence
from caltech_exp.reporting.vocabulary import as_typed, changed_settings, computed_with, shared_settings

MEASURED = (Column("measured mean"), Column("std"), Column("95 % CI", "half"), Column("n", "count"))
REPORTED = (
    Column("reported mean"),
    Column("reported std"),
    Column("difference", "signed"),
    Column("95 % CI of it", "half", "95 % CI of difference"),
)
BALANCED = (Column("mean balanced accuracy"),)
CAPTION = (
    "Validation accuracy after the last epoch; std: population standard deviation over the n finished runs; "
    "95 % CI: Student's confidence interval of the mean."
)
DIVERGES = "diverges in the report"
EXPLAINED = ("failed", "damaged", "newer", "lost", NOT_COUNTED)
"""States whose reason is listed under the table."""


def table_blocks(section: Section, asked: Asked, rows: Sequence[RowRuns], collected: Collected) -> list[Block]:
    """The table with its heading and what must be known of it, without its figures."""
    name = f"{section.name}.{asked.name}"
    return [
        Heading(3, escape(asked.title_in(section)), name),
        Prose(f"{f'*{escape(asked.question)}* ' if asked.question else ''}({code(f'table={name}')})"),
        *settings_lines(asked, rows),
        grid_block(results_grid(section, asked, rows)),
        Prose(f"*{CAPTION}*"),
        Prose(f"**{escape(table_sentence(asked, rows))}**"),
        *same_runs(rows, collected),
        *reasons(rows),
    ]


def settings_lines(asked: Asked, rows: Sequence[RowRuns]) -> list[Prose]:
    """What all rows share in the report, what this study changes of that, and how it computes them."""
    figure = f" (Figure {asked.settings_figure})" if asked.settings_figure else ""
    lines = [Prose(f"Settings{figure}: {escape(shared_settings([row.row.config for row in rows]))}.")]
    if figure:
        lines.append(
            Prose(f"*Figure {asked.settings_figure}. The template's default parameters: the line above.*")
        )
    changed = dict.fromkeys(word for row in rows for word in changed_settings(row.row.config, row.config))
    if changed:
        lines.append(Prose(f"In this study instead: {escape(', '.join(changed))}."))
    lines.append(Prose(f"Computed with {computed_with([row.config for row in rows])}."))
    return lines


def results_grid(section: Section, asked: Asked, rows: Sequence[RowRuns]) -> Grid:
    """A row each; the report's columns only where it reports anything.

    Balanced accuracy only where a row samples its classes otherwise than the report: it is about that.
    """
    balanced = BALANCED if any(_resampled(row.config) for row in rows) else ()
    reported = REPORTED if any(row.row.reported for row in rows) else ()
    columns = (
        Column(asked.heading, "text"),
        *MEASURED,
        *reported,
        Column("mean test accuracy"),
        *balanced,
        Column("state", "text"),
    )
    values: list[tuple[Value, ...]] = []
    for row in rows:
        measured = row.measured
        diverged = "diverged" if measured.mean is None and row.diverged else None
        values.append(
            (
                row.row.label,
                diverged or measured.mean,
                measured.std,
                measured.half,
                measured.n,
                *(_reported_values(row, measured) if reported else ()),
                measured.test_mean,
                *((measured.balanced_mean,) if balanced else ()),
                state_cell(row),
            )
        )
    keys = tuple(row_key(section.name, asked.name, row.row.label) for row in rows)
    return Grid(f"{section.name}.{asked.name}", f"{asked.title}. {CAPTION}", columns, tuple(values), keys)


def _resampled(config: RunConfig) -> bool:
    return config.sampling != "shuffle" or config.max_per_class > 0


def _reported_values(row: RowRuns, measured: Measured) -> tuple[Value, ...]:
    reported = row.row.reported
    if reported is None:
        return (None,) * len(REPORTED)
    found = gap(measured, reported)
    return reported.mean, reported.std, *((found.value, found.half) if found else (None, None))


def state_cell(row: RowRuns) -> str:
    """`3 of 3 runs`, `1 of 3 runs; 1 failed; 1 not submitted`, `3 diverged`, `not submitted`, `mixed devices`."""
    counts = row_counts(row)
    total = counts.total()
    finished = counts.pop("finished", 0)
    if not row.runs:
        words = [NOT_SUBMITTED]
    elif set(counts) == {"diverged"} and not finished:
        words = state_words(counts)
    else:
        words = [f"{finished} of {total} runs", *state_words(counts)]
    mixed = mixed_origins([*row.finished, *row.diverged])
    words += [f"mixed {listing(mixed)}"] if mixed else []
    return "; ".join([*words, *([DIVERGES] if row.row.diverges else [])])


def same_runs(rows: Sequence[RowRuns], collected: Collected) -> list[Prose]:
    """Says which rows the study's overrides make one and the same run, and which overrides those are."""
    merged: dict[str, list[RowRuns]] = {}
    for row in rows:
        merged.setdefault(row.config.id, []).append(row)
    sentences = []
    for same in merged.values():
        if len(same) == 1:
            continue
        reported = [row.row.config.model_dump() for row in same]
        causes = {
            name: value
            for name, value in collected.settings.overrides.items()
            if any(config[name] != reported[0][name] for config in reported)
        }
        noun = "override" if len(causes) == 1 else "overrides"
        sentences.append(
            Prose(
                f"Rows {listing([escape(row.row.label) for row in same])} are the same run in this study, "
                f"because of the {noun} {code(as_typed(causes))}."
            )
        )
    return sentences


def reasons(rows: Sequence[RowRuns]) -> list[Listing]:
    """Every run of the table that has no result though it should, with the reason in one line."""
    runs = {run.id: run for row in rows for run in row.runs if run.state in EXPLAINED}
    lines = [
        f"{code(run.id)} {run.state}" + (f": {escape(run.detail)}" if run.detail else "") for run in runs.values()
    ]
    return [Listing(tuple(lines), "Runs that do not count:")] if lines else []
