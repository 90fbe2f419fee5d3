"""The benchmark of a GPU: its stages end in time, say why they fail, and ask for all of the report's rows."""

import time
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from tests.tools.gpu_benchmark import Stage, count_configurations, run


def test_stage_returns_what_it_prints() -> None:
    assert run(Stage("hello", ("-c", "print(1)")), time.monotonic() + 60) == "1"


def test_stage_is_stopped_with_its_processes_when_time_is_up(tmp_path: Path) -> None:
    late = tmp_path / "late"
    child = f"import time; time.sleep(5); open({str(late)!r}, 'w')"
    words = ("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert run(Stage("slow", words), time.monotonic() + 1) is None
    time.sleep(6)
    assert not late.exists()


def test_stage_that_fails_is_named_with_its_error() -> None:
    with pytest.raises(UserError, match=r"^wrong: out of memory$"):
        run(Stage("wrong", ("-c", "import sys; sys.exit('out of memory')")), time.monotonic() + 60)


def test_all_configurations_of_the_report_are_trained() -> None:
    assert count_configurations(small=False) == 40
    assert count_configurations(small=True) == 30
