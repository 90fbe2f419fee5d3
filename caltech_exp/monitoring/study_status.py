"""The status of a study: counts by table, runs in training, logs, the expected end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from caltech_exp.catalog import Section, Table, split_row_key
from caltech_exp.cli import UserError, one_line
from caltech_exp.config import split_run_id
from caltech_exp.executors.executor import executor_named
from caltech_exp.executors.slurm_queries import EndedJob, NoAnswerError, QueuedJob, Slurm
from caltech_exp.monitoring.logs import log_of_job, log_path
from caltech_exp.monitoring.queued_runs import Queue, ask_queues
from caltech_exp.monitoring.report_job import PREPARED, Aggregated, report_line
from caltech_exp.monitoring.run_states import states_in_files, why_lost
from caltech_exp.profiles.profile import Profile, recorded_profile
from caltech_exp.records import read_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.forecast import Paces, ended_after, learn, left_of, lengths, train_images
from caltech_exp.study.manifest import SUBMISSIONS, Manifest, SubmittedTask, recorded_log
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results_cache import PastRun, past_runs
from caltech_exp.study.run_status import RunState

WITHOUT_RESULT = ("failed", "lost", "damaged")
LISTED = (*WITHOUT_RESULT, "newer")
"""The states of runs that have ended, or were left, without a result that counts; the last are not tried again."""


@dataclass(frozen=True)
class Outlook:
    """When a study will have ended.

    ends       run in training -> seconds it has left; runs of which nothing is known yet are not among them
    left       seconds until all queued and running runs have ended if `at_once` run at a time; None if unknown
    pending    seconds of all runs together that were not submitted; None if unknown
    """

    ends: Mapping[str, float] = field(default_factory=dict)
    left: float | None = None
    at_once: int = 1
    pending: float | None = None


@dataclass(frozen=True)
class Standing:
    """A study when it was looked at.

    plan      every run that the report's tables ask for with the study's seeds, whether submitted or not
    states    run id -> its state
    tables    (section, table) -> runs by state; a run that several tables ask for counts in each
    sections  section -> runs by state, each once
    logs      run id -> its log, for those in training, failed or lost that have one
    note      why Slurm was not asked, if it was not: then queued runs may be lost ones
    report    how the last report that was asked for stands; empty if none was
    reasons   Slurm's reason for waiting -> tasks that wait for it
    preparation  the job that decodes images before the runs, while Slurm holds it
    unprepared   why the last such job failed; empty if it did not, or if no run needs the images any more
    ignored_settings  settings in the profile of the last submission that this version does not have
    """

    folder: Path
    when: datetime
    plan: tuple[PlannedRun, ...]
    states: Mapping[str, RunState]
    tables: Mapping[tuple[str, str], Counter[str]]
    sections: Mapping[str, Counter[str]]
    outlook: Outlook
    logs: Mapping[str, Path]
    note: str = ""
    report: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)
    preparation: QueuedJob | None = None
    unprepared: str = ""
    ignored_settings: Sequence[str] = ()

    @cached_property
    def counts(self) -> Counter[str]:
        """All runs by state, each once."""
        return Counter(self.states[run.id].state for run in self.plan)

    @property
    def open(self) -> bool:
        """Whether anything is queued or running."""
        return bool(self.counts["queued"] + self.counts["running"])

    def in_state(self, *states: str) -> list[PlannedRun]:
        return [run for run in self.plan if self.states[run.id].state in states]


def standing(
    folder: Path,
    tables: Sequence[tuple[Section, Table]],
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    outlook: Outlook,
    logs: Mapping[str, Path],
    note: str = "",
    report: str = "",
    queue: Queue | None = None,
) -> Standing:
    """How the study in `folder` stands, from the states of its runs."""
    by_table: dict[tuple[str, str], Counter[str]] = {(s.name, table.name): Counter() for s, table in tables}
    by_section: dict[str, Counter[str]] = {s.name: Counter() for s, _ in tables}
    for run in plan:
        state = states[run.id].state
        places = dict.fromkeys(tuple(split_row_key(served)[0].split(".")) for served in run.serves)
        for section, table in places:
            by_table[section, table][state] += 1
        for section in dict.fromkeys(section for section, _ in places):
            by_section[section][state] += 1
    now = datetime.now(UTC)
    reasons, preparation = (queue.reasons, queue.preparation) if queue else ({}, None)
    return Standing(
        folder, now, tuple(plan), states, by_table, by_section, outlook, logs, note, report, reasons, preparation
    )


def outlook(
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    paces: Paces,
    train_val_images: int,
    at_once: int,
    now: datetime,
) -> Outlook:
    """When runs will have ended: as many at a time as run now, or `at_once` if none does."""
    of = {
        state: [run for run in plan if states[run.id].state == state] for state in ("running", "queued", "pending")
    }
    told = {state: lengths(runs, paces, train_val_images) for state, runs in of.items()}
    running = {
        run.id: left_of(states[run.id], whole, now)
        for run, whole in zip(of["running"], told["running"], strict=True)
    }
    ends = {name: seconds for name, seconds in running.items() if seconds is not None}
    queued = [one.seconds for one in told["queued"] if one]
    pending = [one.seconds for one in told["pending"] if one]
    at_once = len(running) or at_once
    known = len(ends) == len(running) and len(queued) == len(of["queued"]) and bool(running or queued)
    return Outlook(
        ends=ends,
        left=ended_after(queued, at_once, tuple(ends.values())) if known else None,
        at_once=at_once,
        pending=sum(pending) if pending and len(pending) == len(of["pending"]) else None,
    )


def look(runs: Path, slurm: Slurm, told: dict[tuple[str, str], EndedJob] | None = None) -> Standing:
    """How the study in `runs` stands now. The queue is asked once; if it does not answer, the standing says so.

    told  what accounting has told before (retry.why_lost)

    Raises UserError if there is no study, or a record of it is damaged.
    """
    study = StudyFolder(runs).study()
    if study is None:
        raise UserError(f"runs={runs} holds no study; submit one with jobs/submit.py, or name another")
    manifests = StudyFolder(runs).manifests()
    past = past_runs(runs, study.data.fingerprint)
    seeds = {seed for manifest in manifests for seed in manifest.seeds}
    if not manifests:  # published, or copied from elsewhere: its results tell
        seeds = {split_run_id(name)[1] for name in past}
    tables = study.catalog.tables
    plan = expand(tables, sorted(seeds), study.settings)
    note, report, queue = "", "", None
    try:
        queue = ask_queues(runs, manifests, slurm, past)
        report = report_line(runs, manifests, slurm)
    except NoAnswerError as error:
        note = str(error)
    states = states_in_files(plan, runs, manifests, queue.runs if queue else None, study.data.fingerprint, past)
    states = why_lost(states, runs, manifests, slurm, told)
    profile, ignored_settings = latest_profile(manifests)
    images = study.data.train_val_images
    paces = paces_of(plan, states, past, profile, images)
    at_once = profile.slots if profile else 1
    ends = outlook(plan, states, paces, images, at_once, datetime.now(UTC))
    logs = logs_of(plan, runs, states, manifests)
    found = standing(runs, tables, plan, states, ends, logs, note, report, queue)
    found = replace(found, ignored_settings=ignored_settings)
    return replace(found, unprepared=unprepared_line(runs, manifests)) if _needs_images(found) else found


def _needs_images(now: Standing) -> bool:
    return now.open or bool(now.in_state(*WITHOUT_RESULT))


def unprepared_line(runs: Path, manifests: Sequence[Manifest]) -> str:
    """Why the last job that decodes images before the runs failed; empty if it did not, or there was none."""
    last = next((manifest for manifest in reversed(manifests) if manifest.preparation), None)
    if last is None or last.preparation is None:
        return ""
    ended = read_record(runs / SUBMISSIONS / last.id / PREPARED, Aggregated)
    if not isinstance(ended, Aggregated) or ended.status == "finished":
        return ""
    then = "the runs decode the images themselves"
    log = recorded_log(runs, last.id, ended.log)
    return one_line(f"{last.preparation.name} failed: {ended.reason}; {then}{f' (log: {log})' if log else ''}")


def latest_profile(manifests: Sequence[Manifest]) -> tuple[Profile | None, list[str]]:
    """The profile of the last submission that this version can read, and its settings that are ignored."""
    recorded = (recorded_profile(manifest.profile) for manifest in reversed(manifests))
    return next((profile for profile in recorded if profile[0]), (None, []))


def paces_of(
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    past: Mapping[str, PastRun],
    profile: Profile | None,
    train_val_images: int,
) -> Paces:
    """What is known of lengths on the profile's kind of device, or on the one that most past runs had."""
    most = Counter(run.device_type for run in past.values()).most_common(1)
    device: str = profile.device_type if profile else most[0][0] if most else "cpu"
    rates = profile.images_per_second if profile else {}
    progress = ((run.config, states[run.id].progress) for run in plan)
    running = [(config, at, train_images(config, train_val_images)) for config, at in progress if at]
    return learn(past, device, rates, running)


