"""How far every row is from the report, with the interval that decides whether it agrees."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from caltech_exp.reporting.difference_data import DifferenceRow
from caltech_exp.reporting.frame import frame, room_below, wrap
from caltech_exp.reporting.reported import Finding

WIDTH = 7.0
DIFFERS = "#D55E00"
LOOKS: Mapping[Finding, tuple[str, str]] = {
    "agrees": ("#0072B2", "o"),
    "differs": (DIFFERS, "s"),
    "cannot tell": ("0.55", "D"),
}
"""Colour and marker."""
LETTER = 0.075
"""Inches that a letter of a label takes."""
LONGEST = 40
"""Letters of a label."""
ROW = 0.24
"""Inches of a row."""
ABOVE, BELOW = 0.75, 0.55
"""Inches above the axes for title and legend, and below them for the axis."""


def draw_differences(rows: Sequence[DifferenceRow], caution: str) -> Figure:
    """Rows down, the first on top; differences across, from the report's zero. A single run is a hollow mark, runs
    that diverged are said in words."""
    caution = wrap(caution, WIDTH)
    labels = [row.key if len(row.key) <= LONGEST else f"{row.key[: LONGEST - 1]}…" for row in rows]
    left, below = 0.3 + LETTER * max(map(len, labels)), BELOW + room_below(caution)
    tall = max(ROW * len(rows), 2 * ROW)
    height = ABOVE + tall + below
    figure = Figure(figsize=(WIDTH, height))
    frame(figure, "Difference from the report, row by row", caution)
    axes = figure.add_axes((left / WIDTH, below / height, 1 - (left + 0.2) / WIDTH, tall / height))
    axes.axvline(0, color="0.4", linewidth=1, linestyle="--", zorder=1)
    drawn = [(row, row.value, place) for place, row in enumerate(rows) if row.value is not None]
    for finding, (colour, marker) in LOOKS.items():
        found = [(row, value, place) for row, value, place in drawn if row.finding == finding]
        for row, value, place in found:
            axes.errorbar(
                value,
                place,
                xerr=row.half,
                fmt=marker,
                color=colour,
                markerfacecolor="white" if row.runs == 1 else colour,
                markersize=5,
                capsize=2,
                elinewidth=1.2,
                zorder=3,
            )
        if found:
            axes.plot([], [], marker, color=colour, markersize=5, label=finding)
    if any(row.runs == 1 for row, _, _ in drawn):
        axes.plot([], [], "o", color="0.4", markerfacecolor="white", markersize=5, label="one run")
    for place, row in enumerate(rows):
        if row.diverged:
            mark = {"ha": "left", "va": "center", "size": 8, "weight": "bold", "color": DIFFERS}
            axes.text(0.01, place, f"✕ {row.diverged} diverged", mark, transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(rows)), labels, parse_math=False, fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    left_end, right_end = axes.get_xlim()
    axes.set_xlim(max(left_end, -1), min(right_end, 1))  # no difference is larger
    axes.set_xlabel("measured - reported validation accuracy, 95 % CI")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if drawn:
        axes.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False)
    return figure
