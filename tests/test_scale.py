"""Scale in its short form: a study in arrays of few tasks. `make scale` is the long one."""

from pathlib import Path

import pytest

from tests.tools import scale

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def test_arrays_split_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    done = scale.start(tmp_path, runs=62, held_per_task=1, runs_per_task=4, max_array_size=7)
    assert done.runs == 62
