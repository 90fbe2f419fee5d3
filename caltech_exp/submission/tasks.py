"""What runs on a node, pickled by submitit: train runs, decode images, write the report.

The report is not imported here: its command line is called, in the same snapshot.
"""

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import submitit
from submitit.core.utils import UncompletedJobError

from caltech_exp.bootstrap import own_command
from caltech_exp.child_environment import python_environment
from caltech_exp.cli import UserError, one_line, shown
from caltech_exp.config import NETWORK_NAMES, RunConfig, run_id
from caltech_exp.data.pack_format import PackKey, split_contents
from caltech_exp.data.splits import DataSet, Split, read_data_set
from caltech_exp.executors.sbatch import ENDED
from caltech_exp.files import utc_now
from caltech_exp.monitoring.report_job import PREPARATION_END, REPORT_END, JobEnd
from caltech_exp.profiles.paths import expand_path, use_torch_home_of_submission
from caltech_exp.provenance import CHECKOUT, CodeVersion, TaskOrigin, code_version
from caltech_exp.records import write_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import ReplacedError
from caltech_exp.study.results import Keep, again_folder
from caltech_exp.submission.log_limit import limit_logs
from caltech_exp.submission.side_by_side import FAILED, OUT_OF_MEMORY, REPLACED, Layout, SideBySide, choose_layout
from caltech_exp.submission.signal_handler import Failures, SignalHandler
from caltech_exp.training.failures import (
    Interrupted,
    StopRequest,
    error_line,
    import_libraries,
    kind_of,
    record_failure_of_free_run,
)

if TYPE_CHECKING:
    from caltech_exp.training.run import TaskContext


MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class TrainTask:
    """Train the runs of one task, one after the other or side by side.

    data, data_on_node    the data folder; the second, expanded on the node, is used instead if it is given
    packs, packs_on_node  the folder of decoded images, and the node's own folder to copy them to
    threads               CPU threads of torch; None for torch's own choice
    torch_home            the profile's, expanded on the node
    torch_home_here       where submit found weights, for tasks that get no variable for it
    log_mb                largest log, MB
    at_once               how many runs train side by side on each GPU, or on the cores
    max_failures          so many failed runs of the submission end it; 0 for no limit
    code                  of the snapshot that was submitted, which the task must run
    split                 of a data set without split files
    keep_weights          which weights of the trained networks are written beside the results
    again                 whether the runs have results, which stay, and are trained once more
    """

    submission: str
    runs: tuple[tuple[RunConfig, int], ...]
    folder: str
    data: str
    data_on_node: str | None
    packs: str
    packs_on_node: str | None
    fingerprint: str
    device: str
    threads: int | None
    torch_home: str | None
    torch_home_here: str | None
    checkpoint_minutes: float
    log_mb: float
    code: CodeVersion
    at_once: int | Literal["auto"] = 1
    max_failures: int = 0
    split: Split | None = None
    keep_weights: Keep = "none"
    again: bool = False

    @property
    def names(self) -> list[str]:
        return [run_id(config, seed) for config, seed in self.runs]

    def __call__(self) -> None:
        """Train every run. A run that fails is recorded, and the next one trains if the GPU still works."""
        stop_request = StopRequest()
        signal_handler = SignalHandler(stop_request)
        environment = submitit.JobEnvironment()
        origin = TaskOrigin(self.submission, environment.job_id, str(environment.paths.stdout), self.code)
        try:
            limit_logs(self.log_mb)
            print(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}", flush=True)
            self._check_code()
            layout = choose_layout(self.at_once, len(self.runs), self.device, self.threads)
            self._import_libraries(layout)
            data = self._read_data()
            context = self._context(origin, stop_request, data) if layout.is_single else None
        except Exception as error:
            for name in self.names:
                record_failure_of_free_run(self._folder(name), name, error, origin, self.fingerprint)
                self._failures.add(name)
            self._failures.end_submission(self.names)
            raise
        if context:
            self._train(context, signal_handler)
        else:
            self._train_side_by_side(layout, origin, data, signal_handler)

    def _train(self, context: "TaskContext", signal_handler: SignalHandler) -> None:
        """Train one run after the other. Raises RuntimeError at the end if some failed.

        After some errors CUDA repeats the error until the process ends. Then the task ends, since the remaining
        runs would fail with it too. Submitting again trains them.
        """
        from caltech_exp.training.device import why_broken
        from caltech_exp.training.run import run_one

        failed = []
        for runs_left, (config, seed) in zip(reversed(range(len(self.runs))), self.runs, strict=True):
            if reason := self._failures.end_submission(self.names):
                print(f"{runs_left + 1} of {len(self.runs)} runs are not started: {reason}", flush=True)
                break
            try:
                run_one(config, seed, replace(context, runs=self._folder(run_id(config, seed))))
                self._failures.remove(run_id(config, seed))
            except Interrupted:
                signal_handler.end_task()
            except ReplacedError as error:
                print(f"run {run_id(config, seed)}: {error}", flush=True)
                signal_handler.abandon_task()
            except Exception as error:
                self._failures.add(run_id(config, seed))
                if not runs_left:
                    self._failures.end_submission(self.names)
                if len(self.runs) == 1:
                    raise
                print(f"run {run_id(config, seed)} failed: {type(error).__name__}: {error}", flush=True)
                failed.append(run_id(config, seed))
                if runs_left and (reason := why_broken(context.device)):
                    raise RuntimeError(
                        f"this process cannot use the GPU any more ({reason}) since run {failed[-1]} failed; "
                        f"{runs_left} of {len(self.runs)} runs were not tried, submit again"
                    ) from error
            if context.stop_request.requested and runs_left:
                signal_handler.end_task()
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} runs failed: {', '.join(failed)}")

    def _train_side_by_side(
        self, layout: Layout, origin: TaskOrigin, data: DataSet, signal_handler: SignalHandler
    ) -> None:
        """Train the runs in processes of their own. Raises RuntimeError at the end if some failed."""
        folder, prefix = Path(origin.log).parent, origin.job

        def train(number: int, stop_request: StopRequest, log: Path) -> int:
            return self._train_in_process(number, replace(origin, log=str(log)), stop_request, layout, data)

        processes = SideBySide(
            names=self.names,
            layout=layout,
            train=train,
            log=lambda name: folder / f"{prefix}_{name}_log.out",
            why_not=self._failures.end_submission,
            stop_request=signal_handler.stop_request,
        )
        try:
            failed = processes.run()
        except ReplacedError as error:
            print(error, flush=True)
            signal_handler.abandon_task()
        if processes.interrupted:
            signal_handler.end_task()
        self._failures.end_submission(self.names)
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} runs failed: {', '.join(failed)}")

    def _train_in_process(
        self, number: int, origin: TaskOrigin, stop_request: StopRequest, layout: Layout, data: DataSet
    ) -> int:
        """Train one run in its own process, and return the process's exit status."""
        import torch

        from caltech_exp.training.run import run_one

        config, seed = self.runs[number]
        name, context = run_id(config, seed), None
        try:
            limit_logs(self.log_mb)
            if layout.threads:
                torch.set_num_threads(layout.threads)
            context = self._context(origin, stop_request, data)
            run_one(config, seed, replace(context, runs=self._folder(name)))
        except Interrupted:
            return ENDED
        except ReplacedError as error:
            print(f"run {name}: {error}", flush=True)
            return REPLACED
        except Exception as error:
            if context is None:
                record_failure_of_free_run(self._folder(name), name, error, origin, self.fingerprint)
            traceback.print_exc()
            self._failures.add(name)
            return OUT_OF_MEMORY if kind_of(error) in ("gpu_memory", "memory") else FAILED
        self._failures.remove(name)
        return 0

    def _folder(self, run: str) -> Path:
        """The folder that holds the run's folder."""
        runs = Path(self.folder)
        return again_folder(runs / run, self.submission).parent if self.again else runs

    @property
    def _failures(self) -> Failures:
        return Failures(StudyFolder(Path(self.folder)), self.submission, self.max_failures)

    def _import_libraries(self, layout: Layout) -> None:
        """Import torch here, so that submitting need not. Raises LibraryError."""
        import_libraries(eager=all(config.model in NETWORK_NAMES for config, _ in self.runs))
        if layout.is_single and layout.threads:
            import torch

            torch.set_num_threads(layout.threads)

    def _check_code(self) -> None:
        """Raises UserError if this is not the code that was submitted."""
        code = code_version()
        if code != self.code:
            raise UserError(
                f"the task runs caltech_exp {code} from {CHECKOUT}, but {self.code} was submitted; submit again"
            )

    def _read_data(self) -> DataSet:
        """The data set. Raises UserError if it is not what was submitted."""
        root = expand_path(self.data_on_node, "data_on_node") if self.data_on_node else Path(self.data)
        data = read_data_set(root, self.split)
        if data.fingerprint != self.fingerprint:
            raise UserError(
                f"the data in {data.root} is not what was submitted "
                f"(fingerprint {data.fingerprint}, not {self.fingerprint}); copy it again, or submit again"
            )
        return data

    def _context(self, origin: TaskOrigin, stop_request: StopRequest, data: DataSet) -> "TaskContext":
        """What all runs of the process share. Raises UserError or NodeError if something is missing."""
        from caltech_exp.data.packs import PackStore
        from caltech_exp.training.device import choose_device
        from caltech_exp.training.run import TaskContext

        if self.torch_home:
            os.environ["TORCH_HOME"] = str(expand_path(self.torch_home, "torch_home"))
        use_torch_home_of_submission(self.torch_home_here)
        device = choose_device(self.device)
        on_node = expand_path(self.packs_on_node, "packs_on_node") if self.packs_on_node else None
        packs = PackStore(Path(self.packs), on_node)
        seconds = 60 * self.checkpoint_minutes
        return TaskContext(
            Path(self.folder), data, device, packs, origin, seconds, stop_request, keep_weights=self.keep_weights
        )

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What runs after a requeue: the same task, which resumes its runs."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class PackTask:
    """Make packs of the images in `data`, in the folder `packs` that all tasks share.

    submission  folder of the submission, where the task records how it ended
    """

    data: str
    packs: str
    items: tuple[PackKey, ...]
    log_mb: float
    submission: str
    split: Split | None = None

    def __call__(self) -> None:
        """Make the missing packs. Raises UserError for a damaged image or a folder that cannot be written."""
        with _recorded_end(Path(self.submission), PREPARATION_END, self.log_mb):
            import_libraries(eager=True)
            from caltech_exp.data.packs import shared_pack

            data = read_data_set(Path(self.data), self.split)
            for item in self.items:
                shared_pack(Path(self.packs), split_contents(data, *item))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What runs after a requeue: the same task, which makes the remaining packs."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class AggregateTask:
    """Write the report on the study `runs` into `report`, and record in the folder `submission` how that ended."""

    runs: str
    report: str
    submission: str
    log_mb: float

    def __call__(self) -> None:
        """Call the command. Raises RuntimeError if it fails."""
        with _recorded_end(Path(self.submission), REPORT_END, self.log_mb):
            command = own_command("caltech_exp.commands.aggregate", (f"runs={self.runs}", f"out={self.report}"))
            # The data set is the study's, whatever the environment of the user who submitted names.
            environment = python_environment()
            environment.pop("CALTECH101_ROOT", None)
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
                check=False,
            )
            print(done.stderr, file=sys.stderr, end="", flush=True)
            if done.returncode < 0:
                raise _ReportError(f"it was killed by {signal.Signals(-done.returncode).name}")
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
                raise _ReportError(lines[-1].removeprefix("error: "))


class _ReportError(RuntimeError):
    """The command that writes the report failed."""


@contextlib.contextmanager
def _recorded_end(folder: Path, name: str, log_mb: float) -> Iterator[None]:
    """Handle signals, limit logs, and record how the job ends in the file `name`; the log says it too."""
    SignalHandler(StopRequest())
    environment = submitit.JobEnvironment()

    def record(reason: str) -> None:
        end = JobEnd(
            status="failed" if reason else "finished",
            reason=reason,
            job=environment.job_id,
            log=str(environment.paths.stdout),
            when=utc_now(),
        )
        with contextlib.suppress(OSError):
            write_record(folder, name, end)

    try:
        limit_logs(log_mb)
        yield
    except Exception as error:
        record(_reason(error))
        raise
    record("")


def _reason(error: Exception) -> str:
    """Why such a job failed, in one line."""
    if isinstance(error, UncompletedJobError):
        return "it reached its time limit; give cpu_jobs in the profile more time_minutes"
    text = str(error) if isinstance(error, _ReportError) else error_line(error)
    return one_line(shown(text, MAX_REASON_CHARACTERS))
