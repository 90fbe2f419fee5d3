"""Which code and which libraries computed a result."""

import contextlib
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import caltech_exp
from caltech_exp.bootstrap import command
from caltech_exp.child_environment import run_program
from caltech_exp.records import StrictRecord

LIBRARIES = ("torch", "torchvision", "submitit", "pillow", "numpy")
CHECKOUT = Path(caltech_exp.__file__).resolve().parent.parent
"""The folder of the running code: a checkout, an installation, or the snapshot that a task runs from."""
SNAPSHOT = "snapshot.json"
"""The file of a snapshot (submission/snapshot.py) that holds its CodeVersion; `source` is the folder's name."""
BUILD = Path(caltech_exp.__file__).with_name("_build.json")
"""The file of a wheel that holds the CodeVersion it was built from (setup.py)."""
GIT_SECONDS = 20.0
VARIABLES_OF_GIT = (
    "PATH", "LD_LIBRARY_PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE",
    "LC_MESSAGES",
)  # fmt: skip
"""All that git gets of this process's environment."""


class CodeVersion(StrictRecord):
    """The package's version and, in a git checkout, its commit and whether there were uncommitted changes.

    source  name of the snapshot that tasks run from, a hash of all its files; None outside a snapshot
    """

    version: str
    commit: str | None
    dirty: bool | None
    source: str | None = None

    def __str__(self) -> str:
        """`0.1.0 (1234567890ab, uncommitted changes, source 0123456789ab)`; a clean commit needs no source."""
        words = [self.commit[:12] if self.commit else "no git checkout"]
        if self.dirty:
            words.append("uncommitted changes")
        if self.source and (self.dirty or not self.commit):
            words.append(f"source {self.source[:12]}")
        return f"{self.version} ({', '.join(words)})"


@dataclass(frozen=True)
class TaskOrigin:
    """Where a run is executed from."""

    submission: str
    job: str
    log: str
    code: CodeVersion


def code_version() -> CodeVersion:
    """The version of the running code: of a snapshot, the code that was copied; of a wheel, the commit it is from.

    Files that git does not track, such as results, do not make it dirty. Raises OSError or
    pydantic.ValidationError for a damaged snapshot.
    """
    if (CHECKOUT / SNAPSHOT).exists():
        original = CodeVersion.model_validate_json((CHECKOUT / SNAPSHOT).read_bytes())
        return original.model_copy(update={"source": CHECKOUT.name})
    if BUILD.exists():
        return CodeVersion.model_validate_json(BUILD.read_bytes())
    commit = _git("rev-parse", "HEAD") if (CHECKOUT / ".git").exists() else None
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return CodeVersion(
        version=caltech_exp.__version__, commit=commit, dirty=None if changes is None else bool(changes)
    )


def _git(*arguments: str) -> str | None:
    """What git prints about the checkout; None if it is missing, fails or takes longer than GIT_SECONDS.

    The checkout may belong to another user (safe.directory): its code runs already. Repositories around it do
    not count.
    """
    environment = {name: os.environ[name] for name in VARIABLES_OF_GIT if name in os.environ}
    environment |= {
        "GIT_CEILING_DIRECTORIES": str(CHECKOUT.parent),
        "GIT_OPTIONAL_LOCKS": "0",  # writes nothing
        "GIT_TERMINAL_PROMPT": "0",
    }
    settings = ("-c", f"safe.directory={CHECKOUT}", "-c", "core.fsmonitor=false")  # fsmonitor starts a daemon
    try:
        done = run_program(
            ["git", "--no-pager", *settings, "-C", str(CHECKOUT), *arguments], GIT_SECONDS, environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout.strip()


def library_versions() -> dict[str, str]:
    """The installed versions of Python and of the libraries that can change a result."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@dataclass(frozen=True)
class Snapshot:
    """A copy of the source.

    digest  SHA-256 of the copy of caltech_exp/bootstrap.py, by which its processes start
    new     whether this submission made it
    """

    folder: Path
    code: CodeVersion
    digest: str
    new: bool

    def command(self, module: str, *arguments: str) -> tuple[str, ...]:
        """The arguments of Python that run a module of the snapshot."""
        return command(self.folder, self.digest, module, arguments)

    def forget(self) -> None:
        """Remove the copy if this submission made it, and the folders around it if they are empty then."""
        if self.new:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()
                self.folder.parent.parent.rmdir()
