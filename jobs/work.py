"""What one submission queues, and how it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from caltech_exp.splits import DataSet
from jobs.arrays import Array, queue_name
from jobs.missing_packs import PackItem, missing_packs


@dataclass(frozen=True)
class Work:
    """What one submission queues.

    packs    to be made before the arrays, each with its file; none if all are there
    preparing  ids of jobs in the queue that make packs which the arrays use, and which they wait for
    report   folder of the report to be written after all of them; None for no report
    after    what of the study is in a queue already and is waited for with the report: ids of Slurm's jobs and
             arrays, or of submissions on this machine
    avoided  nodes that the arrays are to keep off, since runs failed there
    """

    study: str
    arrays: tuple[Array, ...] = ()
    packs: Mapping[PackItem, Path] = field(default_factory=dict)
    preparing: tuple[str, ...] = ()
    report: Path | None = None
    after: tuple[str, ...] = ()
    avoided: tuple[str, ...] = ()

    @property
    def preparation_name(self) -> str:
        return queue_name("prepare", self.study)

    @property
    def aggregation_name(self) -> str:
        return queue_name("aggregate", self.study)

    def __bool__(self) -> bool:
        return bool(self.arrays or self.report)


def packs_of(arrays: Sequence[Array], data: DataSet, folder: Path) -> dict[PackItem, Path]:
    """The packs that the arrays use and that are not in `folder`. Raises UserError for an image that is gone."""
    configs = (run.config for array in arrays for task in array.tasks for run in task)
    return missing_packs(configs, data, folder)


def with_packs(work: Work, packs: Mapping[PackItem, Path], on_their_way: Mapping[Path, str]) -> Work:
    """The work with those of the missing packs that no job in the queue makes. A single task makes its own.

    on_their_way  a pack's file -> the id of the job that makes it
    """
    preparing = dict.fromkeys(on_their_way[file] for file in packs.values() if file in on_their_way)
    left = {item: file for item, file in packs.items() if file not in on_their_way}
    if sum(len(array.tasks) for array in work.arrays) < 2:
        left = {}
    return replace(work, packs=left, preparing=tuple(preparing))


def single_lines(work: Work, verb: str) -> Sequence[str]:
    """What is or would be queued beside the arrays, a line each."""
    lines = []
    if work.preparing:
        lines.append(f"the runs wait for job {', '.join(work.preparing)}, which decodes their images")
    if work.packs and work.arrays:
        count = f"{len(work.packs)} pack{'s' if len(work.packs) > 1 else ''} of images"
        lines.append(f"{verb} {work.preparation_name}: {count}, before the runs")
    if work.report:
        when = "after the runs" if work.arrays or work.after else "now"
        lines.append(f"{verb} {work.aggregation_name}: {when}, report in {work.report / 'report.md'}")
    return lines
