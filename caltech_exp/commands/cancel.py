"""python jobs/cancel.py [runs=DIR]: end the jobs of a study, on Slurm and on this machine, and no others.

Runs in training save where they are, and the command that submitted them goes on from there. `--help` lists more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.cli import UserError, read_options, run_command_line, usage
from caltech_exp.executors.executor import StudyJob, all_executors, study_jobs
from caltech_exp.executors.local import end_orphans, is_orphaned
from caltech_exp.executors.slurm_queries import Slurm, grouped
from caltech_exp.files import user_path
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
class Targets:
    """What a study has in a queue, and what is to become of it.

    jobs      to be cancelled
    orphaned  submissions on this machine whose tasks have outlived their queue, to be ended too
    shared    jobs that stay because they also train runs that were not chosen
    others    jobs that stay because another user submitted them
    """

    jobs: tuple[StudyJob, ...]
    orphaned: tuple[Manifest, ...]
    shared: tuple[StudyJob, ...]
    others: tuple[StudyJob, ...]


def main(argv: Sequence[str]) -> int:
    """End the study's jobs, or those of its runs that were named. Raises UserError."""
    options = read_options(CancelOptions, argv)
    runs = user_path(options.runs, "runs")
    study, slurm = StudyFolder(runs).study(), Slurm(options.timeout)
    if study is None:
        raise UserError(f"runs={runs} holds no study; name another folder")
    if options.dry_run:
        manifests = StudyFolder(runs).manifests()
        _print_targets(_targets(runs, manifests, _chosen(options, study, manifests), slurm), runs)
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
    """The jobs that are in a queue now: all of them, or those that train a chosen run."""
    jobs = [
        job for job in study_jobs(StudyFolder(runs), manifests, slurm) if chosen is None or chosen & set(job.runs)
    ]
    own = [job for job in jobs if job.manifest.is_own]
    whole = [job for job in own if chosen is None or chosen.issuperset(job.runs)]
    return Targets(
        jobs=tuple(whole),
        orphaned=tuple(m for m in manifests if chosen is None and m.is_own and is_orphaned(StudyFolder(runs), m)),
        shared=tuple(job for job in own if job not in whole),
        others=tuple(job for job in jobs if not job.manifest.is_own),
    )


def _print_targets(targets: Targets, runs: Path, verb: str = "would end") -> None:
    """What is, or would be, cancelled and what stays; also that nothing is in a queue."""
    for executor in all_executors(Slurm()):
        jobs = [job for job in targets.jobs if job.manifest.executor == executor.name]
        if jobs:
            print(f"{verb} {_count(jobs)} {executor.locate(jobs)}")
    for manifest in targets.orphaned:
        print(f"{verb} what is left of {manifest.id}, whose queue process is gone")
    for job in targets.shared:
        print(f"left {job.job.id} of {job.manifest.id}: it trains other runs too")
    for user in sorted({job.manifest.user_name for job in targets.others}):
        jobs = [job for job in targets.others if job.manifest.user_name == user]
        ids = ", ".join(grouped([job.job.id for job in jobs]))
        print(f"left {_count(jobs)} of {user}, who alone may end them: {ids}")
    if not (targets.jobs or targets.orphaned or targets.shared or targets.others):
        print(f"nothing to cancel: no job of {runs} is in a queue")


def _end(targets: Targets, runs: Path, slurm: Slurm) -> None:
    """Cancel them and print it. Raises UserError if Slurm does not do so, OSError if the study is read-only."""
    remaining = [
        job
        for executor in all_executors(slurm)
        for job in executor.cancel(StudyFolder(runs), targets.jobs, END_SECONDS)
    ]
    for manifest in targets.orphaned:
        end_orphans(runs / SUBMISSIONS / manifest.id)
    _print_targets(
        replace(targets, jobs=tuple(job for job in targets.jobs if job not in remaining)), runs, "ended"
    )
    for job in remaining:
        print(f"{job.job.id} of {job.manifest.id} was told to end and has not yet")


def _count(jobs: Sequence[StudyJob]) -> str:
    """`3 jobs, 6 runs`"""
    trained = sum(len(job.runs) for job in jobs)
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}, {trained} run{'s' if trained != 1 else ''}"


if __name__ == "__main__":
    run_command_line(main, USAGE)
