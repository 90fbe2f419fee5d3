"""Beside the training of a run: its progress for those who look, its checkpoints, and requests to stop."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caltech_exp.checkpoint import read_checkpoint, write_checkpoint
from caltech_exp.interruption import Interrupted, Requests
from caltech_exp.lease import Lease, ReplacedError
from caltech_exp.leftovers import CHECKPOINT
from caltech_exp.results import PROGRESS, Progress, write_record

Snapshot = dict[str, Any]


@dataclass
class Keeper:
    """Keeps one run.

    kin      what must be the same for a checkpoint to be gone on from: run, data, device and so on
    account  what the run has cost so far, to be kept in its checkpoint
    codes    every code that has trained it (lineage.recorded), to be kept there too
    """

    folder: Path
    lease: Lease
    requests: Requests
    every_seconds: float
    kin: dict[str, Any]
    account: Callable[[], dict[str, Any]]
    codes: list[dict[str, Any]] = field(default_factory=list)
    _saved: float = field(default_factory=time.monotonic)

    def resume(self) -> Snapshot | None:
        """The run's checkpoint, None if there is none to go on from; why not, the log says.

        Raises OSError if it cannot be read now.
        """
        found = read_checkpoint(self.folder / CHECKPOINT)
        if found is None:
            return None
        if isinstance(found, str):
            print(f"{self.folder / CHECKPOINT} is not used: {found}", flush=True)
            return None
        other = [
            f"{name} {found['kin'].get(name)}" for name, is_ in self.kin.items() if found["kin"].get(name) != is_
        ]
        if other:
            print(f"{self.folder / CHECKPOINT} is not used: it is of {', '.join(other)}", flush=True)
            return None
        return found

    def between(self, snapshot: Callable[[], Snapshot]) -> None:
        """Between two steps: save if it is time to, or asked for.

        Raises Interrupted if this process was asked to stop, LeaseLostError if another trains the run or will.
        """
        self.lease.check()
        if self.lease.is_asked:
            self._save(snapshot)
            raise ReplacedError("Slurm has started this job again, and the new process goes on with the run")
        if self.requests.stop:
            self._save(snapshot)
            raise Interrupted
        if time.monotonic() - self._saved >= self.every_seconds:
            self._save(snapshot)

    def _save(self, snapshot: Callable[[], Snapshot]) -> None:
        self.lease.confirm()
        start = time.monotonic()
        try:
            write_checkpoint(self.folder / CHECKPOINT, self._record(snapshot()))
        except OSError as error:  # the one before is whole still, and training goes on
            print(f"no checkpoint: {self.folder / CHECKPOINT}: {error.strerror or error}", flush=True)
        else:
            print(f"checkpoint written in {time.monotonic() - start:.1f} s", flush=True)
        self._saved = time.monotonic()

    def _record(self, snapshot: Snapshot) -> Snapshot:
        return {"kin": self.kin, "codes": self.codes, **self.account(), **snapshot}

    def note(self, progress: Progress) -> None:
        """Let others read how far the run is; that this may fail on a full disk is no reason to stop.

        Raises LeaseLostError if another trains the run.
        """
        self.lease.confirm()
        try:
            write_record(self.folder, PROGRESS, progress)
        except OSError as error:
            print(f"no progress.json: {error.strerror or error}", flush=True)
