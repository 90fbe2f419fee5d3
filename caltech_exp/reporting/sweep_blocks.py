"""The plot of a table on the page: its rows side by side, measured and reported."""

from collections.abc import Sequence
from functools import partial

from caltech_exp.catalog import Section
from caltech_exp.catalog import Table as Asked
from caltech_exp.reporting.banner import picture_caution
from caltech_exp.reporting.blocks import Block, Picture, Prose
from caltech_exp.reporting.collect import Collected, RowRuns
from caltech_exp.reporting.gallery import Drawing, Gallery
from caltech_exp.reporting.markup import escape, listing
from caltech_exp.reporting.sweep_data import MOST_PLOTTED, SweepRow, sweep_row


def sweep_blocks(
    section: Section, asked: Asked, rows: Sequence[RowRuns], collected: Collected, gallery: Gallery
) -> list[Block]:
    """A plot for a table of several rows of which any has a result, else nothing; a sentence in place of it where
    they are too many to be seen. Raises OSError."""
    if len(rows) < 2 or not any(row.finished or row.diverged for row in rows):
        return []
    if len(rows) > MOST_PLOTTED:
        return [Prose(f"*There is no plot of {len(rows):,} rows; up to {MOST_PLOTTED} are drawn.*")]
    title = f"{asked.number}. {asked.title}" if asked.number else asked.title
    points = [sweep_row(row) for row in rows]
    caution = "\n".join(dict.fromkeys(picture_caution(collected, row.config) for row in rows)).strip("\n")
    name = f"plot-{section.name}.{asked.name}"
    draw = partial(_draw, title, asked.heading, points, caution)
    gallery.show_later(name, [title, asked.heading, points, caution], draw)
    what = f"{asked.title}: validation accuracy by {asked.heading.lower()}."
    paths = (gallery.path(name, kind) for kind in ("png", "svg"))
    return [Picture(0, escape(what), f"*{escape(what)} {_drawn(points)}*", *paths)]


def _drawn(points: Sequence[SweepRow]) -> str:
    """What the plot shows, and nothing that it does not."""
    words = []
    if any(point.single for point in points):
        interval = " with its 95 % confidence interval" if any(point.half is not None for point in points) else ""
        words.append(f"each finished run and their mean{interval}")
    if any(point.reported is not None for point in points):
        words.append("the report's mean with its standard deviation")
    if any(point.diverged for point in points):
        words.append("how many runs diverged (✕)")
    return f"Shown: {listing(words)}."


def _draw(title: str, heading: str, points: Sequence[SweepRow], caution: str) -> Drawing:
    from caltech_exp.reporting.sweep_plot import draw_sweep

    return Drawing(draw_sweep(title, heading, points, caution))
