"""The whole page: what to know first, then the report's sections in their order, then where it all comes from."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.catalog import Catalog, Section
from caltech_exp.catalog import Table as Asked
from caltech_exp.config import NUM_CLASSES
from caltech_exp.reporting.agreement import agreement_blocks, agreement_grid
from caltech_exp.reporting.banner import cautions
from caltech_exp.reporting.blocks import Block, Heading, Note, Prose, Table
from caltech_exp.reporting.class_blocks import (
    ClassStudy,
    class_blocks,
    class_grid,
    class_names,
    class_studies,
    per_class_grid,
)
from caltech_exp.reporting.collect import Collected
from caltech_exp.reporting.conclusions import comparison_grid, conclusion_blocks, network_grid
from caltech_exp.reporting.costs import cost_blocks, cost_grids
from caltech_exp.reporting.counts import count_line, count_runs
from caltech_exp.reporting.dataset_blocks import dataset_blocks, find_data_set
from caltech_exp.reporting.figure_blocks import figure_blocks, submit_command
from caltech_exp.reporting.gallery import Gallery
from caltech_exp.reporting.grid import Grid
from caltech_exp.reporting.markup import code, escape
from caltech_exp.reporting.origins import origins_blocks
from caltech_exp.reporting.places import place
from caltech_exp.reporting.readings import Reading, readings, readings_blocks, readings_grid
from caltech_exp.reporting.reported import TOO_WIDE
from caltech_exp.reporting.sweep_blocks import sweep_blocks
from caltech_exp.reporting.tables import EXPLAINED, results_grid, table_blocks

FIGURES = "figures"
CACHE = ".cache"
"""Folder beside the report of what only saves time: it may be deleted."""
HOW_TO_READ = (
    "Measured values are validation accuracies (0 to 1) after the last epoch: mean and standard deviation over "
    "the n finished runs of a row, one run a seed. The standard deviation is the population's (divided by n); "
    "the 95 % confidence interval of the mean is Student's, from the sample's standard deviation "
    "(divided by n - 1). A single run has neither (–). Diverged runs are never averaged in. The test accuracy is "
    "a mean over the same runs. Every table is in `tables/` as CSV and LaTeX, every run in `runs.csv`, every "
    "epoch in `epochs.csv`."
)


@dataclass(frozen=True)
class Report:
    """What is read, as blocks in their order, and the tables of it as numbers."""

    blocks: tuple[Block, ...]
    grids: tuple[Grid, ...]


def report_page(collected: Collected, out: Path, data_option: str) -> tuple[Block, ...]:
    """The blocks of `make_report`, with all pictures drawn into `out`/figures, which exists. Raises OSError."""
    gallery = open_gallery(out)
    blocks = make_report(collected, gallery, data_option).blocks
    gallery.finish()
    return blocks


def open_gallery(out: Path, pool: Executor | None = None) -> Gallery:
    """The pictures of the report in `out`."""
    return Gallery(out / FIGURES, out / CACHE / "figures.json", pool)


def make_report(collected: Collected, gallery: Gallery, data_option: str) -> Report:
    """The report; its pictures are there after `gallery.finish()`. Raises OSError."""
    catalog = collected.catalog
    notes, read = caution_notes(collected), readings(collected)
    blocks: list[Block] = [
        Heading(1, escape(catalog.title), "top"),
        *notes,
        *(Prose(words) for words in _missing(collected)),
        Prose(f"{count_line(collected)}."),
        overview(collected),
        Prose(HOW_TO_READ + how_to_compare(catalog)),
    ]
    if compares(catalog):
        blocks += [Heading(2, "Agreement at a glance", "agreement"), *notes, *agreement_blocks(collected, gallery)]
        blocks += readings_blocks(read)
    for section in catalog.sections:
        blocks += [Heading(2, escape(section.full_title), section.name), *notes]
        blocks += [Prose(f"*{escape(section.question)}*")] if section.question else []
        if section.dataset_figures:
            blocks += _data_section(section, collected, gallery, data_option)
        for asked in section.tables:
            blocks += _table_section(section, asked, collected, gallery)
    if catalog.is_report:
        blocks += [Heading(2, "5. Conclusions", "conclusions"), *notes, *conclusion_blocks(collected)]
    studies = class_studies(collected)  # takes a while, in which other processes draw the sections' figures
    blocks += [Heading(2, "Class by class", "classes"), *notes, *class_blocks(collected, studies, gallery)]
    blocks += [Heading(2, "Cost", "cost"), *notes, *cost_blocks(collected)]
    blocks += [Heading(2, "Provenance", "provenance"), *notes, *origins_blocks(collected)]
    return Report(tuple(blocks), report_grids(collected, studies, read))


def report_grids(collected: Collected, studies: Sequence[ClassStudy], read: Sequence[Reading]) -> tuple[Grid, ...]:
    """Every table of numbers of the report, and the classes one by one."""
    names = class_names(collected, NUM_CLASSES)
    return (
        *((agreement_grid(collected), readings_grid(read)) if compares(collected.catalog) else ()),
        *(
            results_grid(section, asked, collected.of(section, asked))
            for section, asked in collected.catalog.tables
        ),
        *((comparison_grid(collected), network_grid(collected)) if collected.catalog.is_report else ()),
        *((class_grid(studies, names), per_class_grid(studies, names)) if studies else ()),
        *cost_grids(collected),
    )


def compares(catalog: Catalog) -> bool:
    """Whether any row has a reported value to hold measured ones against."""
    return any(row.reported for _, table in catalog.tables for row in table.rows)


def how_to_compare(catalog: Catalog) -> str:
    """What a difference from the reported values and its interval are; nothing where nothing is reported."""
    said = [row.reported for _, table in catalog.tables for row in table.rows if row.reported]
    if not said:
        return ""
    return (
        " Of its own deviations the report does not say whether they are the population's or a sample's: they are "
        "taken for the population's. The difference is measured - reported, with its 95 % confidence interval, "
        f"Welch's, from the spreads of both sides, the report's over {said[0].runs} runs. A single "
        "measured run has no spread (n = 1): its interval is Student's for two samples, from the report's "
        "deviation alone. The reported numbers are rounded, and half a last digit of each is part of the "
        "interval. A row differs from the report if zero is not in it. With few runs, or runs that lie far apart, "
        f"it is wide: an interval of ±{TOO_WIDE:g} or more that holds zero cannot tell."
    )


def caution_notes(collected: Collected) -> list[Note]:
    """What keeps the numbers from being compared; empty for the real thing."""
    found = cautions(collected)
    return [Note(tuple(caution.page for caution in found))] if found else []


def _missing(collected: Collected) -> list[str]:
    """What a reader must know of a folder without a study record or without results."""
    words, folder = [], code(place(collected.folder))
    if not collected.folder.is_dir():
        words.append(f"The runs folder {folder} does not exist.")
    elif collected.study is None:
        words.append(
            f"The runs folder {folder} holds no study.json: this report takes the report's own "
            "settings, without overrides, for the study's."
        )
    if not collected.results():
        command = submit_command(collected, "section=all")
        words.append(f"There are no results yet. To get them all: {code(command)}")
    return words


def overview(collected: Collected) -> Table:
    """Runs by section; a run that several sections show counts in each."""
    cells = []
    for section in collected.catalog.sections:
        if not section.tables:
            continue
        counts = count_runs(collected, section.name)
        useless = sum(counts[state] for state in EXPLAINED)
        done = [counts["finished"], counts["diverged"], useless]
        cells.append(
            (escape(section.full_title), *map(str, done), str(counts.total() - sum(done)), str(counts.total()))
        )
    headings = ("section", "finished", "diverged", "failed or not counted", "to come", "all runs")
    return Table(headings, tuple(cells), numbers=tuple(range(1, len(headings))))


def _data_section(section: Section, collected: Collected, gallery: Gallery, data_option: str) -> list[Block]:
    found = find_data_set(data_option, collected)
    blocks: list[Block] = [Prose(note) for note in found.notes]
    if found.data is not None:
        for figure in section.dataset_figures:
            blocks += dataset_blocks(figure, found.data, gallery)
    return blocks


def _table_section(section: Section, asked: Asked, collected: Collected, gallery: Gallery) -> list[Block]:
    rows = collected.of(section, asked)
    blocks = table_blocks(section, asked, rows, collected)
    blocks += sweep_blocks(section, asked, rows, collected, gallery)
    for figure in asked.figures:
        row = next(row for row in rows if row.row.label == figure.row)
        blocks += figure_blocks(section, asked, figure, row, collected, gallery)
    return blocks
