"""python jobs/cancel.py [runs=DIR]: end the jobs of a study, on Slurm and on this machine, and no others.

Runs in training save where they are, and the command that submitted them goes on from there. `--help` lists more.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.cli import UserError, read_options, run_command_line, usage
from caltech_exp.executors import local
from caltech_exp.executors.local import end_orphans, has_orphans
from caltech_exp.executors.slurm_queries import Slurm, grouped
from caltech_exp.files import user_path
from caltech_exp.machine import host_name
from caltech_exp.monitoring.queued_runs import study_jobs
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest
from caltech_exp.study.plan import expand
from caltech_exp.study.study import Study
from caltech_exp.submission.request import split_names, split_table_names

END_SECONDS = 130.0
"""How long to wait for tasks on this machine, which are killed two minutes after they were told to end."""


class CancelOptions(BaseModel):
    """What `jobs/cancel.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str = Field("runs", description="folder of the study")
    section: str = Field("", description="only runs of these sections, with commas; left out: everything")
    table: str = Field("", description="only runs of these tables, section.table, with commas")
    dry_run: bool = Field(False, description="say what would be ended and stop")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/cancel.py [runs=DIR] [section=NAME] [table=section.table] [dry_run=true]\n\n"
    "Ends what a study has in a queue or in training. Runs in training save where they are first.",
    CancelOptions,
)


@dataclass(frozen=True)
class Target:
    """A task to end: of Slurm by its id, of this machine by submission and name. `runs` are those it trains."""

    submission: str
    job: str
    runs: tuple[str, ...]
    user: str


@dataclass(frozen=True)
class Targets:
    """What of a study is to end.

    others    tasks that stay: other users submitted them
    orphaned  submissions on this machine whose tasks have outlived their queue
    shared    tasks that stay: they train a chosen run and others
    """

    on_slurm: tuple[Target, ...]
    here: tuple[Target, ...]
    orphaned: tuple[Manifest, ...]
    shared: tuple[Target, ...]
    others: tuple[Target, ...]


def main(argv: Sequence[str]) -> int:
    """End the study's jobs, or those of its runs that were named. Raises UserError."""
    options = read_options(CancelOptions, argv)
    runs = user_path(options.runs, "runs")
    study, slurm = StudyFolder(runs).study(), Slurm(options.timeout)
    if study is None:
        raise UserError(f"runs={runs} holds no study; name another folder")
    if options.dry_run:
        manifests = StudyFolder(runs).manifests()
        _tell(_targets(runs, manifests, _chosen(options, study, manifests), slurm), runs)
        return 0

    with StudyFolder(runs).lock():  # nothing is submitted meanwhile
        manifests = StudyFolder(runs).manifests()
        _end(_targets(runs, manifests, _chosen(options, study, manifests), slurm), runs, slurm)
    return 0


def _chosen(options: CancelOptions, study: Study, manifests: Sequence[Manifest]) -> set[str] | None:
    """The runs whose tasks are to end; None for everything."""
    if not options.section and not options.table:
        return None
    tables = study.catalog.select(split_names("section", options.section), split_table_names(options.table))
    seeds = sorted({seed for manifest in manifests for seed in manifest.seeds})
    return {run.id for run in expand(tables, seeds, study.settings)}


def _targets(runs: Path, manifests: Sequence[Manifest], chosen: set[str] | None, slurm: Slurm) -> Targets:
    """What is in a queue now of everything, or of tasks that train chosen runs only."""
    own = {manifest.id for manifest in manifests if manifest.is_own}
    on_slurm = [
        Target(found.manifest.id, found.job.id, found.runs, found.manifest.user_name)
        for found in study_jobs(manifests, slurm)
    ]
    here = [target for manifest in manifests for target in _local_targets(runs, manifest)]
    touched = [target for target in (*on_slurm, *here) if chosen is None or chosen & set(target.runs)]
    whole = [target for target in touched if chosen is None or chosen.issuperset(target.runs)]
    return Targets(
        on_slurm=tuple(target for target in on_slurm if target in whole and target.submission in own),
        here=tuple(target for target in here if target in whole and target.submission in own),
        orphaned=tuple(m for m in manifests if chosen is None and m.id in own and _is_orphaned(runs, m)),
        shared=tuple(target for target in touched if target not in whole and target.submission in own),
        others=tuple(target for target in touched if target.submission not in own),
    )


def _tell(targets: Targets, runs: Path, verb: str = "would end") -> None:
    """What is to end, or has; also that nothing is."""
    if targets.on_slurm:
        jobs = ", ".join(grouped([target.job for target in targets.on_slurm]))
        print(f"{verb} {_count(targets.on_slurm)} on Slurm: {jobs}")
    if targets.here:
        print(f"{verb} {_count(targets.here)} on this machine")
    for manifest in targets.orphaned:
        print(f"{verb} what is left of {manifest.id}, whose queue process is gone")
    for target in targets.shared:
        print(f"left {target.job} of {target.submission}: it trains other runs too")
    for user in sorted({target.user for target in targets.others}):
        theirs = [target for target in targets.others if target.user == user]
        jobs = ", ".join(grouped([target.job for target in theirs]))
        print(f"left {_count(theirs)} of {user}, who alone may end them: {jobs}")
    if not (targets.on_slurm or targets.here or targets.orphaned or targets.shared or targets.others):
        print(f"nothing to cancel: no job of {runs} is in a queue")


def _end(targets: Targets, runs: Path, slurm: Slurm) -> None:
    """End them and tell. Raises UserError if Slurm does not do so, OSError if the study cannot be written."""
    if targets.on_slurm:
        slurm.cancel([target.job for target in targets.on_slurm])
    left = _end_here(runs, targets.here)
    for manifest in targets.orphaned:
        end_orphans(runs / SUBMISSIONS / manifest.id)
    here = tuple(target for target in targets.here if target not in left)
    _tell(replace(targets, here=here), runs, "ended")
    for target in left:
        print(f"{target.job} of {target.submission} was told to end and has not yet")


def _local_targets(runs: Path, manifest: Manifest) -> list[Target]:
    """What a submission on this machine has in its queue."""
    if manifest.executor != "local":
        return []
    states = local.queued_tasks(runs / SUBMISSIONS / manifest.id)
    trains = {task.job: task.runs for task in manifest.tasks}
    return [Target(manifest.id, name, trains.get(name, ()), manifest.user_name) for name in states]


def _is_orphaned(runs: Path, manifest: Manifest) -> bool:
    folder = runs / SUBMISSIONS / manifest.id
    return (
        manifest.executor == "local"
        and manifest.host == host_name()
        and not local.is_alive(folder)
        and has_orphans(folder)
    )


def _end_here(runs: Path, targets: Sequence[Target]) -> list[Target]:
    """Have the queue processes end their tasks, and wait for it; those that have not ended then."""
    by_submission: dict[str, list[str]] = {}
    for target in targets:
        by_submission.setdefault(target.submission, []).append(target.job)
    for submission, jobs in by_submission.items():
        local.cancel(runs / SUBMISSIONS / submission, jobs)
    deadline = time.monotonic() + END_SECONDS
    left = list(targets)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        open_tasks = {
            submission: local.queued_tasks(runs / SUBMISSIONS / submission) for submission in by_submission
        }
        left = [target for target in left if target.job in open_tasks[target.submission]]
    return left


def _count(targets: Collection[Target]) -> str:
    """`3 jobs, 6 runs`"""
    trained = sum(len(target.runs) for target in targets)
    return f"{len(targets)} job{'s' if len(targets) != 1 else ''}, {trained} run{'s' if trained != 1 else ''}"


if __name__ == "__main__":
    run_command_line(main, USAGE)
