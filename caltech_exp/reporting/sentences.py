"""One sentence or two per table, drawn from its numbers: what is best, by how much, and whether the report agrees.

A lead counts as more than the spread if it is more than half the width of the 95 % confidence interval of the
difference of the two means (measured.difference_half).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from caltech_exp.catalog import Reported
from caltech_exp.catalog import Table as Asked
from caltech_exp.reporting.collect import RowRuns
from caltech_exp.reporting.markup import listing
from caltech_exp.reporting.measured import NO_SPREAD, Measured, difference_half, rank_agreement
from caltech_exp.reporting.verdicts import verdicts


@dataclass(frozen=True)
class Known:
    """A row with at least one finished run."""

    row: RowRuns
    measured: Measured
    mean: float

    @property
    def label(self) -> str:
        return self.row.row.label

    def __str__(self) -> str:
        spread = "one run" if self.measured.half is None else f"±{self.measured.half:.3f}, n = {self.measured.n}"
        lost = f", {len(self.row.diverged)} diverged" if self.row.diverged else ""
        return f"{self.mean:.3f} ({spread}{lost})"


def table_sentence(asked: Asked, rows: Sequence[RowRuns]) -> str:
    """Plain text; says what is missing too, and makes no claim that the finished runs do not carry."""
    known = known_rows(rows)
    if len(asked.rows) == 1:
        return _single(asked, rows[0], known)
    if not known:
        return " ".join(["No row has a finished run yet.", *_agreeing(rows), *_lost(rows)])
    if len({row.config.id for row in rows}) == 1:
        return f"All rows are one and the same run here, which reaches {known[0]}: there is nothing to compare."
    words = [_best(known), *_agreeing(rows), *_order(known), *_lost(rows)]
    return " ".join(words)


def known_rows(rows: Sequence[RowRuns]) -> list[Known]:
    """The rows with finished runs, each configuration once, in their order."""
    found: dict[str, Known] = {}
    for row in rows:
        measured = row.measured
        if measured.mean is not None:
            found.setdefault(row.config.id, Known(row, measured, measured.mean))
    return list(found.values())


def compared(known: Sequence[Known]) -> list[tuple[Known, Reported]]:
    """The rows that the report prints a mean for, with what it prints. Not those with diverged runs: the mean of
    the others would be that of the lucky ones."""
    return [(one, one.row.row.reported) for one in known if one.row.row.reported and not one.row.diverged]


def lead(first: Known, second: Known) -> str:
    """`ahead of 6e-2 by 0.092, which is more than the spread (±0.043)`"""
    gap = first.mean - second.mean
    half = difference_half(first.measured, second.measured)
    if gap < NO_SPREAD:
        return f"level with {second.label}"
    text = f"ahead of {second.label} by {gap:.3f}"
    if half is None and None in (first.measured.std, second.measured.std):
        return f"{text}; with a single run of one of them there is no spread to hold that against"
    if half is None:
        return f"{text}; the runs of each are all alike, so that there is no spread to judge that by"
    if gap > half:
        return f"{text}, which is more than the spread (±{half:.3f})"
    return f"{text}, which is within the spread (±{half:.3f})"


def _best(known: Sequence[Known]) -> str:
    ranked = sorted(known, key=lambda one: -one.mean)
    if len(ranked) == 1:
        return f"Only {ranked[0].label} has finished runs: {ranked[0]}."
    first, second, *others = ranked
    near = [
        f"{one.label} ({first.mean - one.mean:.3f} ±{half:.3f})" for one, half in _within_spread(first, others)
    ]
    also = " also" if _within_spread(first, [second]) else ""
    beside = f"; within the spread of it {'is' if len(near) == 1 else 'are'}{also} {listing(near)}" if near else ""
    return f"{first.label} is best with {first}, {lead(first, second)}{beside}."


def _within_spread(best: Known, others: Sequence[Known]) -> list[tuple[Known, float]]:
    """Of the others those that the best is not beyond the spread of, with that spread: the next of a table may be
    behind for certain, and one behind it not, where its runs lie far apart."""
    halves = [(one, difference_half(best.measured, one.measured)) for one in others]
    return [(one, half) for one, half in halves if half is not None and best.mean - one.mean <= half]


def _agreeing(rows: Sequence[RowRuns]) -> list[str]:
    """Which rows agree with the report, how far others are from it, and which cannot tell."""
    held = verdicts(rows)
    near = [one.label for one in held if one.finding == "agrees"]
    far = [f"{one.label} ({one.how})" for one in held if one.finding == "differs"]
    vague = [f"{one.label} ({one.how})" for one in held if one.finding == "cannot tell"]
    if len(held) == 1:
        (one,) = held
        how = one.how and f" ({one.how})"
        if vague:
            return [f"The interval is too wide to tell whether {one.label} agrees with the report{how}."]
        return [f"{one.label} {'agrees with' if near else 'differs from'} the report{how}."]
    if len(near) == len(held) > 1:
        count = "Both" if len(near) == 2 else f"All {len(near)}"
        return [f"{count} rows with a result here and in the report agree."]
    words = [f"{'Agrees' if len(near) == 1 else 'Agree'} with the report: {listing(near)}."] if near else []
    of = "it" if near else "the report"
    words += [f"{'Differs' if len(far) == 1 else 'Differ'} from {of}: {listing(far)}."] if far else []
    wide = "Interval" if len(vague) == 1 else "Intervals"
    return [*words, f"{wide} too wide to tell: {listing(vague)}."] if vague else words


def _order(known: Sequence[Known]) -> list[str]:
    """Whether the measured order is the reported one, over the rows that are `compared`."""
    both = [(one.mean, said.mean, one.label) for one, said in compared(known)]
    if len(both) < 2:
        return []
    measured, reported = [pair[0] for pair in both], [pair[1] for pair in both]
    agreement = rank_agreement(measured, reported)
    if agreement.tau is None:
        return []
    best = max(both)[2]
    of_report = [label for _, value, label in both if value == max(reported)]
    named = "the best row is the same" if best in of_report else f"the report's best is {listing(of_report)}"
    order, tied = "The orders differ", ""
    if agreement.tied:
        tied = f", {agreement.tied} more {'is' if agreement.tied == 1 else 'are'} tied here"
    elif agreement.pairs > 1 and agreement.same == 0:
        order = "The measured order is the reverse of the reported one"
    elif agreement.same == agreement.pairs:
        order = "The measured order is the reported one"
    if any(one.row.diverged for one in known):
        order = f"Of the rows without diverged runs: {order[0].lower()}{order[1:]}"
    return [
        f"{order}: {agreement.same} of {agreement.pairs} pairs of rows stand alike{tied} "
        f"(Kendall's tau-b {agreement.tau:.2f}); {named}."
    ]


def _lost(rows: Sequence[RowRuns]) -> list[str]:
    """Rows without a finished run, and seeds that rows with some have lost."""
    sentences = []
    diverged = [f"{row.row.label} ({len(row.diverged)} of {_asked(row)})" for row in rows if row.diverged]
    if diverged:
        sentences.append(f"Runs diverged and are left out: {listing(diverged)}.")
    nothing = [row.row.label for row in rows if not row.finished and not row.diverged]
    if nothing:
        sentences.append(f"Without a result: {listing(nothing)}.")
    return [*sentences, *_partly(rows)]


def _partly(rows: Sequence[RowRuns]) -> list[str]:
    """Rows of which some runs ended and others did not yet."""
    partly = [
        f"{row.row.label} ({len(row.finished) + len(row.diverged)} of {_asked(row)})"
        for row in rows
        if (row.finished or row.diverged) and len(row.finished) + len(row.diverged) < _asked(row)
    ]
    return [f"Not all runs are there yet: {listing(partly)}."] if partly else []


def _asked(row: RowRuns) -> int:
    return len(row.runs) + len(row.missing)


def _single(asked: Asked, row: RowRuns, known: Sequence[Known]) -> str:
    if row.row.diverges:
        return _diverging(row)
    if not known:
        return (
            " ".join(["No run finished.", *_agreeing([row]), *_lost([row])]) if row.diverged else "No result yet."
        )
    quoted = next((figure.quoted for figure in asked.figures if figure.quoted), None)
    said = f"; the report quotes {quoted.last_accuracy:g}" if quoted and quoted.last_accuracy is not None else ""
    return " ".join([f"It reaches {known[0]}{said}.", *_agreeing([row]), *_lost([row])])


def _diverging(row: RowRuns) -> str:
    """Of the row whose loss diverges in the report."""
    finished, diverged = len(row.finished), len(row.diverged)
    if not finished and not diverged:
        return "No result yet; in the report the loss diverges."
    if not finished:
        runs = "It" if diverged == 1 else f"{'Both' if diverged == 2 else f'All {diverged}'} runs that ended"
        return " ".join([f"{runs} diverged, as in the report.", *_partly([row])])
    ended = f"{diverged} of {finished + diverged} runs that ended diverged."
    return " ".join([ended, *_agreeing([row]), *_partly([row])])
