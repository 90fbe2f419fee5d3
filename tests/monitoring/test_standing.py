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
from caltech_exp.monitoring.render import LOOKS, bar, fitted, shares, widths
from caltech_exp.monitoring.study_status import Outlook, Standing, look, standing
from caltech_exp.monitoring.watch import Seen, look_again, on_screen
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.lease import acquire
from caltech_exp.study.manifest import PreparationJob
from caltech_exp.study.plan import expand
from caltech_exp.study.run_status import RunState
from caltech_exp.study.study import StudySettings
from tests.conftest import Command
from tests.tools.paper_study import JOB, log_of, write_failure, write_paper_study, write_progress, write_result
from tests.tools.testbed import path_with, show_queue

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
    write_progress(folder, plan[1])
    log_of(folder, 1).write_text("epoch 1\n")
    write_failure(folder, plan[2], str(log_of(folder, 2)))
    write_progress(folder, plan[3])
    log_of(folder, 3).write_text("first\nepoch 2\n\x1b[2Jthe last line\n\n")
    log_of(folder, 3).with_suffix(".err").write_text("slurmstepd: error: oom-kill\n")
    (folder / plan[4].id).mkdir()
    (folder / plan[4].id / "result.json").write_text("{")
    yield folder
    lease.release()


def told(status: Command, runs: Path, path: str, *words: str) -> str:
    done = status(f"runs={runs}", *words, PATH=path)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_of_a_study_without_submissions_the_results_tell_the_seeds(runs: Path) -> None:
    left = {path.parent.name for path in runs.glob("*/result.json")}
    shutil.rmtree(runs / "submissions")
    seen = look(runs, Slurm(5))
    assert {run.id for run in seen.in_state("finished", "damaged")} == left
    assert {run.seed for run in seen.plan} == {0}


def test_json_says_all_of_every_run(status: Command, runs: Path, slurm_path: str) -> None:
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


def test_a_pipe_gets_a_line_per_run_and_no_control_codes(status: Command, runs: Path, slurm_path: str) -> None:
    text = told(status, runs, slurm_path, "failed=true")
    assert {char for char in text if not char.isprintable()} == {"\n"}
    assert re.search(
        rf"^running \S+ \(scratch\.\S+\): epoch 3 of 30, .* log: {log_of(runs, 1)}$", text, re.MULTILINE
    )
    assert re.search(rf"^failed \S+ .*: ValueError: the reason \(log: {log_of(runs, 2)}\)$", text, re.MULTILINE)
    assert re.search(rf"^lost \S+ .*, log: {log_of(runs, 3)}\n    first\n", text, re.MULTILINE)
    assert re.search(r"^expected end: .*\(1 at a time, as now\)$", text, re.MULTILINE)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_what_waits_and_for_what(state: str, status: Command, runs: Path, tmp_path: Path) -> None:
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
        assert (
            "prepare.runs (job 4710) waits for QOSMinGRES, and the runs for it; if it cannot start, `scancel 4710`"
            in text
        )
    else:
        assert "prepare.runs (job 4710) decodes the images, and the runs wait for it" in text


def test_without_slurm_the_files_tell_what_they_can(status: Command, runs: Path, tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    whole = json.loads(told(status, runs, str(empty), "json=true"))
    assert "squeue is not on this machine" in whole["note"]
    assert whole["counts"]["running"] == 1
    assert "lost" not in whole["counts"]
    assert "queued runs may be lost ones: squeue is not on" in told(status, runs, str(empty))


def test_a_slurm_that_does_not_answer_is_said(status: Command, runs: Path, tmp_path: Path) -> None:
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
def now(runs: Path, slurm_path: str, monkeypatch: pytest.MonkeyPatch) -> Standing:
    monkeypatch.setenv("PATH", slurm_path)
    return look(runs, Slurm(10))


def drawn(now: Standing, width: int, height: int = 60, encoding: str = "utf-8", **settings: object) -> list[str]:
    """The lines of the screen without the spaces at their ends."""

    class Stream(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    stream = Stream()
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False
    )
    console.print(fitted(now, console, failures=bool(settings.get("failures"))))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_screen_fits_its_width(now: Standing, width: int) -> None:
    lines = drawn(now, width)
    assert max(map(len, lines)) <= width
    whole = "".join(line.strip() for line in lines)
    assert re.sub(r"\s", "", str(log_of(now.folder, 1))) in re.sub(r"\s", "", whole)  # folded, never cut


def test_a_line_per_table_with_bar_and_counts(now: Standing) -> None:
    lines = drawn(now, 160)
    (table,) = [line for line in lines if line.startswith("  lr ")]
    name, sign, *counts = table.split()
    assert name == "lr"
    assert set(sign) <= {look.sign for look in LOOKS.values()}
    assert sum(map(int, counts)) == sum(now.tables["scratch", "lr"].values())
    assert any(line.startswith("transfer ") for line in lines)
    assert not any(line.startswith("  freezing") for line in lines)  # nothing of it was submitted


def test_terminals_without_unicode(now: Standing) -> None:
    assert all(line.isascii() for line in drawn(now, 80, encoding="ascii") if not line.startswith(("e", "  ")))


def test_a_low_screen_lists_fewer_runs(now: Standing) -> None:
    assert len(drawn(now, 80, height=16)) < len(drawn(now, 80, height=60))


def test_hostile_names_do_nothing(now: Standing) -> None:
    (run,) = now.in_state("running")
    odd = replace(run, serves=("scratch.lr=[red]\x1b[2J" + "x" * 300,))
    lines = drawn(replace(now, plan=tuple(odd if one is run else one for one in now.plan)), 80)
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line for line in lines)
    assert any("=[re" in line for line in lines)  # less is left of it where a run ends tomorrow


