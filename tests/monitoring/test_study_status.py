"""A study in all states at once: on a terminal of any width, in a pipe, as JSON, with Slurm and without."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from caltech_exp.catalog import THE_REPORT
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.monitoring.bars import STYLES, bar, fit_columns, share_cells, sparkline
from caltech_exp.monitoring.render import fit_screen
from caltech_exp.monitoring.run_states import EndedJobs
from caltech_exp.monitoring.study_status import StudyStatus, count_runs, read_status
from caltech_exp.monitoring.watch import View, draw_view, next_view
from caltech_exp.reporting.comparison import all_rows
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import Column, shown
from caltech_exp.reporting.sections.tables import measured_value
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import acquire
from caltech_exp.study.manifest import PreparationJob
from caltech_exp.study.plan import expand
from caltech_exp.study.results import CurvePoint
from caltech_exp.study.run_status import RunStatus
from caltech_exp.study.study import StudySettings
from tests.conftest import Command
from tests.tools.paper_study import JOB, log_of, write_failure, write_paper_study, write_progress, write_result
from tests.tools.testbed import path_with, show_queue

CURVE = (CurvePoint(1, 4.5, 4.6, 0.1), CurvePoint(2, None, 4.0, 0.2), CurvePoint(3, 2.25, 3.0, 0.3))
STATES = ("finished", "running", "failed", "lost", "damaged", "queued")


@pytest.fixture
def slurm_path(tmp_path: Path) -> str:
    """A PATH where Slurm holds task 5 of the paper study's array, and has no accounting."""
    path_with(tmp_path, "sacct", "exit 1")
    return show_queue(tmp_path, f"{JOB}_5|PENDING|Resources|scratch.runs|")


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """Two tables of AlexNet, the first six runs each in a state of its own, in the order of STATES."""
    folder = tmp_path / "runs"
    plan = write_paper_study(folder, ("scratch.lr", "scratch.epochs"))
    for run in plan[6:]:
        write_result(folder, run)
    write_result(folder, plan[0])
    lease = acquire(folder / plan[1].id, f"{JOB}_1")
    assert lease is not None
    write_progress(folder, plan[1], curve=CURVE)
    log_of(folder, 1).write_text("epoch 1\n")
    write_failure(folder, plan[2], str(log_of(folder, 2)))
    write_progress(folder, plan[3])
    log_of(folder, 2).touch()
    begins = "submitit INFO (2026-01-01 12:00:00) - Starting with JobEnvironment(job_id=1)\n"
    log_of(folder, 3).write_text(f"{begins}first\nepoch 2\n\x1b[2Jthe last line\n\n")
    noise = "srun: error: gpu07: task 0: Exited with exit code 1\nsrun: Terminating StepId=1.0\n"
    log_of(folder, 3).with_suffix(".err").write_text(f"slurmstepd: error: oom-kill\n{noise}")
    (folder / plan[4].id).mkdir()
    (folder / plan[4].id / "result.json").write_text("{")
    yield folder
    lease.release()


