"""The ladder of imports, and what start-up may import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.namespaces import in_namespaces

CHECKOUT = Path(__file__).resolve().parent.parent
COMMANDS = (
    "submit",
    "status",
    "list",
    "cancel",
    "clean",
    "prepare",
    "benchmark",
    "aggregate",
    "compare",
    "publish",
)
HEAVY = ("torch", "torchvision", "submitit", "pandas", "matplotlib")


def test_imports_go_down_the_ladder() -> None:
    """The contracts in pyproject.toml, which `make lint` checks too."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("folder", ["jobs", "reports"])
def test_scripts_only_call_their_command(folder: str) -> None:
    for file in (CHECKOUT / folder).glob("*.py"):
        assert file.stem in COMMANDS
        assert len(file.read_text().splitlines()) < 20, file


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_import_no_heavy_library_at_start_up(command: str) -> None:
    code = f"import sys, caltech_exp.commands.{command}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"


def test_dry_run_imports_no_heavy_library(stand_in: Path, tmp_path: Path) -> None:
    words = ["submit", "section=all", "weights=none", "batch_size=4", "dry_run=true", "profile=local"]
    code = (
        f"import sys; sys.argv[1:] = {[*words, f'data={stand_in}']}\n"
        "from caltech_exp.commands.console import main\n"
        "try: main()\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "module", ["submission.launch", "study.plan", "study.study", "data.splits", "monitoring.queued_runs"]
)
def test_planning_and_submitting_import_no_torch(module: str) -> None:
    code = f"import sys, caltech_exp.{module}; print([m for m in ('torch', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"


ELSEWHERE = """
import os, runpy, signal, sys, time
from pathlib import Path
del os.pidfd_open, os.sched_getaffinity, signal.pidfd_send_signal, time.CLOCK_BOOTTIME
assert not os.listdir("/proc")
checkout, folder = map(Path, sys.argv[1:])

def call(script, *words):
    sys.path[:] = [str(checkout / script.split("/")[0]), *path]
    sys.argv = [script, *words]
    try:
        runpy.run_path(str(checkout / script), run_name="__main__")
    except SystemExit as end:
        assert not end.code, (script, end.code)

path = sys.path[:]
runs = folder / "runs"
call("tests/tools/simulate.py", f"out={runs}", "seeds=1")
call("jobs/status.py", f"runs={runs}")
call("reports/aggregate.py", f"runs={runs}", f"out={folder / 'report'}")
call("reports/publish.py", f"runs={runs}", f"out={folder / 'copy'}")
call("reports/compare.py", f"first={runs}", f"second={folder / 'copy'}")
from caltech_exp.study.lease import read_lease, acquire
from caltech_exp.executors.local import end_orphans, has_orphans
assert (end_orphans(runs), has_orphans(runs)) == (0, False)
lease = acquire(folder / "run", "1_0")
assert (read_lease(folder / "run").is_alive, lease.number) == (None, 1)
lease.release()
print("all ran")
"""
"""Runs commands without Linux's own calls and without /proc, as on macOS."""


def test_reading_commands_need_no_linux(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs none /proc && exec "$@"'
    words = [sys.executable, "-c", ELSEWHERE, str(CHECKOUT), str(tmp_path)]
    assert in_namespaces("-m", "sh", "-c", mount, "sh", *words).endswith("all ran\n")
