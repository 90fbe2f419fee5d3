"""What the tests of all packages share: data sets, and the command lines run as a user runs them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from caltech_exp.packs import PackPlace
from caltech_exp.standin import write_stand_in, write_stand_in_weights

CHECKOUT = Path(__file__).resolve().parent.parent
Command = Callable[..., subprocess.CompletedProcess[str]]

DEAD = "http://127.0.0.1:9"
"""The discard port: nobody listens."""
NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), DEAD),
    "no_proxy": "127.0.0.1",
    "NO_PROXY": "127.0.0.1",
}
"""An environment in which only this machine's own servers are reached: tests fetch nothing from elsewhere."""


LONGEST = (
    "test_docs.py",
    "reports/browser/test_page.py",
    "jobs/test_local_study.py",
    "jobs/test_local.py",
    "caltech_exp/test_fast.py",
    "jobs/test_prepare.py",
    "jobs/test_submit.py",
    "jobs/test_benchmark.py",
)
"""Files that take longest, longest first. It is only about time if the list is out of date."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the processes of pytest-xdist: the longest files first, so that none is left with one in the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(LONGEST)}
        tests = CHECKOUT / "tests"
        items.sort(key=lambda item: places.get(str(item.path.relative_to(tests)), len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's cache for the tests and for all that they start: packs never go into the home of who runs them."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> PackPlace:
    """Where tests that train in this process have their packs."""
    return PackPlace(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set in the layout of Caltech-101."""
    folder = tmp_path_factory.mktemp("stand-in")
    write_stand_in(folder)
    return folder


@pytest.fixture(scope="session")
def stand_in_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with alexnet.pth and resnet18.pth, untrained, in torchvision's format."""
    folder = tmp_path_factory.mktemp("weights")
    write_stand_in_weights(folder)
    return folder


@pytest.fixture(scope="session")
def caltech101() -> Path:
    """The real data set, from CALTECH101_ROOT or beside the checkout; CI fails without it."""
    for place in (os.environ.get("CALTECH101_ROOT"), CHECKOUT.parent / "shared" / "caltech101"):
        if place and (Path(place) / "train.txt").is_file():
            return Path(place).resolve()
    if os.environ.get("CI"):
        pytest.fail("CI needs the real Caltech-101: set CALTECH101_ROOT")
    pytest.skip("no Caltech-101 here: set CALTECH101_ROOT to test on real images")


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """The GPU."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    return torch.device("cuda")


@dataclass(frozen=True)
class Disk:
    """A file system of its own."""

    path: Path

    def change(self, option: str) -> None:
        """Mount it anew with `size=64m` or `ro`; what lies on it stays."""
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.path)], check=True, capture_output=True)

    def fill(self) -> Path:
        """A file on it that takes what is left, to the last block."""
        path = self.path / "filler"
        with path.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return path
        raise AssertionError("the disk has no end")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 1 MB; CI fails where none can be mounted."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        if os.environ.get("CI"):
            pytest.fail("CI needs a full disk: run it as root where tmpfs can be mounted")
        pytest.skip("a full disk can be tested only by root, where tmpfs can be mounted")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


@pytest.fixture
def strace() -> str:
    """The program that kills a process at its n-th system call of a kind, or has that call fail."""
    found = shutil.which("strace")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("CI needs strace")
        pytest.skip("faults of system calls need strace: apt install strace")
    return found


@pytest.fixture
def submit(tmp_path: Path) -> Command:
    """Run `python jobs/submit.py` with the given words; environment changes as keywords, None to unset."""
    return command_line("jobs/submit.py", tmp_path)


@pytest.fixture
def benchmark(tmp_path: Path) -> Command:
    """Run `python jobs/benchmark.py`, as `submit` does."""
    return command_line("jobs/benchmark.py", tmp_path)


@pytest.fixture
def compare(tmp_path: Path) -> Command:
    """Run `python reports/compare.py`, as `submit` does."""
    return command_line("reports/compare.py", tmp_path)


@pytest.fixture
def prepare(tmp_path: Path) -> Command:
    """Run `python jobs/prepare.py`, as `submit` does."""
    return command_line("jobs/prepare.py", tmp_path)


@pytest.fixture
def simulate(tmp_path: Path) -> Command:
    """Run `python reports/simulate.py`, as `submit` does."""
    return command_line("reports/simulate.py", tmp_path)


@pytest.fixture
def status(tmp_path: Path) -> Command:
    """Run `python jobs/status.py`, as `submit` does."""
    return command_line("jobs/status.py", tmp_path)


@pytest.fixture
def cancel(tmp_path: Path) -> Command:
    """Run `python jobs/cancel.py`, as `submit` does."""
    return command_line("jobs/cancel.py", tmp_path)


@pytest.fixture
def aggregate(tmp_path: Path) -> Command:
    """Run `python reports/aggregate.py`, as `submit` does."""
    return command_line("reports/aggregate.py", tmp_path)


def command_line(script: str, folder: Path) -> Command:
    def run(*words: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        changed = {
            "CALTECH101_ROOT": None,
            "TORCH_HOME": str(folder / "no-torch-home"),
            **NO_NETWORK,
            **environment,
        }
        inherited = {key: value for key, value in os.environ.items() if key not in changed}
        given = {key: value for key, value in changed.items() if value is not None}
        return subprocess.run(
            [sys.executable, str(CHECKOUT / script), *words],
            cwd=folder,
            env={**inherited, **given},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Path]:
    """A folder for runs that must not exist when the test ends: nothing was written."""
    runs = tmp_path / "runs"
    yield runs
    assert not runs.exists()
