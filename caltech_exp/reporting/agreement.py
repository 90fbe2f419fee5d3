"""Measured against reported over all tables at a glance, and validation against test."""

from collections.abc import Sequence
from functools import partial
from statistics import median

from caltech_exp.reporting.banner import cautions
from caltech_exp.reporting.blocks import Block, Picture, Prose
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.difference_data import DifferenceRow, difference_rows
from caltech_exp.reporting.gallery import Drawing, Gallery
from caltech_exp.reporting.grid import Column, Grid, Value, grid_block
from caltech_exp.reporting.markup import escape
from caltech_exp.reporting.measured import mean, rank_agreement
from caltech_exp.reporting.reported import TOO_WIDE, Finding
from caltech_exp.reporting.scatter_data import ScatterPoint, scatter_points
from caltech_exp.reporting.sentences import Known, compared, known_rows
from caltech_exp.reporting.sweep_data import MOST_PLOTTED
from caltech_exp.reporting.verdicts import Verdict, is_reported, verdicts

NAME, DIFFERENCES = "plot-agreement", "plot-differences"
NOTE = (
    "Rows that the report prints a value for, or says of that they diverge, and that have a run that ended here. "
    "Agree: rows whose 95 % confidence interval of the difference from the reported mean holds zero, with half a "
    f"width below {TOO_WIDE:g}; a row of which any run diverged agrees only if the report says that it diverges. "
    "Cannot tell: rows whose interval holds zero and is wider. Pairs alike: pairs of rows in the same order as in "
    "the report, of those that neither side ties. Rows with diverged runs are left out of differences and pairs. "
    "Test - validation: over all rows with results. In the last line a configuration of several tables counts "
    "once, with the first value that the report prints for it."
)
DECIDES = (
    "A row differs where the interval does not hold zero, or where runs diverged and the report's did not; where "
    f"it holds zero and half its width is {TOO_WIDE:g} or more, it cannot tell."
)
COLUMNS = (
    Column("table", "text"),
    Column("rows", "count", "rows with runs that ended"),
    Column("of", "count", "rows that the report says something of"),
    Column("mean difference", "signed"),
    Column("largest difference", "signed"),
    Column("at row", "text"),
    Column("agree", "count"),
    Column("cannot tell", "count"),
    Column("pairs alike", "count"),
    Column("of pairs", "count"),
    Column("Kendall's tau-b"),
    Column("test - validation", "signed"),
)


def agreement_blocks(collected: Collected, gallery: Gallery) -> list[Block]:
    """The table, a sentence and the plot; one sentence where there is nothing to compare. Raises OSError."""
    points, held = scatter_points(collected), verdicts(collected.all_rows())
    if not held:
        return [Prose("No row that the report prints a value for has a finished run yet.")]
    return [
        *([Prose(f"**{escape(agreement_sentence(points))}**")] if points else []),
        Prose(escape(chance_sentence(held))),
        grid_block(agreement_grid(collected), sortable=False),
        Prose(f"*{escape(NOTE)}*"),
        *_differences(collected, gallery),
        *([_plot(collected, points, gallery)] if points else []),
    ]


def agreement_grid(collected: Collected) -> Grid:
    """A line for every table with results, and one for all rows of them."""
    lines: list[tuple[Value, ...]] = []
    everything: list[RowRuns] = []
    for section, table in collected.catalog.tables:
        rows = collected.of(section, table)
        everything += rows
        if known_rows(rows) or verdicts(rows):
            lines.append((f"{section.name}.{table.name}", *_values(rows)))
    largest = max((line for line in lines if line[4] is not None), key=_size, default=None)
    in_all = list(_values(_each_once(everything)))
    in_all[4] = f"{largest[0]}={largest[5]}" if largest else None
    lines.append(("all", *in_all))
    return Grid("agreement", f"Agreement with the report. {NOTE}", COLUMNS, tuple(lines))


def _size(line: tuple[Value, ...]) -> float:
    """How large the line's largest difference is."""
    return abs(line[4]) if isinstance(line[4], float) else 0.0


def _each_once(rows: Sequence[RowRuns]) -> list[RowRuns]:
    """Of rows that are one run the first that the report says something of, or else the first."""
    found: dict[str, RowRuns] = {}
    for row in sorted(rows, key=is_reported, reverse=True):  # which keeps the order of equals
        found.setdefault(row.config.id, row)
    return list(found.values())


def _values(rows: Sequence[RowRuns]) -> tuple[Value, ...]:
    """Values of COLUMNS after the first."""
    known = known_rows(rows)
    both = compared(known)
    tests = mean(_test_gap(one) for one in known)
    held, asked = verdicts(rows), sum(map(is_reported, rows))
    agree, vague = (_count(held, finding) if held else None for finding in ("agrees", "cannot tell"))
    if not both:
        return (len(held), asked, None, None, None, agree, vague, None, None, None, tests)
    gaps = [(one.mean - said.mean, one.label) for one, said in both]
    largest = max(gaps, key=lambda gap: abs(gap[0]))
    order = rank_agreement([one.mean for one, _ in both], [said.mean for _, said in both])
    return (
        len(held),
        asked,
        mean(gap for gap, _ in gaps),
        largest[0],
        largest[1],
        agree,
        vague,
        order.same,
        order.pairs,
        order.tau,
        tests,
    )


