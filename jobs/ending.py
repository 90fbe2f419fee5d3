"""Signals that end a task. A run in training saves where it is first."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from caltech_exp.interruption import Requests

REQUEUE_TRIES = 10
SECONDS_BETWEEN = 5.0


class Ending:
    """Answers the signals of the batch system for as long as the task lives.

    SIGUSR2 (preemption, time limit; submitit's) ends the task and has it queued again in place, SIGTERM (scancel,
    a machine that goes down) just ends it. Where `requests.heard`, the run in training is asked to stop, and
    whoever runs it calls `now` once it has.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self._number: int = signal.SIGTERM
        self._requeue: Callable[[int, FrameType | None], Any] | int | None = signal.getsignal(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, self._asked)
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, number: int, _frame: FrameType | None) -> None:
        if self._number != signal.SIGUSR2:  # the time limit's SIGTERM comes after its SIGUSR2
            self._number = number
        if self.requests.heard:
            self.requests.stop = True
        else:
            self.now()

    def now(self) -> None:
        """End the task. Raises SystemExit, or submitit's UncompletedJobError where it is not to run again."""
        # torch raises an error when a DataLoader worker ends, and all of them end with the task now.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._number == signal.SIGUSR2 and callable(self._requeue):
            for _ in range(REQUEUE_TRIES):
                try:
                    self._requeue(self._number, None)
                except subprocess.SubprocessError as error:  # slurmctld may be away for a moment
                    print(f"not queued again yet: {error}", flush=True)
                    time.sleep(SECONDS_BETWEEN)
        sys.exit(128 + signal.SIGTERM)
