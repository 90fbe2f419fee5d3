"""The claims of the catalog against the runs of a study.

Rows that share seeds are compared run by run: a seed fixes the initial weights and the order of the images, so the
difference of two runs of one seed scatters less than either. The catalog fixes the comparisons in advance: if the
claims of one section of the report make m of them, each interval has the level 1 - 0.05/m (Bonferroni), and the
section's intervals hold together at 95 %.

Rows are compared with each other only where they are what the catalog says: overrides, other initial weights,
other images and stand-in data leave a claim about them without data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import pandas as pd

from caltech_exp.catalog import Claim, Comparison, split_row_key
from caltech_exp.reporting.comparison import TableRow, all_rows, find_row
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.stats import CONFIDENCE, MIN_RUNS, PairedDifference, paired_difference
from caltech_exp.reporting.wording import row_words

ClaimVerdict = Literal["supported", "contradicted", "inconclusive", "no data"]
NOT_MEASURED, NOT_COMPARABLE = "not measured", "not comparable"
CLAIM_VERDICTS: tuple[ClaimVerdict, ...] = ("supported", "contradicted", "inconclusive", "no data")


@dataclass(frozen=True)
class Effect:
    """What one comparison of a claim measures.

    difference               row - baseline over the seeds that both have; of no seed if any run diverged
    row_mean, baseline_mean  over these seeds
    reason                   why no interval is shown, empty if there is one
    slack                    how far inside the claimed range the interval ends, negative if it leaves the range
    """

    comparison: Comparison
    verdict: ClaimVerdict
    difference: PairedDifference = field(default_factory=lambda: PairedDifference(0))
    row_mean: float | None = None
    baseline_mean: float | None = None
    reason: str = ""
    slack: float = -math.inf


@dataclass(frozen=True)
class ClaimResult:
    """A claim with what its comparisons measure.

    verdict  supported if every comparison supports it, contradicted if any contradicts it, no data if none has any
    reason   of a claim that a row diverges, which has no effects: how many runs did
    """

    claim: Claim
    verdict: ClaimVerdict
    effects: tuple[Effect, ...] = ()
    reason: str = ""

    @cached_property
    def decisive(self) -> Effect | None:
        """The comparison that the verdict rests on: of the worst verdict the one that comes out worst."""
        worst_first: tuple[ClaimVerdict, ...] = ("contradicted", "inconclusive", "no data", "supported")
        return min(
            self.effects, key=lambda effect: (worst_first.index(effect.verdict), effect.slack), default=None
        )


def claim_confidence(study: StudyFrames, claim: Claim) -> float:
    """The level of the claim's intervals: 1 - 0.05/m for the m comparisons that its section states."""
    return 1 - (1 - CONFIDENCE) / max(len(study.catalog.comparisons(claim.stated_in)), 1)


def judge_claims(study: StudyFrames) -> list[ClaimResult]:
    """Every claim about rows of the study's tables, in the catalog's order."""
    rows = {row.key: row for row in all_rows(study)}
    return [
        _judge_divergence(claim, rows[claim.diverging])
        if claim.diverging
        else _judge_comparisons(claim, [_effect(study, rows, claim, pair) for pair in claim.comparisons])
        for claim in study.catalog.claims
        if claim_keys(claim) <= rows.keys()
    ]


def claim_keys(claim: Claim) -> set[str]:
    """The rows that the claim is about."""
    return {key for pair in claim.comparisons for key in (pair.row, pair.baseline)} or {claim.diverging}


def _judge_comparisons(claim: Claim, effects: list[Effect]) -> ClaimResult:
    verdicts = {effect.verdict for effect in effects}
    verdict: ClaimVerdict = "inconclusive"
    if "contradicted" in verdicts:
        verdict = "contradicted"
    elif len(verdicts) == 1:
        (verdict,) = verdicts
    return ClaimResult(claim, verdict, tuple(effects))


def _judge_divergence(claim: Claim, row: TableRow) -> ClaimResult:
    """One run that finishes contradicts it, as in the row's own verdict."""
    finished, diverged = len(row.finished), len(row.diverged)
    if not row.is_as_written or not row.is_measured:
        return ClaimResult(claim, "no data", reason=NOT_MEASURED if row.is_as_written else NOT_COMPARABLE)
    reason = f"{diverged} of {finished + diverged} runs diverged"
    return ClaimResult(claim, "contradicted" if finished else "supported", reason=reason)


def _effect(study: StudyFrames, rows: Mapping[str, TableRow], claim: Claim, pair: Comparison) -> Effect:
    row, baseline = rows[pair.row], rows[pair.baseline]
    if reason := _why_no_data(pair, row, baseline):
        return Effect(pair, "no data", reason=reason)
    values = _baseline_values(study, pair, baseline)
    difference = paired_difference(values, row.accuracies, claim_confidence(study, claim))
    low, high = _bounds(difference, row, baseline)
    least, most = claim.expected
    slack = min(
        low - least if math.isfinite(least) else math.inf, most - high if math.isfinite(most) else math.inf
    )
    verdict: ClaimVerdict = "supported" if low >= least and high <= most else "inconclusive"
    if high < least or low > most:
        verdict = "contradicted"
    if reason := _divergence(row, baseline):
        return Effect(pair, verdict, reason=reason, slack=slack)
    if difference.mean is None:
        return Effect(pair, "no data", reason="no seed in common")
    if difference.half_width is None:
        reason = f"n = {difference.n}: too few" if difference.n < MIN_RUNS else "no spread to judge by"
    elif difference.half_width > 1:
        reason = f"n = {difference.n}: interval beyond ±1"
    row_mean = float(row.accuracies[row.accuracies.index.isin(values.index)].mean())
    return Effect(pair, verdict, difference, row_mean, row_mean - difference.mean, reason, slack)


