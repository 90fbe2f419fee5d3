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


class CodeVersion(StrictRecord):
    """The package's version and, in a git checkout, its commit and whether anything was uncommitted."""

    version: str
    commit: str | None
    dirty: bool | None

    def __str__(self) -> str:
        if self.commit is None:
            return f"{self.version} (no git checkout)"
        return f"{self.version} ({self.commit[:12]}{', uncommitted changes' if self.dirty else ''})"


@dataclass(frozen=True)
class Origin:
    """Where a run is executed from: submission, job id, log file, version of the running code."""

    submission: str
    job: str
    log: str
    code: CodeVersion


def code_version() -> CodeVersion:
    """The version of the running code. Files that git does not track, such as results, leave it clean."""
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