def _count(held: Sequence[Verdict], finding: Finding) -> int:
    return sum(one.finding == finding for one in held)


def _test_gap(known: Known) -> float | None:
    test = known.measured.test_mean
    return None if test is None else test - known.mean


def agreement_sentence(points: Sequence[ScatterPoint]) -> str:
    """How near the rows are in all, in plain text."""
    gaps = sorted(abs(point.mean - point.reported) for point in points)
    near = sum(gap <= 0.02 for gap in gaps)
    rows = "row" if len(gaps) == 1 else "rows"
    return (
        f"Of {len(gaps)} {rows} with a measured and a reported value, {near} "
        f"{'differs' if near == 1 else 'differ'} by at most 0.02; the median "
        f"difference is {median(gaps):.3f}, the largest {gaps[-1]:.3f}."
    )


def chance_sentence(held: Sequence[Verdict]) -> str:
    """How many rows agree or cannot tell, how many differ by chance, and what a single run says, in plain text."""
    rows = "1 row" if len(held) == 1 else f"{len(held)} rows"
    agree, vague = _count(held, "agrees"), _count(held, "cannot tell")
    words = [f"{agree} of {rows} {'agrees' if agree == 1 else 'agree'} with the report."]
    diverged = [one for one in held if one.row.diverged and not one.row.row.diverges]
    if diverged:
        words.append(f"Not so where runs diverged and the report's did not: {len(diverged)}.")
    if vague:
        words.append(
            f"{vague} cannot tell: {'its interval holds' if vague == 1 else 'their intervals hold'} zero, and "
            f"{'is' if vague == 1 else 'are'} ±{TOO_WIDE:g} or wider."
        )
    by_value = [one for one in held if not one.row.row.diverges and not one.row.diverged]
    if by_value:
        words.append(
            f"Even where the report holds, up to about one row in twenty differs by chance at 95 %, here "
            f"{len(by_value) / 20:.1f} of {len(by_value)}."
        )
    single = sum(one.row.measured.n == 1 for one in by_value)
    if single:
        words.append(
            f"{single} {'row has' if single == 1 else 'rows have'} one finished run (n = 1): "
            f"{'its interval rests' if single == 1 else 'their intervals rest'} on the report's deviation alone."
        )
    return " ".join(words)


def _plot(collected: Collected, points: Sequence[ScatterPoint], gallery: Gallery) -> Picture:
    caution = "\n".join(caution.picture for caution in cautions(collected))
    # To a thousandth, half a pixel: the mean of a hundred runs moves by less with each new one.
    shows = [
        (p.section, *(round(value or 0, 3) for value in (p.mean, p.half, p.reported, p.reported_std)))
        for p in points
    ]
    gallery.show_later(NAME, [shows, caution], partial(_draw, points, caution))
    what = "Measured against reported validation accuracy of every row; on the diagonal they are equal."
    measured = "up and down the measured mean's 95 % confidence interval (from two runs on); "
    bars = f"{measured if any(p.half for p in points) else ''}across the report's standard deviation"
    paths = (gallery.path(NAME, kind) for kind in ("png", "svg"))
    return Picture(0, what, f"*{what} Bars: {bars}.*", *paths)


def _differences(collected: Collected, gallery: Gallery) -> list[Block]:
    """The plot of the differences with the intervals that decide, or why there is none."""
    rows = difference_rows(collected)
    if len(rows) > MOST_PLOTTED:
        return [Prose(f"*There is no plot of {len(rows):,} differences; up to {MOST_PLOTTED} are drawn.*")]
    if not rows:
        return []
    caution = "\n".join(caution.picture for caution in cautions(collected))
    shows = [
        (
            row.key,
            *(round(value or 0, 3) for value in (row.value, row.half)),
            row.finding,
            row.runs == 1,
            row.diverged,
        )
        for row in rows
    ]
    gallery.show_later(DIFFERENCES, [shows, caution], partial(_draw_differences, rows, caution))
    what = "Measured - reported validation accuracy of every row, with its 95 % confidence interval."
    paths = (gallery.path(DIFFERENCES, kind) for kind in ("png", "svg"))
    return [Picture(0, what, f"*{what} {DECIDES}*", *paths)]


def _draw_differences(rows: Sequence[DifferenceRow], caution: str) -> Drawing:
    from caltech_exp.reporting.difference_plot import draw_differences

    return Drawing(draw_differences(rows, caution))


def _draw(points: Sequence[ScatterPoint], caution: str) -> Drawing:
    from caltech_exp.reporting.scatter_plot import draw_scatter

    return Drawing(draw_scatter(points, caution))
