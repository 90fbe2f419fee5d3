"""What runs on a node: train runs, decode images, write the report; each pickled by submitit.

submitit has Slurm (or its own controller, on this machine) open `<job>_0_log.out` and `.err` for appending, as
the task's standard output and error themselves. So whatever is printed, by Python, by C++ or by a child, is in the
file at once, and a SIGKILL loses nothing. A thread of the task looks at the size of both files every second and
shortens one that is too long: its head stays, then a line says how much was left out, then its tail.

A pipe to a process that writes the files would bound them to the byte, but costs every line a copy, loses what is
in the pipe when the task's cgroup is killed, and stops the task when that process dies. Here a task that prints
without end is above the limit for at most a second, and of lines that are written in the very moment of shortening
some may be missing or stand before the line.

Reports are not imported here: their command line is called, that of the same snapshot.
"""

import contextlib
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import submitit

from caltech_exp import cli
from caltech_exp.bootstrap import own_command
from caltech_exp.child_environment import python_environment
from caltech_exp.cli import UserError, one_line, shown
from caltech_exp.config import RunConfig, run_id
from caltech_exp.data.pack_format import PackKey, split_contents
from caltech_exp.data.splits import read_data_set
from caltech_exp.files import utc_now
from caltech_exp.machine import keep_freed_memory
from caltech_exp.monitoring.report_job import PREPARATION_END, REPORT_END, JobEnd
from caltech_exp.profiles.paths import expand_path, use_torch_home_of_submission
from caltech_exp.provenance import CHECKOUT, CodeVersion, Origin, code_version
from caltech_exp.records import write_record
from caltech_exp.study.lease import ReplacedError
from caltech_exp.submission.signal_handler import SignalHandler
from caltech_exp.training.failures import (
    Interrupted,
    StopRequest,
    error_line,
    import_libraries,
    record_failure_of_free_run,
)

if TYPE_CHECKING:
    from caltech_exp.training.run import TaskContext


LOOK_SECONDS = 1.0
OMITTED = re.compile(rb"\n\.\.\. ([\d,]+) bytes of this log were left out here \.\.\.\n")
LONGEST_LINE = 4096
"""Where head and tail are cut at a line's end: within that many bytes."""


def limit_logs(megabytes: float) -> None:
    """Keep standard output and error of this process below `megabytes` each, from now on to its end.

    Each must be a regular file opened for appending; anything else is left as it is, with a line that says so.
    """
    limit = round(megabytes * 1e6)
    files = [fd for fd in (1, 2) if _can_be_shortened(fd)]
    if len(files) < 2:
        print("not a log file opened for appending: its size is not limited", file=sys.stderr, flush=True)
    threading.Thread(target=_watch, args=(files, limit), name="log-limit", daemon=True).start()


