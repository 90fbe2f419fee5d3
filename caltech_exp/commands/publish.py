"""`python reports/publish.py`: copy the results of a study to a folder that others may read.

A result has some 10 KB and holds all that a report needs. published.json adds the study's seeds and the states of
runs without a result. Logs, submissions, checkpoints, leases and the paths of data, weights and networks are not
copied.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options
from caltech_exp.config import CUSTOM_NETWORK, PIN
from caltech_exp.files import folder_path, user_path
from caltech_exp.records import Corrupt, write_record
from caltech_exp.reporting.published import add_record, record_of
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, read_manifests
from caltech_exp.study.results import RESULT, Result, again_folders, read_result
from caltech_exp.study.study import RUN_FOLDER, Study, StudySettings
from caltech_exp.usage import usage


class PublishOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    out: str = Field(description="folder for the results: new, or with results of the same study")


USAGE = usage(
    "python reports/publish.py [runs=DIR] out=DIR\n\n"
    "Copies the results of a study, without logs, checkpoints and paths; results that are already in OUT stay.\n\n"
    "  python reports/publish.py runs=runs out=results",
    PublishOptions,
)


def main(argv: Sequence[str]) -> int:
    """Copy the results that `out` does not have yet and print what was done."""
    options = read_options(PublishOptions, argv)
    runs, out = folder_path(options.runs, "runs"), user_path(options.out, "out")
    _require_other_folder(runs, out)
    study, published = StudyFolder(runs).study(), StudyFolder(out).study()
    if study is None:
        raise UserError(f"runs={options.runs} holds no study; give the folder that jobs/submit.py wrote into")
    if published:
        settings = StudyFolder(runs).joined_settings(study, published.settings)
        StudyFolder(out).require_same(settings, study.data, study.file)
    folders = StudyFolder(runs).run_folders()
    seconds = [second for folder in folders for second in again_folders(folder)]
    records = {folder: read_result(folder) for folder in (*folders, *seconds)}
    results = {folder: record for folder, record in records.items() if isinstance(record, Result)}
    own = {
        folder: result for folder, result in results.items() if result.data.fingerprint == study.data.fingerprint
    }
    manifests = [manifest for manifest in read_manifests(runs) if isinstance(manifest, Manifest)]
    unfinished = record_of(runs, manifests, {folder.name for folder in own if folder.parent == runs})
    try:
        record = _merged(out, published, without_folders(study))
        if record != published:
            StudyFolder(out).write_study(record)
        new = [folder for folder, result in own.items() if _publish(result, out / folder.relative_to(runs))]
        folders = StudyFolder(out).run_folders()
        add_record(out, unfinished, {path.name for path in folders if (path / RESULT).exists()})
    except OSError as error:
        raise UserError(
            f"out={options.out} cannot be written ({error.strerror or error}); make room or give another out="
        ) from None
    states = Counter(run.state for run in unfinished.runs.values())
    if states:
        words = ", ".join(f"{count} {state}" for state, count in states.most_common())
        print(f"runs without a result, recorded by their state: {words}")
    already = len(own) - len(new)
    print(f"{len(new)} {'result' if len(new) == 1 else 'results'} published in {out}; {already} already there")
    for result in results.values():
        if result.data.fingerprint != study.data.fingerprint:
            print(f"skipped: {result.run_id} was trained on another data set")
    for corrupt in records.values():
        if isinstance(corrupt, Corrupt):
            print(f"skipped: {corrupt.complaint('submit its run again')}")
    return 0


def _require_other_folder(runs: Path, out: Path) -> None:
    """Raises UserError if `out` is the study's own folder, or one of its runs, by whatever path."""
    study, copy = runs.resolve(), out.resolve()
    if copy == study:
        raise UserError(f"out={out} is the study itself; give another folder")
    if study in copy.parents and RUN_FOLDER.fullmatch(copy.relative_to(study).parts[0]):
        raise UserError(f"out={out} is the folder of a run of the study; give another folder")


def _publish(result: Result, folder: Path) -> bool:
    """Copy the result and return True. One that is there already stays, since it may have been cited: False."""
    if (folder / RESULT).exists():
        return False
    config = result.config
    config = config.but(model=_file_name(config.model), weights=_file_name(config.weights))  # keeps the id
    write_record(folder, RESULT, result.model_copy(update={"config": config}))
    return True


def _merged(out: Path, published: Study | None, study: Study) -> Study:
    """The published record with the rows and weights that the study has gained since then."""
    if published is None:
        return study
    settings = StudyFolder(out).joined_settings(published, study.settings)
    origins = {**study.weights_origins, **published.weights_origins}
    return published.model_copy(update={"settings": settings, "file": study.file, "weights_origins": origins})


def without_folders(study: Study) -> Study:
    """The study's record without paths: files by name and hash, the data set by its fingerprint."""
    settings = StudySettings(
        overrides={name: _file_name(value) for name, value in study.settings.overrides.items()},
        imagenet_weights={name: _file_name(value) for name, value in study.settings.imagenet_weights.items()},
    )
    file = study.file and study.file.model_copy(
        update={
            "networks": {name: _file_name(value) for name, value in study.file.networks.items()},
            "weights": {name: _file_name(value) for name, value in study.file.weights.items()},
        }
    )
    data = study.data.model_copy(update={"root": ""})
    return study.model_copy(update={"settings": settings, "file": file, "data": data})


def _file_name(value: Any) -> Any:
    """`/path/nets.py:tiny@sha256:...` -> `nets.py:tiny@sha256:...`; anything else as it is."""
    if not isinstance(value, str) or not (PIN in value or CUSTOM_NETWORK.fullmatch(value)):
        return value
    path, pinned, digest = value.partition(PIN)
    return f"{PurePath(path).name}{pinned}{digest}"
