"""The smallest study that trains for real."""

import json
import re
from pathlib import Path

import pytest

SMALL = ("epochs=1", "batch_size=4", "max_images=4", "workers=0")
"""Overrides under which a run takes seconds."""


@pytest.fixture
def small(stand_in: Path) -> tuple[str, ...]:
    """One ResNet-18 run per seed, on the stand-in."""
    return ("table=resnet.batch_256", "weights=none", *SMALL, f"data={stand_in}")


def manifests(runs: Path) -> list[dict[str, object]]:
    """What the submissions into a study left on record, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(runs.glob("submissions/*/manifest.json"))]


def gpu_ids(runs: Path) -> list[str]:
    """CUDA_VISIBLE_DEVICES as every task of the study saw it."""
    logs = sorted(runs.glob("submissions/*/*_log.out"))
    found = [re.search(r"^CUDA_VISIBLE_DEVICES=(.*)$", log.read_text(), re.MULTILINE) for log in logs]
    return [match[1] for match in found if match]
