"""`caltech-exp list`, `python jobs/list.py`: show the studies below a folder."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field
from tabulate import tabulate

from caltech_exp.cli import Options, UserError, one_line, read_options
from caltech_exp.files import local_time, user_path
from caltech_exp.monitoring.bars import STYLES
from caltech_exp.monitoring.study_status import read_status
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import STUDY
from caltech_exp.usage import usage

DEPTH = 5
"""Folders below the given one in which studies are looked for."""


class ListOptions(Options):
    folder: str = Field(".", description="where to look for studies; the word folder= may be left out")


USAGE = usage(
    "python jobs/list.py [FOLDER]\n\n"
    f"Shows the studies in a folder and up to {DEPTH} folders below it: runs by state, disk space, last change.\n"
    "Slurm is not asked: runs that count as queued may have been lost.",
    ListOptions,
)


def main(argv: Sequence[str]) -> int:
    words = [f"folder={word}" if "=" not in word and not word.startswith("-") else word for word in argv]
    options = read_options(ListOptions, words)
    folder = user_path(options.folder, "folder")
    if not folder.is_dir():
        raise UserError(f"folder={options.folder}: there is no such folder; name another")
    rows, problems = [], []
    for path in find_studies(folder):
        size, changed = disk_use(path)
        try:
            counts = read_status(StudyFolder(path), None).counts
        except UserError as error:
            counts = Counter()
            problems.append(str(error))
        rows.append(
            (one_line(str(path.relative_to(folder))), counts, f"{size / 1e6:,.1f} MB", local_time(changed))
        )
    states = [state for state in STYLES if any(counts[state] for _, counts, *_ in rows)]
    table = [(name, *(counts[state] or "" for state in states), *use) for name, counts, *use in rows]
    print(tabulate(table, ("study", *states, "disk", "last change")) if rows else f"no study in {folder}")
    for problem in problems:
        print(problem)
    return 0


def find_studies(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The studies in a folder and below it, by name, without links, hidden folders and what is in a study."""
    if (folder / STUDY).is_file():
        yield folder
    elif depth:
        with contextlib.suppress(OSError):  # a folder that may not be read
            for path in sorted(folder.iterdir()):
                if not path.name.startswith(".") and path.is_dir() and not path.is_symlink():
                    yield from find_studies(path, depth - 1)


def disk_use(folder: Path) -> tuple[int, datetime]:
    """Bytes on disk, and when a file was last changed; caches and locks do not count as a change."""
    size, changed = 0, 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(f"{place}/{name}")
                size += status.st_blocks * 512
                changed = max(changed, 0.0 if name.startswith(".") or "/." in place else status.st_mtime)
    return size, datetime.fromtimestamp(changed, UTC)
