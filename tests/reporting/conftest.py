"""Study folders built with the functions that jobs writes them with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.commands.aggregate import main as aggregate
from caltech_exp.config import RunConfig, run_id
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import write_record
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.page import build_report
from caltech_exp.reporting.render.markdown import to_markdown
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import SUBMISSIONS, Manifest, SubmittedTask
from caltech_exp.study.results import FAILURE, RESULT, DataRecord, Device, Epoch, Failure, Result
from caltech_exp.study.study import Study, StudyData, StudySettings
from tests.conftest import made_once

PRINT = "0123456789abcdef"
CODE = CodeVersion(version="0.1.0", commit="a" * 40, dirty=False)
CLASSES = tuple(f"class {label}" for label in range(101))
DATA = StudyData(
    root="", fingerprint=PRINT, stand_in=False, classes=CLASSES, train_val_images=5784, test_images=2893
)


def make_epochs(config: RunConfig, last: float, count: int | None = None) -> tuple[Epoch, ...]:
    """`count` epochs (all by default) whose accuracy rises to `last`."""
    count = config.epochs if count is None else count
    return tuple(
        Epoch(
            epoch=number,
            lr=config.lr * config.gamma ** ((number - 1) // config.step_size),
            train_loss=4.6 / number,
            val_loss=4.7 / number,
            val_accuracy=last * (number / count),  # the last exactly
            seconds=1.0,
        )
        for number in range(1, count + 1)
    )


def make_result(config: RunConfig, seed: int, accuracy: float = 0.5, **changes: Any) -> Result:
    """A finished run with that final validation accuracy and a test accuracy 0.01 below it."""
    fields: dict[str, Any] = {
        "run_id": run_id(config, seed),
        "config": config,
        "seed": seed,
        "status": "finished",
        "epochs": make_epochs(config, accuracy),
        "first_loss": 4.62,
        "val_accuracy": accuracy,
        "best_val_accuracy": accuracy,
        "test_loss": 1.0,
        "test_accuracy": accuracy - 0.01,
        "data": DataRecord(
            fingerprint=PRINT, stand_in=False, train_images=2892, val_images=2892, test_images=2893
        ),
        "device": Device(type="cuda", name="H200"),
        "libraries": {"torch": "2.8"},
        "code": CODE,
        "job": "1_0",
        "host": "gpu1",
        "started": "2026-01-01T00:00:00Z",
        "wall_seconds": 1800.0,
        "images_per_second": 700.0,
        "peak_memory_bytes": 1,
    }
    return Result.model_validate(fields | changes)


def make_diverged(config: RunConfig, seed: int, epochs: int = 3, **changes: Any) -> Result:
    """A run that stopped in epoch `epochs`, whose losses are not finite."""
    history = make_epochs(config, 0.02, epochs)
    stop = history[-1].model_copy(update={"train_loss": None, "val_loss": None})
    nothing = {"val_accuracy": None, "test_accuracy": None, "test_loss": None}
    return make_result(config, seed, status="diverged", epochs=(*history[:-1], stop), **(nothing | changes))


def row_config(table: str, label: str) -> RunConfig:
    """The configuration of a row, `scratch.lr` and `5e-2`."""
    section, _, name = table.partition(".")
    found = next(t for s in THE_REPORT.sections if s.name == section for t in s.tables if t.name == name)
    return found.row(label).config


@dataclass(frozen=True)
class SampleStudy:
    """A runs folder to fill; `settings` are those of its study record."""

    path: Path
    settings: StudySettings = field(default_factory=StudySettings)

    def start(self, **changes: Any) -> None:
        """Write study.json, with changes to its data set."""
        data = DATA.model_copy(update=changes)
        StudyFolder(self.path).write_study(
            Study(settings=self.settings, data=data, created="2026-01-01T12:00:00Z", code=CODE)
        )

    def add(self, *results: Result) -> None:
        for result in results:
            write_record(self.path / result.run_id, RESULT, result)

    def submit(self, *runs: str, seeds: Sequence[int] = (0, 1, 2), name: str = "first") -> None:
        manifest = Manifest(
            id=name,
            executor="local",
            job_names=("scratch",),
            tasks=tuple(
                SubmittedTask(array=0, index=number, job=f"local-{number}", runs=(run,))
                for number, run in enumerate(runs)
            ),
            settings=self.settings,
            seeds=tuple(seeds),
            profile={},
            command=("jobs/submit.py",),
            code=CODE,
            host="login",
            created="2026-01-01T12:00:00Z",
        )
        StudyFolder(self.path).write_manifest(manifest)

    def fail(self, run: str, error: str) -> None:
        failure = Failure(
            run_id=run,
            error=error,
            traceback="",
            kind="error",
            node="gpu1",
            submission="first",
            job="1_0",
            host="gpu1",
            log="log.out",
            when="2026-01-01T12:00:00Z",
        )
        write_record(self.path / run, FAILURE, failure)
        log = self.path / SUBMISSIONS / failure.submission / failure.log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()

    def read(self) -> StudyFrames:
        return read_study(self.path)


@pytest.fixture
def folder(tmp_path: Path) -> SampleStudy:
    """An empty runs folder without overrides."""
    return SampleStudy(tmp_path / "runs")


@pytest.fixture(scope="session")
def simulated_report(simulated: Path, stand_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the simulated study's whole report, with the figures of the stand-in; only to be read."""

    def make(out: Path) -> None:
        assert aggregate([f"runs={simulated}", f"out={out}", f"data={stand_in}"]) == 0

    return made_once(tmp_path_factory, "simulated-report", make)


Page = Callable[..., str]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """The report of a study folder, with its figures in tmp_path/out/figures; no data set unless one is given."""
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)

    def make(study: SampleStudy, data: str = "") -> str:
        return to_markdown(build_report(study.read(), out, data).blocks)

    return make
