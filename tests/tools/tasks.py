"""The context of a task, and runs trained in it."""

from pathlib import Path

from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet
from caltech_exp.provenance import TaskOrigin, code_version
from caltech_exp.study.results import Result
from caltech_exp.training.run import TaskContext, run_one
from tests.tools.engines import CPU, TINY

ORIGIN = TaskOrigin("20260101T000000-abcd", "12_3", "/logs/12_3.out", code_version())
CONFIG = RunConfig(model=TINY, epochs=1, batch_size=4, max_images=4, workers=0, precision="fp32")


def task(runs: Path, data: DataSet, packs: PackStore) -> TaskContext:
    return TaskContext(runs, data, CPU, packs, ORIGIN)


def finish(config: RunConfig, seed: int, context: TaskContext) -> Result:
    result = run_one(config, seed, context)
    assert result is not None
    return result
