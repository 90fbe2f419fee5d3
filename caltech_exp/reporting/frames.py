"""A study as pandas frames, for reports and notebooks.

    from caltech_exp import read_study
    study = read_study("runs")
    study.runs.query("state == 'finished'").groupby("config_id")["val_accuracy"].agg(["mean", "std", "count"])

docs/notebooks.md lists the columns and has more examples.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from caltech_exp.catalog import THE_REPORT, Catalog, Row, row_key
from caltech_exp.cli import UserError
from caltech_exp.config import DATA_SETTINGS, SAME_RESULT_SETTINGS, RunConfig, split_run_id
from caltech_exp.files import in_processes
from caltech_exp.records import Corrupt
from caltech_exp.reporting.published import NOT_COUNTED, Published, other_data, read_published
from caltech_exp.reporting.stats import balanced_accuracy
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, cancelled_runs, read_manifests
from caltech_exp.study.plan import requested_seeds
from caltech_exp.study.results import Progress, Result, decode
from caltech_exp.study.run_status import again_words, run_status
from caltech_exp.study.study import RUN_FOLDER, Study, StudySettings

# Missing values are NaN in float64 and <NA> in the other types.
FLOAT, INTEGER, TEXT, FLAG = "float64", "Int64", "string", "boolean"
SETTINGS = {
    name: {int: INTEGER, float: FLOAT}.get(type(field.default), TEXT)
    for name, field in RunConfig.model_fields.items()
}
RESULTS = {
    **dict.fromkeys(("first_loss", "val_accuracy", "best_val_accuracy", "test_loss", "test_accuracy"), FLOAT),
    **dict.fromkeys(("wall_seconds", "images_per_second"), FLOAT),
    "peak_memory_bytes": INTEGER,
    "energy_joules": FLOAT,
    "attempts": INTEGER,
    **dict.fromkeys(("job", "host", "started", "weights_sha256"), TEXT),
}
ORIGIN = {
    **dict.fromkeys(("device", "device_type", "torch", "libraries", "code", "data", "kept_weights"), TEXT),
    **dict.fromkeys(("train_images", "val_images", "test_images"), INTEGER),
    **dict.fromkeys(("is_simulated", "is_stand_in"), FLAG),
}
RUN_COLUMNS = {
    "run_id": TEXT,
    "config_id": TEXT,
    "seed": INTEGER,
    "state": TEXT,
    "detail": TEXT,
    "rows": TEXT,
    **dict.fromkeys(("is_overridden", "has_other_weights"), FLAG),
    **SETTINGS,
    "epochs_done": INTEGER,
    **RESULTS,
    "balanced_accuracy": FLOAT,
    **ORIGIN,
    "again": TEXT,
}
EPOCH_VALUES = ("lr", "train_loss", "val_loss", "val_accuracy", "seconds")
EPOCH_COLUMNS = {
    "run_id": TEXT,
    "config_id": TEXT,
    "seed": INTEGER,
    "epoch": INTEGER,
    **dict.fromkeys(EPOCH_VALUES, FLOAT),
}
ROW_COLUMNS = {
    **dict.fromkeys(("key", "section", "table", "row", "config_id"), TEXT),
    **dict.fromkeys(("is_overridden", "has_other_weights"), FLAG),
    **SETTINGS,
    "reported_mean": FLOAT,
    "reported_std": FLOAT,
    "reported_runs": INTEGER,
    "reported_diverges": FLAG,
}


@dataclass(frozen=True, eq=False)
class StudyFrames:
    """A study as frames.

    runs         one line a run that a row asks for, that was submitted, or that left a folder
    epochs       one line an epoch of a run with a result
    running      the same of runs in training, without rates and seconds; of more than 200 epochs most are missing
    rows         one line a row of the study's tables, with the value that the report prints for it
    problems     records of the study that cannot be read, in words: what they hold is missing in the frames
    catalog      what the study asks; the report where there is no study record
    study        the study record, None where there is none
    fingerprint  of the data set whose results count
    seeds        config id -> the seeds that were asked for
    submissions  how many manifests there are; a published study left them behind
    compares_other_weights  whether rows that start from other ImageNet weights have their reported values
    """

    folder: Path
    runs: pd.DataFrame
    epochs: pd.DataFrame
    rows: pd.DataFrame
    running: pd.DataFrame = field(default_factory=lambda: _epochs({}))
    problems: tuple[str, ...] = ()
    catalog: Catalog = THE_REPORT
    study: Study | None = None
    fingerprint: str | None = None
    seeds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    submissions: int = 0
    compares_other_weights: bool = False

    @cached_property
    def row_runs(self) -> pd.DataFrame:
        """One line a row and run: `rows` with the columns of `runs` that it lacks."""
        columns = ["config_id", *(name for name in self.runs if name not in ROW_COLUMNS)]
        return self.rows.merge(self.runs[columns], on="config_id", how="left")

    @cached_property
    def requested(self) -> pd.DataFrame:
        """The runs that a row asks for."""
        return self.runs[self.runs["rows"] != ""]

    @cached_property
    def results(self) -> pd.DataFrame:
        """The runs that count: finished or diverged ones that a row asks for."""
        return self.requested[self.requested["state"].isin(["finished", "diverged"])]

    @cached_property
    def runs_by_config(self) -> dict[str, pd.DataFrame]:
        """Config id -> its lines of `runs`, by seed."""
        return {str(config_id): runs for config_id, runs in self.runs.groupby("config_id", sort=False)}

    @cached_property
    def epochs_by_config(self) -> dict[str, pd.DataFrame]:
        """Config id -> its lines of `epochs`; nothing for a configuration without a result."""
        return {str(config_id): epochs for config_id, epochs in self.epochs.groupby("config_id", sort=False)}

    def restrict(self, catalog: Catalog) -> "StudyFrames":
        """The study as if it asked no more than a part of its catalog: the rows of that, their runs and epochs."""
        rows = self.rows[self.rows["key"].isin([key for key, _ in _keyed_rows(catalog)])]
        runs, epochs, running = (
            frame[frame["config_id"].isin(rows["config_id"])] for frame in (self.runs, self.epochs, self.running)
        )
        return replace(self, runs=runs, epochs=epochs, running=running, rows=rows, catalog=catalog)

    @cached_property
    def running_by_config(self) -> dict[str, pd.DataFrame]:
        """Config id -> its lines of `running`."""
        return {str(config_id): epochs for config_id, epochs in self.running.groupby("config_id", sort=False)}

    @property
    def settings(self) -> StudySettings:
        return self.study.settings if self.study else StudySettings()

    @property
    def has_own_data(self) -> bool:
        """Whether the runs train on a data set of the user's own."""
        return "data_set" in self.settings.overrides

    @cached_property
    def is_simulated(self) -> bool:
        """Whether the study, or any result of it, was drawn at random by tests/tools/simulate.py."""
        return bool(self.study and self.study.data.simulated) or bool(self.results["is_simulated"].any())

    @cached_property
    def is_stand_in(self) -> bool:
        """Whether the study, or any result of it, is of a generated stand-in for the data set."""
        return bool(self.study and self.study.data.stand_in) or bool(self.results["is_stand_in"].any())


