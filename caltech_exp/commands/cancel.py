"""`caltech-exp cancel`, `python jobs/cancel.py`: cancel the jobs of a study, on Slurm and on this machine."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from caltech_exp.cli import Options, on_interrupt, read_options
from caltech_exp.executors.executor import StudyJob, all_executors, study_jobs
from caltech_exp.executors.local import end_orphans, is_orphaned
from caltech_exp.executors.slurm_queries import Slurm, grouped
from caltech_exp.files import folder_path
from caltech_exp.monitoring.queued_runs import runs_elsewhere
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, cancelled_jobs, record_cancelled
from caltech_exp.study.plan import EVERYTHING, RunFilter, expand
from caltech_exp.study.results import RESULT
from caltech_exp.study.study import Study
from caltech_exp.usage import usage

# Tasks on this machine are killed two minutes after they were asked to end.
END_SECONDS = 130.0


class CancelOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    section: str = Field("", description="only runs of these sections, with commas; default: everything")
    table: str = Field("", description="only runs of these tables, section.table, or of rows of them, with commas")
    state: str = Field("", description="only jobs that are queued, or running")
    dry_run: bool = Field(False, description="show what would be cancelled; cancel nothing")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/cancel.py [runs=DIR] [section=NAME] [table=section.table] [state=queued] [dry_run=true]\n\n"
    "Cancels the queued and running jobs of a study, and no others. Runs in training save a checkpoint first;\n"
    "the command that submitted them resumes them.\n\n"
    "  python jobs/cancel.py table=scratch.lr dry_run=true",
    CancelOptions,
)


@dataclass(frozen=True)
class Selection:
    """The jobs that a command is about.

    jobs      to cancel
    ending    that were cancelled before and still save a checkpoint; they are asked once more
    orphaned  submissions on this machine whose tasks have outlived their queue process, to be ended too
    shared    jobs that are left alone because they train other runs too
    others    jobs that are left alone because another user submitted them
    elsewhere cluster -> how many runs are left alone because only that cluster can cancel them
    """

    jobs: tuple[StudyJob, ...]
    ending: tuple[StudyJob, ...]
    orphaned: tuple[Manifest, ...]
    shared: tuple[StudyJob, ...]
    others: tuple[StudyJob, ...]
    elsewhere: Mapping[str, int]


def main(argv: Sequence[str]) -> int:
    options = read_options(CancelOptions, argv)
    folder, slurm = StudyFolder(folder_path(options.runs, "runs")), Slurm(options.timeout)
    study = folder.require_study()
    if options.dry_run:
        _print(_select(folder, study, options, slurm), folder, "would cancel")
        return 0
    with folder.lock():  # nothing is submitted meanwhile
        _cancel(_select(folder, study, options, slurm), folder, slurm)
    return 0


def _select(folder: StudyFolder, study: Study, options: CancelOptions, slurm: Slurm) -> Selection:
    run_filter = RunFilter.parse(options.section, options.table, options.state, ("queued", "running"))
    manifests = folder.manifests()
    chosen = _chosen_runs(study, run_filter, manifests)
    jobs = [
        job
        for job in study_jobs(folder, manifests, slurm)
        if (chosen is None or chosen.intersection(job.runs))
        and (not run_filter.states or (job.runs and job.job.state in run_filter.states))
    ]
    own = [job for job in jobs if job.manifest.is_own]
    queued = runs_elsewhere(folder, manifests, slurm, folder.past_runs(study.data.fingerprint, keep=False))
    whole = [job for job in own if chosen is None or chosen.issuperset(job.runs)]
    orphaned = [
        manifest
        for manifest in manifests
        if run_filter == EVERYTHING and manifest.is_own and is_orphaned(folder, manifest)
    ]
    asked = {manifest.id: cancelled_jobs(folder.submission(manifest.id)) for manifest in manifests}
    return Selection(
        jobs=tuple(job for job in whole if job.job.id not in asked[job.manifest.id]),
        ending=tuple(job for job in whole if job.job.id in asked[job.manifest.id]),
        orphaned=tuple(orphaned),
        shared=tuple(job for job in own if job not in whole),
        others=tuple(job for job in jobs if not job.manifest.is_own),
        elsewhere=Counter(task.place for run, task in queued.items() if chosen is None or run in chosen),
    )


def _chosen_runs(study: Study, run_filter: RunFilter, manifests: Sequence[Manifest]) -> set[str] | None:
    """The runs whose jobs are to be cancelled; None for everything."""
    if not run_filter.sections and not run_filter.tables:
        return None
    tables = study.catalog.select(run_filter.sections, run_filter.tables)
    seeds = sorted({seed for manifest in manifests for seed in manifest.seeds})
    return {run.id for run in expand(tables, seeds, study.settings)}


def _cancel(selection: Selection, folder: StudyFolder, slurm: Slurm) -> None:
    jobs = (*selection.jobs, *selection.ending)
    with on_interrupt("what was cancelled already ends; run the command again for the rest"):
        remaining = [
            job for executor in all_executors(slurm) for job in executor.cancel(folder, jobs, END_SECONDS)
        ]
        for manifest in selection.orphaned:
            end_orphans(folder.submission(manifest.id))
            record_cancelled(folder.submission(manifest.id), [task.job for task in manifest.tasks])
    ended = tuple(job for job in selection.jobs if job not in remaining)
    _print(replace(selection, jobs=ended), folder, "cancelled")
    for job in remaining:
        print(f"{job.job.id} of {job.manifest.id} was asked to end, but still runs")


def _print(selection: Selection, folder: StudyFolder, verb: str) -> None:
    for executor in all_executors(Slurm()):
        for words, all_jobs in ((verb, selection.jobs), ("cancelled before, and ending:", selection.ending)):
            if jobs := [job for job in all_jobs if job.manifest.executor == executor.name]:
                print(f"{words} {_count(jobs, folder)} {executor.locate(jobs)}")
    for manifest in selection.orphaned:
        print(f"{verb} the remaining tasks of {manifest.id}, whose queue process has died")
    for job in selection.shared:
        print(f"left alone: {job.job.id} of {job.manifest.id}, which trains other runs too")
    for user in sorted({job.manifest.user_name for job in selection.others}):
        jobs = [job for job in selection.others if job.manifest.user_name == user]
        ids = ", ".join(grouped([job.job.id for job in jobs]))
        print(f"left alone: {_count(jobs, folder)} of {user}, who alone may cancel them: {ids}")
    for cluster, count in selection.elsewhere.items():
        print(f"left alone: {count:,} run{'s' if count != 1 else ''} queued on {cluster}; run this command there")
    if not any(vars(selection).values()):
        print(f"nothing to cancel: no job of {folder.path} is in a queue")


def _count(jobs: Sequence[StudyJob], folder: StudyFolder) -> str:
    """`3 jobs, 6 runs`; runs that have a result already do not count."""
    runs = sum(not (folder.run(run) / RESULT).exists() for job in jobs for run in job.runs)
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''}, {runs} run{'s' if runs != 1 else ''}"
