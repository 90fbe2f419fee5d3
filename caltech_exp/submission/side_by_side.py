"""Train the runs of a task side by side, each in a process of its own, on the task's GPUs or cores.

The task's process imports torch once and forks a process for each run. It never uses a GPU itself, because CUDA
does not survive a fork. It hands signals on, waits for all processes, and starts a run again whose process was
killed, or ran out of memory beside others.
"""

import contextlib
import ctypes
import math
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from caltech_exp.executors.sbatch import ENDED
from caltech_exp.files import usable_cores
from caltech_exp.study.lease import ReplacedError
from caltech_exp.submission.signal_handler import SignalHandler
from caltech_exp.training.failures import StopRequest

FAILED = 1  # exit status of a run's process whose failure is recorded
OUT_OF_MEMORY = 3  # the same, and the failure is that memory ran out
REPLACED = 4  # Slurm has started the task elsewhere
ENDS = {0: "ended", ENDED: "stopped", OUT_OF_MEMORY: "out of memory", REPLACED: "trained elsewhere"}
MOST_ON_A_GPU = 4  # of runs_at_once=auto: a GPU computes the kernels of several processes in turns
SETTLE_SECONDS = 3.0  # from the first step until memory is measured
POLL_SECONDS = 0.2
MARGIN = 1.5  # evaluation may need more memory than the first steps
CUDA_CONTEXT_BYTES = 600 * 2**20
PR_SET_PDEATHSIG = 1  # prctl(2)
SIGNALS = (signal.SIGUSR2, signal.SIGTERM)


@dataclass(frozen=True)
class Layout:
    """Where the runs of a task train.

    gpus     CUDA_VISIBLE_DEVICES of each place; one empty name where the task has one GPU, or trains on the CPU
    each     the most runs at a time in each place
    threads  CPU threads of each run; None for torch's own choice, for a single run at a time
    is_auto  whether a place begins with one run, and takes more if memory allows
    """

    gpus: tuple[str, ...]
    each: int
    threads: int | None
    is_auto: bool = False

    @property
    def is_single(self) -> bool:
        return len(self.gpus) * self.each == 1


