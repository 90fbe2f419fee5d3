"""python jobs/submit.py section=transfer: submit the runs behind the section's tables as Slurm arrays.

Without Slurm the same runs are queued on this machine.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from caltech_exp.cli import on_interrupt
from caltech_exp.config import RunConfig
from caltech_exp.executors.executor import Executor, make_executor
from caltech_exp.monitoring.queued_runs import release_held
from caltech_exp.monitoring.run_states import describe_failures
from caltech_exp.profiles.paths import use_torch_home
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.forecast import measure_throughput, unfinished_runs
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.run_status import DONE, remove_after_result
from caltech_exp.submission.cost import choose_sizes, cost_lines
from caltech_exp.submission.preflight import Preflight, StudyState, open_runs, preflight, read_state
from caltech_exp.submission.report_job import cancel_replaced, with_dependencies
from caltech_exp.submission.request import Request, SubmitOptions, parse_request
from caltech_exp.submission.submission import NO_RUNS, Submission, all_queued
from caltech_exp.usage import usage

USAGE = usage(
    "python jobs/submit.py section=NAME [option=value ...] [setting=value ...]\n\n"
    "Submits the runs behind the report's tables. Runs that are finished or queued are left alone.\n\n"
    "  python jobs/submit.py section=transfer seeds=3\n"
    "  python jobs/submit.py section=all dry_run=true\n"
    "  python jobs/submit.py help=lr\n\n"
    "Options first, then the settings of a run, which override every row. Several values with commas are a\n"
    "sweep: lr=1e-3,1e-2 batch_size=32,64 makes a study of the four combinations.",
    SubmitOptions,
    RunConfig,
)


def main(argv: Sequence[str]) -> int:
    """Submit the open runs, and wait for them if asked to; a dry run leaves out both. The exit status."""
    request = parse_request(argv)
    dry_run = request.options.dry_run
    use_torch_home(request.profile)
    folder, executor = StudyFolder(request.runs), make_executor(request.profile)
    plan = expand(request.tables, request.seeds, request.settings)
    if not plan and not request.report:
        print(NO_RUNS)
        return 0
    if request.sweep:
        show([request.sweep.describe()])
    checked = preflight(request, plan, executor)
    if not dry_run:
        show(checked.notes)
    with nullcontext() if dry_run else folder.lock():  # a dry run writes nothing
        state, lines = (checked.state, []) if dry_run else recheck(request, plan, executor, checked)
        images = checked.study_data.train_val_images if checked.study_data else None
        unfinished = unfinished_runs(plan, state.states, images)
        rates = executor.profile.images_per_second
        throughput = measure_throughput(state.past, executor.profile.device_type, rates, unfinished)
        runs = open_runs(plan, state.states, request)
        sizes, more = choose_sizes(runs, request.options, executor, throughput, images, room=checked.room)
        lines += more
        submission = Submission.of(plan, state.states, request, checked, sizes)
        submission = submission.with_pack_jobs(state.jobs, executor).fitting(checked.room)
        submission = submission.avoiding(state.states, executor)
        if request.report:
            submission, more = with_dependencies(submission, state, executor)
            lines += more
        manifest = None
        if submission and not dry_run:
            from caltech_exp.submission.launch import launch  # planning does not need submitit

            manifest = launch(submission, folder, executor)
            if not manifest.preparation:  # it was refused, and a line said so
                submission = replace(submission, missing_packs={})
        with still_queued(manifest):
            if manifest and submission.report:
                lines += cancel_replaced(submission, state, executor)
    with still_queued(manifest):
        show(
            [
                *(f"cannot be submitted yet: {problem}" for problem in checked.problems),
                *submission.describe(plan, state.states, executor),
                *lines,
                *cost_lines(submission.arrays, throughput, executor, images),
                *describe_failures(state.states, retry="cancelled" not in request.states),
                *(checked.notes if dry_run else []),
            ]
        )
        if manifest:
            print(f"submission {manifest.id}: logs and manifest in {folder.submission(manifest.id)}", flush=True)
    if request.options.wait and not dry_run:
        return wait(request, plan, executor, checked, manifest)
    return checked.exit_status


def still_queued(manifest: Manifest | None) -> AbstractContextManager[None]:
    """Ctrl-C in the block says that the submission is queued, if there is one."""
    return on_interrupt(all_queued(manifest)) if manifest else nullcontext()


def show(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)


def recheck(
    request: Request, plan: Sequence[PlannedRun], executor: Executor, checked: Preflight
) -> tuple[StudyState, list[str]]:
    """The state of the study under its lock, and lines on what was put in order.

    Recovers jobs that sbatch did not confirm, releases jobs that Slurm holds, and removes what processes left that
    died right after their result.
    """
    from caltech_exp.submission.recovery import recover_orphans  # planning does not need submitit

    assert checked.study_data is not None
    folder, fingerprint = StudyFolder(request.runs), checked.study_data.fingerprint
    folder.require_same(request.settings, checked.study_data, request.file, request.tables)
    _, lines = recover_orphans(folder, folder.manifests(), folder.past_runs(fingerprint), executor.slurm)
    state = read_state(request, plan, executor, fingerprint)
    for run in plan:
        if state.states[run.id].state in DONE:
            remove_after_result(folder.run(run.id))
    return state, lines + release_held(folder, state.jobs, executor.slurm)


def wait(
    request: Request, plan: Sequence[PlannedRun], executor: Executor, checked: Preflight, manifest: Manifest | None
) -> int:
    """Wait for the runs, then for the report; the exit status. Runs that train again are those of `manifest`."""
    from caltech_exp.monitoring.watch import wait_for_report, wait_for_runs

    assert checked.study_data is not None
    folder = StudyFolder(request.runs)
    with on_interrupt("the runs go on, and the same command waits for them again"):
        again = manifest if request.trains_again else None
        status = wait_for_runs(folder, plan, executor, checked.study_data.fingerprint, again)
        report_status = wait_for_report(folder, request.report, executor) if request.report else 0
    return report_status or status
