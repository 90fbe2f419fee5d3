"""The sentence under a table: what its numbers do not say by themselves.

It says whether the lead of the best row is significant, and whether the report's best row is another one. The
table itself shows agreement and what is missing. Leads are judged on paired differences over the seeds that both
rows have. A row is significantly best only if each of its leads is significant at 95 %. That holds however many
rows there are, without a correction (S. Gutmann and Z. Maymin, Is the selected population the best?, Annals of
Statistics 15, 1987).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from caltech_exp.catalog import Reported, Table
from caltech_exp.reporting.comparison import MAX_HALF_WIDTH, TableRow, distinct_rows
from caltech_exp.reporting.render.blocks import accuracy, code, join_words
from caltech_exp.reporting.stats import MIN_RUNS, PairedDifference, paired_difference, welch_half_width
from caltech_exp.reporting.wording import heading_words

MAX_NAMED = 3
"""Rows that a sentence names one by one."""
NEGLIGIBLE = 0.005
"""Leads that are certainly smaller are of no consequence: half a percentage point."""
ROUNDING = 0.0005
"""Smaller differences show as 0.000."""


@dataclass(frozen=True)
class Lead:
    """The best row minus another one, over the seeds that both have.

    gap            the difference of their means, each over all of its seeds
    has_all_seeds  whether the shared seeds are all
    """

    other: TableRow
    difference: PairedDifference
    gap: float
    has_all_seeds: bool

    @property
    def value(self) -> float:
        return self.difference.mean or 0.0

    @property
    def half_width(self) -> float:
        return self.difference.half_width or 0.0

    @property
    def kind(self) -> Literal["significant", "open", "behind", "alike", "few"]:
        """What can be said of the lead.

        behind  it vanishes over the shared seeds, which are not all seeds of both rows
        alike   it is the same for every seed, which says nothing of the next seed
        few     fewer than MIN_RUNS seeds are shared
        """
        if self.difference.n < MIN_RUNS:
            return "few"
        if self.value <= 0 and not self.has_all_seeds:
            return "behind"
        if self.difference.half_width is None:
            return "alike"
        return "significant" if self.difference.is_significant else "open"

    @property
    def is_small(self) -> bool:
        """Whether the interval contains zero and is narrow enough to agree, or holds nothing of consequence."""
        limits = {"open": MAX_HALF_WIDTH, "significant": NEGLIGIBLE, "alike": ROUNDING}
        return max(abs(self.value), self.gap) + self.half_width < limits.get(self.kind, 0)

    @property
    def interval(self) -> tuple[str, str]:
        """The lead and half the width of its interval, with as many decimals as tell the two apart."""
        for decimals in range(3, 7):
            value, half_width = f"{self.value:.{decimals}f}", f"{self.half_width:.{decimals}f}"
            if value != half_width:
                break
        return value, half_width

    def __str__(self) -> str:
        return f"{code(self.other.label)} ({' ± '.join(self.interval)})"


def table_sentence(table: Table, rows: Sequence[TableRow]) -> str:
    """The sentence as inline Markdown; empty where the table says it all."""
    if len(table.rows) == 1:
        return _quoted_sentence(table, rows[0])
    ranked = sorted(stable_rows(rows), key=lambda row: row.measured.mean or 0.0, reverse=True)
    if len(ranked) < 2:
        return ""
    if _is_flat(ranked):
        return _flat_sentence(table, rows, ranked)
    best = best_rows(rows)
    if not best:
        return ""
    labels = [row.label for row in best]
    reported = [row.label for row in reported_best_rows(rows)]
    subject = f"{_names(labels)} {'is' if len(best) == 1 else 'are'} best"
    if reported and not set(labels).intersection(reported):
        subject += f" here, {_names(reported)} in the report"
    others = [row for row in ranked if row not in best]
    return f"{subject}; {_lead_clause(list(_leads(ranked[0], others)), 'its' if len(best) == 1 else 'their')}."


def stable_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows that can be ranked, each configuration once: they have a mean, and none of their runs diverged."""
    return [row for row in distinct_rows(rows) if row.measured.mean is not None and row.diverged.empty]


def best_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The stable rows whose mean is the highest as it is shown; none where all show the same."""
    means = {row: accuracy(row.measured.mean or 0.0) for row in stable_rows(rows)}
    best = [row for row in means if means[row] == max(means.values())]
    return best if len(best) < len(means) else []


def reported_best_rows(rows: Sequence[TableRow]) -> list[TableRow]:
    """The rows that the report gives the highest mean; none where one of them cannot be ranked here."""
    means = {row: row.reported.mean for row in rows if row.reported}
    best = [row for row in means if means[row] == max(means.values())]
    stable = {row.config.id for row in stable_rows(rows)}
    return best if all(row.config.id in stable for row in best) else []


def _names(labels: Sequence[str]) -> str:
    return join_words([code(label) for label in labels])


def _quoted_sentence(table: Table, row: TableRow) -> str:
    """What the report's text says of a single run that it prints no mean for."""
    quoted = next((figure.quoted for figure in table.figures if figure.quoted), None)
    if quoted is None or quoted.last_accuracy is None or row.row.reported or not row.is_comparable:
        return ""
    return f"The report's text gives {quoted.last_accuracy:g} for this run."


