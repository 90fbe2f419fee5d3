"""A training figure on the page: the picture, its caption, and the values the report's text quotes."""

import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import PurePath

from caltech_exp.catalog import Figure, Section, row_key
from caltech_exp.catalog import Table as Asked
from caltech_exp.config import PIN, run_id
from caltech_exp.reporting.banner import picture_caution
from caltech_exp.reporting.blocks import Block, Picture, Prose, Table
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.counts import NOT_SUBMITTED
from caltech_exp.reporting.curve_data import values
from caltech_exp.reporting.gallery import Drawing, Gallery, digests, figure_name
from caltech_exp.reporting.markup import NOTHING, code, escape, listing, printable
from caltech_exp.reporting.measured import mean
from caltech_exp.reporting.outcome import Outcome
from caltech_exp.reporting.places import place
from caltech_exp.reporting.vocabulary import changed_settings

SUBJECT = "Loss and validation accuracy with parameters"
MOST_NAMED = 10
"""Runs of a kind that a caption names by their seeds."""


def figure_blocks(
    section: Section, asked: Asked, figure: Figure, row: RowRuns, collected: Collected, gallery: Gallery
) -> list[Block]:
    """The figure and what the report quotes of it, or what it waits for. Raises OSError."""
    caption = f"Figure {figure.number}. {SUBJECT}: {figure.caption}."
    finished = [result for result in row.finished if result.epochs]
    diverged = [result for result in row.diverged if result.epochs]
    if not finished and not diverged:
        return [waiting(section, asked, figure, row, collected)]
    title, reported = f"Figure {figure.number}", _reported(figure, row)
    caution = picture_caution(collected, row.config)
    name = figure_name(figure.number)
    draw = partial(_draw, title, finished, diverged, reported, caution)
    gallery.show_later(name, [title, reported, caution, digests([*finished, *diverged])], draw)
    drawn = Picture(
        figure.number,
        alternative=escape(caption),
        caption=f"*{escape(caption)} {escape(_measured_with(row, finished, diverged))}*",
        png=gallery.path(name, "png"),
        svg=gallery.path(name, "svg"),
        row=row_key(section.name, asked.name, figure.row),
    )
    return [drawn, *quoted_table(figure, finished)]


def _draw(
    title: str, finished: Sequence[Outcome], diverged: Sequence[Outcome], reported: float | None, caution: str
) -> Drawing:
    from caltech_exp.reporting.curves import draw_curves

    return Drawing(draw_curves(title, finished, diverged, reported, caution))


def _reported(figure: Figure, row: RowRuns) -> float | None:
    if row.row.reported:
        return row.row.reported.mean
    return figure.quoted.last_accuracy if figure.quoted else None


def _measured_with(row: RowRuns, finished: Sequence[Outcome], diverged: Sequence[Outcome]) -> str:
    """The rest of the caption: over which runs, what the band is, and what differs from the report."""
    words = []
    if len(finished) == 1:
        words.append(f"One run (seed {finished[0].seed}).")
    elif finished:
        seeds = f" (seeds {listing([str(one.seed) for one in finished])})" if len(finished) <= MOST_NAMED else ""
        words.append(f"Mean of {len(finished)} runs{seeds}; the band goes from the smallest to the largest value.")
    if len(diverged) > MOST_NAMED:
        words.append(f"{len(diverged)} runs diverged, and are drawn up to where they stop.")
    elif diverged:
        stops = [f"seed {result.seed} in epoch {len(result.epochs)}" for result in diverged]
        words.append(f"Diverged, and drawn up to where they stop: {listing(stops)}.")
    changed = changed_settings(row.row.config, row.config)
    if changed:
        words.append(f"In this study instead: {', '.join(changed)}.")
    return " ".join(words)


def quoted_table(figure: Figure, finished: Sequence[Outcome]) -> list[Table]:
    """What the report's text quotes of the run it drew, beside the mean over the finished runs."""
    quoted = figure.quoted
    if quoted is None:
        return []
    lines = (
        ("loss of the first step", quoted.first_loss, mean(r.first_loss for r in finished)),
        (
            "validation accuracy after the first epoch",
            quoted.first_accuracy,
            mean(float(values(r, "val_accuracy")[0]) for r in finished),
        ),
        (
            "training loss of the last epoch",
            quoted.last_loss,
            mean(float(values(r, "train_loss")[-1]) for r in finished),
        ),
        ("validation accuracy after the last epoch", quoted.last_accuracy, mean(r.val_accuracy for r in finished)),
    )
    cells = tuple(
        (what, as_quoted(reported), NOTHING if measured is None else f"{measured:.3f}")
        for what, reported, measured in lines
        if reported is not None
    )
    headings = (f"Figure {figure.number}", "reported", f"measured, n = {len(finished)}")
    return [Table(headings, cells, numbers=(1, 2), sortable=False)]


def as_quoted(value: float) -> str:
    """With two decimals, or the third where the text gives one."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.3f}"


def waiting(section: Section, asked: Asked, figure: Figure, row: RowRuns, collected: Collected) -> Prose:
    """What the figure needs, and the command that gets it."""
    runs = [f"{code(run.id)} ({run.state})" for run in row.runs]
    runs += [f"{code(run_id(row.config, seed))} ({NOT_SUBMITTED})" for seed in row.missing]
    return Prose(
        f"**Figure {figure.number}: no results yet.** {SUBJECT}: {escape(figure.caption)}. It waits for "
        f"{listing(runs)}; to get them: {code(submit_command(collected, f'table={section.name}.{asked.name}'))}"
    )


def submit_command(collected: Collected, what: str) -> str:
    """The command that submits `what` into this study, with its seeds and overrides."""
    words = [what]
    if os.path.realpath(collected.folder) != os.path.realpath("runs"):
        words.append(f"runs={place(collected.folder)}")
    if collected.seeds != collected.catalog.seeds:
        words.append(f"seeds={','.join(map(str, collected.seeds))}" + ("," if len(collected.seeds) == 1 else ""))
    if collected.study and collected.study.data.root:
        words.append(f"data={collected.study.data.root}")
    for name, value in collected.settings.overrides.items():
        words.append(f"{name}={str(value).partition(PIN)[0]}")
    replaced = {
        str(PurePath(file.partition(PIN)[0]).parent) for file in collected.settings.imagenet_weights.values()
    }
    words += [f"imagenet_weights={folder}" for folder in sorted(replaced)[:1]]
    return printable(shlex.join(["python", "jobs/submit.py", *words]))
