"""The campaign in its short form: every kind of disturbance once, against two runs. `make campaign` is the long
one."""

from pathlib import Path

import pytest

from tests.jobs import campaign

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("empty_queue")]


def test_disturbed_runs_end_as_undisturbed_ones(tmp_path: Path) -> None:
    counts = campaign.start(tmp_path, runs=2, disturbances=4, seed=1, epochs=20)
    assert counts["leases taken"] > 2  # something was disturbed while it trained
