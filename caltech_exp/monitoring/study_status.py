"""The status of a study: counts by table, runs in training, logs, the expected end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev

from caltech_exp.catalog import Section, Table, row_key, split_row_key, table_key
from caltech_exp.config import split_run_id
from caltech_exp.executors.executor import executor_named
from caltech_exp.executors.slurm_queries import NoAnswerError, Slurm
from caltech_exp.monitoring.logs import job_log, log_path
from caltech_exp.monitoring.queued_runs import Queue, read_queue
from caltech_exp.monitoring.report_job import describe_report_job, last_report_job, preparation_failure
from caltech_exp.monitoring.run_states import EndedJobs, explain_lost, statuses_from_files
from caltech_exp.profiles.profile import Profile, recorded_profile
from caltech_exp.reporting.render.blocks import Spread, Value, mean_or_diverged
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.forecast import Forecast, Throughput, forecast, measure_throughput, unfinished_runs
from caltech_exp.study.manifest import Manifest, SubmittedTask, read_published_seeds, recorded_log
from caltech_exp.study.plan import EVERYTHING, PlannedRun, RunFilter, expand, requested_seeds
from caltech_exp.study.results_cache import PastRun
from caltech_exp.study.run_status import RunStatus

WITHOUT_RESULT = ("failed", "lost", "cancelled", "damaged")
# States of runs that are listed one by one; `newer` runs are not submitted again.
LISTED = (*WITHOUT_RESULT, "newer")


@dataclass(frozen=True)
class StudyStatus:
    """The status of a study at one moment.

    plan                 every run that the study's tables and seeds ask for, whether submitted or not
    runs                 run id -> its status
    tables, sections     runs by state; a run counts in each of its tables, and once in each section
    logs                 run id -> its log, for runs in training or without a result that have one
    queue                empty if Slurm did not answer; then `note` says why, and queued runs may be lost
    report               how the last report job stands, in one line; empty if there was none
    preparation_failure  why the images were not decoded first, in one line; empty if no run needs them any more
    ignored_settings     of the last submission's profile, which this version does not have
    ended_jobs           how lost runs' jobs ended
    accuracies           row with a result -> its results, and what the report's tables show of them
    """

    folder: Path
    when: datetime
    plan: tuple[PlannedRun, ...]
    runs: Mapping[str, RunStatus]
    tables: Mapping[tuple[str, str], Counter[str]]
    sections: Mapping[str, Counter[str]]
    forecast: Forecast = field(default_factory=Forecast)
    logs: Mapping[str, Path] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    note: str = ""
    report: str = ""
    preparation_failure: str = ""
    ignored_settings: Sequence[str] = ()
    ended_jobs: EndedJobs = field(default_factory=dict)
    accuracies: Mapping[str, tuple[int, Value]] = field(default_factory=dict)

    @cached_property
    def counts(self) -> Counter[str]:
        """All runs by state, each once."""
        return Counter(self.runs[run.id].state for run in self.plan)

    @property
    def is_open(self) -> bool:
        """Whether anything is queued or running, runs that are trained again among them."""
        return bool(self.counts["queued"] + self.counts["running"]) or any(run.again for run in self.runs.values())

    def in_state(self, *states: str) -> list[PlannedRun]:
        return [run for run in self.plan if self.runs[run.id].state in states]


def read_status(
    folder: StudyFolder,
    slurm: Slurm | None,
    ended_jobs: EndedJobs | None = None,
    *,
    run_filter: RunFilter = EVERYTHING,
) -> StudyStatus:
    """The status of the study in `folder` now, or of the selected runs. If Slurm does not answer, it says so.

    slurm       None asks no queue: runs without a result that were submitted count as queued
    ended_jobs  of an earlier status: accounting is not asked about these again
    """
    study = folder.require_study()
    manifests = folder.manifests()
    past = folder.past_runs(study.data.fingerprint)
    published = read_published_seeds(folder.path)
    results = () if manifests else past  # of a study copied from elsewhere: they tell what was asked for
    catalog = study.catalog
    seeds = requested_seeds(catalog, study.settings, manifests, published, results)
    selected = catalog.select(run_filter.sections, run_filter.tables)
    plan = expand(selected, seeds, study.settings)
    note, report, queue = "", "", None
    try:
        queue = read_queue(folder, manifests, slurm, past) if slurm else None
        if slurm and (report_job := last_report_job(folder, manifests, slurm)):
            report = describe_report_job(folder, report_job)
    except NoAnswerError as error:
        note = str(error)
    runs = statuses_from_files(
        folder, plan, manifests, queue.runs if queue else None, fingerprint=study.data.fingerprint, past=past
    )
    if slurm:
        runs, ended_jobs = explain_lost(folder, runs, manifests, slurm, ended_jobs)
    shown_plan = [run for run in plan if not run_filter.states or runs[run.id].state in run_filter.states]
    tables, sections = count_runs(selected, shown_plan, runs)
    profile, ignored_settings = latest_profile(manifests)
    images, now = study.data.train_val_images, datetime.now(UTC)
    needs_images = any(status.state in ("queued", "running", *WITHOUT_RESULT) for status in runs.values())
    return StudyStatus(
        folder=folder.path,
        when=now,
        plan=tuple(shown_plan),
        runs=runs,
        tables=tables,
        sections=sections,
        forecast=forecast(
            plan,
            runs,
            throughput_of(plan, runs, past, profile, images),
            images,
            slots=profile.slots if profile else 1,
            now=now,
        ),
        logs=find_logs(folder, manifests, plan, runs),
        queue=queue or Queue(),
        note=note,
        report=report,
        preparation_failure=preparation_failure(folder, manifests) if needs_images else "",
        ignored_settings=ignored_settings,
        ended_jobs=ended_jobs or {},
        accuracies=row_accuracies(selected, shown_plan, past),
    )


def row_accuracies(
    tables: Sequence[tuple[Section, Table]], plan: Iterable[PlannedRun], past: Mapping[str, PastRun]
) -> dict[str, tuple[int, Value]]:
    """Row of the plan with a result -> how many it has, and what the report's tables show of them."""
    results: dict[str, list[PastRun]] = {}
    for name, result in past.items():
        results.setdefault(split_run_id(name)[0], []).append(result)
    config_ids = {key: split_run_id(run.id)[0] for run in plan for key in run.rows}
    keys = (row_key(section.name, table.name, row.label) for section, table in tables for row in table.rows)
    return {key: (len(runs), _measured(runs)) for key in keys if (runs := results.get(config_ids.get(key, "")))}


