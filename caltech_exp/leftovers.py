"""What may be removed from a run's folder, and what a newer version of caltech_exp left there, which stays."""

import contextlib
import re
import stat
from fnmatch import fnmatch
from pathlib import Path

from caltech_exp.files import names_in, remove
from caltech_exp.lease import REQUEST, Holder, lease_files
from caltech_exp.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    SCHEMA_VERSION,
    Damaged,
    Failure,
    Progress,
    Result,
    newer,
    read_record,
)

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_MARK = re.compile(rb"caltech_exp checkpoint (\d{1,9}) sha256 [0-9a-f]{64}")
"""What a checkpoint of any version ends with (checkpoint.MARK)."""
LONGEST_MARK = 128


def newer_record(folder: Path) -> Damaged | None:
    """A record of a newer version in a run's folder, None if there is none.

    Such a run is neither trained nor recorded as failed: what the newer version knows of it would be lost.
    """
    for name, kind in ((RESULT, Result), (FAILURE, Failure), (PROGRESS, Progress)):
        found = read_record(folder / name, kind)
        if isinstance(found, Damaged) and found.is_newer:
            return found
    with contextlib.suppress(OSError):  # whoever takes the run finds out why
        for path in (path for path in lease_files(folder)[-1:] if stat.S_ISREG(path.lstat().st_mode)):
            holder = read_record(path, Holder)
            if isinstance(holder, Damaged) and holder.is_newer:
                return holder
    version = _checkpoint_version(folder / CHECKPOINT)
    return newer(folder / CHECKPOINT, f"checkpoint {version}") if version > SCHEMA_VERSION else None


def _checkpoint_version(path: Path) -> int:
    """0 where there is no checkpoint, or only a part of one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST_MARK))
            end = file.read()
    except OSError:  # whoever trains the run finds out why
        return 0
    mark = CHECKPOINT_MARK.search(end)
    return int(mark[1]) if mark and mark.end() == len(end) else 0


def remove_half_written(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Only for who holds the run's lease."""
    for name in names_in(folder):
        if fnmatch(name, ".*.*"):
            remove(folder / name)


def remove_after_result(folder: Path) -> None:
    """Remove what a run with a result no longer needs: checkpoint, progress, an earlier try's failure, leases.

    What cannot be removed stays; the run is finished. The next process that finds the result tries again.
    """
    with contextlib.suppress(OSError):
        remove_half_written(folder)
    for name in (CHECKPOINT, PROGRESS, FAILURE, REQUEST):
        with contextlib.suppress(OSError):
            remove(folder / name)
    with contextlib.suppress(OSError):
        for path in lease_files(folder):
            remove(path)
