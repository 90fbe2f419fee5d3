"""The whole page: what to know first, then the report's sections in their order, then where it all comes from."""

from collections.abc import Iterable
from pathlib import Path

from caltech_exp.catalog import SECTIONS, Section
from caltech_exp.catalog import Table as Asked
from reports.banner import cautions
from reports.blocks import Block, Heading, Note, Picture, Prose, Table
from reports.collect import Collected
from reports.counts import count_line, count_runs
from reports.dataset_blocks import dataset_blocks, find_data_set
from reports.figure_blocks import figure_blocks, submit_command
from reports.markup import code
from reports.origins import origins_blocks
from reports.tables import EXPLAINED, table_blocks

FIGURES = "figures"
TITLE = "AlexNet and ResNet-18 on Caltech-101: reported and measured"
HOW_TO_READ = (
    "Measured values are validation accuracies (0 to 1) after the last epoch: mean and standard deviation over "
    "the n finished runs of a row, one run a seed. The standard deviation is the population's (divided by n); "
    "a single run has none (–). Diverged runs are never averaged in. The difference is measured - reported; "
    "the test accuracy is a mean over the same runs. Reported values are the report's, over three runs each."
)


def report_page(collected: Collected, out: Path, data_option: str) -> tuple[Block, ...]:
    """The report as blocks; draws its figures into `out`/figures, which exists. Raises OSError."""
    figures = out / FIGURES
    blocks: list[Block] = [
        Heading(1, TITLE, "top"),
        *caution_notes(collected),
        *(Prose(words) for words in _missing(collected)),
        Prose(f"{count_line(collected)}."),
        overview(collected),
        Prose(HOW_TO_READ),
    ]
    for section in SECTIONS:
        title = f"{section.number}. {section.title}" if section.number else section.title
        blocks += [Heading(2, title, section.name), *caution_notes(collected), Prose(f"*{section.question}*")]
        if section.dataset_figures:
            blocks += _data_section(section, collected, figures, data_option)
        for asked in section.tables:
            blocks += _table_section(section, asked, collected, figures)
    blocks += [Heading(2, "Provenance", "provenance"), *caution_notes(collected), *origins_blocks(collected)]
    _remove_unused(out, blocks)
    return tuple(blocks)


def caution_notes(collected: Collected) -> list[Note]:
    """What keeps the numbers from being compared; empty for the real thing."""
    found = cautions(collected)
    return [Note(tuple(caution.page for caution in found))] if found else []


def _missing(collected: Collected) -> list[str]:
    """What a reader must know of a folder without a study record or without results."""
    words = []
    if not collected.folder.is_dir():
        words.append(f"The runs folder {code(collected.folder)} does not exist.")
    elif collected.study is None:
        words.append(
            f"The runs folder {code(collected.folder)} holds no study.json: this report takes the report's own "
            "settings, without overrides, for the study's."
        )
    if not collected.results():
        command = submit_command(collected, "section=all")
        words.append(f"There are no results yet. To get them all: {code(command)}")
    return words


def overview(collected: Collected) -> Table:
    """Runs by section; a run that several sections show counts in each."""
    cells = []
    for section in SECTIONS:
        if not section.tables:
            continue
        counts = count_runs(collected, section.name)
        useless = sum(counts[state] for state in EXPLAINED)
        done = [counts["finished"], counts["diverged"], useless]
        title = f"{section.number}. {section.title}"
        cells.append((title, *map(str, done), str(counts.total() - sum(done)), str(counts.total())))
    headings = ("section", "finished", "diverged", "failed or not counted", "to come", "all runs")
    return Table(headings, tuple(cells), numbers=tuple(range(1, len(headings))))


def _data_section(section: Section, collected: Collected, figures: Path, data_option: str) -> list[Block]:
    found = find_data_set(data_option, collected)
    blocks: list[Block] = [Prose(note) for note in found.notes]
    if found.data is not None:
        for figure in section.dataset_figures:
            blocks += dataset_blocks(figure, found.data, figures)
    return blocks


def _table_section(section: Section, asked: Asked, collected: Collected, figures: Path) -> list[Block]:
    rows = collected.of(section, asked)
    blocks = table_blocks(section, asked, rows, collected)
    for figure in asked.figures:
        row = next(row for row in rows if row.row.label == figure.row)
        blocks += figure_blocks(section, asked, figure, row, collected, figures)
    return blocks


def _remove_unused(out: Path, blocks: Iterable[Block]) -> None:
    """Delete what an earlier report drew and this one does not show: it would pass for part of this one."""
    shown = {file for block in blocks if isinstance(block, Picture) for file in (block.png, block.svg)}
    for path in (out / FIGURES).glob("figure-[0-9][0-9].*"):
        if path.suffix in (".png", ".svg") and f"{FIGURES}/{path.name}" not in shown:
            path.unlink()
