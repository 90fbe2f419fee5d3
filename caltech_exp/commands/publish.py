"""Copy the results of a study to where others may read them: `python reports/publish.py runs=DIR out=DIR`.

Results are small (some 10 KB each) and hold all that a report needs of a run. Of runs without one it needs the
state, and of the study the seeds: published.json keeps both. What only the cluster needs stays behind: logs,
submissions, checkpoints, leases, and the folders that data, weights and networks were in.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.cli import UserError, read_options, usage
from caltech_exp.config import CUSTOM_NETWORK, PIN
from caltech_exp.files import user_path
from caltech_exp.records import Corrupt, write_record
from caltech_exp.reporting.published import add_record, record_of
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest, read_manifests
from caltech_exp.study.results import RESULT, Result, read_result
from caltech_exp.study.study import Study, StudySettings


class PublishOptions(BaseModel):
    """What `reports/publish.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str = Field("runs", description="folder of the study")
    out: str = Field(description="folder for its results: a new one, or one with results of the same study")


USAGE = usage("python reports/publish.py [runs=DIR] out=DIR", PublishOptions)


def main(argv: Sequence[str]) -> int:
    """Copy what is not there yet and say what was done; the exit status. Raises UserError, and copies nothing, if
    `runs` holds no study, or `out` another one."""
    options = read_options(PublishOptions, argv)
    runs, out = user_path(options.runs, "runs"), user_path(options.out, "out")
    study = StudyFolder(runs).study()
    if study is None:
        raise UserError(f"runs={options.runs} holds no study; give the folder that jobs/submit.py wrote into")
    published = StudyFolder(out).study()
    if published:
        StudyFolder(out).require_same(study.settings, study.data, study.file)
    found = [read_result(folder) for folder in StudyFolder(runs).run_folders()]
    results = [one for one in found if isinstance(one, Result)]
    strange = [one.run_id for one in results if one.data.fingerprint != study.data.fingerprint]
    manifests = [one for one in read_manifests(runs) if isinstance(one, Manifest)]
    left = record_of(runs, manifests, {one.run_id for one in results} - {*strange})
    try:
        if published is None:
            StudyFolder(out).write_study(without_folders(study))
        elif (grown := _grown(published, study)) != published:
            StudyFolder(out).write_study(grown)
        new = [one for one in results if one.run_id not in strange and _publish(one, out)]
        add_record(out, left, {path.name for path in StudyFolder(out).run_folders() if (path / RESULT).exists()})
    except OSError as error:
        raise UserError(
            f"out={options.out} cannot be written ({error.strerror or error}); make room or give another out="
        ) from None
    states = Counter(one.state for one in left.runs.values())
    if states:
        words = ", ".join(f"{count} {state}" for state, count in states.most_common())
        print(f"runs without a result, recorded by their states: {words}")
    there = len(results) - len(new) - len(strange)
    print(f"{len(new)} {'result' if len(new) == 1 else 'results'} published in {out}; {there} there already")
    for name in strange:
        print(f"left out: {name} was trained on another data set")
    for damaged in (one for one in found if isinstance(one, Corrupt)):
        print(f"left out: {damaged.complaint('submit its run again')}")
    return 0


def _publish(result: Result, out: Path) -> bool:
    """Whether the result was not there yet. One that is there stays as it is: it may have been cited."""
    folder = out / result.run_id
    if (folder / RESULT).exists():
        return False
    config = result.config  # its id goes by the hash of a file, not by its folder
    config = config.but(model=_file_name(config.model), weights=_file_name(config.weights))
    write_record(folder, RESULT, result.model_copy(update={"config": config}))
    return True


def _grown(published: Study, study: Study) -> Study:
    """The published study with the rows and the weights that the study has got since."""
    now = without_folders(study)
    settings = published.settings.joined(now.settings)
    return published.model_copy(update={"settings": settings, "file": now.file})


def without_folders(study: Study) -> Study:
    """The study's record, with files by name and hash alone and the data set by its fingerprint."""
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
