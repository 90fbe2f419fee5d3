"""A whole study without training: `python tests/tools/simulate.py out=DIR [seeds=3]`.

Everything about a run follows from its id, so the same run is the same in every simulated study. What the shapes
imitate: losses that fall within each level of the learning rate and drop when it steps down, accuracies that do
the opposite, a validation loss that rises again once the training loss is small, networks of low accuracy that
take everything for the largest class.

Every run of the report with every seed, drawn at random around the reported values and marked as simulated in
study.json and in every result. The files are written by the functions that jobs write theirs with, so that
`python reports/aggregate.py runs=DIR` makes a whole report of them, which says on every page what it shows.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydantic import Field

from caltech_exp.catalog import SPLIT_IMAGES, THE_REPORT, Row, row_key
from caltech_exp.catalog.loader import parse_seeds
from caltech_exp.cli import Options, UserError, read_options, run_command_line
from caltech_exp.config import NUM_CLASSES, RunConfig, run_id
from caltech_exp.data.splits import Sample, read_data_set
from caltech_exp.files import user_path, utc_now
from caltech_exp.provenance import CodeVersion, code_version
from caltech_exp.records import write_record
from caltech_exp.standin import CLASSES, LARGE_CLASSES
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, SubmittedTask
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results import RESULT, DataRecord, Device, Epoch, Matrix, Result, encode
from caltech_exp.study.study import Study, StudyData, StudySettings
from caltech_exp.usage import usage

Counts = NDArray[np.int64]
LARGE_SHARE = {
    name: images / sum(SPLIT_IMAGES)
    for name, images in {"airplanes": 800, "Motorbikes": 798, "Faces": 435, "Faces_easy": 435}.items()
}
"""Shares of the largest classes of Caltech-101."""


@dataclass(frozen=True)
class ImageCounts:
    """Images per class in the three splits, each of shape (classes,), and where they come from."""

    root: str
    fingerprint: str
    stand_in: bool
    classes: tuple[str, ...]
    train: Counts
    val: Counts
    test: Counts


def invented_counts() -> ImageCounts:
    """As many images as the report's splits hold, as unbalanced as Caltech-101: no data set is needed."""
    train_val, test = SPLIT_IMAGES
    half = train_val // 2
    train, val, test_counts = (_spread(total) for total in (half, train_val - half, test))
    return ImageCounts("", "simulated", False, CLASSES, train, val, test_counts)


def counts_of(root: Path) -> ImageCounts:
    """The counts of a data set on disk. Raises UserError if it cannot be read."""
    data = read_data_set(root)
    train, val, test = (_count(samples, len(data.classes)) for samples in (data.train, data.val, data.test))
    return ImageCounts(str(root), data.fingerprint, data.stand_in, data.classes, train, val, test)


def _count(samples: Sequence[Sample], classes: int) -> Counts:
    counts: Counts = np.bincount([sample.label for sample in samples], minlength=classes)
    return counts


def _spread(total: int) -> Counts:
    """`total` images over the classes: the large ones by their share, the others from 1 to 4 parts, rounded so
    that nothing is lost."""
    large = np.array([LARGE_SHARE.get(name, 0.0) for name in CLASSES])
    parts = np.array(
        [0.0 if name in LARGE_CLASSES else 1 + 3 * (label % 7) / 6 for label, name in enumerate(CLASSES)]
    )
    exact = total * (large + (1 - large.sum()) * parts / parts.sum())
    counts: Counts = np.floor(exact).astype(np.int64)
    most_lost = np.argsort(exact - counts)[::-1][: total - int(counts.sum())]
    counts[most_lost] += 1
    return counts


Array = NDArray[np.float64]

UNREPORTED = {
    "transfer.template=template": (0.834, 0.003),
    "transfer.batch_64=64": (0.838, 0.002),
    "transfer.batch_1024=1024": (0.846, 0.002),
    "transfer.freezing=fully connected": (0.847, 0.002),
    "transfer.freezing=convolutional": (0.521, 0.012),
    "augmentation.augment=none": (0.845, 0.002),
    "augmentation.augment=crop, horizontal flip, grayscale": (0.839, 0.003),
    "augmentation.augment=perspective, rotation, vertical flip": (0.788, 0.004),
    "augmentation.augment=all but the vertical flip": (0.828, 0.003),
    "resnet.batch_256=256": (0.932, 0.002),
}
"""Mean and standard deviation of rows for which the report prints none: made up to go with its text."""
FALLBACK = (0.5, 0.01)
STARTED = np.datetime64("2026-01-01T00:00:00")


@dataclass(frozen=True)
class Pace:
    """What a simulated run costs on its simulated device: training images per second, watts, seconds around."""

    images_per_second: float
    watts: float
    around: float = 12.0


