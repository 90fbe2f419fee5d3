"""Figures on disk: PNG and SVG, each whole or not there, the same bytes for the same figure."""

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from caltech_exp.files import write_atomically
from caltech_exp.reporting.gallery import FORMATS

DPI = 110


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name`.png and .svg into `folder`. Raises OSError."""
    for kind in FORMATS:
        file = f"{name}.{kind}"
        content = io.BytesIO()
        # Without a date and with fixed ids, a report made twice differs only where its numbers do.
        with mpl.rc_context({"svg.hashsalt": file}):
            figure.savefig(content, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
        write_atomically(folder / file, content.getvalue())
