"""What a published study keeps of the runs that left no result, beside study.json: seeds, states and reasons.

On the cluster, submissions and the runs' own files tell this. They stay behind, and a report of the published
results must not forget what was asked for and what failed.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from caltech_exp.cli import UserError, one_line
from caltech_exp.records import Corrupt, FileName, StrictRecord, read_record, write_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.run_status import run_status

PUBLISHED = "published.json"
NOT_COUNTED = "not counted"
"""The state of a run with a result of another data set."""
_FOLDERS = re.compile(r"(?<![\w./])/+(?:[^\s/'\":]+/)+")


class Unfinished(StrictRecord):
    """The state that a run without a result was in, and why in one line, without folders of the machine."""

    state: Literal["pending", "queued", "running", "failed", "lost", "damaged", "newer", "not counted"]
    detail: str = ""


class Published(StrictRecord):
    """The seeds that the study's submissions named, and what became of every run without a result, by run id."""

    schema_version: Literal[1] = 1
    seeds: tuple[int, ...] = ()
    runs: dict[FileName, Unfinished] = Field(default_factory=dict)


def read_published(runs: Path) -> Published | Corrupt:
    """The record in the folder of a study; an empty one where there is none."""
    return read_record(runs / PUBLISHED, Published) or Published()


def record_of(runs: Path, manifests: Iterable[Manifest], done: Collection[str]) -> Published:
    """The record of the study in `runs`; `done` are the runs whose results count.

    Where `runs` is a published study itself, its own record says what its files do not.
    """
    manifests, before = list(manifests), _sound(runs)
    submitted = {name for manifest in manifests for task in manifest.tasks for name in task.runs}
    names = {*submitted, *(folder.name for folder in StudyFolder(runs).run_folders()), *before.runs} - set(done)
    found = {name: _state(runs / name, name in submitted) for name in sorted(names)}
    return Published(
        seeds=tuple(sorted({*before.seeds, *(seed for manifest in manifests for seed in manifest.seeds)})),
        runs={name: before.runs.get(name, one) if one.state == "pending" else one for name, one in found.items()},
    )


def add_record(out: Path, new: Published, done: Collection[str]) -> None:
    """Add `new` to the record in `out`; the runs `done` have results there and need no state.

    Raises OSError, and UserError if a newer version of caltech_exp wrote the record that is there.
    """
    there = read_published(out)
    if isinstance(there, Corrupt) and there.is_newer:
        raise UserError(there.complaint(""))
    before = _sound(out)
    runs = {name: one for name, one in {**before.runs, **new.runs}.items() if name not in done}
    record = Published(seeds=tuple(sorted({*before.seeds, *new.seeds})), runs=dict(sorted(runs.items())))
    if record != before:
        write_record(out, PUBLISHED, record)


def other_data(fingerprint: str) -> str:
    """Why a result does not count, in plain text."""
    return f"trained on another data set, {fingerprint}"


def without_folders(text: str) -> str:
    """`no such file: /home/me/data/x.jpg` -> `no such file: x.jpg`"""
    return _FOLDERS.sub("", text)


def _sound(runs: Path) -> Published:
    """The record in the folder, or an empty one in place of one that cannot be read."""
    found = read_published(runs)
    return found if isinstance(found, Published) else Published()


def _state(folder: Path, submitted: bool) -> Unfinished:
    found = run_status(folder, queue=None, submitted=submitted)
    if found.result:
        return Unfinished(state=NOT_COUNTED, detail=other_data(found.result.data.fingerprint))
    detail = found.detail
    if found.failure:  # without its log, which stays behind
        detail = one_line(found.failure.error)
    elif found.state in ("pending", "queued", "running"):  # how far it has come is not true for long
        detail = ""
    return Unfinished.model_validate({"state": found.state, "detail": without_folders(detail)})
