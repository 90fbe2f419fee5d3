"""The whole report of the simulated study: its text and every number in its tables."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the report of the simulated study lies."""
    from tests.conftest import command_line

    folder = tmp_path_factory.mktemp("simulated")
    assert command_line("tests/tools/simulate.py", folder)(f"out={folder / 'study'}").returncode == 0
    done = command_line("reports/aggregate.py", folder)(f"runs={folder / 'study'}", f"out={folder / 'report'}")
    assert done.returncode == 0, done.stderr
    return folder / "report"


def test_text(report: Path, kept: SnapshotAssertion, plain: Callable[[str], str]) -> None:
    text = (report / "report.md").read_text().replace(str(report.parent), "STUDY")
    assert plain(re.sub(r"\b(0\.\d+\.\d+ \()[0-9a-f]{12}[^)]*\)", r"\1CODE)", text)) == kept


def test_tables(report: Path, kept: SnapshotAssertion, plain: Callable[[str], str]) -> None:
    files = sorted(report.rglob("*.csv"))
    assert len(files) > 20
    parts = []
    for path in files:
        content = path.read_text()
        heading, *lines = content.splitlines()
        shown = content if path.parent.name == "tables" else f"{heading}\n{len(lines)} lines\n"
        parts.append(f"== {path.relative_to(report)}\n{shown}")
    assert plain("\n".join(parts).replace(str(report.parent), "STUDY")) == kept


def test_files(report: Path, kept: SnapshotAssertion) -> None:
    assert "\n".join(sorted(str(path.relative_to(report)) for path in report.rglob("*") if path.is_file())) == kept
