"""`python reports/aggregate.py` as a user runs it."""

import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.cli import UserError
from caltech_exp.commands.aggregate import main
from caltech_exp.config import RunConfig, run_id
from caltech_exp.study.study import StudySettings
from tests.conftest import Command
from tests.reporting.conftest import SampleStudy, make_result, row_config

ODD = 'it\'s a "study"; $HOME `x` | <ü> 日本'


def test_aggregate_writes_the_report_and_says_where_and_how_far_it_agrees(
    folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    folder.add(
        make_result(RunConfig(), 0), *(make_result(row_config("transfer.lr", "1e-2"), n, 0.9) for n in (0, 1))
    )
    done = aggregate()
    assert (done.returncode, done.stderr) == (0, "")
    report = tmp_path / "report"
    assert done.stdout.splitlines() == [
        f"report: {report / 'report.html'}",
        f"report: {report / 'report.md'}",
        "3 of 120 runs finished; 117 not submitted.",
        "0 of 2 rows agree with the report and 2 are inconclusive.",
    ]
    written = {path.name for path in report.iterdir()}
    assert written == {"report.md", "report.html", "figures", "tables", "runs.csv", "epochs.csv", ".cache"}
    text = (report / "report.md").read_text()
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:2] == ["## 1. Training from scratch", "## 2. Transfer learning"]


@pytest.mark.parametrize(
    ("words", "selection", "sections", "runs"),
    [
        (["section=scratch,resnet"], "section=scratch,resnet", ["scratch", "resnet"], 39 + 21),
        (["table=transfer.lr,scratch.lr"], "table=transfer.lr,scratch.lr", ["scratch", "transfer"], 15 + 9),
        (["table=scratch.lr=5e-2"], "table=scratch.lr=5e-2", ["scratch"], 3),
    ],
)
def test_aggregate_of_a_part_shows_and_counts_nothing_else(
    words: list[str],
    selection: str,
    sections: list[str],
    runs: int,
    simulated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([f"runs={simulated}", f"out={tmp_path}", *words]) == 0
    assert f"{runs} of {runs} runs finished.\n" in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text()
    assert f"This page shows `{selection}` alone" in text
    every = [section.name for section in THE_REPORT.sections]
    assert [name for name in every if f'<a id="{name}"></a>' in text] == sections
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(lines) == 1 + runs
    assert (tmp_path / "report.html").stat().st_size > 1e6


def test_aggregate_of_the_data_section_shows_its_figures_alone(
    simulated: Path, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"runs={simulated}", f"out={tmp_path}", f"data={stand_in}", "section=data"]) == 0
    assert "runs finished" not in capsys.readouterr().out
    text = (tmp_path / "report.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Data preparation"]
    assert "The figures of the data set do not show Caltech-101" in text
    assert (tmp_path / "figures" / "figure-01.svg").is_file()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("section=trasnfer", "unknown section 'trasnfer'; did you mean 'transfer'?"),
        ("section=scratch,", "section=scratch,: there is an empty name between the commas; remove it"),
        ("section=scratch.lr", "scratch.lr is a table, not a section; write table=scratch.lr"),
        ("table=scratch.lrr", "unknown table 'scratch.lrr'; did you mean 'scratch.lr'?"),
        ("table=scratch.lr=5e-3", "unknown row of scratch.lr '5e-3'; did you mean '5e-2'?"),
    ],
)
def test_aggregate_of_an_unknown_part_is_refused_as_by_submit(
    word: str, message: str, folder: SampleStudy, tmp_path: Path
) -> None:
    folder.start()
    with pytest.raises(UserError) as caught:
        main([f"runs={folder.path}", f"out={tmp_path / 'out'}", word])
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["missing", "empty", "other"])
def test_aggregate_without_a_study_is_refused_and_writes_nothing(
    name: str, folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("an earlier report\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "a folder").mkdir(parents=True)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for out in ("mine", "new"):
        done = aggregate(f"runs={name}", f"out={out}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: {tmp_path / name}")
        assert done.stderr.endswith("; give the folder that jobs/submit.py wrote into\n")
        assert done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_aggregate_of_a_study_without_results_writes_a_report_that_says_so(
    folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    folder.submit(run_id(RunConfig(), 0))
    folder.submit(run_id(RunConfig(), 1), name="second")
    folder.fail(run_id(RunConfig(), 1), "out of paper")
    done = aggregate()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "0 of 120 runs finished; 1 failed, 1 queued, 118 not submitted."
    assert "out of paper" in (tmp_path / "report" / "report.md").read_text()


def test_aggregate_needs_no_study_record_where_there_is_a_result(folder: SampleStudy, aggregate: Command) -> None:
    folder.add(make_result(RunConfig(), 0))
    assert aggregate().returncode == 0


def test_open_gives_the_page_to_the_browser(folder: SampleStudy, aggregate: Command, tmp_path: Path) -> None:
    folder.start()
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{tmp_path}/opened"\n')
    browser.chmod(0o755)
    done = aggregate("open=true", "out=my report", BROWSER=f"{browser} %s")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "opened").read_text().strip() == f"{(tmp_path / 'my report' / 'report.html').as_uri()}"
    assert "browser" not in done.stdout


@pytest.mark.parametrize("browser", [None, "false", "/no/such/program"])
def test_open_without_a_browser_says_where_the_page_is(
    browser: str | None, folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    done = aggregate("open=true", BROWSER=browser, DISPLAY=None, WAYLAND_DISPLAY=None, PATH="/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    page = tmp_path / "report" / "report.html"
    assert done.stdout.splitlines()[-1] == f"no browser can be opened here; the page is {page}"


def test_every_figure_of_the_report_is_there(simulated_report: Path) -> None:
    text = (simulated_report / "report.md").read_text()
    missing = [number for number in range(1, 21) if not re.search(rf"Figures? ([0-9, ]+and )?{number}\b", text)]
    assert missing == []


def test_after_one_new_result_only_its_pictures_are_drawn(
    folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "5e-2"), 0), make_result(row_config("transfer.lr", "1e-2"), 0))
    figures = tmp_path / "report" / "figures"
    aggregate()
    before = {path.name: path.stat().st_ino for path in figures.iterdir()}
    aggregate()
    assert {path.name: path.stat().st_ino for path in figures.iterdir()} == before
    folder.add(make_result(row_config("transfer.lr", "1e-2"), 1, 0.7))
    aggregate()
    changed = {path.stem for path in figures.iterdir() if path.stat().st_ino != before.get(path.name)}
    assert changed == {"figure-11", "curves-networks", "curves-transfer.lr", "curves-transfer.step_size"}


def test_everything_is_made_anew_without_what_saves_time(
    folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "5e-2"), 0))
    out = tmp_path / "report"
    aggregate()
    before = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.suffix in (".png", ".svg", ".csv")}
    for path in (out / ".cache").iterdir():
        path.write_bytes(b"damaged")
    for path in (out / "figures").iterdir():
        path.unlink()
    assert aggregate().returncode == 0
    after = {path.name: path.read_bytes() for path in out.rglob("*.*") if path.suffix in (".png", ".svg", ".csv")}
    assert before == after


