"""Who holds which run, seen from outside of the suite: by the lease files and the life of their processes."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

Process = tuple[int, int]
"""Its number, and when it started."""

ENDING_SECONDS = 20.0
"""How long a process that was stopped while another took its run may live once it goes on: it looks, and ends."""


@dataclass
class Watcher:
    """Looks at every lease and at the life of its process, many times a second, from outside of the suite.

    holders     (run, number) -> process, and when it was first seen holding
    alive       process -> when it was last seen running; one that is stopped does not run
    given_back  the (run, number) that were given back
    stopped_at  (run, number) that was taken while the holder before was stopped -> for how long that one ran since
    """

    runs: Path
    holders: dict[tuple[str, int], tuple[int, int, float]] = field(default_factory=dict)
    alive: dict[Process, float] = field(default_factory=dict)
    given_back: set[tuple[str, int]] = field(default_factory=set)
    stopped_at: dict[tuple[str, int], float] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    looked: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        new = []
        for path in self.runs.glob("*/lease.*.json"):
            with contextlib.suppress(OSError, ValueError, LookupError):
                key = (path.parent.name, int(path.name.split(".")[1]))
                if path.stat().st_mtime == 0:
                    self.given_back.add(key)
                if key not in self.holders:
                    holder = json.loads(path.read_text())
                    self.holders[key] = (holder["pid"], holder["started"], time.monotonic())
                    new.append(key)
        states = {process: _state(process) for process in {holder[:2] for holder in self.holders.values()}}
        now = time.monotonic()
        for process, state in states.items():
            if state not in ("", "T"):
                self.alive[process] = now
        for run, number in new:
            before = self.holders.get((run, number - 1))
            if before and states[before[:2]] == "T":
                self.stopped_at[run, number] = 0.0
        for run, number in self.stopped_at:
            if states[self.holders[run, number - 1][:2]] not in ("", "T"):
                self.stopped_at[run, number] += now - self.looked
        self.looked = now

    def holding(self) -> set[int]:
        """The processes that hold a run now."""
        now = time.monotonic()
        holders = list(self.holders.items())
        last: dict[str, int] = {}
        for (run, number), _ in holders:
            last[run] = max(number, last.get(run, 0))
        return {
            pid
            for (run, number), (pid, started, _) in holders
            if number == last[run]
            and self.alive.get((pid, started), 0.0) > now - 0.5
            and (run, number) not in self.given_back
        }

    def is_succeeded(self, pid: int) -> bool:
        """Whether another process has taken a run from that one."""
        holders = dict(self.holders)
        return any(
            holder[0] == pid and holders.get((run, number + 1), holder)[:2] != holder[:2]
            for (run, number), holder in holders.items()
        )

    def watch(self) -> None:
        while not self.stopped.wait(0.04):
            self.look()

    def overlaps(self) -> list[str]:
        """Runs that a process took while the one before it was still there and had not given them back."""
        found = []
        for (run, number), (pid, started, since) in self.holders.items():
            before = self.holders.get((run, number - 1))
            if not before or before[:2] == (pid, started) or (run, number - 1) in self.given_back:
                continue
            if (run, number) in self.stopped_at:
                if self.stopped_at[run, number] > ENDING_SECONDS:
                    found.append(f"{run}: the holder of lease {number - 1} woke up and went on beside {number}")
            elif self.alive.get(before[:2], 0.0) > since + 0.1:
                found.append(f"{run}: lease {number} while the holder of {number - 1} was alive")
        return found


def _state(process: Process) -> str:
    """Its state as in /proc, T if it is stopped; empty if it is gone."""
    pid, started = process
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in "ZX" and int(fields[19]) == started:
            return fields[0]
    return ""