class RunRecord(NamedTuple):
    """What the files of a run say: its state, the columns of its result if it has one, its epochs."""

    state: str
    detail: str = ""
    values: Mapping[str, Any] | None = None
    epochs: NDArray[np.float64] | None = None


def read_study(folder: str | os.PathLike[str]) -> StudyFrames:
    """Read the study in a folder that jobs/submit.py wrote, or reports/publish.py.

    Raises UserError if the folder holds neither a study nor runs.
    """
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise UserError(f"{folder} is a file; give the folder of a study")
    study = StudyFolder(path).study()
    catalog, settings = (study.catalog, study.settings) if study else (THE_REPORT, StudySettings())
    manifest_records, published_record = read_manifests(path), read_published(path)
    manifests = [record for record in manifest_records if isinstance(record, Manifest)]
    published = published_record if isinstance(published_record, Published) else Published()
    rows = [_row_values(key, row, settings) for key, row in _keyed_rows(catalog)]
    records = _read_runs(path, {row["config_id"] for row in rows}, manifests, published)
    if study is None and not any(record.values for record in records.values()):
        raise UserError(f"{folder} holds no study; give the folder that jobs/submit.py wrote into")
    fingerprint = study.data.fingerprint if study else _commonest_data(records.values())
    records = {name: _count(record, fingerprint) for name, record in records.items()}
    seeds = requested_seeds(catalog, settings, manifests, published)
    return StudyFrames(
        folder=path,
        runs=_frame(_run_lines(records, rows, seeds), RUN_COLUMNS),
        epochs=_epochs({name: record for name, record in records.items() if record.values}),
        running=_epochs({name: record for name, record in records.items() if record.state == "running"}),
        rows=_frame(rows, ROW_COLUMNS),
        problems=tuple(
            f"{record.path}: {record.reason}"
            for record in (*manifest_records, published_record)
            if isinstance(record, Corrupt)
        ),
        catalog=catalog,
        study=study,
        fingerprint=fingerprint,
        seeds=seeds,
        submissions=len(manifests),
    )


