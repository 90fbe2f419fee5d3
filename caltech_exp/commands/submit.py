"""python jobs/submit.py section=transfer: expand the section's tables into Slurm arrays.

Without Slurm the same runs are queued on this machine. `--help` lists every option and setting.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from caltech_exp.cli import EXIT_INTERRUPTED, UserError, run_command_line
from caltech_exp.data.pack_format import PackKey
from caltech_exp.data.splits import DataSet, check_images
from caltech_exp.executors.executor import Executor, JobArray, make_executor, study_jobs
from caltech_exp.monitoring.held_jobs import release_held
from caltech_exp.monitoring.queued_runs import packs_in_preparation
from caltech_exp.monitoring.run_states import bad_nodes, describe_failures, run_states
from caltech_exp.profiles.paths import packs_folder, use_torch_home
from caltech_exp.profiles.profile import Profile
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results_cache import past_runs
from caltech_exp.study.run_status import DONE, RunStatus, remove_after_result
from caltech_exp.submission.cost import cost_lines
from caltech_exp.submission.preflight import (
    check_data,
    check_weights,
    check_weights_files,
    describe_data,
    find_data,
    slow_arithmetic,
    unpinned,
)
from caltech_exp.submission.report_job import check_report_folder, end_replaced, with_report
from caltech_exp.submission.request import USAGE, Request, parse_request
from caltech_exp.submission.submission import (
    Submission,
    make_arrays,
    merged_lines,
    packs_of,
    plan_table,
    queue_lines,
    single_lines,
    summary,
    with_packs,
)


def main(argv: Sequence[str]) -> int:
    """Submit, or show the plan; the exit status. Raises UserError for anything the user can mend."""
    request = parse_request(argv)
    profile, runs = request.profile, request.runs
    use_torch_home(profile)
    plan = expand(request.tables, request.seeds, request.settings)
    if request.options.dry_run:
        return dry_run(request, profile, runs, plan)
    if not plan and not request.report:
        print(summary(plan, {}))
        return 0
    return submit_plan(request, profile, runs, plan)


def dry_run(request: Request, profile: Profile, runs: Path, plan: Sequence[PlannedRun]) -> int:
    """Print the plan and what stands in the way of queueing it; write nothing."""
    executor = make_executor(profile)
    problems = []
    manifests: Sequence[Manifest] = ()
    most_tasks = None
    images = None
    past = past_runs(runs, None, keep=False)
    states = {run.id: RunStatus("pending") for run in plan}
    try:
        manifests = StudyFolder(runs).manifests()
        states = run_states(StudyFolder(runs), plan, executor.slurm, manifests=manifests, past=past)
        most_tasks = executor.max_tasks()
    except UserError as error:
        problems.append(str(error))
    open_runs = _open_runs(plan, states, request)
    arrays = _arrays(open_runs, runs, request, most_tasks)
    submission = Submission(
        request, arrays=tuple(arrays), report=request.report, excluded_nodes=_avoided(request, states)
    )
    try:
        if request.report:
            check_report_folder(request.report)
        executor.check(StudyFolder(runs))
        data = find_data(request.options.data, profile)
        images = len(data.train_val)
        check_data([run.config for run in open_runs], data, request.settings)
        StudyFolder(runs).require_same(request.settings, describe_data(data), request.file)
        packs = packs_of(arrays, data, packs_folder(request.options.packs, profile))
        making = executor.can_chain_jobs and _may_be_made(packs, manifests)
        jobs = study_jobs(StudyFolder(runs), manifests, executor.slurm) if making else []
        submission = with_packs(submission, packs, packs_in_preparation(jobs, executor))
    except UserError as error:
        problems.append(str(error))
    try:
        check_weights([run.config for run in open_runs], fetch=False)
    except UserError as error:
        problems.append(str(error))
    if plan:
        print(plan_table(plan, states, arrays))
        print()
    print(summary(plan, states))
    if plan:
        print("\n".join(queue_lines(arrays, "would queue", _where(request, executor, submission))))
    for line in [
        *single_lines(submission, "would queue"),
        *filter(None, [executor.describe_environment()]),
        *cost_lines(arrays, past, profile, images),
        *unpinned([run.config for run in plan]),
        *merged_lines(request.tables, request.settings, request.seeds),
        *slow_arithmetic([run.config for run in open_runs], executor),
        *describe_failures(states.values()),
    ]:
        print(line)
    for problem in problems:
        print(f"before that: {problem}")
    return 0


def submit_plan(request: Request, profile: Profile, runs: Path, plan: Sequence[PlannedRun]) -> int:
    """Check everything, queue the open runs, and wait for them if asked to."""
    executor = make_executor(profile)
    # First what tells the most in the least time; nothing is written until all of it holds.
    if request.report:
        check_report_folder(request.report)
    executor.check(StudyFolder(runs))
    data = find_data(request.options.data, profile)
    study_data = describe_data(data)
    StudyFolder(runs).require_same(request.settings, study_data, request.file)
    manifests, slurm = StudyFolder(runs).manifests(), executor.slurm
    states = run_states(
        StudyFolder(runs), plan, slurm, manifests=manifests, fingerprint=study_data.fingerprint, explain=False
    )
    open_configs = [run.config for run in _open_runs(plan, states, request)]
    check_data(open_configs, data, request.settings)
    most_tasks = executor.max_tasks()
    check_weights(open_configs, fetch=True)
    if StudyFolder(runs).study() is None:
        print(f"checking {len(data.train_val) + len(data.test):,} images of {data.root}", flush=True)
        check_images(data)
    for line in [
        *check_weights_files(open_configs, request.networks),
        *unpinned([run.config for run in plan]),
        *merged_lines(request.tables, request.settings, request.seeds),
        *slow_arithmetic(open_configs, executor),
    ]:
        print(line, flush=True)
    manifest = _queue(request, profile, runs, plan, data, most_tasks)
    if manifest:
        print(f"submission {manifest.id}: logs and manifest in {runs / 'submissions' / manifest.id}")
    if not request.options.wait:
        return 0
    from caltech_exp.monitoring.watch import wait_for_report, wait_for_runs

    try:
        status = wait_for_runs(StudyFolder(runs), plan, executor, study_data.fingerprint)
        return wait_for_report(StudyFolder(runs), request.report, executor) or status if request.report else status
    except KeyboardInterrupt:
        print("no longer waiting; the runs go on, and the same command waits again", file=sys.stderr)
        return EXIT_INTERRUPTED


def _queue(
    request: Request,
    profile: Profile,
    runs: Path,
    plan: Sequence[PlannedRun],
    data: DataSet,
    most_tasks: int | None,
) -> Manifest | None:
    """Queue what is still open once the study's lock is held; None if nothing is."""
    from caltech_exp.submission.launch import launch
    from caltech_exp.submission.recovery import adopt  # submitit is not needed to plan

    executor = make_executor(profile)
    study_data, report = describe_data(data), request.report
    with StudyFolder(runs).lock():
        StudyFolder(runs).require_same(request.settings, study_data, request.file)
        past, slurm = past_runs(runs, study_data.fingerprint), executor.slurm
        manifests, lines = adopt(runs, StudyFolder(runs).manifests(), past, slurm)
        states = run_states(
            StudyFolder(runs), plan, slurm, manifests=manifests, fingerprint=study_data.fingerprint, past=past
        )
        for run in plan:
            if states[run.id].state in DONE:
                remove_after_result(runs / run.id)  # of a process that died just after its result
        arrays = _arrays(_open_runs(plan, states, request), runs, request, most_tasks)
        in_queue = any(state.state == "queued" for state in states.values())
        packs = packs_of(arrays, data, packs_folder(request.options.packs, profile))
        making = executor.can_chain_jobs and _may_be_made(packs, manifests)
        jobs = study_jobs(StudyFolder(runs), manifests, slurm) if report or in_queue or making else []
        lines += release_held(StudyFolder(runs), jobs, slurm)
        submission = Submission(request, study_data, tuple(arrays), excluded_nodes=_avoided(request, states))
        submission = with_packs(submission, packs, packs_in_preparation(jobs, executor) if making else {})
        if report:
            submission, said = with_report(submission, report, runs, manifests, jobs, executor)
            lines += said
        manifest = launch(submission, StudyFolder(runs), executor) if submission else None
        if submission.report:
            lines += end_replaced(submission.report, runs, manifests, jobs, slurm)
    print(summary(plan, states))
    for line in (
        *queue_lines(arrays, "queued", _where(request, executor, submission)),
        *single_lines(submission, "queued"),
        *lines,
        *cost_lines(arrays, past, profile, study_data.train_val_images),
        *describe_failures(states.values()),
    ):
        print(line)
    return manifest