def _bounds(difference: PairedDifference, row: TableRow, baseline: TableRow) -> tuple[float, float]:
    """The interval of the difference, without bound on the side of runs that diverged.

    A run that diverged is worse than any that did not, and those that survive are the lucky ones: their mean is
    the best that can be said of the row. Where all runs of one side diverged and none of the other, MIN_RUNS of
    each, the difference itself is without bound.
    """
    for worse, better, infinite in ((row, baseline, -math.inf), (baseline, row, math.inf)):
        is_clear = worse.finished.empty and better.diverged.empty
        if is_clear and min(len(worse.diverged), len(better.finished)) >= MIN_RUNS:
            return infinite, infinite
    if difference.mean is None or difference.half_width is None:
        return -math.inf, math.inf
    low, high = difference.mean - difference.half_width, difference.mean + difference.half_width
    return low if row.diverged.empty else -math.inf, high if baseline.diverged.empty else math.inf


def _divergence(row: TableRow, baseline: TableRow) -> str:
    """`2 of 3 runs diverged (batch size 64)`; empty if no run did."""
    sides = {side.key: side for side in (row, baseline) if len(side.diverged)}.values()
    return ", ".join(
        f"{len(side.diverged)} of {len(side.diverged) + len(side.finished)} runs diverged ({row_words(side)})"
        for side in sides
    )


def _why_no_data(pair: Comparison, row: TableRow, baseline: TableRow) -> str:
    if not (row.is_as_written and baseline.is_as_written):
        return NOT_COMPARABLE
    if pair.row != pair.baseline and row.config.id == baseline.config.id:
        return "one and the same run"
    return "" if row.is_measured and baseline.is_measured else NOT_MEASURED


def _baseline_values(study: StudyFrames, pair: Comparison, baseline: TableRow) -> "pd.Series[float]":
    """Accuracies by seed."""
    if pair.is_test:
        return baseline.finished.set_index("seed")["test_accuracy"]
    if pair.epoch is None:
        return baseline.accuracies
    epochs = study.epochs
    is_wanted = (epochs["config_id"] == baseline.config.id) & (epochs["epoch"] == pair.epoch)
    return epochs[is_wanted].set_index("seed")["val_accuracy"]


def claimed_words(claim: Claim) -> str:
    """What the claim says of every difference: `higher`, `within ±0.02`, `at most +0.01`, `+0.07 to +0.13`."""
    least, most = (f"{bound:+.3g}".replace("-", "−") for bound in claim.expected)
    if claim.size is not None:
        return f"{least} to {most}"
    words = {"similar": f"within ±{claim.margin:.3g}", "not higher": f"at most {most}"}
    return words.get(claim.direction, claim.direction)


def deciding_words(study: StudyFrames, result: ClaimResult) -> str:
    """The row whose comparison decides, `learning rate 6e-2`, or `6e-2` if it shares the table of the others.

    Empty for a claim with a single comparison.
    """
    pairs, effect = result.claim.comparisons, result.decisive
    if effect is None or len(pairs) < 2:
        return ""
    keys = [effect.comparison.row] if len({pair.row for pair in pairs}) > 1 else []
    keys += [effect.comparison.baseline] if len({pair.baseline for pair in pairs}) > 1 else []
    tables = {split_row_key(key)[0] for key in claim_keys(result.claim)}
    rows = [find_row(study, key) for key in dict.fromkeys(keys)]
    return " and ".join(row.label if len(tables) == 1 else row_words(row) for row in rows)


def size_words(effect: Effect) -> str:
    """`+0.355 ± 0.012`, with more decimals where rounding would hide that the interval excludes zero."""
    difference = effect.difference
    mean, half_width = difference.mean or 0.0, difference.half_width or 0.0
    decimals = shown_decimals(effect)
    value = f"{abs(mean):.{decimals}f}"
    sign = "" if float(value) == 0 else "+" if mean > 0 else "−"
    return f"{sign}{value}" + ("" if effect.reason else f" ± {half_width:.{decimals}f}")


def shown_decimals(effect: Effect) -> int:
    """Decimals of an effect: three as everywhere, up to six where three would hide that it is significant."""
    difference = effect.difference
    if not difference.is_significant or difference.mean is None or difference.half_width is None:
        return 3
    sizes = (abs(difference.mean), difference.half_width)
    return next((n for n in (3, 4, 5) if float(f"{sizes[0]:.{n}f}") > float(f"{sizes[1]:.{n}f}")), 6)