def is_overridden(config: RunConfig, settings: StudySettings) -> bool:
    """Whether the study trains something else than the row says, so that its reported value does not hold."""
    return any(
        value != getattr(config, name)
        for name, value in settings.overrides.items()
        if name not in (*SAME_RESULT_SETTINGS, *DATA_SETTINGS)
    )


def _keyed_rows(catalog: Catalog) -> list[tuple[str, Row]]:
    """Every row with its key, in the order of the tables."""
    return [
        (row_key(section.name, table.name, row.label), row)
        for section, table in catalog.tables
        for row in table.rows
    ]


def _row_values(key: str, row: Row, settings: StudySettings) -> dict[str, Any]:
    config = settings.apply(row.config)
    section, table = key.partition("=")[0].split(".")
    return {
        "key": key,
        "section": section,
        "table": table,
        "row": row.label,
        "config_id": config.id,
        "is_overridden": is_overridden(row.config, settings),
        "has_other_weights": settings.has_other_weights(config),
        **config.model_dump(),
        **{f"reported_{name}": getattr(row.reported, name, None) for name in ("mean", "std", "runs")},
        "reported_diverges": row.diverges,
    }


def _read_runs(
    folder: Path, requested: set[str], manifests: Sequence[Manifest], published: Published
) -> dict[str, RunRecord]:
    """Run id -> its record, for every run that was submitted, left a folder, or is named by what was published."""
    submitted = {name for manifest in manifests for task in manifest.tasks for name in task.runs}
    submitted = set(filter(RUN_FOLDER.fullmatch, submitted))
    left_behind = {name: run for name, run in published.runs.items() if RUN_FOLDER.fullmatch(name)}
    names = sorted({*submitted, *StudyFolder(folder).run_names(), *left_behind})
    cancelled = cancelled_runs(folder, manifests)
    read = partial(_read_run, folder, frozenset(requested))
    runs = [(name, name in submitted, cancelled.get(name, "")) for name in names]
    records = dict(zip(names, in_processes(read, runs), strict=True))
    for name, run in left_behind.items():
        if records[name].state == "pending":  # its own files stayed behind
            records[name] = RunRecord(run.state, run.detail)
    return records


def _read_run(folder: Path, requested: frozenset[str], run: tuple[str, bool, str]) -> RunRecord:
    name, is_submitted, cancelled_in = run
    status = run_status(folder / name, queue=None, submitted=is_submitted, cancelled_in=cancelled_in)
    result = status.result
    if result is None:
        return RunRecord(status.state, status.detail, epochs=_curve_table(status.progress))
    values = _result_values(result) | {"again": again_words(folder / name, result) or None}
    if split_run_id(name)[0] not in requested:  # the rows know the settings of the others
        values |= result.config.model_dump()
    epochs = [[getattr(epoch, column) for column in EPOCH_VALUES] for epoch in result.epochs]
    table = np.array(epochs, dtype=np.float64).reshape(-1, len(EPOCH_VALUES))  # None becomes NaN
    return RunRecord(status.state, status.detail, values, table)


def _curve_table(progress: Progress | None) -> NDArray[np.float64] | None:
    """EPOCH_VALUES of every epoch so far; NaN for what its record does not hold."""
    if progress is None or not progress.curve:
        return None
    points = np.array(progress.curve, dtype=np.float64)
    table = np.full((int(points[:, 0].max()), len(EPOCH_VALUES)), np.nan)
    table[points[:, 0].astype(int) - 1, 1:4] = points[:, 1:]
    return table