def choose_layout(at_once: int | Literal["auto"], runs: int, device: str, cores: int | None) -> Layout:
    """The layout of a task with so many runs. `cores` are the profile's; None counts those of this process.

    A run's number of threads follows from these alone, so that it is the same after a requeue.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device == "cuda" else []
    gpus = tuple(filter(None, map(str.strip, visible)))
    places = gpus if len(gpus) > 1 and (runs > 1 or at_once != 1) else ("",)
    if at_once == 1 and len(places) == 1:
        return Layout(places, 1, cores)
    total = cores or usable_cores()
    if at_once == "auto":
        most = total // len(places) if device == "cpu" else min(MOST_ON_A_GPU, total // len(places))
        each = max(1, min(most, math.ceil(runs / len(places))))
    else:
        each = at_once
    return Layout(places, each, max(1, total // (each * len(places))), at_once == "auto")


@dataclass(frozen=True)
class _Memory:
    """What a run's process needs after its first steps, and what its GPU then has free, in bytes; 0: no GPU."""

    host: int
    gpu: int = 0
    gpu_free: int = 0

    def more_runs(self, running: int, places: int) -> int:
        """How many such runs fit into each place beside those that train now in all of them."""
        need = MARGIN * self.host
        meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        fits = [int(1024 * int(meminfo["MemAvailable"].split()[0]) / need) // places]
        node, core, cores = (
            int(os.environ.get(f"SLURM_{name}") or 0) for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE")
        )
        if job_mb := node or core * cores:  # the limit of this Slurm job
            fits.append((int(2**20 * job_mb / need) - running) // places)
        if self.gpu:
            fits.append(int(self.gpu_free / (MARGIN * self.gpu)))
        return max(0, min(fits))


@dataclass
class _Child:
    """The process of a run; it sends its memory to `reports` once."""

    run: int
    place: int
    process: Any
    reports: Connection
    has_reported: bool = False


@dataclass
class SideBySide:
    """The processes of a task's runs.

    names         of the runs, in order
    train         trains a run by its number with a stop request and a log; its exit status
    log           the file of a run's standard output by its name; errors go beside it
    why_not       asked before a run starts: why no more runs may start, or an empty string
    stop_request  of the task
    """

    names: Sequence[str]
    layout: Layout
    train: Callable[[int, StopRequest, Path], int]
    log: Callable[[str], Path]
    why_not: Callable[[], str]
    stop_request: StopRequest

    def __post_init__(self) -> None:
        self._children: list[_Child] = []
        self._tries: Counter[int] = Counter()
        self._limits = [1 if self.layout.is_auto else self.layout.each] * len(self.layout.gpus)
        self._is_replaced = False
        self.interrupted: list[str] = []

    def run(self) -> list[str]:
        """Train all runs and return the names of those that failed, once every process has ended.

        After a stop request no further run starts, and `interrupted` has those without an end. Raises
        ReplacedError if Slurm has started the task elsewhere.
        """
        self.stop_request.listening = True
        waiting, failed, is_told = deque(range(len(self.names))), [], False
        places = f" on each of {len(self.layout.gpus)} GPUs" if len(self.layout.gpus) > 1 else ""
        print(f"runs at a time: {self.layout.each}{places}; CPU threads each: {self.layout.threads}", flush=True)
        while waiting or self._children:
            is_ending = self.stop_request.requested or self._is_replaced
            if is_ending:
                self.interrupted += [self.names[run] for run in waiting]
                waiting.clear()
            if is_ending and not is_told:
                for child in self._children:
                    child.process.terminate()
                is_told = True
            while waiting and (place := self._free_place()) is not None:
                if reason := self.why_not():
                    print(f"{len(waiting)} runs are not started: {reason}", flush=True)
                    waiting.clear()
                else:
                    self._start(waiting.popleft(), place)
            for child in self._ended():
                if is_ending and child.process.exitcode == ENDED:
                    self.interrupted.append(self.names[child.run])
                elif not is_ending and self._shall_retry(child):
                    waiting.append(child.run)
                elif child.process.exitcode not in (0, ENDED, REPLACED):
                    failed.append(self.names[child.run])
        if self._is_replaced:
            raise ReplacedError("Slurm has started this task elsewhere")
        return sorted(failed, key=self.names.index)

    def _free_place(self) -> int | None:
        """The place with the fewest runs, if it may take one more."""
        counts = Counter(child.place for child in self._children)
        place = min(range(len(self._limits)), key=lambda place: counts[place] - self._limits[place])
        return place if counts[place] < self._limits[place] else None

    def _start(self, run: int, place: int) -> None:
        reports, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=self._work, args=(run, place, sender, os.getpid()), name=self.names[run]
        )
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the process has handlers of its own
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        sender.close()
        self._tries[run] += 1
        self._children.append(_Child(run, place, process, reports))
        gpu = f" on GPU {self.layout.gpus[place]}" if self.layout.gpus[place] else ""
        print(f"run {self.names[run]}: process {process.pid}{gpu}, log {self.log(self.names[run])}", flush=True)

    def _work(self, run: int, place: int, sender: Connection, parent: int) -> None:
        """The process of a run. It ends with the task's process, saving a checkpoint, however that ends."""
        stop_request = StopRequest()
        SignalHandler(stop_request, may_requeue=False)
        with contextlib.suppress(AttributeError):  # not Linux
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if os.getppid() != parent:
            sys.exit(ENDED)
        log = self.log(self.names[run])
        for fd, path in ((1, log), (2, log.with_suffix(".err"))):
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.dup2(file, fd)
            os.close(file)
        if gpu := self.layout.gpus[place]:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        threading.Thread(target=_report_later, args=(stop_request, sender), daemon=True).start()
        try:
            status = self.train(run, stop_request, log)
            if status == 0:  # it may have ended before it was measured
                _report(sender)
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
        sys.exit(status)

    def _read_reports(self) -> None:
        """Let a place take more runs once those that train there have reported what memory they need."""
        for child in self._children:
            if child.has_reported or not child.reports.poll():
                continue
            child.has_reported = True
            with contextlib.suppress(EOFError):
                memory: _Memory = child.reports.recv()
                beside = [other for other in self._children if other.place == child.place]
                if self.layout.is_auto and all(other.has_reported for other in beside):
                    more = memory.more_runs(len(self._children), len(self._limits))
                    most = min(self.layout.each, len(beside) + more)
                    if most > self._limits[child.place]:
                        print(f"memory allows {most} runs at a time", flush=True)
                        self._limits[child.place] = most

    def _ended(self) -> list[_Child]:
        """Wait a moment for processes to end, and take those that have."""
        wait([child.process.sentinel for child in self._children], POLL_SECONDS)
        self._read_reports()
        ended = [child for child in self._children if child.process.exitcode is not None]
        for child in ended:
            self._children.remove(child)
            child.reports.close()
            status = child.process.exitcode
            self._is_replaced |= status == REPLACED
            words = ENDS.get(status, "failed") if status >= 0 else f"killed by {signal.Signals(-status).name}"
            print(f"run {self.names[child.run]}: {words}", flush=True)
        return ended

    def _shall_retry(self, child: _Child) -> bool:
        """Whether a run starts again: if its process was ended from outside, or out of memory beside others."""
        status, limit = child.process.exitcode, self._limits[child.place]
        is_due = status < 0 or status == ENDED or (status == OUT_OF_MEMORY and limit > 1)
        if not is_due or self._tries[child.run] > 1:
            return False
        if status in (OUT_OF_MEMORY, -signal.SIGKILL) and limit > 1:  # the kernel's way to say that memory is out
            self._limits[child.place] = limit - 1
        print(f"run {self.names[child.run]} starts again, {self._limits[child.place]} at a time", flush=True)
        return True


def _report_later(stop_request: StopRequest, sender: Connection) -> None:
    """Report a moment after the first step."""
    while not stop_request.listening:
        time.sleep(POLL_SECONDS)
    time.sleep(SETTLE_SECONDS)
    _report(sender)


def _report(sender: Connection) -> None:
    """Send what memory this process needs."""
    torch = sys.modules.get("torch")
    host = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu: tuple[int, ...] = ()
    if torch and torch.cuda.is_initialized():
        gpu = (torch.cuda.max_memory_reserved() + CUDA_CONTEXT_BYTES, torch.cuda.mem_get_info()[0])
    sender.send(_Memory(host, *gpu))