def _leads(best: TableRow, others: Sequence[TableRow]) -> Iterator[Lead]:
    for other in others:
        difference = paired_difference(other.accuracies, best.accuracies)
        gap = (best.measured.mean or 0.0) - (other.measured.mean or 0.0)
        yield Lead(other, difference, gap, difference.n == best.measured.n == other.measured.n)


def _is_flat(ranked: Sequence[TableRow]) -> bool:
    """Whether all leads are small, and the best row is not significantly best all the same."""
    kinds = set()
    for lead in _leads(ranked[0], ranked[1:]):
        if not lead.is_small:
            return False
        kinds.add(lead.kind)
    return kinds != {"significant"}


def _flat_sentence(table: Table, rows: Sequence[TableRow], ranked: Sequence[TableRow]) -> str:
    """`No step size stands out (0.857 to 0.858), as reported.`"""
    highest, lowest = (accuracy(ranked[place].measured.mean or 0.0) for place in (0, -1))
    reach = f"all {highest}" if highest == lowest else f"{lowest} to {highest}"
    if len(ranked) == len(distinct_rows(rows)):
        subject = f"No {_noun(table)} stands out"
    elif len(ranked) <= MAX_NAMED:
        subject = f"Of {_names([row.label for row in rows if row in ranked])} none stands out"
    else:
        subject = f"Of the {len(ranked)} rows that can be ranked none stands out"
    reported = [row.reported for row in ranked if row.reported]
    as_reported = ", as reported" if len(reported) == len(ranked) and _is_flat_in_report(reported) else ""
    return f"{subject} ({reach}){as_reported}."


def _noun(table: Table) -> str:
    """`step size`, where the rows are its values; `row` elsewhere."""
    labels = [row.label.replace("e", "").replace("-", "").replace(".", "") for row in table.rows]
    if "," in table.heading or not all(label.isdigit() for label in labels) or table.heading in ("Run", "Row"):
        return "row"
    return heading_words(table)


def _is_flat_in_report(reported: Sequence[Reported]) -> bool:
    """Whether none of the reported values stands out by Welch's intervals, with the benefit of rounding."""
    best = max(reported, key=lambda value: value.mean)
    for other in reported:
        errors = [((side.std + side.std_rounding) ** 2 / (side.runs - 1), side.runs) for side in (best, other)]
        half_width = welch_half_width(errors[0], errors[1]) + best.mean_rounding + other.mean_rounding
        lead = best.mean - other.mean
        if lead > half_width or lead + half_width >= MAX_HALF_WIDTH:
            return False
    return True


def _lead_clause(leads: Sequence[Lead], pronoun: str) -> str:
    """What is significant of the leads, and what is not; the closest rows come first."""
    kinds = {kind: [lead for lead in leads if lead.kind == kind] for kind in ("open", "behind", "alike", "few")}
    if not any(kinds.values()):
        return _judged(leads, leads, pronoun, "")
    clauses = [_judged(kinds["open"], leads, pronoun, "not ")] if kinds["open"] else []
    if behind := kinds["behind"]:
        clauses.append(f"{_some(behind)} {'is' if len(behind) == 1 else 'are'} not behind on the shared seeds")
    if alike := kinds["alike"]:
        clauses.append(
            f"{pronoun} lead over {_some(alike)} is the same for every seed, so no spread tells if it holds"
        )
    if few := kinds["few"]:
        over = "" if len(few) == len(leads) else f" over {_some(few)}"
        clauses.append(f"too few shared seeds to judge {pronoun} lead{over}")
    return "; ".join(clauses)


def _judged(leads: Sequence[Lead], compared: Sequence[Lead], pronoun: str, negation: str) -> str:
    """The leads that are all significant, or all not."""
    if len(leads) == 1:
        value, half_width = leads[0].interval
        size = "less than 0.001" if leads[0].value < ROUNDING else value
        return (
            f"{pronoun} lead of {size} over {code(leads[0].other.label)} is {negation}significant "
            f"(95 % interval ±{half_width})"
        )
    if negation and len(leads) <= MAX_NAMED:
        return f"{pronoun} leads over {join_words(list(map(str, leads)))} are not significant"
    closest = f"the closest row is {code(leads[0].other.label)}, {' ± '.join(leads[0].interval)} behind"
    if len(leads) < len(compared):
        return f"{len(leads)} of {pronoun} {len(compared)} leads are not significant ({closest})"
    if negation:
        return f"none of {pronoun} {len(leads)} leads is significant ({closest})"
    return f"{pronoun} leads over all other rows are significant ({closest})"


def _some(leads: Sequence[Lead]) -> str:
    """`a` and `b`, or how many."""
    return _names([lead.other.label for lead in leads]) if len(leads) <= MAX_NAMED else f"{len(leads)} rows"
