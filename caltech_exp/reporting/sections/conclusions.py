"""The report's conclusions: its claims, each with what was measured, then the networks beside each other."""

from collections.abc import Sequence
from dataclasses import replace

from caltech_exp.catalog import THE_REPORT, Architecture
from caltech_exp.reporting.claims import (
    CLAIM_VERDICTS,
    ClaimResult,
    Effect,
    claim_keys,
    claimed_words,
    deciding_words,
    judge_claims,
    shown_decimals,
    size_words,
)
from caltech_exp.reporting.comparison import TableRow, all_rows, best_row_by_start, rows_by_start
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import (
    Block,
    Column,
    Heading,
    Interval,
    Prose,
    Table,
    Value,
    escape,
    join_words,
)
from caltech_exp.reporting.sections.costs import JOULES_PER_KWH
from caltech_exp.reporting.sections.figures import network_curves
from caltech_exp.reporting.sections.tables import measured_value
from caltech_exp.reporting.stats import MIN_PAIRS_FOR_P, MIN_RUNS
from caltech_exp.reporting.wording import OTHER_WEIGHTS, row_words, start_words

CLAIM_COLUMNS = (
    Column("claim", "text"),
    Column("stated in", "text"),
    Column("measured difference", "difference", file_heading="difference"),
    Column("verdict", "text"),
    Column("claimed", "text", is_detail=True),
    Column("row", "text", is_detail=True),
    Column("compared with", "text", is_detail=True),
    Column("n", "count", is_detail=True),
    Column("p", is_detail=True),
)
NETWORK_COLUMNS = (
    Column("network", "text"),
    Column("parameters", "count"),
    Column("best accuracy", "spread"),
    Column("minutes per run", "amount"),
    Column("best row", "text"),
    Column("n", "count", is_detail=True),
    Column("test accuracy", is_detail=True),
    Column("images per second", "whole", is_detail=True),
    Column("kWh per run", "amount", is_detail=True),
)
NETWORKS_NOTE = (
    "Accuracy and cost are those of the best measured row of each network. It is chosen by the validation "
    "accuracy that is shown, which flatters a network the more, the more of its rows were tried."
)


def conclusion_blocks(study: StudyFrames, figures: FigureCache) -> list[Block]:
    """The claims and the networks; nothing before any run has a result."""
    networks = network_table(study)
    if not networks.rows:
        return []
    results = judge_claims(study)
    blocks: list[Block] = []
    if any(result.verdict != "no data" for result in results):
        blocks += [
            Prose(verdict_sentence(results)),
            claims_table(study, results),
            Prose(_note(), is_quiet=True),
        ]
    models = {start.model for start in rows_by_start(study)}
    remarks = [architecture.remark for architecture in _architectures(study) if architecture.name in models]
    note = " ".join(filter(None, [*map(escape, remarks), NETWORKS_NOTE]))
    curves = network_curves(study, figures)
    return [*blocks, networks, Prose(note, is_quiet=True), *curves, *_other_weights_blocks(study)]


def _other_weights_blocks(study: StudyFrames) -> list[Block]:
    """The claims that rows of other ImageNet weights say something of, under a heading of their own."""
    other = {row.key for row in all_rows(study) if row.has_other_weights}
    compared = replace(study, compares_other_weights=True)
    results = [
        result
        for result in (judge_claims(compared) if other else ())
        if claim_keys(result.claim) & other and result.verdict != "no data"
    ]
    if not results:
        return []
    caption = f"The report's claims on runs that start from {OTHER_WEIGHTS}, not torchvision's."
    return [
        Heading(3, f"Claims, with {OTHER_WEIGHTS}", "page-claims-other-weights"),
        Prose(verdict_sentence(results)),
        replace(claims_table(compared, results), name="claims-other-weights", caption=caption),
    ]


