"""The report's conclusions (section 5) as comparisons of two rows each, measured and reported."""

from collections.abc import Iterable
from dataclasses import dataclass

from caltech_exp.catalog import row_key
from caltech_exp.reporting.blocks import Block, Prose
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.costs import JOULES_PER_KWH, devices
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import escape
from caltech_exp.reporting.measured import NO_SPREAD, Measured, difference_half, mean
from caltech_exp.reporting.networks import PARAMETERS, best_rows

NOTE = (
    "Difference: second - first, with the 95 % confidence interval of a difference of two means (Welch's); beyond "
    "the spread: zero lies outside of it. Means are of the runs that finished; how many diverged is said. "
    "Reported values where the report prints both."
)
NOT_MEASURED = "not measured"
NETWORKS_NOTE = (
    "Parameters with a last layer of 102 outputs. The report says that the larger network does better and has way "
    "more parameters; ResNet-18 is deeper than AlexNet, and has a fifth of its parameters. Accuracy and cost are "
    "those of the best measured row of each. It is chosen by the very validation accuracy that is shown, which "
    "flatters a network more the more of its rows were tried; the test accuracy had no part in the choice."
)


@dataclass(frozen=True)
class Comparison:
    """A question of the report's conclusions and the two rows that answer it, by their keys."""

    question: str
    first: str
    second: str


FIXED = (
    Comparison(
        "Pretrained, at the template's settings", "scratch.template=template", "transfer.template=template"
    ),
    Comparison("The template's settings or the best ones", "scratch.template=template", "scratch.step_size=50"),
    Comparison(
        "All layers or the fully connected ones", "transfer.step_size=30", "transfer.freezing=fully connected"
    ),
    Comparison("All layers or the convolutional ones", "transfer.step_size=30", "transfer.freezing=convolutional"),
    Comparison(
        "Crop, horizontal flip and grayscale",
        "augmentation.augment=none",
        "augmentation.augment=crop, horizontal flip, grayscale",
    ),
    Comparison(
        "Perspective, rotation and vertical flip",
        "augmentation.augment=none",
        "augmentation.augment=perspective, rotation, vertical flip",
    ),
    Comparison(
        "All but the vertical flip", "augmentation.augment=none", "augmentation.augment=all but the vertical flip"
    ),
    Comparison("A batch of 64 for one of 256", "transfer.batch_size=256", "transfer.batch_size=64"),
    Comparison("A batch of 1024 for one of 256", "transfer.batch_size=256", "transfer.batch_size=1024"),
    Comparison("ResNet-18 for AlexNet, from scratch", "scratch.step_size=50", "resnet.scratch=5e-2"),
    Comparison("ResNet-18 for AlexNet, pretrained", "transfer.step_size=30", "resnet.transfer=5e-2"),
    Comparison("Pretrained ResNet-18 for one from scratch", "resnet.scratch=5e-2", "resnet.transfer=5e-2"),
)
"""The rows are the report's own best, chosen before anything was measured."""


def conclusion_blocks(collected: Collected) -> list[Block]:
    """The comparisons as table and sentences, then the networks beside each other."""
    grid = comparison_grid(collected)
    if all(row[3] == NOT_MEASURED for row in grid.rows):
        return [Prose("No pair of rows has runs that ended yet.")]
    return [
        Prose("*What does each choice bring? The report's conclusions, each as a pair of its rows.*"),
        grid_block(grid),
        Prose(f"*{escape(NOTE)}*"),
        grid_block(network_grid(collected), sortable=False),
        Prose(f"*{escape(NETWORKS_NOTE)}*"),
    ]


def comparison_grid(collected: Collected) -> Grid:
    """A line for every comparison, whether it can be made or not."""
    columns = (
        Column("choice", "text"),
        Column("difference", "signed"),
        Column("95 % CI", "half"),
        Column("verdict", "text"),
        Column("reported difference", "signed"),
        Column("first mean"),
        Column("second mean"),
        Column("first", "text"),
        Column("second", "text"),
    )
    rows = dict(_rows(collected))
    lines: list[tuple[Value, ...]] = []
    for one in FIXED:
        first, second = rows[one.first], rows[one.second]
        before, after = first.measured, second.measured
        gap = None if before.mean is None or after.mean is None else after.mean - before.mean
        half = difference_half(before, after)
        said = _reported_gap(first, second)
        lines.append(
            (
                one.question,
                gap,
                half,
                verdict(first, second, before, after),
                said,
                before.mean,
                after.mean,
                one.first,
                one.second,
            )
        )
    return Grid("conclusions", f"Conclusions. {NOTE}", columns, tuple(lines))


def verdict(first: RowRuns, second: RowRuns, before: Measured, after: Measured) -> str:
    """`better, beyond the spread`; what can be said of the pair, and no more."""
    if first.config.id == second.config.id:
        return "one and the same run here"
    lost = [f"{name} {_diverged(row)}" for name, row in (("first", first), ("second", second)) if row.diverged]
    if before.mean is None or after.mean is None:
        ended = all(row.finished or row.diverged for row in (first, second))
        return "; ".join(lost) if ended else NOT_MEASURED
    return "; ".join([_difference(before.mean, after.mean, before, after), *lost])


def _diverged(row: RowRuns) -> str:
    """`diverged (2 of 3)`"""
    return f"diverged ({len(row.diverged)} of {len(row.finished) + len(row.diverged)})"


def _difference(first: float, second: float, before: Measured, after: Measured) -> str:
    """`worse, beyond the spread`, of two means and what they were measured with."""
    gap, half = second - first, difference_half(before, after)
    word = "level" if abs(gap) < NO_SPREAD else "better" if gap > 0 else "worse"
    if half is None:
        return f"{word}, no spread {'known' if None in (before.std, after.std) else 'to judge by'}"
    return f"{word}, beyond the spread" if abs(gap) > half else "within the spread"


def network_grid(collected: Collected) -> Grid:
    """Parameters, best accuracy and cost of each network and way of training."""
    columns = (
        Column("network", "text"),
        Column("parameters", "count"),
        Column("validation accuracy"),
        Column("95 % CI", "half"),
        Column("n", "count"),
        Column("test accuracy"),
        Column("minutes per run", "amount"),
        Column("images per second", "whole"),
        Column("kWh per run", "amount"),
        Column("best row", "text"),
        Column("device", "text"),
    )
    lines: list[tuple[Value, ...]] = []
    for best in best_rows(collected):
        measured, finished = best.known.measured, best.known.row.finished
        joules = mean(one.energy_joules for one in finished)
        lines.append(
            (
                str(best.way),
                PARAMETERS.get(best.way.model),
                measured.mean,
                measured.half,
                measured.n,
                measured.test_mean,
                sum(one.wall_seconds for one in finished) / 60 / len(finished),
                mean(one.images_per_second for one in finished),
                None if joules is None else joules / JOULES_PER_KWH,
                best.key,
                devices(finished),
            )
        )
    return Grid("networks", f"AlexNet and ResNet-18. {NETWORKS_NOTE}", columns, tuple(lines))


def _rows(collected: Collected) -> Iterable[tuple[str, RowRuns]]:
    for section, table in collected.catalog.tables:
        for row in collected.of(section, table):
            yield row_key(section.name, table.name, row.row.label), row


def _reported_gap(first: RowRuns, second: RowRuns) -> float | None:
    if first.row.reported is None or second.row.reported is None:
        return None
    return second.row.reported.mean - first.row.reported.mean