def test_odd_paths(aggregate: Command, tmp_path: Path) -> None:
    study = SampleStudy(tmp_path / ODD)
    study.start()
    study.add(make_result(row_config("scratch.lr", "1e-2"), 0))
    done = aggregate(f"runs={study.path}", f"out={tmp_path / 'out' / ODD}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.500" in (tmp_path / "out" / ODD / "report.md").read_text()


def test_home_folders(aggregate: Command, stand_in: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    study = SampleStudy(home / "study")
    study.start()
    study.add(make_result(row_config("scratch.lr", "1e-2"), 0))
    (home / "data").symlink_to(stand_in)
    for words, variable in ((["data=~/data"], None), ([], "~/data")):
        done = aggregate("runs=~/study", "out=~/x", *words, HOME=str(home), CALTECH101_ROOT=variable)
        assert (done.returncode, done.stderr) == (0, "")
        text = (home / "x" / "report.md").read_text()
        assert "0.500" in text
        assert f"table=scratch.template runs={study.path}" in text
        assert "](figures/figure-01.png)" in text
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("run=x", "unknown key 'run'; did you mean 'runs'?"),
        ("x", "'x' is not of the form key=value"),
        ("runs=", "runs= has no value"),
        ("runs=a file", "a file is a file; give the folder of a study"),
        ("runs=\udcff", "runs=\\udcff is not valid UTF-8 text"),
        *((f"{key}=~nosuchuser/x", f"{key}=~nosuchuser/x: ") for key in ("runs", "out", "data")),
        *((f"{key}={'x' * 300}", "x: File name too long; name another path") for key in ("runs", "out", "data")),
    ],
)
def test_mistakes_are_told_in_one_line(word: str, message: str, aggregate: Command, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("kept")
    done = aggregate(word)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


@pytest.mark.parametrize("out", ["a file", "a file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_told_in_one_line(
    out: str, folder: SampleStudy, aggregate: Command, tmp_path: Path
) -> None:
    folder.start()
    (tmp_path / "a file").write_text("kept")
    done = aggregate(f"out={out}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"error: out={out} cannot be written (")
    assert {path.name for path in tmp_path.iterdir()} == {"a file", "runs"}


def test_a_damaged_study_record(folder: SampleStudy, aggregate: Command) -> None:
    folder.path.mkdir()
    (folder.path / "study.json").write_text("{")
    done = aggregate()
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"error: {folder.path / 'study.json'} is damaged (it is not whole JSON" in done.stderr


def test_a_study_record_with_impossible_overrides(folder: SampleStudy, aggregate: Command) -> None:
    SampleStudy(folder.path, StudySettings(overrides={"lr": 0.5})).start()
    record = folder.path / "study.json"
    record.write_text(record.read_text().replace("0.5", "-1"))
    done = aggregate()
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"error: {record} is damaged (settings.overrides: lr=-1" in done.stderr


def test_help_names_every_option(aggregate: Command) -> None:
    done = aggregate("--help")
    assert done.returncode == 0
    assert all(f"  {option}=" in done.stdout for option in ("runs", "out", "section", "table", "data", "open"))


def test_a_whole_report_never_imports_torch(folder: SampleStudy, stand_in: Path, tmp_path: Path) -> None:
    folder.start()
    folder.add(make_result(RunConfig(), 0))
    code = (
        "import sys; from caltech_exp.commands.aggregate import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'torchvision', 'submitit'} & set(sys.modules)))"
    )
    words = [f"runs={folder.path}", f"out={tmp_path / 'out'}", f"data={stand_in}"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("function", ["frames.read_study", "page.build_report"])
def test_a_killed_helper_process_is_told_in_one_line(
    function: str, folder: SampleStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise BrokenProcessPool

    folder.start()
    monkeypatch.setattr(f"caltech_exp.reporting.{function}", killed)
    with pytest.raises(UserError, match="was killed, probably for lack of memory"):
        main([f"runs={folder.path}", f"out={tmp_path / 'out'}"])
