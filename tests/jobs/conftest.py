"""The smallest study that trains for real, and what prepare.py fetches on a server of this machine."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from caltech_exp import download
from caltech_exp.pack_index import ALL_PACKS, split_contents
from caltech_exp.packs import shared_pack
from caltech_exp.provenance import code_version
from caltech_exp.splits import read_data_set
from jobs.prepare import main
from jobs.snapshot import Snapshot, take_snapshot
from tests.conftest import NO_NETWORK
from tests.file_server import FileServer, serving
from tests.jobs.published import Done, Here, Published, publish
from tests.jobs.testbed import profile, queue, slurm, until

SMALL = ("epochs=1", "batch_size=4", "max_images=4", "workers=0", "precision=fp32")
"""Overrides under which a run takes seconds, also on a CPU that emulates bf16."""


@pytest.fixture(scope="session")
def small_packs(stand_in: Path) -> Path:
    """The packs that SMALL runs use, there before any submission: none has to queue a job that makes them."""
    folder = Path(os.environ["XDG_CACHE_HOME"]) / "caltech_exp" / "packs"
    data = read_data_set(stand_in)
    for split, layout in ALL_PACKS:
        shared_pack(folder, split_contents(data, split, 4, layout))
    return folder


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """This code as tasks run it."""
    return take_snapshot(tmp_path_factory.mktemp("study"), code_version())


@pytest.fixture
def small(stand_in: Path, small_packs: Path) -> tuple[str, ...]:
    """One ResNet-18 run per seed, on the stand-in."""
    assert small_packs.is_dir()
    return ("table=resnet.batch_256", "weights=none", *SMALL, f"data={stand_in}")


@pytest.fixture
def empty_queue() -> Iterator[None]:
    """Nothing is in the testbed's queue when the test ends; without the testbed it fails.

    On any other cluster nothing may be cancelled: somebody works there.
    """
    assert re.search(r"^ClusterName\s*=\s*testbed$", slurm("scontrol", "show", "config"), re.MULTILINE)
    yield
    slurm("scancel", f"--user={os.getuid()}")
    until(lambda: not queue(), 30)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A profile whose jobs stay in the queue and never start."""
    return profile(tmp_path, sbatch="{hold: true}")


def manifests(runs: Path) -> list[dict[str, object]]:
    """What the submissions into a study left on record, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(runs.glob("submissions/*/manifest.json"))]


def gpu_ids(runs: Path) -> list[str]:
    """CUDA_VISIBLE_DEVICES as every task of the study saw it."""
    logs = sorted(runs.glob("submissions/*/*_log.out"))
    found = [re.search(r"^CUDA_VISIBLE_DEVICES=(.*)$", log.read_text(), re.MULTILINE) for log in logs]
    return [match[1] for match in found if match]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as files:
        yield files


@pytest.fixture
def published(server: FileServer, caltech101: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A small Caltech-101 and weights on a server of this machine, in place of the published ones."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    return publish(server, caltech101, tmp_path, monkeypatch)


@pytest.fixture
def here(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Run prepare.py in this process on what is published, into `data`, `packs` and `torch` of `place`."""
    assert published.server.asked == []
    place = tmp_path / "my 'odd'; \"plåce\" $HOME %j"
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))

    def run(*words: str) -> Done:
        given = ("profile=local", f"data={place / 'data'}", f"packs={place / 'packs'}", *words)
        last = {word.partition("=")[0]: word for word in given}
        capsys.readouterr()
        status = main(list(last.values()))
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where `here` prepares."""
    return tmp_path / "my 'odd'; \"plåce\" $HOME %j"
