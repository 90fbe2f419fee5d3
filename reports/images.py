"""Figures on disk: PNG and SVG, each whole or not there, the same bytes for the same figure."""

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from caltech_exp.files import write_atomically

FORMATS = ("png", "svg")
DPI = 110


def stem(number: int) -> str:
    """5 -> `figure-05`"""
    return f"figure-{number:02d}"


def save(figure: Figure, folder: Path, number: int) -> None:
    """Write `figure-05.png` and `.svg` into `folder`. Raises OSError."""
    for kind in FORMATS:
        name = f"{stem(number)}.{kind}"
        content = io.BytesIO()
        # Without a date and with fixed ids, a report made twice differs only where its numbers do.
        with mpl.rc_context({"svg.hashsalt": name}):
            figure.savefig(content, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
        write_atomically(folder / name, content.getvalue())
