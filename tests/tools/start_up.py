"""Processor time from the start of a task's process to its first step, part by part.

    python -m tests.tools.start_up DATA [TRIES]

Each try is a process of its own, which does what a task does, in the same order. The least time of each part
counts: other programs disturb it least. Processor time is of all threads and loader processes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from caltech_exp.config import RunConfig
from caltech_exp.provenance import CHECKOUT

TRIES = 3
TARGET_SECONDS = 3.0
BATCH = 4


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def measure(data_root: Path, packs_root: Path, config: RunConfig) -> dict[str, float]:
    """The parts in their order, in this process, which has imported nothing of torch yet."""
    parts = {"Python and the settings": processor_seconds()}

    def part(name: str, function: Callable[[], Any]) -> Any:
        start = processor_seconds()
        answer = function()
        parts[name] = processor_seconds() - start
        return answer

    from caltech_exp.provenance import code_version
    from caltech_exp.training.failures import import_libraries

    def import_own() -> None:
        import caltech_exp.submission.tasks
        import caltech_exp.training.run  # noqa: F401

    def import_torch() -> None:
        import torch  # noqa: F401

    part("digest of the code", code_version)
    part("import torch", import_torch)
    part("import torchvision", lambda: import_libraries(eager=True))
    part("import caltech_exp", import_own)

    import torch

    from caltech_exp.data.packs import PackStore
    from caltech_exp.data.splits import read_data_set
    from caltech_exp.models.networks import build_with_weights
    from caltech_exp.training.loop import build_setup, set_seed, train_step

    set_seed(0)
    data = part("data set and its fingerprint", lambda: read_data_set(data_root))
    part("network, by itself", lambda: build_with_weights(config))
    name = "packs, network and optimizer" if config.engine == "fast" else "loaders, network and optimizer"
    setup = part(name, lambda: build_setup(config, data, torch.device("cpu"), PackStore(packs_root)))
    setup.start_training()
    loading = "first batch" if config.engine == "fast" else "workers and their batches"
    batch = part(loading, lambda: next(setup.train.epoch()))
    parts["start, in all"] = sum(parts.values()) - parts["network, by itself"]
    part("first step", lambda: train_step(setup, batch))
    return parts


def main(data: str, tries: int = TRIES) -> int:
    """Print a table for each engine; 1 if the fast engine takes longer to start than the target."""
    totals = []
    with tempfile.TemporaryDirectory() as packs:
        for engine, workers in (("fast", 0), ("reference", 2)):
            config = RunConfig(
                engine=engine, workers=workers, precision="fp32", batch_size=BATCH, max_images=2 * BATCH
            )
            words = [str(Path(data).resolve()), packs, config.model_dump_json()]
            parts = [in_process(words) for _ in range(tries + 1)][1:]  # the first makes the packs
            least = {name: min(one[name] for one in parts) for name in parts[0]}
            print(f"{engine} engine, {config.model}:")
            print(tabulate([(name, f"{least[name]:.2f}") for name in least], ("part", "processor s")), "\n")
            totals.append(least["start, in all"])
    print(f"start to the first step, fast engine: {totals[0]:.2f} s of processor; at most {TARGET_SECONDS:g} s")
    return int(totals[0] > TARGET_SECONDS)


def in_process(words: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.start_up", "--one", *words],
        stdout=subprocess.PIPE, text=True, check=True, cwd=CHECKOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        root, packs_folder, settings = sys.argv[2:]
        print(json.dumps(measure(Path(root), Path(packs_folder), RunConfig.model_validate_json(settings))))
    else:
        sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
