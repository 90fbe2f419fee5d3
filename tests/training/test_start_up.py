"""What a task imports before its first step, and that the runs of one task train as in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caltech_exp.config import RunConfig, run_id
from caltech_exp.data.packs import PackStore
from caltech_exp.study.results import Result, first_difference, read_result
from tests.tools.start_up import in_process
from tests.tools.tasks import CONFIG

TASK = """
import json, sys
from pathlib import Path
from caltech_exp.training.failures import import_libraries
runs, data, packs, configs, eager = json.loads(sys.argv[1])
import_libraries(eager=eager)
import torch
torch.set_num_threads(1)
from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import read_data_set
from caltech_exp.training.dynamo import PostponedModule
from caltech_exp.training.run import run_one
from tests.tools.tasks import task
context = task(Path(runs), read_data_set(Path(data)), PackStore(Path(packs)))
from dataclasses import replace
context = replace(context, keep_weights="last")
for config in configs:
    run_one(RunConfig.model_validate(config), 0, context)
assert isinstance(sys.modules["torch._dynamo"], PostponedModule) is eager
"""


def python(script: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def trained(runs: Path, data: Path, packs: PackStore, *configs: RunConfig, eager: bool = True) -> list[Result]:
    """The results of a process that trains these runs, one after the other."""
    words: list[Any] = [
        str(runs),
        str(data),
        str(packs.shared),
        [config.model_dump() for config in configs],
        eager,
    ]
    python(TASK, json.dumps(words))
    results = [read_result(runs / run_id(config, 0)) for config in configs]
    assert all(isinstance(result, Result) for result in results)
    return [result for result in results if isinstance(result, Result)]


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_later_run_of_a_task_equals_one_of_a_fresh_process(
    engine: str, stand_in: Path, packs: PackStore, tmp_path: Path
) -> None:
    first = CONFIG.but(engine=engine, precision="fp32", optimizer="adamw", augment="combined", epochs=2)
    second = CONFIG.but(engine=engine, precision="fp32", model="resnet18", augment="crop", epochs=2)
    together = trained(tmp_path / "together", stand_in, packs, first, second)
    (alone,) = trained(tmp_path / "alone", stand_in, packs, second)
    assert first_difference(together[1], alone) == ""
    assert together[1].kept_weights == alone.kept_weights
    (compiler_loaded,) = trained(tmp_path / "loaded", stand_in, packs, first, eager=False)
    assert first_difference(together[0], compiler_loaded) == ""
    assert together[0].kept_weights == compiler_loaded.kept_weights


USES = [
    "assert torch._dynamo.config.cache_size_limit",
    "import torch._dynamo.config; assert torch._dynamo.config.cache_size_limit",
    "from torch._dynamo.utils import counters",
    "from torch._dynamo import allow_in_graph",
    "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]",
    "assert torch._dynamo.disable(recursive=False)(abs)(-1) == 1",
    "assert sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu') in (True, False)",
]
POSTPONED = """
import json, os, sys, types
from caltech_exp.training.failures import import_libraries
import_libraries(eager=True)
import torch
from caltech_exp.training.dynamo import PostponedModule
for use in json.loads(sys.argv[1]):  # in a process each, which has torch already
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, use
        continue
    for optimizer in (torch.optim.SGD, torch.optim.AdamW):
        parameter = torch.nn.Parameter(torch.ones(2))
        opt = optimizer([parameter], lr=0.1)
        opt.zero_grad(); parameter.sum().backward(); opt.step(); opt.load_state_dict(opt.state_dict())
    assert isinstance(sys.modules["torch._dynamo"], PostponedModule)
    exec(use)
    assert not isinstance(sys.modules["torch._dynamo"], PostponedModule)
    assert isinstance(torch._dynamo, types.ModuleType) and torch._dynamo is sys.modules["torch._dynamo"]
    opt.zero_grad(); parameter.sum().backward(); opt.step()
    break
"""


def test_postponed_compiler_is_loaded_for_what_needs_it() -> None:
    python(POSTPONED, json.dumps(USES))


def test_start_up_is_measured_part_by_part(stand_in: Path, tmp_path: Path) -> None:
    config = CONFIG.but(engine="reference", max_images=8, workers=1)
    parts = in_process([str(stand_in), str(tmp_path), config.model_dump_json()])
    assert list(parts)[-3:] == ["workers and their batches", "start, in all", "first step"]
    assert {"digest of the code", "import torch", "import torchvision", "loaders, network and optimizer"} <= set(
        parts
    )
    assert all(seconds >= 0 for seconds in parts.values())
