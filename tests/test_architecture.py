"""The arrows between the packages, and what start-up may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.namespaces import in_namespaces

CHECKOUT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "caltech_exp": {"caltech_exp"},
    "jobs": {"jobs", "caltech_exp"},
    "reports": {"reports", "caltech_exp"},
}


def imported(file: Path) -> set[str]:
    """Top-level names of every import in the file, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_arrows_go_one_way(package: str) -> None:
    files = list((CHECKOUT / package).rglob("*.py"))
    assert files
    for file in files:
        assert imported(file) & set(ALLOWED) <= ALLOWED[package], file


def test_only_jobs_knows_submitit() -> None:
    for package in ("caltech_exp", "reports"):
        for file in (CHECKOUT / package).rglob("*.py"):
            assert "submitit" not in imported(file), file


@pytest.mark.parametrize("package", ["jobs", "reports"])
def test_no_script_shadows_the_standard_library(package: str) -> None:
    # `python jobs/submit.py` puts jobs/ first on sys.path.
    names = {file.stem for file in (CHECKOUT / package).glob("*.py")}
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize(
    "module",
    [
        "jobs.submit",
        "jobs.queued",
        "jobs.status",
        "jobs.watch",
        "jobs.cancel",
        "jobs.submission",
        "jobs.prepare",
        "jobs.preparation",
        "jobs.benchmark",
        "reports.compare",
        "reports.publish",
        "reports.aggregate",
        "caltech_exp.plan",
        "caltech_exp.study",
        "caltech_exp.splits",
    ],
)
def test_start_up_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'torchvision') if m in sys.modules])"
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
call("reports/simulate.py", f"out={runs}", "seeds=1")
call("jobs/status.py", f"runs={runs}")
call("reports/aggregate.py", f"runs={runs}", f"out={folder / 'report'}")
call("reports/publish.py", f"runs={runs}", f"out={folder / 'copy'}")
call("reports/compare.py", f"first={runs}", f"second={folder / 'copy'}")
from caltech_exp.lease import read_sign, take
from jobs.local_processes import end_orphans, has_orphans
assert (end_orphans(runs), has_orphans(runs)) == (0, False)
lease = take(folder / "run", "1_0")
assert (read_sign(folder / "run").alive, lease.number) == (None, 1)
lease.release()
print("all ran")
"""
"""Commands where Python has none of Linux's own calls, and there is no /proc: as on macOS."""


def test_commands_that_only_read_need_no_linux(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs none /proc && exec "$@"'
    words = [sys.executable, "-c", ELSEWHERE, str(CHECKOUT), str(tmp_path)]
    assert in_namespaces("-m", "sh", "-c", mount, "sh", *words).endswith("all ran\n")
