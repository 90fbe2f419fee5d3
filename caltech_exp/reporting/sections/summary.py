"""The first screen: what was run, how far it agrees with the report, each network's best row, the findings."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from caltech_exp.reporting.claims import (
    NOT_COMPARABLE,
    ClaimResult,
    Effect,
    claimed_words,
    deciding_words,
    judge_claims,
    shown_decimals,
    size_words,
)
from caltech_exp.reporting.comparison import (
    VERDICTS,
    NetworkStart,
    TableRow,
    all_rows,
    best_row,
    compare_rows,
    distinct_rows,
    find_row,
    rows_by_start,
)
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.data import RowPlot
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Badge,
    Badges,
    Block,
    Column,
    Heading,
    Listing,
    Note,
    Panel,
    Picture,
    Prose,
    Table,
    accuracy,
    code,
    escape,
    join_words,
    printable,
    shown,
)
from caltech_exp.reporting.sections.agreement import NEAR, other_weights_sentence
from caltech_exp.reporting.sections.costs import DEVICE_WORDS, HOURS
from caltech_exp.reporting.sections.figures import row_point
from caltech_exp.reporting.sections.tables import CAPTION, MEASURED, REPORTED, measured_value, reported_values
from caltech_exp.reporting.wording import cautions, count_line, picture_caution, row_words, start_words

COMPARED = (REPORTED[0], replace(REPORTED[1], heading="difference"), REPORTED[2])
MIN_PLOTTED = 3
"""Rows from which a plot says more than the badges."""


def summary_blocks(study: StudyFrames, figures: FigureCache) -> list[Block]:
    """The blocks of the first screen, the page's title first. Raises OSError."""
    rows = distinct_rows(all_rows(study))
    best = best_rows(study)
    table: list[Block] = [best_table(study, best), *_other_best_rows(study, best)] if best else []
    picture = _agreement_picture(study, rows, figures)
    notes = tuple(caution.page for caution in cautions(study))
    selection = study.catalog.selection
    return [
        Heading(1, escape(study.catalog.title), "page-top"),
        *([Prose(escape(run_line(study)), is_quiet=True)] if rows else []),
        *([Prose(f"This page shows {code(selection)} alone and counts nothing else.")] if selection else []),
        *([Note(notes)] if notes else []),
        *agreement_badges(rows),
        *([Prose(escape(sentence))] if (sentence := other_weights_sentence(study)) else []),
        *([Panel(tuple(table), (picture,))] if picture else table),
        *finding_blocks(study),
    ]


def run_line(study: StudyFrames) -> str:
    """`120 of 120 runs finished · 3 seeds · 31 GPU hours · H200 · 0.1.0 (1234567890ab) · 2026-01-01`"""
    results, parts = study.results, [count_line(study.requested["state"])]
    counts = sorted({len(seeds) for seeds in study.seeds.values() if seeds})
    if counts:
        several = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        parts.append(f"{several} seed{'s' if counts[-1] > 1 else ''}")
    for device_type, own in results.groupby("device_type"):
        hours = shown(HOURS, float(own["wall_seconds"].sum()) / 3600)
        parts.append(f"{hours} {DEVICE_WORDS.get(str(device_type), device_type)} hours")
    if len(results):
        parts.append(join_words(sorted(results["device"].dropna().unique())))
        versions = {version for versions in results["code"].dropna() for version in versions.split("; ")}
        parts.append(versions.pop() if len(versions) == 1 else f"{len(versions)} code versions")
        parts.append(str(results["started"].max())[:10])
    return printable(" · ".join(parts))


def agreement_badges(rows: Sequence[TableRow]) -> list[Block]:
    """How many of distinct rows agree, are inconclusive and differ, and how far their means are apart."""
    comparisons = compare_rows(rows)
    verdicts, sizes = comparisons["verdict"].dropna(), comparisons["difference"].abs()
    if verdicts.empty:
        return []
    badges = Badges(tuple(Badge(verdict, int((verdicts == verdict).sum())) for verdict in VERDICTS))
    if sizes.isna().all():
        return [badges]
    row = rows[int(sizes.argmax())]
    where = f"{escape(row.section.title)}, {escape(row_words(row))}"
    several = f"median {accuracy(sizes.median())}, largest " if sizes.count() > 1 else ""
    sentence = f"Difference of measured and reported means: {several}{accuracy(sizes.max())} ({where})."
    return [badges, Prose(sentence)]


def best_rows(study: StudyFrames) -> dict[NetworkStart, TableRow]:
    """The best measured row of each network and initial weights; the report's best if it shows the same mean."""
    best = {}
    for start, rows in rows_by_start(study).items():
        row, reported = best_row(rows), _reported_best(rows)
        if row and reported and reported.is_stable and _mean(reported) == _mean(row):
            row = reported
        if row:
            best[start] = row
    return best


