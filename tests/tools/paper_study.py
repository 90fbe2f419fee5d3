"""A study on paper: records as a submission and its tasks leave them, without any task."""

from pathlib import Path

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig
from caltech_exp.files import utc_now
from caltech_exp.provenance import CodeVersion
from caltech_exp.records import write_record as write
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SubmittedTask
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results import (
    FAILURE,
    PROGRESS,
    RESULT,
    CurvePoint,
    DataRecord,
    Device,
    Epoch,
    Failure,
    Progress,
    Result,
)
from caltech_exp.study.study import Study, StudyData, StudySettings

CODE = CodeVersion(version="0", commit=None, dirty=None)
DATA = StudyData(
    root="/data", fingerprint="f", stand_in=True, classes=("ant",), train_val_images=200, test_images=100
)
SUBMISSION = "20260101T000000-abcd"
JOB = "4711"
SLURM = {"executor": "slurm", "device": "cuda", "gpus_per_node": 1, "max_parallel": 4, "poll_seconds": 5}


def write_paper_study(
    runs: Path, tables: tuple[str, ...] = ("scratch.lr",), seeds: int = 1, **profile: object
) -> list[PlannedRun]:
    """The study and its one submission to Slurm, an array of a task per run; returns the runs."""
    plan = expand(THE_REPORT.select(tables=tables), tuple(range(seeds)), StudySettings())
    StudyFolder(runs).write_study(Study(settings=StudySettings(), data=DATA, created=utc_now(), code=CODE))
    tasks = tuple(SubmittedTask(array=0, index=k, job=f"{JOB}_{k}", runs=(r.id,)) for k, r in enumerate(plan))
    StudyFolder(runs).write_manifest(
        Manifest(
            id=SUBMISSION, executor="slurm", job_names=("scratch.runs",), settings=StudySettings(),
            tasks=tasks,
            seeds=tuple(range(seeds)), profile=SLURM | profile, command=("submit",), code=CODE, host="login",
            created=utc_now(),
        ),
    )  # fmt: skip
    return plan


def log_of(runs: Path, index: int) -> Path:
    return runs / "submissions" / SUBMISSION / f"{JOB}_{index}_0_log.out"


def write_result(runs: Path, run: PlannedRun, epoch_seconds: float = 20.0, device: str = "cuda") -> None:
    write(runs / run.id, RESULT, result_of(run.config, run.seed, epoch_seconds, device))


def result_of(config: RunConfig, seed: int, epoch_seconds: float = 20.0, device: str = "cuda") -> Result:
    """A finished run of 100 training images an epoch that took 10 s besides its epochs."""
    run = PlannedRun(config, seed, "", ())
    return Result(
        run_id=run.id, config=config, seed=seed, status="finished", first_loss=4.6, val_accuracy=0.5,
        epochs=tuple(
            Epoch(epoch=k + 1, lr=0.1, train_loss=1.0, val_loss=1.0, val_accuracy=0.5, seconds=epoch_seconds)
            for k in range(config.epochs)
        ),
        best_val_accuracy=0.5, test_loss=1.0, test_accuracy=0.5,
        data=DataRecord(fingerprint="f", stand_in=True, train_images=100, val_images=100, test_images=100),
        device=Device(type="cuda" if device == "cuda" else "cpu", name="A100" if device == "cuda" else "EPYC"),
        libraries={}, code=CODE, job=f"{JOB}_0", host="gpu07", started=utc_now(),
        wall_seconds=config.epochs * epoch_seconds + 10.0, images_per_second=100.0, peak_memory_bytes=1,
    )  # fmt: skip


def write_failure(runs: Path, run: PlannedRun, log: str, error: str = "ValueError: the reason") -> None:
    write(
        runs / run.id,
        FAILURE,
        Failure(
            run_id=run.id, error=error, traceback=f"Traceback\n  line 1\n\x1b[31m{error}", kind="error",
            submission=SUBMISSION, job=f"{JOB}_0", host="gpu07", node="", log=log, when=utc_now(),
        ),
    )  # fmt: skip


def write_progress(
    runs: Path, run: PlannedRun, left: float | None = 3600.0, curve: tuple[CurvePoint, ...] = ()
) -> None:
    write(
        runs / run.id,
        PROGRESS,
        Progress(
            run_id=run.id, epoch=3, epochs=run.config.epochs, images_per_second=8123.4, seconds_left=left,
            submission=SUBMISSION, job=f"{JOB}_0", host="gpu07", when=utc_now(), curve=curve,
        ),
    )  # fmt: skip