def told(status: Command, runs: Path, path: str, *words: str) -> str:
    done = status(f"runs={runs}", *words, PATH=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_study_without_submissions_takes_its_seeds_from_results(runs: Path) -> None:
    left = {path.parent.name for path in runs.glob("*/result.json")}
    shutil.rmtree(runs / "submissions")
    seen = read_status(StudyFolder(runs), Slurm(5))
    assert {run.id for run in seen.in_state("finished", "damaged")} == left
    configs = {run.config.id for run in seen.in_state("finished")}
    assert {run.seed for run in seen.plan if run.config.id in configs} == {0}
    assert {run.seed for run in seen.plan if run.config.id not in configs} == {0, 1, 2}  # the catalog's


def test_json_lists_every_run(status: Command, runs: Path, slurm_path: str) -> None:
    whole = json.loads(told(status, runs, slurm_path, "json=true", "failed=true"))
    assert whole["note"] is None
    by_state = {run["state"]: run for run in whole["runs"]}
    assert set(STATES) <= set(by_state)
    assert by_state["running"]["log"] == str(log_of(runs, 1))
    assert (by_state["running"]["job"], by_state["running"]["epoch"]) == (f"{JOB}_1", 3)
    assert 3500 < by_state["running"]["seconds_left"] <= 3600
    assert by_state["failed"]["log"] == str(log_of(runs, 2))
    assert by_state["failed"]["last_lines"] == ["Traceback", "  line 1", "\\x1b[31mValueError: the reason"]
    assert by_state["lost"]["log"] == str(log_of(runs, 3))
    assert by_state["lost"]["last_lines"][-2:] == ["\\x1b[2Jthe last line", "slurmstepd: error: oom-kill"]
    assert whole["sections"]["scratch"]["running"] == 1
    assert whole["seconds_left"] is not None  # the queued run is as long as finished ones of its network
    assert whole["expected_end"] > whole["when"]
    counts = Counter(run["state"] for run in whole["runs"])
    assert counts == whole["counts"]


def test_text_has_a_line_per_run_and_no_control_codes(status: Command, runs: Path, slurm_path: str) -> None:
    text = told(status, runs, slurm_path, "failed=true")
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert re.search(
        rf"^running \S+ \(scratch\.\S+\): epoch 3 of 30, .* log: {log_of(runs, 1)}$", text, re.MULTILINE
    )
    assert re.search(rf"^failed \S+ .*: ValueError: the reason \(log: {log_of(runs, 2)}\)$", text, re.MULTILINE)
    assert re.search(rf"^lost \S+ .*, log: {log_of(runs, 3)}\n    first\n", text, re.MULTILINE)
    assert re.search(r"^expected end: .*\(1 at a time, as now\)$", text, re.MULTILINE)


def test_accuracies_are_those_of_the_reports_tables(status: Command, simulated: Path) -> None:
    text, whole = (status(f"runs={simulated}", *words).stdout for words in ((), ("json=true",)))
    study = read_study(simulated)
    measured = {row.key: shown(Column("", "spread"), measured_value(row)) for row in all_rows(study)}
    lines = text.partition("validation accuracy\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert {key: line.rpartition("  ")[2] for key, line in zip(measured, lines, strict=True)} == measured
    assert all(line.startswith(key) for key, line in zip(measured, lines, strict=True))
    assert any("diverged (3 of 3)" in value for value in measured.values())
    rows = json.loads(whole)["rows"]
    assert rows.keys() == measured.keys()
    for row in all_rows(study):
        assert rows[row.key]["mean"] == pytest.approx(row.measured.mean, abs=1e-12)
        assert rows[row.key]["std"] == pytest.approx(row.measured.std, abs=1e-12)
        assert rows[row.key]["runs"] == row.measured.n + len(row.diverged)


def test_running_runs_show_their_curve(status: Command, runs: Path, slurm_path: str) -> None:
    words = "accuracy 0.300, train loss 2.250 ▁▅█"
    (line,) = [line for line in told(status, runs, slurm_path).splitlines() if line.startswith("running ")]
    assert f", {words}, ends " in line
    (run,) = [
        run for run in json.loads(told(status, runs, slurm_path, "json=true"))["runs"] if run["state"] == "running"
    ]
    assert run["curve"] == [[1, 4.5, 4.6, 0.1], [2, None, 4.0, 0.2], [3, 2.25, 3.0, 0.3]]
    plain = status(f"runs={runs}", PATH=slurm_path, PYTHONIOENCODING="ascii").stdout
    assert plain.isascii()
    assert "train loss 2.250 _=#" in plain
    assert "0.500" in plain


def test_sparkline_scales_its_values_and_keeps_the_last() -> None:
    assert sparkline([0.0, 0.5, 1.0], ascii_only=False) == "▁▅█"
    assert sparkline([0.3, 0.3], ascii_only=True) == "__"
    assert sparkline([1.0, None, 2.0], ascii_only=True) == "_ #"
    assert sparkline([], ascii_only=True) == sparkline([None], ascii_only=True).strip() == ""
    assert sparkline([*[0.0] * 999, 1.0], ascii_only=False, most=24).endswith("▁█")
    assert len(sparkline([0.0] * 1000, ascii_only=False, most=24)) <= 24


def test_filters_choose_the_runs_that_are_shown(status: Command, runs: Path, slurm_path: str) -> None:
    every = json.loads(told(status, runs, slurm_path, "json=true"))
    rows = json.loads(told(status, runs, slurm_path, "json=true", "table=scratch.lr=1e-2,scratch.epochs"))
    assert rows["tables"].keys() == {"scratch.lr", "scratch.epochs"}
    assert {row for run in rows["runs"] for row in run["serves"]} == {
        "scratch.lr=1e-2", *(f"scratch.epochs={epochs}" for epochs in (20, 30, 40, 50, 60)),
    }  # fmt: skip
    section = json.loads(told(status, runs, slurm_path, "json=true", "section=transfer,resnet"))
    assert section["sections"].keys() == {"transfer", "resnet"}
    chosen = json.loads(told(status, runs, slurm_path, "json=true", "state=failed, lost"))
    assert chosen["counts"] == {"failed": 1, "lost": 1}
    assert {run["id"] for run in chosen["runs"]} == {
        run["id"] for run in every["runs"] if run["state"] in ("failed", "lost")
    }
    assert status(f"runs={runs}", "state=faild").stderr == "error: unknown state 'faild'; did you mean 'failed'?\n"


def test_failed_runs_are_grouped_by_their_reason(status: Command, runs: Path, slurm_path: str) -> None:
    plan = read_status(StudyFolder(runs), Slurm(5)).plan
    for run in plan[6:9]:
        (runs / run.id / "result.json").unlink()
        write_failure(
            runs, run, str(log_of(runs, 2)), "ValueError: another" if run is plan[8] else "ValueError: the reason"
        )
    text = told(status, runs, slurm_path, "failed=true")
    lines = [line for line in text.splitlines() if line.startswith("failed ")]
    assert [line.partition(") ")[2].partition(" (log: ")[0] for line in lines] == [
        "and 2 more: ValueError: the reason",
        "",
    ]
    assert text.count("ValueError: the reason") == 2  # the reason and its excerpt
    assert len([line for line in told(status, runs, slurm_path).splitlines() if line.startswith("failed ")]) == 4


def test_a_log_is_named_only_if_the_job_that_tells_why_left_it(
    status: Command, runs: Path, slurm_path: str
) -> None:
    plan = read_status(StudyFolder(runs), Slurm(5)).plan
    (manifest,) = StudyFolder(runs).manifests()
    task = manifest.tasks[3].model_copy(update={"index": 0, "job": "4712"})
    StudyFolder(runs).write_manifest(manifest.model_copy(update={"id": "20260102T000000-abcd", "tasks": (task,)}))
    log_of(runs, 2).unlink()
    by_id = {run["id"]: run for run in json.loads(told(status, runs, slurm_path, "json=true"))["runs"]}
    assert by_id[plan[3].id]["state"] == "lost"
    assert by_id[plan[3].id]["log"] is None  # the log of the earlier job is not told beside the later one's end
    assert by_id[plan[2].id]["log"] is None
    assert "(log: " not in told(status, runs, slurm_path)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_waiting_jobs_are_shown_with_their_reasons(
    state: str, status: Command, runs: Path, tmp_path: Path
) -> None:
    (manifest,) = StudyFolder(runs).manifests()
    first = PreparationJob(name="prepare.runs", job="4710")
    StudyFolder(runs).write_manifest(manifest.model_copy(update={"preparation": first}))
    path_with(tmp_path, "sacct", "exit 1")
    lines = [
        f"4710|{state}|QOSMinGRES|prepare.runs|",
        *(f"{JOB}_{n}|PENDING|Dependency|scratch.runs|" for n in (3, 5)),
    ]
    path = show_queue(tmp_path, *lines)
    text, whole = told(status, runs, path), json.loads(told(status, runs, path, "json=true"))
    assert "\nwaiting: 2 for Dependency\n" in text
    assert whole["waiting"] == {"Dependency": 2}
    assert whole["preparation"]["id"] == "4710"
    if state == "PENDING":
        assert "prepare.runs (job 4710) waits for QOSMinGRES, and the runs wait for it; if it cannot start" in text
        assert "run `scancel 4710`" in text
    else:
        assert "prepare.runs (job 4710) decodes the images, and the runs wait for it" in text


def test_status_without_slurm_relies_on_files(status: Command, runs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    whole = json.loads(told(status, runs, str(empty), "json=true"))
    assert "squeue is not on this machine" in whole["note"]
    assert whole["counts"]["running"] == 1
    assert "lost" not in whole["counts"]
    assert "queued runs may be lost: squeue is not on" in told(status, runs, str(empty))


def test_status_says_that_slurm_does_not_answer(status: Command, runs: Path, tmp_path: Path) -> None:
    path = path_with(tmp_path, "squeue", "echo 'Socket timed out' >&2; exit 1")
    assert "Slurm does not answer (squeue: Socket timed out)" in told(status, runs, path)


def test_settings_of_an_earlier_profile_are_ignored_with_one_line(
    status: Command, runs: Path, slurm_path: str
) -> None:
    (path,) = runs.glob("submissions/*/manifest.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "profile": {**manifest["profile"], "compile": True}}))
    line = "ignored settings of the last submission's profile, which no longer exist: compile"
    assert told(status, runs, slurm_path).splitlines().count(line) == 1


@pytest.fixture
def study_status(runs: Path, slurm_path: str, monkeypatch: pytest.MonkeyPatch) -> StudyStatus:
    monkeypatch.setenv("PATH", slurm_path)
    return read_status(StudyFolder(runs), Slurm(10))


def drawn(
    study_status: StudyStatus, width: int, height: int = 60, encoding: str = "utf-8", **settings: object
) -> list[str]:
    """The lines of the screen without the spaces at their ends."""

    class Stream(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    stream = Stream()
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False
    )
    console.print(fit_screen(study_status, console, failures=bool(settings.get("failures"))))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_screen_fits_its_width(study_status: StudyStatus, width: int) -> None:
    lines = drawn(study_status, width)
    assert max(map(len, lines)) <= width
    whole = "".join(line.strip() for line in lines)
    assert re.sub(r"\s", "", str(log_of(study_status.folder, 1))) in re.sub(r"\s", "", whole)  # folded, never cut


def test_screen_has_a_line_per_table_with_bar_and_counts(study_status: StudyStatus) -> None:
    lines = drawn(study_status, 160)
    (table,) = [line for line in lines if line.startswith("  lr ")]
    name, sign, *counts = table.split()
    assert name == "lr"
    assert set(sign) <= {style.character for style in STYLES.values()}
    assert sum(map(int, counts)) == sum(study_status.tables["scratch", "lr"].values())
    assert any(line.startswith("transfer ") for line in lines)
    assert not any(line.startswith("  freezing") for line in lines)  # nothing of it was submitted


@pytest.mark.parametrize("width", [80, 50])
def test_screen_without_unicode_is_ascii(study_status: StudyStatus, width: int) -> None:
    lines = drawn(study_status, width, encoding="ascii")
    assert [line for line in lines if not line.isascii() and not line.startswith(("e", "  "))] == []


def test_low_screen_lists_fewer_runs(study_status: StudyStatus) -> None:
    assert len(drawn(study_status, 80, height=16)) < len(drawn(study_status, 80, height=60))


def test_hostile_names_are_escaped(study_status: StudyStatus) -> None:
    (run,) = study_status.in_state("running")
    odd = replace(run, rows=("scratch.lr=[red]\x1b[2J" + "x" * 300,))
    plan = tuple(odd if other is run else other for other in study_status.plan)
    lines = drawn(replace(study_status, plan=plan), 100)
    assert max(map(len, lines)) <= 100
    assert not any("\x1b" in line for line in lines)
    assert any("=[red" in line for line in lines)


def test_columns_fit_long_names_and_large_counts() -> None:
    assert fit_columns(80, 60, 10_000, list(STYLES)).name <= 30
    for room in range(30, 200):
        fit = fit_columns(room, 25, 123_456, list(STYLES))
        used = fit.name + (fit.bar + 1 if fit.bar else 0) + len(STYLES) * (fit.counts + (1 if fit.short else 2))
        assert used <= max(room, 6 + 1 + len(STYLES) * 7), room


@pytest.mark.parametrize("width", [1, 5, 40])
def test_bar_shows_every_state(width: int) -> None:
    counts = {"finished": 10_000, "failed": 1, "lost": 1}
    cells = share_cells(counts, width)
    assert sum(cells.values()) == width
    assert width < 3 or all(cells.values())
    assert len(bar(counts, width, ascii_only=False).plain) == width
    assert share_cells({"finished": 0}, 10) == {"finished": 0}


def test_next_view_keeps_the_last_status_while_slurm_does_not_answer(study_status: StudyStatus) -> None:
    def silent(_: EndedJobs) -> StudyStatus:
        return replace(study_status, note="Slurm does not answer (timed out); look")

    def broken(_: EndedJobs) -> StudyStatus:
        raise OSError("stale file handle")

    before = View(study_status)
    trouble = next_view(before, silent)
    assert trouble == View(study_status, "Slurm does not answer (timed out); look")
    assert next_view(before, broken).trouble == "stale file handle"
    assert next_view(trouble, lambda _: study_status) == before
    stream = StringIO()
    console = Console(file=stream, width=80, height=60, force_terminal=True, color_system=None)
    console.print(draw_view(trouble, console, 30, failures=False))
    assert "no news since" in stream.getvalue()
    assert "asked again every 30 s" in " ".join(stream.getvalue().split())


def test_status_asks_the_queue_once_each_time_and_accounting_once_a_job(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    path_with(tmp_path, "sacct", f"echo sacct >> {asked}; echo '{JOB}_3|scratch.runs|OUT_OF_MEMORY|gpu07|'")
    queue = show_queue(tmp_path, f"{JOB}_5|PENDING|R|scratch.runs|", before=f"echo squeue >> {asked}")
    monkeypatch.setenv("PATH", queue)
    ended_jobs: EndedJobs = {}
    for _ in range(3):
        study_status = read_status(StudyFolder(runs), Slurm(10), ended_jobs)
        ended_jobs = study_status.ended_jobs
        (lost,) = study_status.in_state("lost")
        assert "ran out of memory" in study_status.runs[lost.id].detail
    assert Counter(asked.read_text().split()) == {"squeue": 3, "sacct": 1}


def test_run_of_two_tables_counts_in_each_and_once_in_its_section(study_status: StudyStatus) -> None:
    tables = THE_REPORT.select(tables=["scratch.lr", "scratch.epochs"])
    plan = expand(tables, (0,), StudySettings())
    states = {run.id: RunStatus("finished") for run in plan}
    by_table, by_section = count_runs(tables, plan, states)
    rows = {(section.name, table.name): len(table.rows) for section, table in tables}
    assert by_table == {name: Counter(finished=number) for name, number in rows.items()}
    assert by_section == {"scratch": Counter(finished=len(plan))}
    assert len(plan) < sum(rows.values())
    shared = [run for run in study_status.plan if len({row.partition("=")[0] for row in run.rows}) > 1]
    assert shared
    assert sum(study_status.counts.values()) == len(study_status.plan)
    of_scratch = [run for run in study_status.plan if any(row.startswith("scratch.") for row in run.rows)]
    assert sum(study_status.sections["scratch"].values()) == len(of_scratch)


def test_command_draws_in_colour_on_a_terminal_unless_no_color_is_set(runs: Path, slurm_path: str) -> None:
    """In a real terminal of 80 columns (script(1))."""
    script = Path(__file__).resolve().parents[2] / "jobs" / "status.py"

    def shown(**environment: str) -> str:
        command = f"stty cols 80 rows 50; {sys.executable} {script} runs={runs}"
        return subprocess.run(
            ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, "PATH": slurm_path, "TERM": "xterm-256color", **environment},
        ).stdout  # fmt: skip

    assert "\x1b[1;31m" in shown()
    plain = shown(NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)
    assert "█" in plain