def _reported_best(rows: Iterable[TableRow]) -> TableRow | None:
    """The measured row that the report gives the highest mean."""
    return max(
        (row for row in rows if row.reported),
        key=lambda row: row.reported.mean if row.reported else 0.0,
        default=None,
    )


def _mean(row: TableRow) -> str:
    return "" if row.measured.mean is None else accuracy(row.measured.mean)


def best_table(study: StudyFrames, best: dict[NetworkStart, TableRow]) -> Table:
    """The best rows beside what the report gives for the same rows."""
    is_reported = any(row.is_reported for row in best.values())
    return Table(
        name="best",
        caption=f"The best measured row of each network. {CAPTION}",
        columns=(Column("best row of", "text"), MEASURED, *(COMPARED if is_reported else ())),
        rows=tuple(
            (
                f"{start_words(study, start)}: {row_words(row)}",
                measured_value(row),
                *(reported_values(row) if is_reported else ()),
            )
            for start, row in best.items()
        ),
        keys=tuple(row.key for row in best.values()),
        sortable=False,
    )


def _other_best_rows(study: StudyFrames, best: dict[NetworkStart, TableRow]) -> list[Prose]:
    """Where another row is best in the report."""
    words = []
    for start, rows in rows_by_start(study).items():
        row, value = _reported_best(rows), best[start].reported
        if row and row.reported and (value is None or row.reported.mean > value.mean):
            values = f"{accuracy(row.reported.mean)}, here {shown(MEASURED, measured_value(row))}"
            words.append(f"{start_words(study, start)}: {row_words(row)} ({values})")
    return (
        [Prose(f"Another row is best in the report. {escape('; '.join(words))}.", is_quiet=True)] if words else []
    )


def _agreement_picture(study: StudyFrames, rows: Sequence[TableRow], figures: FigureCache) -> Picture | None:
    """Measured against reported means of all configurations without a diverged run."""
    points = tuple(row_point(row, row_words(row)) for row in rows if row.reported and row.is_stable)
    if len(points) < MIN_PLOTTED:
        return None
    near = sum(round(abs(point.difference or 0.0), 3) <= NEAR for point in points)
    title = f"{near} of {len(points)} means {'lies' if near == 1 else 'lie'} within {NEAR:g} of the report's"
    return figures.add(
        "overview",
        "comparisons:draw_agreement",
        RowPlot(title, points, caution=picture_caution(study)),
        alternative=f"Measured against reported accuracy. {title}.",
        caption="On the line, both are equal.",
    )


def finding_blocks(study: StudyFrames) -> list[Block]:
    """A line for each finding that has data, and which have none."""
    results = [result for result in judge_claims(study) if result.claim.finding]
    sentences = [finding_sentence(study, result) for result in results if result.verdict != "no data"]
    missing = [
        escape(result.claim.finding)
        for result in results
        if result.verdict == "no data" and result.decisive and result.decisive.reason != NOT_COMPARABLE
    ]
    if not sentences:
        return [Prose(f"No data yet on {join_words(missing)}.", is_quiet=True)] if missing else []
    if missing:
        sentences.append(f"No data yet on {join_words(missing)}.")
    head = "**Findings** from runs of the same seed, each from the report's [claims](#page-conclusions):"
    return [Listing(tuple(sentences), head)]


def finding_sentence(study: StudyFrames, result: ClaimResult) -> str:
    """`Pretraining AlexNet raises accuracy from 0.504 to 0.859: +0.355 ± 0.012; *supported*.`, inline Markdown."""
    effect, claim = result.decisive, result.claim
    assert effect is not None  # a finding compares rows
    row = deciding_words(study, result)
    subject = escape((claim.subject or claim.text) + (f" ({row})" if row else ""))
    is_plain = result.verdict == "supported" and claim.direction in ("higher", "lower") and not claim.size
    verdict = f"*{result.verdict}*" + ("" if is_plain else f" (claim: {claimed_words(claim)})")
    if effect.row_mean is None or effect.baseline_mean is None:
        return f"{subject}: {escape(effect.reason)}; {verdict}."
    decimals = shown_decimals(effect)
    levels = f"{effect.baseline_mean:.{decimals}f} to {effect.row_mean:.{decimals}f}"
    size = size_words(effect) + (f" ({effect.reason})" if effect.reason else "") + _shared_seeds(study, effect)
    if not claim.subject or effect.difference.half_width is None:
        return f"{subject}: {levels}, {size}; {verdict}."
    if not effect.difference.is_significant:
        return f"{subject} has no clear effect: {levels}, {size}; {verdict}."
    verb = "raises" if (effect.difference.mean or 0.0) > 0 else "lowers"
    return f"{subject} {verb} accuracy from {levels}: {size}; {verdict}."


def _shared_seeds(study: StudyFrames, effect: Effect) -> str:
    """Said where the means are not those of the tables, which count every seed."""
    pair, n = effect.comparison, effect.difference.n
    measured = [find_row(study, key).measured.n for key in (pair.row, pair.baseline)]
    return f" (over the {n} seeds that both have)" if max(measured) > n else ""