def simulate_run(
    row: Row, key: str, config: RunConfig, seed: int, counts: ImageCounts, code: CodeVersion
) -> Result:
    """One run of `row`, named `key` (`scratch.lr=5e-2`); diverged where the report's row diverges."""
    name = run_id(config, seed)
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    mean, std = (row.reported.mean, row.reported.std) if row.reported else UNREPORTED.get(key, FALLBACK)
    val_correct = _correct(random, mean, std, counts.val)
    test_correct = _correct(random, val_correct / counts.val.sum(), 0.006, counts.test)
    length = int(random.integers(2, 7)) if row.diverges else config.epochs
    accuracy = val_correct / counts.val.sum()
    pace = _pace(config)
    seconds = counts.train.sum() / pace.images_per_second * 1.3
    epochs = _epochs(random, config, min(length, config.epochs), accuracy, int(counts.val.sum()), seconds)
    if row.diverges:
        epochs = (*epochs[:-1], epochs[-1].model_copy(update={"train_loss": None, "val_loss": None}))
    wall = seconds * len(epochs) + pace.around
    finished = not row.diverges
    return Result(
        run_id=name,
        config=config,
        seed=seed,
        status="finished" if finished else "diverged",
        epochs=epochs,
        first_loss=float(np.log(NUM_CLASSES) + (0.3 if config.pretrained else 0.0) + random.normal(0, 0.01)),
        val_accuracy=epochs[-1].val_accuracy if finished else None,
        best_val_accuracy=max(epoch.val_accuracy for epoch in epochs),
        test_loss=epochs[-1].val_loss if finished else None,
        test_accuracy=test_correct / int(counts.test.sum()) if finished else None,
        val_confusion=encode(_confusion(random, counts.val, val_correct)) if finished else None,
        test_confusion=encode(_confusion(random, counts.test, test_correct)) if finished else None,
        data=DataRecord(
            fingerprint=counts.fingerprint,
            stand_in=counts.stand_in,
            simulated=True,
            train_images=int(counts.train.sum()),
            val_images=int(counts.val.sum()),
            test_images=int(counts.test.sum()),
        ),
        device=Device(type="cuda", name="simulated GPU"),
        libraries={"numpy": np.__version__},
        code=code,
        job="simulated",
        host="simulated",
        started=f"{STARTED + np.timedelta64(int(random.integers(0, 86_400)), 's')}Z",
        wall_seconds=wall,
        images_per_second=pace.images_per_second * float(random.normal(1, 0.01)),
        peak_memory_bytes=int(2e9 + 4e6 * config.batch_size),
        energy_joules=pace.watts * wall,
    )


def _correct(random: np.random.Generator, mean: float, std: float, counts: Counts) -> int:
    """How many images are classified right: an accuracy drawn around the mean, as a whole number of images."""
    total = int(counts.sum())
    return int(np.clip(round(random.normal(mean, std) * total), 1, total - 1))


def _pace(config: RunConfig) -> Pace:
    if config.model == "resnet18":
        return Pace(3_600.0, 420.0)
    return Pace(60_000.0 if config.freeze == "conv" and config.augment == "none" else 9_000.0, 310.0)


