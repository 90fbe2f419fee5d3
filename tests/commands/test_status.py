"""The status command."""

import json
import re
from pathlib import Path

from caltech_exp.records import write_record
from caltech_exp.reporting.comparison import all_rows, best_row, compare_row, table_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.study.lease import acquire
from caltech_exp.study.results import PROGRESS, Failure
from tests.conftest import Command, slowed
from tests.tools.testbed import until


def test_status_follows_a_study_to_its_end(
    submit: Command, status: Command, small: tuple[str, ...], one_slot: Path, brake: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert submit(*slowed(small, 60), "seeds=2", f"profile={one_slot}", f"runs={runs}").returncode == 0
    until(lambda: any('"epoch": 1' in path.read_text() for path in runs.glob(f"*/{PROGRESS}")))
    text = status(f"runs={runs}").stdout
    assert "resnet.batch_256" in text
    assert "epoch " in text
    assert "heartbeat " in text
    assert "expected end: " in text
    assert re.search("^not submitted: [0-9]+ runs .all of .*, part of scratch and resnet.", text, re.MULTILINE)
    whole = json.loads(status(f"runs={runs}", "json=true").stdout)
    assert whole["tables"]["resnet.batch_256"].keys() <= {"running", "queued", "finished"}
    brake.unlink()
    done = status(f"runs={runs}", "watch=true", "seconds=5")  # ends with the last run
    assert done.returncode == 0, done.stderr
    assert json.loads(status(f"runs={runs}", "json=true").stdout)["tables"]["resnet.batch_256"] == {"finished": 2}


def test_status_shows_why_runs_failed(status: Command, trained: Path) -> None:
    runs = trained
    (folder,) = (path.parent for path in runs.glob("*/result.json"))
    (folder / "result.json").unlink()
    failure = Failure(
        run_id=folder.name, error="ValueError: the reason", traceback="Traceback\n  line 1\nValueError",
        kind="error", submission="s", job="1_0", host="h", node="", log="/logs/1_0.out",
        when="2026-01-01T12:00:00Z",
    )  # fmt: skip
    write_record(folder, "failure.json", failure)
    assert "1 failed or lost: failed=true shows why" in status(f"runs={runs}").stdout
    text = status(f"runs={runs}", "failed=true").stdout
    assert f"failed {folder.name} (resnet.batch_256=256): ValueError: the reason\n" in text
    assert "      line 1\n" in text


def test_results_are_the_reports_tables(status: Command, simulated: Path) -> None:
    text = status(f"runs={simulated}", "results=true", "section=scratch").stdout
    study = read_study(simulated)
    assert text.startswith(
        "Simulated: drawn at random around the reported values, nothing was trained\n\nscratch."
    )
    ((section, table),) = study.catalog.select(tables=["scratch.lr"])
    row = best_row(table_rows(study, section, table))
    assert row is not None
    assert row.reported is not None
    (line,) = [
        line for line in text.partition("\nscratch.lr\n")[2].splitlines() if line.startswith(f"{row.label} * ")
    ]
    values = (f"{value.mean:.3f} ± {value.std:.3f}" for value in (row.measured, row.reported))
    assert "  ".join(values) in re.sub(" {2,}", "  ", line)
    difference = compare_row(row)
    assert difference is not None
    assert f" {difference.verdict} " in line
    assert re.search(rf"^{row.label} is best", text, re.MULTILINE)
    assert "transfer." not in text
    tables = {
        table["name"]: table
        for table in json.loads(status(f"runs={simulated}", "results=true", "json=true").stdout)
    }
    assert set(tables) == {row.key.partition("=")[0] for row in all_rows(study)}
    place = tables["scratch.lr"]["keys"].index(row.key)
    assert tables["scratch.lr"]["best"] == [place]
    assert tables["scratch.lr"]["rows"][place][1]["mean"] == row.measured.mean


def test_status_imports_pandas_for_results_alone(status: Command, simulated: Path, tmp_path: Path) -> None:
    for name in ("torch", "pandas", "matplotlib", "scipy", "submitit"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    for words in ((), ("json=true",), ("run=scratch.lr=5e-2", "seed=0")):
        done = status(f"runs={simulated}", *words, PYTHONPATH=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")


def test_status_of_a_folder_without_a_study_is_an_error(status: Command, tmp_path: Path) -> None:
    done = status(f"runs={tmp_path}")
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: runs={tmp_path} holds no study; submit one with jobs/submit.py, or name another folder\n"
    )


def test_status_never_imports_torch(status: Command, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = status(f"runs={tmp_path}", PYTHONPATH=str(tmp_path))
    assert "torch was imported" not in done.stderr + done.stdout
    assert done.returncode == 2


def test_status_counts_a_run_as_running_whoever_started_it(
    submit: Command, status: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert submit(*small, "seeds=1", "profile=demo", f"runs={runs}", "wait=true").returncode == 0
    (result,) = runs.glob("*/result.json")
    result.unlink()
    lease = acquire(result.parent, "77_0")
    assert lease is not None
    whole = json.loads(status(f"runs={runs}", "json=true").stdout)
    lease.release()
    (run,) = [run for run in whole["runs"] if run["id"] == result.parent.name]
    assert run["state"] == "running"
    assert "job 77_0" in run["detail"]
