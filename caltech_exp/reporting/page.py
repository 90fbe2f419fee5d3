"""The report: the first screen, the report's sections in their order, and an appendix on methods and origins."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.catalog import Section
from caltech_exp.catalog import Table as CatalogTable
from caltech_exp.reporting.comparison import (
    MAX_HALF_WIDTH,
    TableRow,
    distinct_rows,
    has_comparison,
    split_by_weights,
    table_rows,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Block,
    Details,
    Heading,
    Panel,
    Picture,
    Prose,
    Table,
    escape,
    join_words,
)
from caltech_exp.reporting.sections.agreement import agreement_blocks
from caltech_exp.reporting.sections.classes import class_blocks
from caltech_exp.reporting.sections.conclusions import conclusion_blocks
from caltech_exp.reporting.sections.costs import cost_blocks
from caltech_exp.reporting.sections.data_set import data_set_blocks
from caltech_exp.reporting.sections.figures import table_pictures
from caltech_exp.reporting.sections.interpretations import interpretation_blocks
from caltech_exp.reporting.sections.provenance import provenance_blocks, weights_blocks
from caltech_exp.reporting.sections.summary import agreement_badges, summary_blocks
from caltech_exp.reporting.sections.tables import table_blocks, uncounted_runs
from caltech_exp.reporting.stats import MIN_RUNS
from caltech_exp.reporting.wording import OTHER_WEIGHTS, how_to_get, lacks_weights

FIGURES = "figures"
CACHE = ".cache"
"""Folder beside the report of what only saves time: it may be deleted."""
METHODS = (
    "Measured values are validation accuracies (0 to 1) after the last epoch: mean ± standard deviation over the "
    "finished runs of a row, one run per seed. Both ±, measured and reported, are population standard deviations "
    "(divided by n). Diverged runs are never averaged in. The 95 % interval of a mean is Student's.",
    f"Fewer than {MIN_RUNS} finished runs have no interval: the table shows their range instead.",
    "Bold marks the best row. Every table is in `tables/` as LaTeX, and as CSV with the columns behind *details*; "
    "every run in `runs.csv`, every epoch in `epochs.csv`.",
)
METHODS_OF_COMPARISON = (
    "A difference is measured minus reported, with Welch's 95 % confidence interval from the spreads of both "
    "sides. The reported numbers are rounded: half a last digit of each is part of the interval. A row *differs* "
    "if its interval does not contain zero, or if a run diverged and none does in the report. It *agrees* if the "
    f"interval contains zero and is narrower than ±{MAX_HALF_WIDTH:g}; otherwise it is *inconclusive*.",
    "Rows of this study are compared with each other seed by seed (paired differences). Claims fix their "
    "comparisons in advance: where a section states claims with m comparisons, each interval has the level "
    "1 - 0.05/m. A row is significantly the best of its table if the 95 % interval of each of its leads is above "
    "zero.",
)


@dataclass(frozen=True)
class Report:
    """The blocks in the order in which they are read, and the tables among them that get files."""

    blocks: tuple[Block, ...]
    tables: tuple[Table, ...]


def build_report(study: StudyFrames, out: Path, data: str = "", pool: Executor | None = None) -> Report:
    """Build the report of a study and draw its pictures into `out`/figures, which exists. Raises OSError.

    data  the data set's folder, for figures 1 to 3; default: $CALTECH101_ROOT or the study's
    pool  processes that draw
    """
    figures = FigureCache(out / FIGURES, out / CACHE / "figures.json", pool)
    blocks: list[Block] = list(summary_blocks(study, figures))
    if not study.catalog.tables:
        for section in study.catalog.sections:
            blocks.append(Heading(2, escape(section.title), section.name, section.number))
            blocks += data_set_blocks(study, section, data, figures)
        figures.finish()
        return Report(tuple(blocks), ())
    without_results = []
    for part, section in _sections(study):
        if _has_results(part, section):
            blocks += _section_blocks(part, section, figures)
        else:
            without_results.append((part, section))
    if conclusions := conclusion_blocks(study, figures):
        blocks += [
            Heading(
                2,
                "Conclusions" if study.catalog.claims else "Networks",
                "page-conclusions",
                "5" if study.catalog.is_report else "",
            ),
            *conclusions,
        ]
    blocks += _waiting(study, without_results)
    for title, chapter in _appendix(study, figures, data):
        anchor = f"page-{title.lower().replace(' ', '-')}"
        blocks += [Heading(2, title, anchor, is_appendix=True), *chapter] if chapter else []
    figures.finish()
    return Report(tuple(blocks), tuple(_named_tables(blocks)))


def _sections(study: StudyFrames) -> list[tuple[StudyFrames, Section]]:
    """Every section with tables, and after it its rows that start from other ImageNet weights, if it has any."""
    parts, order = split_by_weights(study), [section.name for section in study.catalog.sections]
    sections = [(part, section) for part in parts for section in part.catalog.sections if section.tables]
    return sorted(sections, key=lambda pair: order.index(pair[1].name))


def _rows(study: StudyFrames, section: Section) -> list[TableRow]:
    return [row for table in section.tables for row in table_rows(study, section, table)]


def _has_results(study: StudyFrames, section: Section) -> bool:
    """Whether a run of the section has a result, or epochs so far."""
    return any(row.is_measured or row.config.id in study.running_by_config for row in _rows(study, section))


def _section_blocks(study: StudyFrames, section: Section, figures: FigureCache) -> list[Block]:
    rows = _rows(study, section)
    anchor = f"{section.name}{rows[0].suffix}"
    blocks: list[Block] = [Heading(2, escape(_title(study, section.title)), anchor, section.number)]
    blocks += [Prose(f"*{escape(section.question)}*")] if section.question else []
    if study.compares_other_weights:
        blocks += [*weights_blocks(study, rows), *agreement_badges(distinct_rows(rows))]
    for table in section.tables:
        blocks += _table_blocks(study, section, table, figures)
    return blocks


def _table_blocks(study: StudyFrames, section: Section, table: CatalogTable, figures: FigureCache) -> list[Block]:
    """Heading, numbers beside their plot, and what is folded."""
    parts, pictures = table_blocks(study, section, table), table_pictures(study, section, table, figures)
    results = [Panel(parts.results, pictures.shown)] if pictures.shown else parts.results
    folded = (*pictures.details, *parts.details)
    numbers = [str(block.number) for block in folded if isinstance(block, Picture) and block.number]
    words = f"Details and Figure{'s' if len(numbers) > 1 else ''} {join_words(numbers)}" if numbers else "Details"
    return [*parts.head, *results, *([Details(words, folded)] if folded else [])]


def _title(study: StudyFrames, title: str) -> str:
    return f"{title}, with {OTHER_WEIGHTS}" if study.compares_other_weights else title


def _waiting(study: StudyFrames, sections: Sequence[tuple[StudyFrames, Section]]) -> list[Block]:
    """How to get the results of sections without any, first of those that only have to be submitted."""
    lacking = [pair for pair in sections if any(lacks_weights(study, row) for row in _rows(*pair))]
    blocks: list[Block] = []
    for group in filter(None, ([pair for pair in sections if pair not in lacking], lacking)):
        titles = join_words([escape(_title(part, section.full_title)) for part, section in group])
        rows = [row for pair in group for row in _rows(*pair)]
        names = dict.fromkeys(section.name for _, section in group)
        how = how_to_get(study, rows, f"section={','.join(names)}")
        blocks += [Prose(f"No results yet: {titles}. {how}"), *uncounted_runs(rows)]
    return blocks


def _appendix(study: StudyFrames, figures: FigureCache, data: str) -> Iterable[tuple[str, Sequence[Block]]]:
    has_reported = any(map(has_comparison, split_by_weights(study)))
    methods = (*METHODS, *(METHODS_OF_COMPARISON if has_reported else ()))
    yield "Methods", [Prose(text) for text in methods]
    yield (
        "Data set",
        [block for section in study.catalog.sections for block in data_set_blocks(study, section, data, figures)],
    )
    yield "Agreement in detail", agreement_blocks(study, figures)
    yield "Interpretations", interpretation_blocks(study)
    yield "Classes", class_blocks(study, figures)
    yield "Cost", cost_blocks(study)
    yield "Provenance", provenance_blocks(study)


def _named_tables(blocks: Iterable[Block]) -> Iterable[Table]:
    """The tables with a name, wherever they stand, each once."""
    for block in blocks:
        match block:
            case Table(name) if name:
                yield block
            case Panel(left, right):
                yield from _named_tables((*left, *right))
            case Details(_, content):
                yield from _named_tables(content)
