"""Who holds which run, seen from outside of the suite: by the lease files and the life of their processes."""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Watcher:
    """Looks at every lease and at the life of its process, many times a second, from outside of the suite."""

    runs: Path
    holders: dict[tuple[str, int], tuple[int, int, float]] = field(default_factory=dict)
    alive: dict[tuple[int, int], float] = field(default_factory=dict)
    given_back: set[tuple[str, int]] = field(default_factory=set)
    stopped: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """(run, number) -> process and when it was first seen holding; process -> when it was last seen alive."""
        for path in self.runs.glob("*/lease.*.json"):
            key = (path.parent.name, int(path.name.split(".")[1]))
            with contextlib.suppress(OSError):
                if path.stat().st_mtime == 0:
                    self.given_back.add(key)
            if key not in self.holders:
                with contextlib.suppress(OSError, ValueError):
                    holder = json.loads(path.read_text())
                    self.holders[key] = (holder["pid"], holder["started"], time.monotonic())
        for pid, started, _ in self.holders.values():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX" and int(fields[19]) == started:
                    self.alive[pid, started] = time.monotonic()

    def sees_training(self) -> bool:
        """Whether some process holds a run now."""
        now = time.monotonic()
        return any(
            self.alive.get(holder[:2], 0.0) > now - 0.5 and key not in self.given_back
            for key, holder in list(self.holders.items())
        )

    def watch(self) -> None:
        while not self.stopped.wait(0.02):
            self.look()

    def overlaps(self) -> list[str]:
        """Runs that a process took while the one before it was still there and had not given them back."""
        found = []
        for (run, number), (pid, started, since) in self.holders.items():
            before = self.holders.get((run, number - 1))
            if (run, number - 1) in self.given_back:
                continue
            if before and before[:2] != (pid, started) and self.alive.get(before[:2], 0.0) > since + 0.1:
                found.append(f"{run}: lease {number} while the holder of {number - 1} was alive")
        return found
