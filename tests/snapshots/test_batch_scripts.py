"""What Slurm is given for every profile that comes with the suite: the batch scripts, word by word."""

from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.conftest import CHECKOUT, Command
from tests.snapshots.conftest import PretendSlurm

PROFILES = sorted(
    path.relative_to(CHECKOUT / "slurm" / "profiles").with_suffix("").as_posix()
    for path in (CHECKOUT / "slurm" / "profiles").rglob("*.yaml")
    if "executor: slurm" in path.read_text()
)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: Path(profile).name)
def test_batch_scripts(
    profile: str,
    submit: Command,
    stand_in: Path,
    tmp_path: Path,
    pretend_slurm: PretendSlurm,
    kept: SnapshotAssertion,
    plain: Callable[[str], str],
) -> None:
    words = ["table=scratch.lr", "seeds=2", "aggregate=true", "batch_size=4", f"profile={profile}"]
    words += [f"data={stand_in}", f"packs={tmp_path / 'packs'}", f"runs={tmp_path / 'runs'}"]
    done = submit(*words, PATH=pretend_slurm.path, WORK="/project")
    assert done.returncode == 0, done.stderr
    scripts = "\n".join(pretend_slurm.batch_scripts())
    assert scripts.count("#SBATCH --job-name") == 3  # images, runs, report
    assert plain(done.stdout.replace(str(stand_in), "DATA") + scripts) == kept


def test_every_kind_of_profile_is_here() -> None:
    assert {"slurm", "testbed", "examples/container", "examples/gres"} <= set(PROFILES)