def test_long_names_of_tables_and_large_counts() -> None:
    assert widths(80, 60, 10_000, list(LOOKS)).name <= 30
    for room in range(30, 200):
        fit = widths(room, 25, 123_456, list(LOOKS))
        used = fit.name + (fit.bar + 1 if fit.bar else 0) + len(LOOKS) * (fit.counts + (1 if fit.short else 2))
        assert used <= max(room, 6 + 1 + len(LOOKS) * 7), room


@pytest.mark.parametrize("width", [1, 5, 40])
def test_every_state_is_seen_in_its_bar(width: int) -> None:
    counts = {"finished": 10_000, "failed": 1, "lost": 1}
    cells = shares(counts, width)
    assert sum(cells.values()) == width
    assert width < 3 or all(cells.values())
    assert len(bar(counts, width, ascii_only=False).plain) == width
    assert shares({"finished": 0}, 10) == {"finished": 0}


def test_a_look_that_tells_less_leaves_the_picture(now: Standing) -> None:
    def silent() -> Standing:
        return replace(now, note="Slurm does not answer (timed out); look")

    def broken() -> Standing:
        raise OSError("stale file handle")

    before = Seen(now)
    assert look_again(before, silent) == Seen(now, "Slurm does not answer (timed out); look")
    assert look_again(before, broken).trouble == "stale file handle"
    assert look_again(look_again(before, silent), lambda: now) == before
    stream = StringIO()
    console = Console(file=stream, width=80, height=60, force_terminal=True, color_system=None)
    console.print(on_screen(look_again(before, silent), console, 30, failures=False))
    assert "no news since" in stream.getvalue()
    assert "asked again every 30 s" in " ".join(stream.getvalue().split())


def test_watching_asks_the_queue_once_a_look_and_accounting_once_a_job(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    path_with(tmp_path, "sacct", f"echo sacct >> {asked}; echo '{JOB}_3|scratch.runs|OUT_OF_MEMORY|gpu07|'")
    queue = show_queue(tmp_path, f"{JOB}_5|PENDING|R|scratch.runs|", before=f"echo squeue >> {asked}")
    monkeypatch.setenv("PATH", queue)
    known: dict[str, object] = {}
    for _ in range(3):
        now = look(runs, Slurm(10), known)  # type: ignore[arg-type]
        (lost,) = now.in_state("lost")
        assert "ran out of memory" in now.states[lost.id].detail
    assert Counter(asked.read_text().split()) == {"squeue": 3, "sacct": 1}


def test_a_run_that_serves_two_tables_counts_in_each_and_once_in_its_section(now: Standing) -> None:
    tables = THE_REPORT.select(tables=["scratch.lr", "scratch.epochs"])
    plan = expand(tables, (0,), StudySettings())
    states = {run.id: RunState("finished") for run in plan}
    counted = standing(now.folder, tables, plan, states, Outlook(), {})
    rows = {(section.name, table.name): len(table.rows) for section, table in tables}
    assert counted.tables == {name: Counter(finished=number) for name, number in rows.items()}
    assert counted.sections == {"scratch": Counter(finished=len(plan))}
    assert len(plan) < sum(rows.values())
    shared = [run for run in now.plan if len({served.partition("=")[0] for served in run.serves}) > 1]
    assert shared
    assert sum(now.counts.values()) == len(now.plan)
    of_scratch = [run for run in now.plan if any(served.startswith("scratch.") for served in run.serves)]
    assert sum(now.sections["scratch"].values()) == len(of_scratch)


def test_the_command_draws_in_colour_on_a_terminal_and_not_where_no_color_is_set(
    runs: Path, slurm_path: str
) -> None:
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
