"""published.json: the seeds of a published study, and the states of its runs without a result.

In the study itself, submissions and the runs' own files tell this. They are not published, but a report of the
published results must still say which runs were submitted and which failed.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from caltech_exp.cli import UserError, one_line
from caltech_exp.records import Corrupt, FileName, StrictRecord, read_record, without_folders, write_record
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import PUBLISHED, Manifest, PublishedSeeds, cancelled_runs, config_ids
from caltech_exp.study.plan import merge_seeds
from caltech_exp.study.run_status import run_status

NOT_COUNTED = "not counted"
"""The state of a run whose result is of another data set."""


class Unfinished(StrictRecord):
    """The state of a run without a result, and the reason in one line without folders of the machine."""

    state: Literal[
        "pending", "queued", "running", "failed", "lost", "cancelled", "damaged", "newer", "not counted"
    ]
    detail: str = ""


class Published(PublishedSeeds):
    """The seeds that the study's submissions asked for, and the runs without a result by their id."""

    model_config = ConfigDict(extra="forbid")

    runs: dict[FileName, Unfinished] = Field(default_factory=dict)


def read_published(runs: Path) -> Published | Corrupt:
    """The record in the folder of a study; an empty one if there is none."""
    return read_record(runs / PUBLISHED, Published) or Published()


def record_of(runs: Path, manifests: Iterable[Manifest], done: Collection[str]) -> Published:
    """The record of the study in `runs`; `done` are the ids of the runs whose results count.

    If `runs` is a published study itself, its own record says what its files do not.
    """
    manifests, earlier = list(manifests), _sound_record(runs)
    submitted = {name for manifest in manifests for task in manifest.tasks for name in task.runs}
    known = {*submitted, *StudyFolder(runs).run_names(), *earlier.runs}
    cancelled = cancelled_runs(runs, manifests)
    states = {
        name: _unfinished(runs / name, name in submitted, cancelled.get(name, ""))
        for name in sorted(known - set(done))
    }
    requests = [earlier.asked(config_ids(known)), *(manifest.asked for manifest in manifests)]
    return Published(
        seeds=tuple(sorted({*earlier.seeds, *(seed for manifest in manifests for seed in manifest.seeds)})),
        requests=merge_seeds(requests),
        runs={
            name: earlier.runs.get(name, run) if run.state == "pending" else run for name, run in states.items()
        },
    )


def add_record(out: Path, record: Published, done: Collection[str]) -> None:
    """Add the record to that in `out`; the runs `done` have results there and need no state.

    Raises OSError, and UserError if a newer version of caltech_exp wrote the record in `out`.
    """
    on_disk = read_published(out)
    if isinstance(on_disk, Corrupt) and on_disk.is_newer:
        raise UserError(on_disk.complaint(""))
    earlier = _sound_record(out)
    runs = {name: run for name, run in {**earlier.runs, **record.runs}.items() if name not in done}
    configs = config_ids({*done, *earlier.runs, *record.runs})
    requests = merge_seeds([earlier.asked(configs), record.asked(configs)])
    merged = Published(
        seeds=tuple(sorted({*earlier.seeds, *record.seeds})),
        requests=dict(sorted(requests.items())),
        runs=dict(sorted(runs.items())),
    )
    if merged != earlier:
        write_record(out, PUBLISHED, merged)


def other_data(fingerprint: str) -> str:
    """Why a result does not count, in plain text."""
    return f"trained on another data set, {fingerprint}"


def _sound_record(runs: Path) -> Published:
    """The record in the folder, or an empty one in place of one that cannot be read."""
    record = read_published(runs)
    return record if isinstance(record, Published) else Published()


def _unfinished(folder: Path, submitted: bool, cancelled_in: str) -> Unfinished:
    """The state of the run in `folder`, which has no result that counts."""
    status = run_status(folder, queue=None, submitted=submitted, cancelled_in=cancelled_in)
    if status.result:
        return Unfinished(state=NOT_COUNTED, detail=other_data(status.result.data.fingerprint))
    detail = status.detail
    if status.failure:
        detail = one_line(status.failure.error)  # without its log, which is not published
    elif status.state in ("pending", "queued", "running", "cancelled"):
        detail = ""  # the progress of a run is soon out of date
    return Unfinished.model_validate({"state": status.state, "detail": without_folders(detail)})
