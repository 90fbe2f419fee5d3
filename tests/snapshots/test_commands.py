"""The command lines: their help, and a dry run of the whole report with the id of every run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.conftest import Command, command_line

SCRIPTS = (
    "jobs/submit.py", "jobs/status.py", "jobs/list.py", "jobs/cancel.py", "jobs/clean.py", "jobs/prepare.py",
    "jobs/benchmark.py", "reports/aggregate.py", "reports/compare.py", "reports/publish.py",
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: Path(script).stem)
def test_help(script: str, tmp_path: Path, kept: SnapshotAssertion, plain: Callable[[str], str]) -> None:
    done = command_line(script, tmp_path)("--help")
    assert done.returncode == 0
    assert plain(done.stdout) == kept


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_dry_run_of_the_report(
    engine: str,
    submit: Command,
    stand_in: Path,
    stand_in_weights: Path,
    kept: SnapshotAssertion,
    plain: Callable[[str], str],
) -> None:
    words = ["section=all", "seeds=3", "dry_run=true", "profile=local", "profile.device=cpu", "batch_size=4"]
    words += [f"data={stand_in}", f"imagenet_weights={stand_in_weights}", "precision=fp32", f"engine={engine}"]
    done = submit(*words)
    text = done.stdout.replace(str(stand_in), "DATA").replace(str(stand_in_weights), "WEIGHTS")
    assert done.returncode == 0, done.stderr
    assert plain(text) == kept


def test_ids_of_the_report(submit: Command, stand_in: Path, kept: SnapshotAssertion) -> None:
    """Every run of the report without any override: by these ids a finished run is never trained again."""
    done = submit(
        "section=all", "seeds=3", "dry_run=true", "profile=local", "profile.device=cpu", f"data={stand_in}"
    )
    rows = [line for line in done.stdout.splitlines() if "-s" in line.split(" ")[0]]
    assert len(rows) == 120
    assert "\n".join(rows) == kept