def shorten(fd: int, limit: int) -> None:
    """Leave out the middle of the file if it is longer than `limit` bytes; about half as many are kept.

    `fd` is opened for appending, and the file may be appended to meanwhile. Raises OSError.
    """
    size = os.fstat(fd).st_size
    if size <= limit:
        return
    file = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        head, before = _head(file, limit // 8)
        start = size - 3 * limit // 8
        tail = os.pread(file, size - start, start)
        tail = tail[tail.find(b"\n", 0, LONGEST_LINE) + 1 :]
        left_out = before + size - len(tail) - head
        more = os.pread(file, limit, size)  # what was printed meanwhile
        tail += more
        os.ftruncate(file, head)
        os.write(file, b"\n... %s bytes of this log were left out here ...\n" % f"{left_out:,}".encode() + tail)
    finally:
        os.close(file)


def _head(file: int, length: int) -> tuple[int, int]:
    """Bytes of the head that stay, and how many were left out after it before, less the line that says so."""
    text = os.pread(file, length + LONGEST_LINE, 0)
    earlier = OMITTED.search(text)
    if earlier:
        number = int(earlier[1].replace(b",", b""))
        return earlier.start(), number - len(earlier[0])
    end = text.rfind(b"\n", 0, length)
    return (end if end >= length - LONGEST_LINE and end > 0 else length), 0


def _can_be_shortened(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
    except OSError:
        return False


def _watch(files: Collection[int], limit: int) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        for fd in files:
            try:
                shorten(fd, limit)
            except OSError:  # a disk that cannot be written, for now
                continue


@dataclass(frozen=True)
class TrainTask:
    """Runs of one task.

    data, data_on_node    the data folder; where the second is given it is used, with `$NAME` expanded on the node
    packs, packs_on_node  the folder of decoded images, and the node's own to copy them to, expanded there
    threads               CPU threads of torch, None for torch's own choice
    torch_home            the profile's, expanded on the node
    torch_home_here       where submit found weights, for tasks that get no variable that says where
    checkpoint_minutes    how often a run saves where it is
    log_mb                longest log, MB
    code                  of the snapshot that was submitted, which this must be run from
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

    def __call__(self) -> None:
        """Train every run. One that fails is recorded and does not keep the next from training, if the GPU can."""
        stop_request = StopRequest()
        signal_handler = SignalHandler(stop_request)
        environment = submitit.JobEnvironment()
        origin = Origin(self.submission, environment.job_id, str(environment.paths.stdout), self.code)
        try:
            limit_logs(self.log_mb)
            print(f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}", flush=True)
            self._check_code()
            self._import_libraries()
            context = self._context(origin, stop_request)
        except Exception as error:
            for config, seed in self.runs:
                name = run_id(config, seed)
                record_failure_of_free_run(Path(self.folder), name, error, origin, self.fingerprint)
            raise
        self._train(context, signal_handler)

    def _train(self, context: "TaskContext", signal_handler: SignalHandler) -> None:
        """Train one run after the other. Raises RuntimeError in the end if some failed.

        After some errors CUDA answers everything with that error until the process ends. Then the task ends: the
        runs to come would be recorded as failed with it. Submitting again trains them.
        """
        from caltech_exp.training.device import why_broken
        from caltech_exp.training.run import run_one

        failed = []
        for left, (config, seed) in zip(reversed(range(len(self.runs))), self.runs, strict=True):
            try:
                run_one(config, seed, context)
            except Interrupted:
                signal_handler.end_task()
            except ReplacedError as error:
                print(f"run {run_id(config, seed)}: {error}", flush=True)
                signal_handler.abandon_task()
            except Exception as error:
                if len(self.runs) == 1:
                    raise
                print(f"run {run_id(config, seed)} failed: {type(error).__name__}: {error}", flush=True)
                failed.append(run_id(config, seed))
                if left and (reason := why_broken(context.device)):
                    raise RuntimeError(
                        f"this process cannot use the GPU any more ({reason}) since run {failed[-1]} failed; "
                        f"{left} of {len(self.runs)} runs were not tried, submit again"
                    ) from error
            if context.stop_request.requested and left:
                signal_handler.end_task()
        if failed:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} runs failed: {', '.join(failed)}")

    def _import_libraries(self) -> None:
        """Import torch, on the node only: submitting stays fast. Raises LibraryError."""
        if any(config.engine == "fast" for config, _ in self.runs):
            keep_freed_memory()
        import_libraries()
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)

    def _check_code(self) -> None:
        """Raises UserError if this is not the code that was submitted: its results would be another code's."""
        here = code_version()
        if here != self.code:
            raise UserError(
                f"the task runs caltech_exp {here} from {CHECKOUT}, and {self.code} was submitted; submit again"
            )

    def _context(self, origin: Origin, stop_request: StopRequest) -> "TaskContext":
        """What all runs of the task share. Raises UserError or NodeError if something of it is not there."""
        from caltech_exp.data.packs import PackStore
        from caltech_exp.training.device import choose_device
        from caltech_exp.training.run import TaskContext

        if self.torch_home:
            os.environ["TORCH_HOME"] = str(expand_path(self.torch_home, "torch_home"))
        use_torch_home_of_submission(self.torch_home_here)
        device = choose_device(self.device)
        root = expand_path(self.data_on_node, "data_on_node") if self.data_on_node else Path(self.data)
        data = read_data_set(root)
        if data.fingerprint != self.fingerprint:
            raise UserError(
                f"the data in {data.root} is not what was submitted "
                f"(fingerprint {data.fingerprint}, not {self.fingerprint}); copy it again, or submit anew"
            )
        on_node = expand_path(self.packs_on_node, "packs_on_node") if self.packs_on_node else None
        packs = PackStore(Path(self.packs), on_node)
        seconds = 60 * self.checkpoint_minutes
        return TaskContext(Path(self.folder), data, device, packs, origin, seconds, stop_request)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit has Slurm start in place of this task after preemption or at the time limit: the same."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class PackTask:
    """Packs to make of the images in `data`, into the folder `packs` that all tasks share.

    submission  folder of the submission, where it leaves how that went
    """

    data: str
    packs: str
    items: tuple[PackKey, ...]
    log_mb: float
    submission: str

    def __call__(self) -> None:
        """Make what is missing. Raises UserError for a damaged image or a folder that cannot be written."""
        SignalHandler(StopRequest())
        environment = submitit.JobEnvironment()
        try:
            limit_logs(self.log_mb)
            self._make()
        except Exception as error:
            write_end(Path(self.submission), PREPARATION_END, reason_of(error), environment)
            raise
        write_end(Path(self.submission), PREPARATION_END, "", environment)

    def _make(self) -> None:
        import_libraries()
        from caltech_exp.data.packs import shared_pack  # torchvision is imported where it is needed

        data = read_data_set(Path(self.data))
        for item in self.items:
            shared_pack(Path(self.packs), split_contents(data, *item))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit has Slurm start after preemption or at the time limit: the same, for what is left."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class AggregateTask:
    """Write the report on the study `runs` into `report`, and how that went into the folder `submission`."""

    runs: str
    report: str
    submission: str
    log_mb: float

    def __call__(self) -> None:
        """Raises RuntimeError if there is no report then."""
        SignalHandler(StopRequest())
        environment = submitit.JobEnvironment()
        try:
            limit_logs(self.log_mb)
            reason = self._aggregate()
        except Exception as error:  # of a node that cannot start a process, for example
            reason = reason_of(error)
        write_end(Path(self.submission), REPORT_END, reason, environment)
        if reason:
            raise RuntimeError(reason)

    def _aggregate(self) -> str:
        """Call reports/aggregate.py; why it failed, or nothing."""
        command = own_command("caltech_exp.commands.aggregate", (f"runs={self.runs}", f"out={self.report}"))
        # The data set is the study's, whatever the environment of who submitted names.
        environment = {name: value for name, value in python_environment().items() if name != "CALTECH101_ROOT"}
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
        if done.returncode == 0:
            return ""
        if done.returncode < 0:
            return f"it was killed by {signal.Signals(-done.returncode).name}"
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        return one_line(shown(last.removeprefix("error: "), LONGEST_REASON))


LONGEST_REASON = 500


def write_end(folder: Path, name: str, reason: str, environment: "submitit.JobEnvironment") -> None:
    """Leave on record how the job of `environment` ended: with `reason`, or well where that is empty.

    Where it cannot be written, the log still says it.
    """
    record = JobEnd(
        status="failed" if reason else "finished",
        reason=reason,
        job=environment.job_id,
        log=str(environment.paths.stdout),
        when=utc_now(),
    )
    with contextlib.suppress(OSError):
        write_record(folder, name, record)


def reason_of(error: Exception) -> str:
    """Why such a job failed, in one line."""
    from submitit.core.utils import UncompletedJobError  # not needed to read the record

    if isinstance(error, UncompletedJobError):
        return "it reached its time limit; give cpu_jobs in the profile more time_minutes"
    return cli.one_line(cli.shown(error_line(error), LONGEST_REASON))
