"""The pictures of a table: curves of its rows, measured beside reported values, and figures of the report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from caltech_exp.catalog import Figure, Section, table_key
from caltech_exp.catalog import Table as CatalogTable
from caltech_exp.reporting.comparison import (
    TableRow,
    best_row,
    best_row_by_start,
    compare_row,
    distinct_rows,
    table_rows,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.data import Band, Curve, CurvePlot, HeatMap, RowPlot, RowPoint, SingleRun
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Picture,
    Prose,
    Table,
    Value,
    accuracy,
    code,
    escape,
    join_words,
)
from caltech_exp.reporting.sections.sentences import best_rows, reported_best_rows, table_sentence
from caltech_exp.reporting.sections.tables import settings_matrix
from caltech_exp.reporting.wording import STATES, changed_settings, how_to_get, picture_caution, start_words

SUBJECT = "Loss and validation accuracy with parameters"
MIN_EPOCHS = 3
"""Fewer are no curve."""
MIN_PLOTTED, MAX_PLOTTED = 3, 60
"""Rows of a table that are drawn beside each other: the plot of two says no more than the table."""
MAX_CURVES, BEST_CURVES = 8, 4
"""At most so many rows have curves in one plot. Of more rows, the best few and the worst two are drawn."""
MAX_NAMED = 10
"""Runs that a caption names by their seeds."""
DECIMALS = 4
"""Of a curve: more cannot be seen."""
FLAT = ("No ", "Of ")
"""How the sentence under a table begins where no row stands out."""
QUANTITIES = ["train_loss", "val_loss", "val_accuracy"]


@dataclass(frozen=True)
class TablePictures:
    """`shown` stands open beside a table, `details` among what is folded."""

    shown: tuple[Block, ...]
    details: tuple[Block, ...]


def table_pictures(
    study: StudyFrames, section: Section, table: CatalogTable, figures: FigureCache
) -> TablePictures:
    """The pictures of a table; of rows without a run none, and a line for each figure that waits for them."""
    rows = table_rows(study, section, table)
    key = f"{table_key(section.name, table.name)}{rows[0].suffix}"
    distinct = set(distinct_rows([row for row in rows if _longest(study, row) >= MIN_EPOCHS]))
    drawn = [row for row in rows if row in distinct]
    if len(rows) == 1 and drawn and table.figures:
        picture, *quoted = figure_blocks(study, table.figures[0], rows[0], figures)
        return TablePictures((picture,), tuple(quoted))
    # The first clause of the sentence under the table, so that pictures and table say the same.
    verdict = table_sentence(table, rows).replace("`", "").rstrip(".").partition(";")[0]
    main: list[Block] = [*_heat_map(f"map-{key}", study, rows, figures)]
    if drawn:
        main.append(_curves(f"curves-{key}", study, drawn, verdict, figures))
    details = [*main[1:], *_sweep(f"sweep-{key}", study, rows, verdict, figures)]
    for figure in table.figures:
        row = next(row for row in rows if row.label == figure.row)
        details += figure_blocks(study, figure, row, figures)
    return TablePictures(tuple(main[:1]), tuple(details))


def _longest(study: StudyFrames, row: TableRow) -> int:
    """Epochs of the longest run with a result or in training; every finished run has all of them."""
    if len(row.finished):
        return row.config.epochs
    running = study.running_by_config.get(row.config.id)
    epochs = [*row.diverged["epochs_done"], *([] if running is None else running["epoch"])]
    return int(max(epochs, default=0))


def _curves(
    name: str, study: StudyFrames, rows: Sequence[TableRow], verdict: str, figures: FigureCache
) -> Picture:
    """All rows over epochs, or the best and the worst of many, in the order of the table."""
    ranked = sorted(rows, key=lambda row: row.measured.mean or 0.0, reverse=True)
    chosen = ranked if len(rows) <= MAX_CURVES else [*ranked[:BEST_CURVES], *ranked[-2:]]
    chosen.sort(key=rows.index)
    curves = tuple(row_curve(study, row) for row in chosen)
    plot = CurvePlot(_curves_title(rows, verdict), curves, picture_caution(study, [row.config for row in chosen]))
    runs = sorted({curve.runs for curve in curves if curve.runs})
    means = f"Means of {join_words([str(n) for n in runs])} runs; bands are their range." if runs > [1] else ""
    diverged = "Each run up to where it diverges." if any(curve.diverged for curve in curves) else ""
    means = means or ("One run each." if runs else diverged)
    running = " Runs in training end in an arrow." if any(curve.running for curve in curves) else ""
    some = f" Of {len(rows)} rows the {BEST_CURVES} best and the 2 worst." if len(chosen) < len(rows) else ""
    return figures.add(
        name,
        "curves:draw_curves",
        plot,
        alternative=escape(f"{rows[0].table.title}: loss and validation accuracy by epoch. {plot.title}."),
        caption=f"{means}{some}{running}".strip(),
        keys=tuple(row.key for row in chosen),
    )


def network_curves(study: StudyFrames, figures: FigureCache) -> list[Picture]:
    """The best row of each network and initial weights over epochs, where there are two or more."""
    best = best_row_by_start(study)
    drawn = {start: row for start, row in best.items() if _longest(study, row) >= MIN_EPOCHS}
    if not 2 <= len(drawn) <= MAX_CURVES:
        return []
    curves = tuple(replace(row_curve(study, row), label=start_words(study, start)) for start, row in drawn.items())
    highest = max(curves, key=lambda curve: curve.measured or 0.0)
    title = f"{highest.label} ends highest, {accuracy(highest.measured or 0.0)}"
    what = "The best measured row of each network: loss and validation accuracy by epoch."
    plot = CurvePlot(title, curves, picture_caution(study, [row.config for row in drawn.values()]))
    words = escape(f"{what} {title}.")
    return [figures.add("curves-networks", "curves:draw_curves", plot, alternative=words, caption=what)]


def _curves_title(rows: Sequence[TableRow], verdict: str) -> str:
    """What the curves show: `5e-2 ends highest, 0.460`."""
    if len(rows) == 1:
        return _single_title(rows[0])
    best = best_rows(rows)
    if best and not verdict.startswith(FLAT):
        names = join_words([row.label for row in best])
        return f"{names} {'ends' if len(best) == 1 else 'end'} highest, {accuracy(best[0].measured.mean or 0.0)}"
    highest = best_row(rows)
    ends = f"{highest.label} ends at {accuracy(highest.measured.mean or 0.0)}" if highest else "All runs diverge"
    if not any(row.is_measured for row in rows):
        return "In training"
    return verdict or ends


def _single_title(row: TableRow) -> str:
    """`Ends at 0.460; reported 0.446`"""
    finished, diverged = len(row.finished), len(row.diverged)
    if not row.is_measured:
        return "In training"
    if not finished:
        return "The run diverges" if diverged == 1 else f"All {diverged} runs diverge"
    reported = f"; reported {accuracy(row.reported.mean)}" if row.reported else ""
    failed = f"; {diverged} of {finished + diverged} runs diverged" if diverged else ""
    return f"Ends at {accuracy(row.measured.mean or 0.0)}{reported}{failed}"


def row_curve(study: StudyFrames, row: TableRow, reported: float | None = None) -> Curve:
    """A row over epochs; `reported` is its last accuracy in the report, where no mean of runs is printed."""
    epochs = study.epochs_by_config.get(row.config.id, study.epochs.iloc[:0])
    finished = epochs[epochs["run_id"].isin(row.finished["run_id"])]
    diverged = epochs[epochs["run_id"].isin(row.diverged["run_id"])]
    bands = _bands(finished) if len(finished) else {}
    running = study.running_by_config.get(row.config.id, study.running.iloc[:0])
    longest = epochs.loc[epochs["run_id"].isin(epochs["run_id"].mode()[:1]), "lr"]
    return Curve(
        label=row.label,
        runs=int(finished["run_id"].nunique()),
        measured=row.measured.mean,
        **bands,
        diverged=_single_runs(diverged),
        running=_single_runs(running),
        lr_steps=tuple(int(place) + 1 for place in np.flatnonzero(np.diff(longest) < 0)),
        reported=row.reported.mean if row.reported else reported,
    )


def _single_runs(epochs: pd.DataFrame) -> tuple[SingleRun, ...]:
    return tuple(
        SingleRun(int(run["seed"].iloc[0]), *(_values(run[name]) for name in QUANTITIES))
        for _, run in epochs.groupby("run_id", sort=False)
    )


def _bands(finished: pd.DataFrame) -> dict[str, Band]:
    """Mean, lowest and highest value of each quantity by epoch; runs that are shorter count while they last."""
    known = finished[QUANTITIES].replace([np.inf, -np.inf], np.nan)
    by_epoch = known.groupby(finished["epoch"])
    parts = [by_epoch.mean(), by_epoch.min(), by_epoch.max()]
    return {name: Band(*(_values(part[name]) for part in parts)) for name in QUANTITIES}


def _values(column: "pd.Series[float]") -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.round(column.to_numpy(dtype=np.float64), DECIMALS)


def _heat_map(name: str, study: StudyFrames, rows: Sequence[TableRow], figures: FigureCache) -> list[Picture]:
    """The means of two settings varied together, where enough pairs have one."""
    matrix = settings_matrix(rows)
    if matrix is None:
        return []
    means = np.full((len(matrix.down), len(matrix.across)), np.nan)
    for (down, across), row in matrix.cells.items():
        if row.is_stable:
            means[matrix.down.index(down), matrix.across.index(across)] = row.measured.mean
    if np.isfinite(means).sum() < MIN_PLOTTED:
        return []
    best = join_words([row.label for row in best_rows(rows)])
    title = f"Best: {best}, {accuracy(float(np.nanmax(means)))}" if best else "No pair stands out"
    down_heading, across_heading = matrix.headings
    caution = picture_caution(study, [row.config for row in rows])
    plot = HeatMap(title, across_heading, matrix.across, down_heading, matrix.down, means, caution)
    what = f"{rows[0].table.title}: mean validation accuracy after the last epoch"
    return [
        figures.add(
            name,
            "comparisons:draw_heat_map",
            plot,
            alternative=escape(f"{what}. {title}."),
            caption=escape(f"{what}; the best cell has a frame, – is a pair without a stable result."),
        )
    ]


def row_point(row: TableRow, label: str) -> RowPoint:
    """A row beside its reported value, as plots.comparisons draws it."""
    comparison = compare_row(row)
    measured, reported = row.measured, row.reported
    return RowPoint(
        label=label,
        group=row.section.full_title,
        accuracies=tuple(row.accuracies.astype(float)),
        mean=measured.mean,
        half_width=measured.half_width,
        reported=reported.mean if reported else None,
        reported_std=reported.std if reported else None,
        difference=comparison.value if comparison and row.diverged.empty else None,
        difference_half_width=comparison.half_width if comparison else None,
        verdict=comparison.verdict if comparison else None,
        diverged=len(row.diverged),
    )


def _sweep(
    name: str, study: StudyFrames, rows: Sequence[TableRow], verdict: str, figures: FigureCache
) -> list[Picture | Prose]:
    """The rows of a table side by side, where there are enough and not too many."""
    measured = [row for row in rows if row.is_measured]
    if len(measured) > MAX_PLOTTED:
        text = f"There is no plot of {len(measured):,} rows side by side; up to {MAX_PLOTTED} are drawn."
        return [Prose(text, is_quiet=True)]
    if len({row.config.id for row in measured}) < MIN_PLOTTED:
        return []
    best, reported = ({row.config.id for row in chosen} for chosen in (best_rows(rows), reported_best_rows(rows)))
    is_reported = bool(best & reported) and not verdict.startswith(FLAT)
    plot = RowPlot(
        f"{verdict}{', as reported' if is_reported else ''}" or "Measured beside reported values",
        tuple(row_point(row, row.label) for row in measured),
        rows[0].table.heading,
        picture_caution(study, [row.config for row in measured]),
    )
    what = f"{rows[0].table.title}: validation accuracy after the last epoch"
    return [
        figures.add(
            name,
            "comparisons:draw_sweep",
            plot,
            alternative=escape(f"{what}. {plot.title}."),
            caption=escape(f"{what}."),
        )
    ]


def figure_blocks(study: StudyFrames, figure: Figure, row: TableRow, figures: FigureCache) -> list[Block]:
    """A figure of the report and what its text quotes of it, or the line that says what it waits for."""
    longest = _longest(study, row)
    words = f"Figure {figure.number}"
    if not longest:
        return [_waiting(study, figure, row)]
    if longest < MIN_EPOCHS:
        return [Prose(f"{words}: no curve, as the longest run has {longest} of {row.config.epochs} epochs.")]
    reported = figure.quoted.last_accuracy if figure.quoted and row.is_comparable else None
    curve = row_curve(study, row, reported)
    title = _single_title(row)
    plot = CurvePlot(f"{words}: {title[:1].lower()}{title[1:]}", (curve,), picture_caution(study, [row.config]))
    caption = f"{words}. {SUBJECT}: {figure.caption}."
    picture = figures.add(
        f"figure-{figure.number:02d}{row.suffix}",
        "curves:draw_curves",
        plot,
        alternative=escape(caption),
        caption=f"{escape(caption)} {escape(_runs_drawn(row, curve))}",
        number=figure.number,
        keys=(row.key,),
    )
    return [picture, *_quoted_table(figure, row, curve)]


def _runs_drawn(row: TableRow, curve: Curve) -> str:
    """The rest of a caption: which runs, what the band is, and what differs from the report."""
    words = []
    seeds = [str(seed) for seed in row.finished["seed"]]
    if len(seeds) == 1:
        words.append(f"One run (seed {seeds[0]}).")
    elif seeds:
        named = f" (seeds {join_words(seeds)})" if len(seeds) <= MAX_NAMED else ""
        words.append(f"Mean of {len(seeds)} runs{named}; the band goes from the smallest to the largest value.")
    stops = [f"seed {run.seed} in epoch {run.epochs_done}" for run in row.diverged.itertuples()]
    if len(stops) > MAX_NAMED:
        words.append(f"{len(stops)} runs diverged and are drawn until they stop.")
    elif stops:
        words.append(f"Diverged, and drawn until they stop: {join_words(stops)}.")
    if curve.running:
        runs = [f"seed {run.seed} (epoch {len(run.val_accuracy)})" for run in curve.running[:MAX_NAMED]]
        words.append(f"Still in training, ending in an arrow: {join_words(runs)}.")
    changed = changed_settings(row.row.config, row.config)
    return " ".join([*words, *([f"In this study instead: {', '.join(changed)}."] if changed else [])])


def _quoted_table(figure: Figure, row: TableRow, curve: Curve) -> list[Table]:
    """What the report's text quotes of the run it drew, beside the mean over the finished runs."""
    quoted = figure.quoted
    if quoted is None or not row.is_comparable:
        return []
    first = curve.val_accuracy.mean[0] if curve.val_accuracy else None
    last = curve.train_loss.mean[-1] if curve.train_loss else None
    lines = (
        ("loss of the first step", quoted.first_loss, row.summary("first_loss").mean),
        ("validation accuracy after the first epoch", quoted.first_accuracy, first),
        ("training loss of the last epoch", quoted.last_loss, last),
        ("validation accuracy after the last epoch", quoted.last_accuracy, row.measured.mean),
    )
    rows: list[tuple[Value, ...]] = [
        (what, as_quoted(value), None if measured is None else float(measured))
        for what, value, measured in lines
        if value is not None
    ]
    columns = (
        Column(f"Figure {figure.number}", "text"),
        Column("reported"),
        Column(f"measured, n = {curve.runs}"),
    )
    caption = f"What the report's text says of Figure {figure.number}, and the mean over the finished runs."
    return [Table("", caption, columns, tuple(rows), sortable=False)]


def as_quoted(value: float) -> str:
    """A number of the report's text with two decimals, or three where it gives them."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3f}"


def _waiting(study: StudyFrames, figure: Figure, row: TableRow) -> Prose:
    """What the figure needs, and the command that gets it."""
    runs = [f"{code(run.run_id)} ({STATES[str(run.state)]})" for run in row.runs.itertuples()]
    how = how_to_get(study, [row], f"table={row.key}")
    text = (
        f"**Figure {figure.number}: no results yet.** It waits for {join_words(runs)}; {how[:1].lower()}{how[1:]}"
    )
    return Prose(text, is_quiet=True)
