"""What the report leaves unsaid of its numbers, each possible reading held against it.

"Validation accuracy is the result of three runs" may mean the last epoch or the best one, and its standard
deviation may be the population's or the sample's. Results hold what each reading needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from caltech_exp.catalog import row_key
from caltech_exp.reporting.blocks import Block, Heading, Prose
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import escape
from caltech_exp.reporting.measured import measure_values
from caltech_exp.reporting.reported import TOO_WIDE, Finding, Gap, gap

NOTE = (
    "Measured - reported, if the report's values are the validation accuracy after the last epoch, that of the "
    "best epoch, or the test accuracy. 95 % CI: of the difference after the last epoch, if the report's standard "
    "deviation is the population's, or a sample's. Agrees: the readings by which zero is in the interval, the "
    f"deviation being the population's, and half the width is below {TOO_WIDE:g}; cannot tell: those by which it "
    "is wider. A row of which any run diverged agrees by none: in the report none does."
)
COLUMNS = (
    Column("row", "text"),
    Column("n", "count"),
    Column("reported mean"),
    Column("last epoch", "signed", "difference, last epoch"),
    Column("95 % CI", "half", "95 % CI of difference, last epoch"),
    Column("if a sample's", "half", "95 % CI of difference, last epoch, if a sample's"),
    Column("best epoch", "signed", "difference, best epoch"),
    Column("test set", "signed", "difference, test set"),
    Column("agrees", "text"),
)


@dataclass(frozen=True)
class Reading:
    """A row's differences from the report, by what the report's mean may be of; None where nothing is known.

    sample    as `last`, with the report's standard deviation taken for the sample's
    diverged  whether any of its runs did
    """

    name: str
    n: int
    diverged: bool
    reported: float
    last: Gap | None
    sample: Gap | None
    best: Gap | None
    test: Gap | None


def readings_blocks(found: Sequence[Reading]) -> list[Block]:
    """How many rows agree by each reading, and the rows; nothing where there is nothing to compare."""
    if not found:
        return []
    return [
        Heading(3, "What the report leaves unsaid", "readings"),
        Prose(f"**{escape(readings_sentence(found))}**"),
        grid_block(readings_grid(found)),
        Prose(f"*{escape(NOTE)}*"),
    ]


def readings(collected: Collected) -> tuple[Reading, ...]:
    """Every configuration with runs that ended and a reported value, by the first table that reports one.

    Not those of which the report says that they diverge: there is no accuracy to be read.
    """
    found: dict[str, Reading] = {}
    for section, table in collected.catalog.tables:
        for row in collected.of(section, table):
            ended = row.finished or row.diverged
            if ended and row.row.reported and not row.row.diverges and row.config.id not in found:
                found[row.config.id] = _reading(row_key(section.name, table.name, row.row.label), row)
    return tuple(found.values())


def _reading(name: str, row: RowRuns) -> Reading:
    said, finished = row.row.reported, row.finished
    assert said is not None
    best = measure_values(one.best_val_accuracy for one in finished)
    test = measure_values(one.test_accuracy for one in finished)
    return Reading(
        name=name,
        n=row.measured.n,
        diverged=bool(row.diverged),
        reported=said.mean,
        last=gap(row.measured, said),
        sample=gap(row.measured, said, "sample"),
        best=gap(best, said),
        test=gap(test, said),
    )


def readings_grid(found: Sequence[Reading]) -> Grid:
    """A line for every reading of `readings`."""
    return Grid("readings", f"What the report leaves unsaid. {NOTE}", COLUMNS, tuple(map(_line, found)))


def _line(one: Reading) -> tuple[Value, ...]:
    by = (("last", one.last), ("best", one.best), ("test", one.test))
    return (
        one.name,
        one.n,
        one.reported,
        one.last.value if one.last else None,
        one.last.half if one.last else None,
        one.sample.half if one.sample else None,
        one.best.value if one.best else None,
        one.test.value if one.test else None,
        "no, diverged" if one.diverged else _agreeing([(word, found.finding) for word, found in by if found]),
    )


def _agreeing(findings: Sequence[tuple[str, Finding]]) -> str:
    """`last, test; cannot tell: best`"""
    agree, vague = (
        [word for word, finding in findings if finding == wanted] for wanted in ("agrees", "cannot tell")
    )
    if len(vague) == len(findings):
        return "cannot tell"
    return "; ".join([", ".join(agree) or "no", *([f"cannot tell: {', '.join(vague)}"] if vague else [])])


def readings_sentence(found: Sequence[Reading]) -> str:
    """`Held against the report, of 5 rows 4 agree after the last epoch ...`, in plain text."""
    counted = [row for row in found if not row.diverged]
    last, sample, best, test = (
        _counts([gap for gap in column if gap])
        for column in (
            [row.last for row in counted],
            [row.sample for row in counted],
            [row.best for row in counted],
            [row.test for row in counted],
        )
    )
    rows = "1 row" if len(found) == 1 else f"{len(found)} rows"
    if last == sample == best == test:
        return (
            f"Held against the report, of {rows} {last} whatever its values are: of the last epoch or the best "
            "one, of validation or test set, with deviations of the population or a sample."
        )
    return (
        f"Held against the report, of {rows} {last} after the last epoch ({sample} if its deviations are a "
        f"sample's), {best} by the best epoch, {test} on the test set."
    )


def _counts(gaps: Sequence[Gap]) -> str:
    """`4 agree and 1 cannot tell`"""
    agree, vague = (sum(gap.finding == wanted for gap in gaps) for wanted in ("agrees", "cannot tell"))
    return f"{agree} {'agrees' if agree == 1 else 'agree'}{f' and {vague} cannot tell' if vague else ''}"
