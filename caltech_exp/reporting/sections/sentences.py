"""The sentence under a table: what its numbers do not say by themselves.

It says whether the lead of the best row is significant, and whether the report's best row is another one. The
table itself shows agreement and what is missing. Leads are judged on paired differences over the seeds that both
rows have. A row is significantly best only if each of its leads is significant at 95 %. That holds however many
rows there are, without a correction (S. Gutmann and Z. Maymin, Is the selected population the best?, Annals of
Statistics 15, 1987).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caltech_exp.catalog import Reported, Table
from caltech_exp.reporting.comparison import MAX_HALF_WIDTH, TableRow, difference_half_width, distinct_rows
from caltech_exp.reporting.render.blocks import accuracy, code, join_words
from caltech_exp.reporting.stats import MIN_RUNS, PairedDifference, Summary, paired_difference
from caltech_exp.reporting.wording import heading_words

MAX_NAMED = 3
"""Rows that a sentence names one by one."""
NEGLIGIBLE = 0.005
"""Leads that are certainly smaller are of no consequence: half a percentage point."""
NUMBER = re.compile(r"\d*\.?\d+(e-?\d+)?")


@dataclass(frozen=True)
class Lead:
    """The best row minus another one.

    difference  over the seeds that both have
    gap         of their means, each over all of its seeds
    """

    other: TableRow
    difference: PairedDifference
    gap: float

    @property
    def is_significant(self) -> bool | None:
        """None where the shared seeds do not tell: they are few, all give the same, or contradict the means."""
        value = self.difference.mean or 0.0
        if self.difference.half_width is None or (value <= 0 < self.gap):
            return None
        return self.difference.is_significant

    @property
    def is_small(self) -> bool:
        """Whether the interval contains zero and is narrow enough to agree, or holds nothing of consequence."""
        if self.is_significant is None:
            return False
        largest = max(abs(self.difference.mean or 0.0), self.gap) + (self.difference.half_width or 0.0)
        return largest < (NEGLIGIBLE if self.is_significant else MAX_HALF_WIDTH)

    @property
    def interval(self) -> tuple[str, str]:
        """The lead and half the width of its interval, with as many decimals as tell the two apart."""
        for decimals in range(3, 7):
            value, half_width = (
                f"{part or 0:.{decimals}f}" for part in (self.difference.mean, self.difference.half_width)
            )
            if value != half_width:
                break
        return value, half_width


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
    """The rows that can be ranked, each configuration once."""
    return [row for row in distinct_rows(rows) if row.is_stable]


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
        gap = (best.measured.mean or 0.0) - (other.measured.mean or 0.0)
        yield Lead(other, paired_difference(other.accuracies, best.accuracies), gap)


def _is_flat(ranked: Sequence[TableRow]) -> bool:
    """Whether all leads are small and the best row is not significantly best."""
    leads = []
    for lead in _leads(ranked[0], ranked[1:]):
        if not lead.is_small:
            return False
        leads.append(lead)
    return not all(lead.is_significant for lead in leads)


def _flat_sentence(table: Table, rows: Sequence[TableRow], ranked: Sequence[TableRow]) -> str:
    """`No step size stands out (0.857 to 0.858), as reported.`"""
    highest, lowest = (accuracy(ranked[place].measured.mean or 0.0) for place in (0, -1))
    reach = f"all {highest}" if highest == lowest else f"{lowest} to {highest}"
    subject = f"No {_noun(table)} stands out"
    if len(ranked) < len(distinct_rows(rows)):
        subject = f"Of {_some([row for row in rows if row in ranked])} none stands out"
    reported = [row.reported for row in ranked if row.reported]
    as_reported = ", as reported" if len(reported) == len(ranked) and _is_flat_in_report(reported) else ""
    return f"{subject} ({reach}){as_reported}."


def _noun(table: Table) -> str:
    """`step size`, where the rows are its values; `row` elsewhere."""
    is_sweep = all(NUMBER.fullmatch(row.label) for row in table.rows) and table.heading not in ("Run", "Row")
    return heading_words(table) if is_sweep else "row"


def _is_flat_in_report(reported: Sequence[Reported]) -> bool:
    """Whether none of the reported values stands out from the others, with the benefit of rounding."""
    best = max(reported, key=lambda value: value.mean)
    summary = Summary(best.runs, best.mean, best.std + best.std_rounding)
    half_widths = [(difference_half_width(summary, other) or 0.0) + best.mean_rounding for other in reported]
    return all(
        best.mean - other.mean <= half_width and best.mean - other.mean + half_width < MAX_HALF_WIDTH
        for other, half_width in zip(reported, half_widths, strict=True)
    )


def _lead_clause(leads: Sequence[Lead], pronoun: str) -> str:
    """What is significant of the leads, and what is not; the closest rows come first."""
    open_leads = [lead for lead in leads if lead.is_significant is False]
    unknown = [lead.other for lead in leads if lead.is_significant is None]
    clauses = [_judged(open_leads, leads, pronoun, "not ")] if open_leads else []
    if unknown:
        over = "" if len(unknown) == len(leads) else f" over {_some(unknown)}"
        are_few = all(lead.difference.n < MIN_RUNS for lead in leads if lead.is_significant is None)
        reason = "are too few" if are_few else "do not suffice"
        clauses.append(f"the shared seeds {reason} to judge {pronoun} lead{over}")
    return "; ".join(clauses) or _judged(leads, leads, pronoun, "")


def _judged(leads: Sequence[Lead], compared: Sequence[Lead], pronoun: str, negation: str) -> str:
    """The leads that are all significant, or all not."""
    value, half_width = leads[0].interval
    first = code(leads[0].other.label)
    if len(leads) == 1:
        size = "less than 0.001" if float(accuracy(float(value))) == 0 else value
        return f"{pronoun} lead of {size} over {first} is {negation}significant (95 % interval ±{half_width})"
    if negation and len(leads) <= MAX_NAMED:
        others = [f"{code(lead.other.label)} ({' ± '.join(lead.interval)})" for lead in leads]
        return f"{pronoun} leads over {join_words(others)} are not significant"
    closest = f"the closest is {first}, {value} ± {half_width} behind"
    if not negation:
        return f"{pronoun} leads over all other rows are significant ({closest})"
    if len(leads) < len(compared):
        return f"{len(leads)} of {pronoun} {len(compared)} leads are not significant ({closest})"
    return f"none of {pronoun} {len(compared)} leads is significant ({closest})"


def _some(rows: Sequence[TableRow]) -> str:
    """`a` and `b`, or how many."""
    return _names([row.label for row in rows]) if len(rows) <= MAX_NAMED else f"{len(rows)} rows"
