"""What one submission queues, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.splits import DataSet
from jobs.arrays import Array, queue_name
from jobs.missing_packs import PackItem, missing_packs


@dataclass(frozen=True)
class Work:
    """What one submission queues.

    packs    to be made before the arrays; none if all are there
    report   folder of the report to be written after all of them; None for no report
    after    what of the study is in a queue already and is waited for with the report: ids of Slurm's jobs and
             arrays, or of submissions on this machine
    avoided  nodes that the arrays are to keep off, since runs failed there
    """

    study: str
    arrays: tuple[Array, ...] = ()
    packs: tuple[PackItem, ...] = ()
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


def packs_first(arrays: Sequence[Array], data: DataSet, folder: Path) -> tuple[PackItem, ...]:
    """The packs to make before the arrays: those missing in `folder`. None for a single task: it makes its own.

    Raises UserError for an image that is gone.
    """
    tasks = [task for array in arrays for task in array.tasks]
    return missing_packs((run.config for task in tasks for run in task), data, folder) if len(tasks) > 1 else ()


def single_lines(work: Work, verb: str) -> Sequence[str]:
    """What is or would be queued beside the arrays, a line each."""
    lines = []
    if work.packs and work.arrays:
        count = f"{len(work.packs)} pack{'s' if len(work.packs) > 1 else ''} of images"
        lines.append(f"{verb} {work.preparation_name}: {count}, before the runs")
    if work.report:
        when = "after the runs" if work.arrays or work.after else "now"
        lines.append(f"{verb} {work.aggregation_name}: {when}, report in {work.report / 'report.md'}")
    return lines
