"""Folders as a report names them: its commands are given in the checkout, and so are the folders in it."""

from pathlib import Path

from caltech_exp.provenance import CHECKOUT


def place(folder: Path) -> str:
    """`reports/reproduction/runs`, `/scratch/me/runs`"""
    return str(folder.relative_to(CHECKOUT) if folder.is_relative_to(CHECKOUT) else folder)