def logs_of(
    plan: Sequence[PlannedRun], runs: Path, states: Mapping[str, RunState], manifests: Sequence[Manifest]
) -> dict[str, Path]:
    """Run id -> its log, for runs in training or without a result that have one; of several the last."""
    wanted = {run.id for run in plan if states[run.id].state in ("running", *WITHOUT_RESULT)}
    found: dict[str, Path] = {}
    for manifest in reversed(manifests) if wanted else ():
        for task in manifest.tasks:
            for name in wanted.intersection(task.runs):
                paths = _candidates(runs, manifest, task, states[name])
                path = next((path for path in paths if path.exists()), None)
                if path:
                    found[name] = path
                    wanted.discard(name)
                elif paths:
                    found.setdefault(name, paths[0])  # Slurm may write it yet
    return found


def _candidates(runs: Path, manifest: Manifest, task: SubmittedTask, state: RunState) -> list[Path]:
    """Where the run's log may lie if this task was the last to have it, likeliest first."""
    if state.failure:
        log = recorded_log(runs, state.failure.submission, state.failure.log)
        return [log] if log else []
    of_holder = [log_of_job(runs, manifest.id, state.holder.job)] if state.holder else []
    if state.state == "running" and of_holder:
        return of_holder
    of_task = log_path(runs, manifest, task)
    known = [of_task] if of_task else of_holder
    process = executor_named(manifest.executor).queue_process
    return [*known, runs / SUBMISSIONS / manifest.id / f"{process}.log"] if process else known
