"""A study's folder after a submission on this machine: its records, and what status and aggregate say of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from syrupy.assertion import SnapshotAssertion

from tests.conftest import CHECKOUT, Command

TINY = f"{CHECKOUT / 'tests' / 'tools' / 'tiny_network.py'}:tiny"
NUMBERS = re.compile(r"\b\d+(\.\d+)? (s|min|h|hours|images/s|MB|kB)\b")
ACCURACIES = re.compile(r"0\.\d{3} to 0\.\d{3}|(?<= {7})0\.\d{3}$", re.MULTILINE)
MEASURED = (
    "job",
    "wall_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "seconds",
    "name",
    "val_confusion",
    "test_confusion",
)


def without_measurements(value: Any) -> Any:
    """A record without what is measured: times, memory, losses (test_numbers.py has those)."""
    if isinstance(value, dict):
        return {key: "MEASURED" if key in MEASURED else without_measurements(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_measurements(item) for item in value]
    return "NUMBER" if isinstance(value, float) else value


def test_study_on_this_machine(
    submit: Command,
    status: Command,
    stand_in: Path,
    tmp_path: Path,
    kept: SnapshotAssertion,
    plain: Callable[[str], str],
) -> None:
    runs = tmp_path / "runs"
    words = [
        "table=scratch.lr",
        "seeds=2",
        "epochs=2",
        "batch_size=4",
        "max_images=8",
        "workers=0",
        "precision=fp32",
    ]
    words += [f"model={TINY}", "weights=none", f"data={stand_in}", f"packs={tmp_path / 'packs'}", f"runs={runs}"]
    done = submit(*words, "profile=demo", "runs_per_task=100", "wait=true")
    assert done.returncode == 0, done.stderr

    def text(string: str) -> str:
        string = string.replace("under a minute", "0 min").replace(str(stand_in), "DATA")
        return plain(NUMBERS.sub(r"N \2", ACCURACIES.sub("ACCURACIES", string)))

    assert text(done.stdout) == kept(name="submit")
    assert text((runs / "study.json").read_text()) == kept(name="study")
    (manifest,) = runs.glob("submissions/*/manifest.json")
    assert text(manifest.read_text()) == kept(name="manifest")
    assert text("\n".join(sorted(path.name for path in runs.iterdir()))) == kept(name="folder")
    first = min(runs.glob("*/result.json"))
    record = without_measurements(json.loads(first.read_text()))
    assert text(json.dumps(record, indent=1)) == kept(name="result")
    assert text(status(f"runs={runs}").stdout) == kept(name="status")
    record = without_measurements(json.loads(status(f"runs={runs}", "json=true").stdout))
    assert text(json.dumps(record, indent=1)) == kept(name="status_json")
