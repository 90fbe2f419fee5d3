"""What all tests share: data sets, the command lines run as a user runs them, the smallest study that trains."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from caltech_exp.commands.prepare import main
from caltech_exp.data import download
from caltech_exp.data.pack_format import ALL_PACKS, split_contents
from caltech_exp.data.packs import PackStore, shared_pack
from caltech_exp.data.splits import read_data_set
from caltech_exp.executors.local import is_alive
from caltech_exp.files import locked
from caltech_exp.provenance import Snapshot, code_version
from caltech_exp.standin import write_stand_in, write_stand_in_weights
from caltech_exp.submission.snapshot import take_snapshot
from tests.tools.file_server import FileServer, serving
from tests.tools.published import Done, Here, Published, publish
from tests.tools.testbed import profile, queue, slurm, until

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
    "executors/test_local_study.py",
    "submission/test_own_data_study.py",
    "submission/test_own_study.py",
    "commands/test_aggregate.py",
    "training/test_fast.py",
    "executors/test_local.py",
    "commands/test_submit.py",
    "commands/test_benchmark.py",
    "reporting/browser/test_page.py",
    "commands/test_prepare.py",
    "submission/test_shared_study.py",
    "submission/test_prepare_faults.py",
    "commands/test_seeds_by_row.py",
    "commands/test_submit_disks.py",
    "commands/test_again.py",
    "commands/test_status.py",
    "snapshots/test_numbers.py",
    "test_wheel.py",
)
"""Files that take longest, longest first. `make check` leaves them out. An old list only costs time."""


def pytest_configure() -> None:
    """Ctrl-C ends the commands that tests start, also where a shell began the tests in the background (`&`)."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the longest files; under pytest-xdist they come first, so that none is left to the end."""
    places = {CHECKOUT / "tests" / name: place for place, name in enumerate(LONGEST)}
    for item in items:
        if item.path in places:
            item.add_marker("slow")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's cache and configuration for the tests and all that they start: the home folder is left alone."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        environment.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def named_data() -> Iterator[str]:
    """What CALTECH101_ROOT names. No test finds it there, or its report would draw 8,677 images: half a minute."""
    with pytest.MonkeyPatch.context() as environment:
        named = os.environ.get("CALTECH101_ROOT", "")
        environment.delenv("CALTECH101_ROOT", raising=False)
        yield named


@pytest.fixture(scope="session", autouse=True)
def kept_bytecode() -> Iterator[None]:
    """Let the Pythons that tests start keep what they compile, whatever the environment says.

    Without it each of them compiles torch and torchvision again, which takes longer than most tests.
    """
    with pytest.MonkeyPatch.context() as environment:
        if "PYTHONDONTWRITEBYTECODE" in os.environ:
            environment.delenv("PYTHONDONTWRITEBYTECODE")
            environment.setenv("PYTHONPYCACHEPREFIX", str(CHECKOUT / ".pytest_cache" / "bytecode"))
        yield


@pytest.fixture(scope="session")
def packs(tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    """Where tests that train in this process have their packs."""
    return PackStore(tmp_path_factory.mktemp("packs"))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills and tests only read: made by the first worker of pytest-xdist that needs it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    made = folder.with_suffix(".made")
    with locked(folder.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set in the layout of Caltech-101."""
    return made_once(tmp_path_factory, "stand-in", write_stand_in)


@pytest.fixture(scope="session")
def stand_in_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with alexnet.pth and resnet18.pth, untrained, in torchvision's format."""
    return made_once(tmp_path_factory, "weights", write_stand_in_weights)


@pytest.fixture(scope="session")
def caltech101(named_data: str) -> Path:
    """The real data set, from CALTECH101_ROOT or beside the checkout; CI fails without it."""
    for place in (named_data, CHECKOUT.parent / "shared" / "caltech101"):
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
    """Run `python tests/tools/simulate.py`, as `submit` does."""
    return command_line("tests/tools/simulate.py", tmp_path)


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
def code_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """This code as tasks run it."""
    return take_snapshot(tmp_path_factory.mktemp("study"), code_version())


@pytest.fixture
def small(stand_in: Path, small_packs: Path) -> tuple[str, ...]:
    """One ResNet-18 run per seed, on the stand-in."""
    assert small_packs.is_dir()
    return ("table=resnet.batch_256", "weights=none", *SMALL, f"data={stand_in}")


@pytest.fixture(scope="session")
def trained_study(stand_in: Path, small_packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one finished run, made with the words of `small`, seeds=1 and profile=demo; see `trained`."""
    assert small_packs.is_dir()

    def make(folder: Path) -> None:
        words = ("table=resnet.batch_256", "weights=none", *SMALL, f"data={stand_in}", "seeds=1", "profile=demo")
        done = command_line("jobs/submit.py", folder)(*words, "runs=runs", "wait=true")
        assert done.returncode == 0, done.stderr
        (submission,) = folder.glob("runs/submissions/2*")
        until(lambda: not is_alive(submission))  # it has files open there

    return made_once(tmp_path_factory, "trained", make) / "runs"


@pytest.fixture
def trained(trained_study: Path, tmp_path: Path) -> Path:
    """A copy of `trained_study` in the folder `runs`."""
    return Path(shutil.copytree(trained_study, tmp_path / "runs", symlinks=True))


@pytest.fixture
def one_slot(tmp_path: Path) -> Path:
    """A profile that runs one task at a time."""
    path = tmp_path / "one.yaml"
    path.write_text("executor: local\ndevice: cpu\nmax_parallel: 1\ncpus_per_task: 1\n")
    return path


@pytest.fixture
def brake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; while it exists, each epoch of what `slowed` trains takes a second."""
    path = tmp_path / "brake"
    path.touch()
    monkeypatch.setenv("BRAKE", str(path))
    return path


def longer(small: tuple[str, ...], epochs: int) -> tuple[str, ...]:
    """The same runs with more epochs."""
    return (*(word for word in small if not word.startswith("epochs=")), f"epochs={epochs}")


def slowed(small: tuple[str, ...], epochs: int) -> tuple[str, ...]:
    """The same runs with so many epochs that they can be ended half-way, of a network that `brake` slows down."""
    return (*longer(small, epochs), f"model={CHECKOUT / 'tests' / 'tools' / 'slow_network.py'}:slow")


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
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.0)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    return publish(server, caltech101, tmp_path, monkeypatch)


@pytest.fixture
def here(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Run prepare.py in this process on what is published, into `data`, `packs` and `torch` of `place`."""
    assert published.server.requests == []
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


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated study of all 120 runs; only to be read."""
    from tests.tools.simulate import main  # few tests need it, and it loads numpy and the report

    def make(folder: Path) -> None:
        assert main([f"out={folder / 'runs'}"]) == 0

    return made_once(tmp_path_factory, "simulated", make) / "runs"
