"""A study that two users submit to: each executes what is their own, whatever the umask, and both get results."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, NO_NETWORK
from tests.tools.testbed import profile, queue, slurm, until

GROUP = 54321
STUDY = """
seeds: 1
settings: {epochs: 1, batch_size: 4, max_images: 4, precision: fp32, workers: 0}
networks: {tiny: nets.py:tiny}
sections:
  own:
    tables:
      rates:
        settings: {model: tiny}
        sweep: {lr: [0.1, 0.01]}
"""
NETS = """
from torch import nn

def tiny(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, num_classes))
"""


@dataclass(frozen=True)
class User:
    """An unprivileged user of the group, who may read this test's Python wherever it lies."""

    number: int
    umask: int
    home: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        switch = [
            "setpriv", f"--reuid={self.number}", f"--regid={GROUP}", "--clear-groups",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search",
        ]  # fmt: skip
        return subprocess.run(
            [*switch, *command],
            cwd=self.home,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                **{name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ},
                **NO_NETWORK,
            },
            umask=self.umask,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def command(self, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, str(CHECKOUT / script), *words)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own; CI fails where there is no second user."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI needs several users: run it as root")
        pytest.skip("only root can be two users")
    folder = Path(tempfile.mkdtemp(prefix="shared-study-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def users(place: Path, stand_in: Path) -> tuple[User, User]:
    """Ann and Bob share the folder `team`; each has a home with the same study. Bob's umask is careless."""
    shutil.copytree(stand_in, place / "data")
    subprocess.run(["chmod", "-R", "a+rX", str(place / "data")], check=True)
    (place / "team").mkdir()
    os.chown(place / "team", 0, GROUP)
    (place / "team").chmod(0o2775)
    found = []
    for number, umask in ((51001, 0o002), (51002, 0o000)):
        home = place / str(number)
        home.mkdir()
        (home / "nets.py").write_text(NETS)
        (home / "mine.yaml").write_text(STUDY)
        os.chown(home, number, GROUP)
        found.append(User(number, umask, home))
    return found[0], found[1]


def submit(user: User, runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    data = runs.parent.parent / "data"
    given = (f"runs={runs}", f"data={data}", "profile=demo", f"packs={user.home / 'packs'}", "wait=true")
    return user.command("jobs/submit.py", *given, *words)


def owners(folder: Path) -> set[int]:
    """Who owns what lies in a folder, where nobody else may write."""
    found = set()
    for path in (folder, *folder.rglob("*")):
        assert path.lstat().st_mode & 0o022 == 0 or path.is_symlink(), path
        found.add(path.lstat().st_uid)
    return found


def test_each_user_runs_what_is_their_own(users: tuple[User, User], place: Path) -> None:
    ann, bob = users
    runs = place / "team" / "runs"
    first = submit(ann, runs, "study=mine.yaml", "table=own.rates=0.1")
    assert first.returncode == 0, first.stderr
    second = submit(bob, runs, "study=mine.yaml", "section=own")
    assert second.returncode == 0, second.stderr
    assert "1 finished, 1 pending" in second.stdout
    results = {path: json.loads(path.read_text()) for path in runs.glob("*/result.json")}
    assert {path.stat().st_uid for path in results} == {ann.number, bob.number}
    for path, result in results.items():
        user = path.stat().st_uid
        assert owners(runs / "sources" / str(user) / result["code"]["source"]) == {user}
        assert result["config"]["model"].startswith(f"{runs}/networks/{user}/")
        assert owners(runs / "networks" / str(user)) == {user}
    submissions = sorted(runs.glob("submissions/2*"))
    assert [path.stat().st_uid for path in submissions] == [ann.number, bob.number]
    for folder in submissions:
        executed = [folder, *folder.glob("*.pkl"), *folder.glob("*.sh")]
        assert all(path.stat().st_mode & 0o022 == 0 for path in executed)
    told = ann.command("jobs/status.py", f"runs={runs}")
    assert "own.rates                     2" in told.stdout, told.stdout + told.stderr

    # Bob has submitted last, and what Ann executes is hers all the same.
    again = submit(ann, runs, "table=own.rates=0.1", "seeds=7,")
    assert again.returncode == 0, again.stderr
    models = [json.loads(path.read_text())["config"]["model"] for path in runs.glob("*-s7/result.json")]
    assert [model.startswith(f"{runs}/networks/{ann.number}/") for model in models] == [True]

    # A network that only Bob has brought is not executed as Ann.
    (bob.home / "nets.py").write_text(NETS + "# mine\n")
    assert submit(bob, runs, "study=mine.yaml", "table=own.rates=0.1", "seeds=8,").returncode == 0
    refused = submit(ann, runs, "section=own", "seeds=9,")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert (
        f"belongs to user {bob.number}; give study=FILE or model=FILE:FUNCTION with your own file\n"
        in refused.stderr
    )
    assert not list(runs.glob("*-s9"))

    # Whoever may write the study's folder can put others' folders away, and nothing of theirs in the place is run.
    swap = "mv sources/$0 sources/$0.away && cp -r sources/$0.away sources/$0"
    assert bob.run("sh", "-c", f"cd {runs} && {swap}", str(ann.number)).returncode == 0
    refused = submit(ann, runs, "study=mine.yaml", "section=own", "seeds=9,")
    assert refused.returncode == 2
    assert f"sources/{ann.number} belongs to user {bob.number}, not to user {ann.number}" in refused.stderr


@pytest.fixture
def testbed() -> Iterator[None]:
    """Whoever's jobs are left in the testbed's queue are cancelled when the test ends."""
    assert re.search(r"^ClusterName\s*=\s*testbed$", slurm("scontrol", "show", "config"), re.MULTILINE)
    yield
    if left := {job.partition("_")[0] for job, _ in queue()}:
        slurm("scancel", *left)
    until(lambda: not queue(), 30)


@pytest.mark.slurm
@pytest.mark.usefixtures("testbed")
def test_on_slurm_the_others_jobs_count_as_queued_and_are_left_to_them(
    users: tuple[User, User], place: Path
) -> None:
    ann, bob = users
    runs, held = place / "team" / "runs", profile(place, sbatch="{hold: true}")

    def submitted(user: User, *words: str) -> str:
        given = (f"runs={runs}", f"data={place / 'data'}", f"packs={user.home / 'packs'}", f"profile={held}")
        done = user.command("jobs/submit.py", *given, "study=mine.yaml", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "queued own.runs: 1 task" in submitted(ann, "table=own.rates=0.1")
    ((hers, _),) = queue()
    submission = next(runs.glob("submissions/2*"))
    # As if the process that submitted had died before it heard from sbatch.
    manifest = json.loads((submission / "manifest.json").read_text())
    manifest["tasks"][0]["job"] = ""
    (submission / "manifest.json").write_text(json.dumps(manifest))
    (submission / f"{hers}_submitted.pkl").rename(submission / "0-0.pkl")
    files = sorted(path.name for path in submission.iterdir())

    second = submitted(bob, "section=own")
    assert "1 queued, 1 pending" in second
    assert "queued own.runs: 1 task" in second
    assert "nothing to submit" in submitted(bob, "section=own")
    assert sorted(path.name for path in submission.iterdir()) == files
    ended = bob.command("jobs/cancel.py", f"runs={runs}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("cancelled 1 job, 1 run on Slurm: ")
    assert f"left alone: 1 job, 1 run of user {ann.number}, who alone may cancel them: {hers}\n" in ended.stdout
    until(lambda: [job for job, _ in queue()] == [hers], 30)

    assert f"recovered {hers}: " in submitted(ann, "table=own.rates=0.1")
    assert (submission / f"{hers}_submitted.pkl").exists()
    ended = ann.command("jobs/cancel.py", f"runs={runs}")
    assert ended.stdout == f"cancelled 1 job, 1 run on Slurm: {hers}\n", ended.stderr
    until(lambda: not queue(), 30)