def _epochs(
    random: np.random.Generator, config: RunConfig, length: int, final: float, images: int, seconds: float
) -> tuple[Epoch, ...]:
    """`length` epochs that end at the accuracy `final`, a share of `images`."""
    rates = config.lr * config.gamma ** (np.arange(length) // config.step_size)
    learned = _progress(length, config.step_size)
    noise = np.where(rates == config.lr, 1.0, 0.25)
    start = min(0.35, 0.35 * final) if config.pretrained else 0.09
    accuracies = start + (final - start) * learned + noise * random.normal(0, 0.012, length) * final
    accuracies[-1] = final
    shares = np.rint(np.clip(accuracies, 0, 1) * images) / images
    floor = 4.55 if final < 0.1 else 0.02 + 2.2 * max(0.0, 0.85 - final) ** 2 * (2 if final < 0.4 else 1)
    train = floor + (4.62 - floor) * np.exp((-4 if final > 0.1 else -2) * learned)
    train *= 1 + 0.03 * (final > 0.1) * noise * random.normal(size=length)
    best = 4.6 - 4.45 * final**0.8
    overfit = 0.35 * np.clip(np.log10(1.5 / np.maximum(train, 0.05)), 0, None) * (1 - final)
    val = best + (4.6 - best) * np.exp(-5 * learned) + overfit + 0.02 * noise * random.normal(size=length)
    return tuple(
        Epoch(
            epoch=number + 1,
            lr=float(rates[number]),
            train_loss=round(float(train[number]), 6),
            val_loss=round(float(abs(val[number])), 6),
            val_accuracy=float(shares[number]),
            seconds=round(float(seconds * random.normal(1, 0.02)), 4),
        )
        for number in range(length)
    )


def _progress(length: int, step_size: int) -> Array:
    """How much of what a run learns it has learned after each epoch, from 0 to 1, shape (length,)."""
    epochs = np.arange(1, length + 1)
    slow = 1 - np.exp(-3.5 * epochs / max(step_size, 0.5 * length))
    stepped = np.where(epochs > step_size, 1 - 0.04 * np.exp(-(epochs - step_size) / 3), 0.82 * slow)
    rise = stepped - 0.98 * stepped[0]
    progress: Array = rise / rise[-1]
    return progress


def _confusion(random: np.random.Generator, counts: Counts, correct: int) -> Matrix:
    """A matrix of `correct` images on the diagonal, rows summing to `counts`.

    The weaker the network, the more it prefers large classes, both in what it gets right and in its mistakes.
    """
    preference = 0.3 + 6 * (1 - correct / int(counts.sum())) ** 4
    size = np.log(np.maximum(counts, 1))
    ease = preference * size + random.normal(0, 0.8, len(counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort(ease[labels] + random.gumbel(0, 1, len(labels)))[::-1]
    right, wrong = labels[order[:correct]], labels[order[correct:]]
    weight = np.exp(preference * (size - size.max())) * (counts > 0)
    taken = random.choice(len(counts), size=len(wrong), p=weight / weight.sum())
    second = int(np.argsort(weight)[-2])
    taken = np.where(taken == wrong, np.where(wrong == second, (second + 1) % len(counts), second), taken)
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    np.add.at(matrix, (right, right), 1)
    np.add.at(matrix, (wrong, taken), 1)
    return matrix


SUBMISSION = "simulated"


class SimulateOptions(Options):
    out: str = Field("", description="folder of the new study; it must be new or empty")
    seeds: str = Field("3", description="how many seeds, or which, as jobs/submit.py takes them")
    data: str = Field("", description="a Caltech-101 folder whose classes and splits to take; else invented ones")


USAGE = usage(
    "python tests/tools/simulate.py out=DIR [seeds=3] [data=DIR]\n\n"
    "Writes all runs of the report with results drawn at random around the reported values: nothing is trained.",
    SimulateOptions,
)


def main(argv: Sequence[str]) -> int:
    """Write the study. Raises UserError if `out` is missing, not empty, or cannot be written."""
    options = read_options(SimulateOptions, argv)
    if not options.out:
        raise UserError("out is missing: give out=DIR, a new folder")
    out, seeds = user_path(options.out, "out"), parse_seeds(options.seeds)
    counts = counts_of(user_path(options.data, "data")) if options.data else invented_counts()
    try:
        if out.exists() and any(out.iterdir()):
            raise UserError(
                f"out={options.out} is not empty; give a new folder, so that no study is mixed with it"
            )
        written = write_simulated_study(out, seeds, counts)
    except OSError as error:
        place = error.filename or out
        raise UserError(
            f"out={options.out} cannot be written ({place}: {error.strerror or error}); give another folder"
        ) from None
    print(f"simulated study: {out}, {written:,} runs; nothing was trained")
    return 0


def write_simulated_study(out: Path, seeds: Sequence[int], counts: ImageCounts) -> int:
    """Write study, manifest and a result for every run of the report; returns how many. Raises OSError."""
    code, settings = code_version(), StudySettings()
    data = StudyData(
        root=counts.root,
        fingerprint=counts.fingerprint,
        stand_in=counts.stand_in,
        simulated=True,
        classes=counts.classes,
        train_val_images=int((counts.train + counts.val).sum()),
        test_images=int(counts.test.sum()),
    )
    runs = expand(THE_REPORT.tables, seeds, settings)
    tasks = tuple(
        SubmittedTask(array=0, index=number, job=SUBMISSION, runs=(run.id,)) for number, run in enumerate(runs)
    )
    StudyFolder(out).write_study(Study(settings=settings, data=data, created=utc_now(), code=code))
    StudyFolder(out).write_manifest(
        Manifest(
            id=SUBMISSION,
            executor="local",
            job_names=(SUBMISSION,),
            tasks=tasks,
            settings=settings,
            seeds=tuple(seeds),
            profile={},
            command=tuple(sys.argv),
            code=code,
            host=SUBMISSION,
            created=utc_now(),
        ),
    )
    for result in simulated_results(runs, counts):
        write_record(out / result.run_id, RESULT, result)
    return len(runs)


def simulated_results(runs: Sequence[PlannedRun], counts: ImageCounts) -> Iterator[Result]:
    """A result for each of the runs, drawn around the first of its rows that the report prints a value for."""
    rows = {row_key(s.name, t.name, row.label): row for s, t in THE_REPORT.tables for row in t.rows}
    code = code_version()
    for run in runs:
        key, row = _row(run, rows)
        yield simulate_run(row, key, run.config, run.seed, counts, code)


def _row(run: PlannedRun, rows: dict[str, Row]) -> tuple[str, Row]:
    keys = sorted(run.rows, key=lambda key: rows[key].reported is None)
    return keys[0], rows[keys[0]]


if __name__ == "__main__":
    run_command_line(main, USAGE)
