"""Which code and which libraries computed a result."""

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import caltech_exp
from caltech_exp.record import StrictRecord

LIBRARIES = ("torch", "torchvision", "submitit", "pillow", "numpy")
CHECKOUT = Path(caltech_exp.__file__).resolve().parent.parent
"""The folder of the running code: a checkout, what `pip` installed, or the snapshot that a task runs from."""
SNAPSHOT = "snapshot.json"
"""In the folder of a snapshot (jobs/snapshot.py): its CodeVersion."""


class CodeVersion(StrictRecord):
    """The package's version and, in a git checkout, its commit and whether anything was uncommitted.

    source  name of the snapshot that tasks run from, a hash of all its files; None for code that is no snapshot
    """

    version: str
    commit: str | None
    dirty: bool | None
    source: str | None = None

    def __str__(self) -> str:
        """`0.1.0 (1234567890ab, uncommitted changes, source 0123456789ab)`; a clean commit says all by itself."""
        words = [self.commit[:12] if self.commit else "no git checkout"]
        words += ["uncommitted changes"] if self.dirty else []
        words += [f"source {self.source[:12]}"] if self.source and (self.dirty or not self.commit) else []
        return f"{self.version} ({', '.join(words)})"


@dataclass(frozen=True)
class Origin:
    """Where a run is executed from: submission, job id, log file, version of the running code."""

    submission: str
    job: str
    log: str
    code: CodeVersion


def code_version() -> CodeVersion:
    """The version of the running code; a snapshot's is that of the code it was taken of.

    Files that git does not track, such as results, leave it clean. Raises OSError or pydantic.ValidationError for
    a snapshot that somebody has damaged.
    """
    if (CHECKOUT / SNAPSHOT).exists():
        return CodeVersion.model_validate_json((CHECKOUT / SNAPSHOT).read_bytes())
    commit = _git("rev-parse", "HEAD") if (CHECKOUT / ".git").exists() else None
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return CodeVersion(
        version=caltech_exp.__version__, commit=commit, dirty=None if changes is None else bool(changes)
    )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def library_versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that can change a result."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
