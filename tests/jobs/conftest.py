"""The smallest study that trains for real."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.testbed import profile, queue, slurm, until

SMALL = ("epochs=1", "batch_size=4", "max_images=4", "workers=0", "precision=fp32")
"""Overrides under which a run takes seconds, also on a CPU that emulates bf16."""


@pytest.fixture
def small(stand_in: Path) -> tuple[str, ...]:
    """One ResNet-18 run per seed, on the stand-in."""
    return ("table=resnet.batch_256", "weights=none", *SMALL, f"data={stand_in}")


@pytest.fixture
def empty_queue() -> Iterator[None]:
    """Nothing is in the testbed's queue when the test ends; without the testbed it fails.

    On any other cluster nothing may be cancelled: somebody works there.
    """
    assert re.search(r"^ClusterName\s*=\s*testbed$", slurm("scontrol", "show", "config"), re.MULTILINE)
    yield
    slurm("scancel", f"--user={os.getuid()}")
    until(lambda: not queue(), 30)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A profile whose jobs stay in the queue and never start."""
    return profile(tmp_path, sbatch="{hold: true}")


def manifests(runs: Path) -> list[dict[str, object]]:
    """What the submissions into a study left on record, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(runs.glob("submissions/*/manifest.json"))]


def gpu_ids(runs: Path) -> list[str]:
    """CUDA_VISIBLE_DEVICES as every task of the study saw it."""
    logs = sorted(runs.glob("submissions/*/*_log.out"))
    found = [re.search(r"^CUDA_VISIBLE_DEVICES=(.*)$", log.read_text(), re.MULTILINE) for log in logs]
    return [match[1] for match in found if match]
