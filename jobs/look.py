"""A look at a study: its files, the queue, Slurm's accounting, and what all of it tells of the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from caltech_exp.config import split_run_id
from caltech_exp.errors import UserError, one_line
from caltech_exp.manifest import SUBMISSIONS, Manifest, SubmittedTask, recorded_log
from caltech_exp.plan import PlannedRun, expand
from caltech_exp.results import read_record
from caltech_exp.states import RunState
from caltech_exp.study import read_study
from jobs.accounting import EndedJob
from jobs.aggregated import PREPARED, Aggregated
from jobs.aggregation import report_line
from jobs.capacity import device_type, tasks_at_once
from jobs.cluster import NoAnswerError
from jobs.forecast import Paces, learn, train_images
from jobs.local import QUEUE_LOG
from jobs.logs import log_of_job, log_path
from jobs.past_runs import PastRun, past_runs
from jobs.profiles import Profile, recorded_profile
from jobs.queued import ask_queues, sound_manifests
from jobs.retry import why_lost
from jobs.run_states import states_in_files
from jobs.standing import WITHOUT_RESULT, Standing, outlook, standing


def look(runs: Path, timeout: float, told: dict[str, EndedJob] | None = None) -> Standing:
    """How the study in `runs` stands now. The queue is asked once; if it does not answer, the standing says so.

    told  what accounting has told before (retry.why_lost)

    Raises UserError if there is no study, or a record of it is damaged.
    """
    study = read_study(runs)
    if study is None:
        raise UserError(f"runs={runs} holds no study; submit one with jobs/submit.py, or name another")
    manifests = sound_manifests(runs)
    past = past_runs(runs, study.data.fingerprint)
    seeds = {seed for manifest in manifests for seed in manifest.seeds}
    if not manifests:  # published, or copied from elsewhere: its results tell
        seeds = {split_run_id(name)[1] for name in past}
    tables = study.catalog.tables
    plan = expand(tables, sorted(seeds), study.settings)
    note, report, queue = "", "", None
    try:
        queue = ask_queues(runs, manifests, timeout, past)
        report = report_line(runs, manifests, timeout)
    except NoAnswerError as error:
        note = str(error)
    states = states_in_files(plan, runs, manifests, queue.runs if queue else None, study.data.fingerprint, past)
    states = why_lost(states, runs, manifests, timeout, told)
    profile = latest_profile(manifests)
    images = study.data.train_val_images
    paces = paces_of(plan, states, past, profile, images)
    at_once = tasks_at_once(profile) if profile else 1
    ends = outlook(plan, states, paces, images, at_once, datetime.now(UTC))
    logs = logs_of(plan, runs, states, manifests)
    found = standing(runs, tables, plan, states, ends, logs, note, report, queue)
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


def latest_profile(manifests: Sequence[Manifest]) -> Profile | None:
    """The profile of the last submission that this code can read."""
    found = (recorded_profile(manifest.profile) for manifest in reversed(manifests))
    return next((profile for profile in found if profile), None)


def paces_of(
    plan: Sequence[PlannedRun],
    states: Mapping[str, RunState],
    past: Mapping[str, PastRun],
    profile: Profile | None,
    train_val_images: int,
) -> Paces:
    """What is known of lengths on the profile's kind of device, or on the one that most past runs had."""
    most = Counter(run.device_type for run in past.values()).most_common(1)
    device: str = device_type(profile) if profile else most[0][0] if most else "cpu"
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
    return known if manifest.executor == "slurm" else [*known, runs / SUBMISSIONS / manifest.id / QUEUE_LOG]