def verdict_sentence(results: Sequence[ClaimResult]) -> str:
    """`Of 31 claims 11 are supported, 1 is contradicted, 17 are inconclusive and 2 have no data.`"""
    parts = []
    for verdict in CLAIM_VERDICTS:
        count = sum(result.verdict == verdict for result in results)
        verb = ("has" if count == 1 else "have") if verdict == "no data" else ("is" if count == 1 else "are")
        if count:
            parts.append(f"{count} {verb} {verdict}")
    if len(results) == 1:
        return f"The only claim {parts[0].partition(' ')[2]}."
    return f"Of {len(results)} claims {join_words(parts)}."


def _note() -> str:
    return (
        f"Rows are compared run by run on the seeds that they share, at least {MIN_RUNS}. The intervals of the "
        "claims that one section states hold together at 95 %: with m comparisons each has the level 1 - 0.05/m. "
        "A claim is supported if the whole interval lies where it says, contradicted if none of it does. Of "
        "several comparisons the table shows the one that decides: all have to support a claim, one is enough to "
        "contradict it. A diverged run is worse than any finished one. From "
        f"{MIN_PAIRS_FOR_P} seeds on, p is that of an exact sign-flip test of the one difference."
    )


def claims_table(study: StudyFrames, results: Sequence[ClaimResult]) -> Table:
    """A line for each claim, with the comparison that decides."""
    return Table(
        name="claims",
        caption="The report's claims, each with the difference in validation accuracy that decides.",
        columns=CLAIM_COLUMNS,
        rows=tuple(_claim_values(study, result) for result in results),
    )


def _claim_values(study: StudyFrames, result: ClaimResult) -> tuple[Value, ...]:
    claim, effect = result.claim, result.decisive
    decided_by = deciding_words(study, result)
    text = f"{claim.text} (decided by {decided_by})" if decided_by else claim.text
    head = (text, claim.stated_in, effect_value(effect) if effect else result.reason, result.verdict)
    if effect is None:
        return *head, claimed_words(claim), claim.diverging, None, None, None
    pair, difference = effect.comparison, effect.difference
    baseline = "test accuracy" if pair.is_test else f"epoch {pair.epoch}" if pair.epoch else pair.baseline
    return *head, claimed_words(claim), pair.row, baseline, difference.n or None, difference.p


def effect_value(effect: Effect) -> Value:
    """The difference with its interval, or why there is none."""
    difference = effect.difference
    if difference.mean is None:
        return effect.reason
    if shown_decimals(effect) > 3:
        return size_words(effect)
    return Interval(difference.mean, None if effect.reason else difference.half_width, effect.reason)


def network_table(study: StudyFrames) -> Table:
    """A line for each network and initial weights with a finished run."""
    parameters = {architecture.name: architecture.parameters for architecture in _architectures(study)}
    best = best_row_by_start(study)
    return Table(
        name="networks",
        caption=f"The networks beside each other. {NETWORKS_NOTE}",
        columns=NETWORK_COLUMNS,
        rows=tuple(
            (start_words(study, start), parameters.get(start.model), *_network_values(row))
            for start, row in best.items()
        ),
        keys=tuple(row.key for row in best.values()),
        sortable=False,
    )


def _network_values(row: TableRow) -> tuple[Value, ...]:
    runs = row.finished
    means = runs[["wall_seconds", "images_per_second", "energy_joules"]].mean()
    energy = None if means.isna()["energy_joules"] else float(means["energy_joules"]) / JOULES_PER_KWH
    return (
        measured_value(row),
        float(means["wall_seconds"]) / 60,
        row_words(row),
        row.measured.n,
        row.summary("test_accuracy").mean,
        float(means["images_per_second"]),
        energy,
    )


def _architectures(study: StudyFrames) -> list[Architecture]:
    """The report's networks and the study file's; what the file says of a network counts.

    The report's have another number of parameters with another number of classes.
    """
    if study.has_own_data:
        return [] if study.catalog.is_report else list(study.catalog.architectures)
    architectures = (*THE_REPORT.architectures, *study.catalog.architectures)
    return list({architecture.name: architecture for architecture in architectures}.values())