def _may_be_made(packs: Mapping[PackKey, Path], manifests: Sequence[Manifest]) -> bool:
    """Whether an earlier submission queued a job that makes one of these packs."""
    made = {file for manifest in manifests if manifest.preparation for file in manifest.preparation.packs}
    return any(str(file) in made for file in packs.values())


def _open_runs(plan: Sequence[PlannedRun], states: Mapping[str, RunStatus], request: Request) -> list[PlannedRun]:
    """The runs to queue."""
    left = (*DONE, "queued", "running", "newer", *(("pending", "damaged") if request.options.retry else ()))
    # One that failed in a task that still runs may be tried again by it, should it be preempted.
    return [run for run in plan if states[run.id].state not in left and not states[run.id].in_task]


def _arrays(
    open_runs: Sequence[PlannedRun], runs: Path, request: Request, most_tasks: int | None
) -> list[JobArray]:
    return make_arrays(open_runs, runs.name, request.options.runs_per_task, most_tasks)


def _avoided(request: Request, states: Mapping[str, RunStatus]) -> tuple[str, ...]:
    """The nodes that the runs are to keep off."""
    return bad_nodes(states.values()) if request.options.avoid_nodes else ()


def _where(request: Request, executor: Executor, submission: Submission) -> str:
    name = request.profile_name
    excluded = executor.excluding(submission.excluded_nodes).excluded_nodes
    return f"{name}, not on {excluded}" if excluded else name


if __name__ == "__main__":
    sys.exit(run_command_line(main, USAGE))