def _measured(runs: Sequence[PastRun]) -> Value:
    values = [run.val_accuracy for run in runs if run.val_accuracy is not None]
    std = pstdev(values) if len(values) > 1 else None
    spread = Spread(fmean(values), std, (min(values), max(values))) if values else None
    return mean_or_diverged(spread, len(values), len(runs) - len(values))


def count_runs(
    tables: Sequence[tuple[Section, Table]], plan: Iterable[PlannedRun], runs: Mapping[str, RunStatus]
) -> tuple[dict[tuple[str, str], Counter[str]], dict[str, Counter[str]]]:
    """Runs by state of each (section, table) and of each section."""
    keys = {table_key(section.name, table.name): (section.name, table.name) for section, table in tables}
    by_table: dict[tuple[str, str], Counter[str]] = {key: Counter() for key in keys.values()}
    by_section: dict[str, Counter[str]] = {section: Counter() for section, _ in keys.values()}
    for run in plan:
        state = runs[run.id].state
        table_keys = {keys[split_row_key(row)[0]] for row in run.rows}
        for key in table_keys:
            by_table[key][state] += 1
        for section_name in {section for section, _ in table_keys}:
            by_section[section_name][state] += 1
    return by_table, by_section


def latest_profile(manifests: Sequence[Manifest]) -> tuple[Profile | None, list[str]]:
    """The profile of the last submission that this version can read, and its settings that are ignored."""
    recorded = (recorded_profile(manifest.profile) for manifest in reversed(manifests))
    return next((profile for profile in recorded if profile[0]), (None, []))


def throughput_of(
    plan: Sequence[PlannedRun],
    runs: Mapping[str, RunStatus],
    past: Mapping[str, PastRun],
    profile: Profile | None,
    train_val_images: int,
) -> Throughput:
    """On the profile's type of device, or on the one that most past runs had."""
    most_common = Counter(run.device_type for run in past.values()).most_common(1)
    device: str = profile.device_type if profile else most_common[0][0] if most_common else "cpu"
    unfinished = unfinished_runs(plan, runs, train_val_images)
    return measure_throughput(past, device, profile.images_per_second if profile else {}, unfinished)


def find_logs(
    folder: StudyFolder, manifests: Sequence[Manifest], plan: Sequence[PlannedRun], runs: Mapping[str, RunStatus]
) -> dict[str, Path]:
    """Run id -> its last log, for runs in training or without a result."""
    missing = {run.id for run in plan if runs[run.id].state in ("running", *WITHOUT_RESULT)}
    logs: dict[str, Path] = {}
    for manifest in reversed(manifests) if missing else ():
        for task in manifest.tasks:
            for run_id in missing.intersection(task.runs):
                paths = _possible_logs(folder, manifest, task, run_id, runs[run_id])
                path = next((path for path in paths if path.exists()), None)
                if path:
                    logs[run_id] = path
                if path or runs[run_id].state != "running":  # only the job that tells why it ended
                    missing.discard(run_id)
    return logs


def _possible_logs(
    folder: StudyFolder, manifest: Manifest, task: SubmittedTask, run: str, status: RunStatus
) -> list[Path]:
    """Where the run's log may be if this task was the last to train it, likeliest first."""
    if status.failure:
        log = recorded_log(folder.path, status.failure.submission, status.failure.log)
        return [log] if log else []
    owner_logs = [job_log(folder, manifest.id, status.owner.job, run)] if status.owner else []
    if status.state == "running" and owner_logs:
        return owner_logs
    task_log = log_path(folder, manifest, task)
    own = [path for path in owner_logs if run in path.name]
    paths = own or ([task_log] if task_log else owner_logs)
    process = executor_named(manifest.executor).queue_process
    is_lost = status.state == "lost"
    return [*paths, folder.submission(manifest.id) / f"{process}.log"] if process and is_lost else paths
