"""What a wheel and a source archive hold beyond pyproject.toml: the profiles, and the commit built from."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

SOURCE = Path(__file__).resolve().parent


def record_commit(package: Path, version: str) -> None:
    """Write version and git commit of the source into the package that is built; nothing outside of git."""
    commit = git("rev-parse", "HEAD") if (SOURCE / ".git").exists() else None
    changes = git("status", "--porcelain", "--untracked-files=no") if commit else None
    if changes is not None:
        record = {"version": version, "commit": commit, "dirty": bool(changes)}
        (package / "_build.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


def git(*words: str) -> "str | None":
    """What git prints about the source; None if it fails. A git hook's variables name another repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={SOURCE}", "-C", str(SOURCE), *words]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class BuildPackage(build_py):
    def run(self) -> None:
        if not self.editable_mode:  # what an earlier build left there would get into this one
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib, "caltech_exp")
            shutil.copytree(SOURCE / "slurm" / "profiles", package / "profiles" / "shipped")
            record_commit(package, self.distribution.get_version())


class SourceArchive(sdist):
    def make_release_tree(self, base_dir: str, files: "list[str]") -> None:
        super().make_release_tree(base_dir, files)
        record_commit(Path(base_dir, "caltech_exp"), self.distribution.get_version())


setup(cmdclass={"build_py": BuildPackage, "sdist": SourceArchive})