def _result_values(result: Result) -> dict[str, Any]:
    return {
        "epochs_done": len(result.epochs),
        **{name: getattr(result, name) for name in RESULTS},
        "balanced_accuracy": balanced_accuracy(decode(result.val_confusion, result.config.classes))
        if result.val_confusion
        else None,
        "device": result.device.name,
        "device_type": result.device.type,
        "torch": result.libraries.get("torch"),
        "libraries": ", ".join(f"{name} {version}" for name, version in sorted(result.libraries.items())),
        "code": "; ".join(str(code) for code in (*result.earlier_code, result.code)),
        "data": result.data.fingerprint,
        "train_images": result.data.train_images,
        "val_images": result.data.val_images,
        "test_images": result.data.test_images,
        "kept_weights": result.kept_weights.which if result.kept_weights else None,
        "is_simulated": result.data.simulated,
        "is_stand_in": result.data.stand_in,
    }


def _commonest_data(records: Iterable[RunRecord]) -> str | None:
    """Without a study record, the data set of most results counts."""
    fingerprints = Counter(record.values["data"] for record in records if record.values)
    return fingerprints.most_common(1)[0][0] if fingerprints else None


def _count(record: RunRecord, fingerprint: str | None) -> RunRecord:
    """The record, or one without numbers for a result of another data set."""
    if record.values is None or record.values["data"] == fingerprint:
        return record
    return RunRecord(NOT_COUNTED, other_data(record.values["data"]))


def _run_lines(
    records: Mapping[str, RunRecord], rows: list[dict[str, Any]], seeds: Mapping[str, tuple[int, ...]]
) -> list[dict[str, Any]]:
    """The runs in the order of the tables, seed by seed, then those that no row asks for."""
    rows_of, names_of = defaultdict(list), defaultdict(list)
    for row in rows:
        rows_of[row["config_id"]].append(row)
    for name in records:
        names_of[split_run_id(name)[0]].append(name)
    lines = []
    for config_id, own_rows in rows_of.items():
        names = {*names_of.pop(config_id, []), *(f"{config_id}-s{seed}" for seed in seeds[config_id])}
        shared = {name: own_rows[0][name] for name in SETTINGS} | {
            "rows": "; ".join(row["key"] for row in own_rows),
            "is_overridden": any(row["is_overridden"] for row in own_rows),
            "has_other_weights": own_rows[0]["has_other_weights"],
        }
        for name in sorted(names, key=lambda name: split_run_id(name)[1]):
            lines.append(shared | _run_values(name, records.get(name, RunRecord("pending"))))
    for names_left in names_of.values():
        unasked = {"rows": "", "is_overridden": False, "has_other_weights": False}
        lines += [unasked | _run_values(name, records[name]) for name in names_left]
    return lines


def _run_values(name: str, record: RunRecord) -> dict[str, Any]:
    config_id, seed = split_run_id(name)
    values = {"run_id": name, "config_id": config_id, "seed": seed, "state": record.state, "detail": record.detail}
    return values | dict(record.values or {})


def _frame(lines: list[dict[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    # Column by column: a frame of lines makes floats of integers beside None, which are exact to 2**53 alone.
    return pd.DataFrame(
        {name: pd.Series([line.get(name) for line in lines], dtype=dtype) for name, dtype in columns.items()}
    )


def _epochs(records: Mapping[str, RunRecord]) -> pd.DataFrame:
    tables = {name: record.epochs for name, record in records.items() if record.epochs is not None}
    runs = pd.DataFrame([(name, *split_run_id(name)) for name in tables], columns=["run_id", "config_id", "seed"])
    frame = runs.loc[np.repeat(runs.index, [len(table) for table in tables.values()])].reset_index(drop=True)
    frame["epoch"] = frame.groupby("run_id").cumcount() + 1
    frame[list(EPOCH_VALUES)] = np.concatenate([np.empty((0, len(EPOCH_VALUES))), *tables.values()])
    return frame.astype(EPOCH_COLUMNS)
