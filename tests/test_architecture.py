"""The ladder of imports, and what start-up may import."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
COMMANDS = ("submit", "status", "cancel", "prepare", "benchmark", "aggregate", "compare", "publish")
HEAVY = ("torch", "torchvision", "submitit", "pandas", "matplotlib")


def test_arrows_go_down_the_ladder() -> None:
    """The contracts of pyproject.toml, which `make check` holds too."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("folder", ["jobs", "reports"])
def test_scripts_hold_nothing_but_the_call_of_their_command(folder: str) -> None:
    for file in (CHECKOUT / folder).glob("*.py"):
        assert file.stem in COMMANDS
        assert len(file.read_text().splitlines()) < 20, file


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_import_no_heavy_library_at_start_up(command: str) -> None:
    code = f"import sys, caltech_exp.commands.{command}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", ["submission.launch", "study.plan", "study.study", "data.splits", "monitoring.queued_runs"]
)
def test_planning_and_submitting_import_no_torch(module: str) -> None:
    code = f"import sys, caltech_exp.{module}; print([m for m in ('torch', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.strip() == "[]"
