"""`caltech-exp clean`, `python jobs/clean.py`: remove half-written files and unused code from a study."""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pydantic import Field

from caltech_exp.bootstrap import NAME_DIGITS
from caltech_exp.cli import Options, UserError, one_line, read_options
from caltech_exp.executors.executor import place_of, study_jobs
from caltech_exp.executors.local import is_orphaned
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import file_system_time, folder_path
from caltech_exp.records import Corrupt
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import read_lease
from caltech_exp.study.manifest import SUBMISSIONS
from caltech_exp.study.results import read_result
from caltech_exp.study.results_cache import CACHE
from caltech_exp.study.run_status import CHECKPOINT
from caltech_exp.submission.snapshot import snapshots_folder
from caltech_exp.usage import usage

OLD_SECONDS = 3600.0
"""What was changed more recently stays: a process may be writing it."""
HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{16}")  # files.new_file
HALF_SNAPSHOT = re.compile(rf"\.[0-9a-f]{{{NAME_DIGITS}}}\.\w{{8}}")  # snapshot.take_snapshot, and _remove
SNAPSHOT = re.compile(rf"[0-9a-f]{{{NAME_DIGITS}}}")


class CleanOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    delete: bool = Field(False, description="remove what is listed without it")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/clean.py [runs=DIR] [delete=true]\n\n"
    "Lists what killed processes left half-written, and copies of the code that no queued or running job uses,\n"
    "no result names, and no unfinished run was trained with; delete=true removes it. Results, checkpoints,\n"
    "records and logs stay, and so do other users' files and whatever was changed in the last hour.",
    CleanOptions,
)


def main(argv: Sequence[str]) -> int:
    options = read_options(CleanOptions, argv)
    folder, slurm = StudyFolder(folder_path(options.runs, "runs")), Slurm(options.timeout)
    folder.require_study()
    verb, sizes = "removed" if options.delete else "would remove", []
    with folder.lock() if options.delete else nullcontext():  # nothing is submitted meanwhile
        try:
            for path, reason in find_leftovers(folder, slurm).items():
                sizes.append(sum(each.lstat().st_blocks * 512 for each in (path, *path.rglob("*"))))
                if options.delete:
                    _remove(path)
                print(one_line(f"{verb} {path} ({reason}, {sizes[-1] / 1e6:,.1f} MB)"))
        except OSError as error:  # another process has removed it, or it may not be removed
            raise UserError(
                f"{error.filename}: {error.strerror}; the rest stays, so run the command again"
            ) from None
    advice = "" if options.delete else "; delete=true removes it"
    print(f"{verb} {sum(sizes) / 1e6:,.1f} MB in all{advice}" if sizes else "nothing to remove")
    return 0


def find_leftovers(folder: StudyFolder, slurm: Slurm) -> dict[Path, str]:
    """What may be removed, and why. Raises UserError if a queue does not answer or a record is damaged."""
    now, own = file_system_time(folder.path), snapshots_folder(folder.path)
    runs = [run for run in folder.run_folders() if not _is_held(run, now)]
    places = [folder.path, folder.path / CACHE.parent, *_paths(folder.path / SUBMISSIONS), *runs]
    half = [path for place in places for path in _paths(place) if HALF_WRITTEN.fullmatch(path.name)]
    leftovers = {path: "half-written" for path in half if path.is_file()}
    leftovers |= {path: "half-written" for path in _paths(own) if HALF_SNAPSHOT.fullmatch(path.name)}
    if snapshots := [path for path in _paths(own) if SNAPSHOT.fullmatch(path.name)]:
        used = _used_snapshots(folder, slurm, now)
        leftovers |= {path: "code that nothing uses" for path in snapshots if path.name not in used}
    return {
        path: reason
        for path, reason in leftovers.items()
        if (status := path.lstat()).st_uid == os.geteuid() and status.st_mtime < now - OLD_SECONDS
    }


def _paths(place: Path) -> list[Path]:
    """What is in a folder, without links; nothing if it is none, or another user's that may not be read."""
    names = os.listdir(place) if place.is_dir() and os.access(place, os.R_OK | os.X_OK) else []  # noqa: PTH208
    return [place / name for name in sorted(names) if not (place / name).is_symlink()]


def _is_held(run: Path, now: float) -> bool:
    """Whether a process trains the run."""
    lease = read_lease(run)
    return lease is not None and lease.is_held(now)


def _used_snapshots(folder: StudyFolder, slurm: Slurm, now: float) -> set[str]:
    """The snapshots that a job in a queue, a process, a result or an unfinished run of this study needs."""
    manifests, done, unfinished = folder.manifests(), {}, set()
    for run in folder.run_folders():
        result = read_result(run)
        if isinstance(result, Corrupt):
            raise UserError(result.complaint("which code it names is unknown, so submit the run again"))
        if result:
            done[run.name] = (result.code, *result.earlier_code)
        elif (run / CHECKPOINT).exists() or _is_held(run, now):
            unfinished.add(run.name)
    needed = {job.manifest.id for job in study_jobs(folder, manifests, slurm)}
    for manifest in manifests:
        runs = {run for task in manifest.tasks for run in task.runs}
        may_be_queued = runs - done.keys() and place_of(manifest, slurm)  # in a queue that cannot be asked here
        if runs & unfinished or is_orphaned(folder, manifest) or may_be_queued:
            needed.add(manifest.id)
    codes = [manifest.code for manifest in manifests if manifest.id in needed]
    return {code.source for code in (*codes, *(code for each in done.values() for code in each)) if code.source}


def _remove(path: Path) -> None:
    """Raises OSError. A snapshot that is removed in part has no snapshot's name."""
    if SNAPSHOT.fullmatch(path.name):
        path = path.rename(path.with_name(f".{path.name}.{os.getpid():08}"))
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
