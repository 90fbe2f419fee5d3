"""The whole page: what to know first, then the report's sections in their order, then where it all comes from."""

from pathlib import Path

from caltech_exp.catalog import SECTIONS, Section, Table
from reports.banner import cautions
from reports.collect import Collected
from reports.counts import count_line, count_runs
from reports.dataset_blocks import dataset_block, find_data_set
from reports.figure_blocks import figure_block, submit_command
from reports.markup import code, quote, table
from reports.origins import origins_block
from reports.tables import EXPLAINED, table_block

FIGURES = "figures"
HOW_TO_READ = (
    "Measured values are validation accuracies (0 to 1) after the last epoch: mean and standard deviation over "
    "the n finished runs of a row, one run a seed. The standard deviation is the population's (divided by n); "
    "a single run has none (–). Diverged runs are never averaged in. The difference is measured - reported; "
    "the test accuracy is a mean over the same runs. Reported values are the report's, over three runs each."
)


def report_page(collected: Collected, out: Path, data_option: str) -> str:
    """The report as markdown; draws its figures into `out`/figures, which exists. Raises OSError."""
    figures = out / FIGURES
    parts = [
        "# AlexNet and ResNet-18 on Caltech-101: reported and measured",
        caution_block(collected),
        "\n\n".join(_missing(collected)),
        f"{count_line(collected)}.",
        overview(collected),
        HOW_TO_READ,
    ]
    for section in SECTIONS:
        heading = f"## {section.number}. {section.title}" if section.number else f"## {section.title}"
        parts += [heading, caution_block(collected), f"*{section.question}*"]
        if section.dataset_figures:
            parts += _data_section(section, collected, figures, data_option)
        for asked in section.tables:
            parts += _table_section(section, asked, collected, figures)
    parts += ["## Provenance", caution_block(collected), origins_block(collected)]
    page = "\n\n".join(part for part in parts if part) + "\n"
    _remove_unused(figures, page)
    return page


def caution_block(collected: Collected) -> str:
    """What keeps the numbers from being compared, as a block quote; empty for the real thing."""
    found = cautions(collected)
    return quote([caution.page for caution in found]) if found else ""


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


def overview(collected: Collected) -> str:
    """Runs by section; a run that several sections show counts in each."""
    cells = []
    for section in SECTIONS:
        if not section.tables:
            continue
        counts = count_runs(collected, section.name)
        useless = sum(counts[state] for state in EXPLAINED)
        done = [counts["finished"], counts["diverged"], useless]
        title = f"{section.number}. {section.title}"
        cells.append([title, *map(str, done), str(counts.total() - sum(done)), str(counts.total())])
    headings = ["section", "finished", "diverged", "failed or not counted", "to come", "all runs"]
    return table(headings, cells, numbers=range(1, len(headings)))


def _data_section(section: Section, collected: Collected, figures: Path, data_option: str) -> list[str]:
    found = find_data_set(data_option, collected)
    parts = list(found.notes)
    if found.data is not None:
        parts += [dataset_block(figure, found.data, figures) for figure in section.dataset_figures]
    return parts


def _table_section(section: Section, asked: Table, collected: Collected, figures: Path) -> list[str]:
    rows = collected.of(section, asked)
    parts = [table_block(section, asked, rows, collected)]
    for figure in asked.figures:
        row = next(row for row in rows if row.row.label == figure.row)
        parts.append(figure_block(section, asked, figure, row, collected, figures))
    return parts


def _remove_unused(figures: Path, page: str) -> None:
    """Delete what an earlier report drew and this one does not show: it would pass for part of this one."""
    for path in figures.glob("figure-[0-9][0-9].*"):
        if path.suffix in (".png", ".svg") and f"]({FIGURES}/{path.name})" not in page:
            path.unlink()
