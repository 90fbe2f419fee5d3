"""What may be removed from a run's folder."""

from pathlib import Path

from caltech_exp.lease import REQUEST, lease_files
from caltech_exp.results import FAILURE, PROGRESS

CHECKPOINT = "checkpoint.pt"


def remove_half_written(folder: Path) -> None:
    """Remove the temporary files of writers that were killed. Only for who holds the run's lease."""
    for path in folder.glob(".*.*"):
        path.unlink(missing_ok=True)


def remove_after_result(folder: Path) -> None:
    """Remove what a run with a result no longer needs: checkpoint, progress, an earlier try's failure, leases.

    Only for who holds its lease.
    """
    remove_half_written(folder)
    for name in (CHECKPOINT, PROGRESS, FAILURE, REQUEST):
        (folder / name).unlink(missing_ok=True)
    for path in lease_files(folder):
        path.unlink(missing_ok=True)
