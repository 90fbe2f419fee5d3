"""Sweeps from the command line: settings with several values make a study of their product."""

import re
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT, read_catalog, table_key
from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.study import Study
from caltech_exp.submission.request import Request, parse_request
from caltech_exp.submission.sweep import make_sweep, split_sweep, unsubmitted_edits
from tests.conftest import SMALL, Command
from tests.submission.test_request import CODE, DATA

WORDS = ("table=scratch.template", "lr=1e-3,1e-2", "batch_size=32,64")


def labels(request: Request) -> list[str]:
    return [row.label for _, table in request.tables for row in table.rows]


def submitted(request: Request) -> None:
    """Leave what a submission leaves in the folder."""
    study = Study(
        settings=request.settings, file=request.file, data=DATA, created="2026-01-01T00:00:00Z", code=CODE
    )
    StudyFolder(request.runs).write_study(study)
    assert request.sweep
    request.sweep.path.write_text(request.sweep.text)


def test_sweep_from_command_line_to_matrix_of_the_report(
    submit: Command, status: Command, aggregate: Command, tmp_path: Path, stand_in: Path
) -> None:
    small = [word for word in SMALL if not word.startswith("batch_size")]
    words = ("table=scratch.template", "lr=1e-3,1e-2", "batch_size=2,4", "seeds=1", "runs=quick")
    place = (*small, f"data={stand_in}", "profile=demo")
    planned = submit(*words, *place, "dry_run=true")
    first = (
        "sweep of lr=1e-3,1e-2 batch_size=2,4 in scratch.template: 4 rows, study file "
        f"{tmp_path / 'quick' / 'sweep.yaml'}\n"
    )
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.startswith(first)
    assert "4 runs of 4 configurations: 4 pending" in planned.stdout
    assert not (tmp_path / "quick").exists()

    done = submit(*words, *place, "runs_per_task=4", "wait=true")
    assert done.returncode == 0, done.stderr
    assert "study=quick/sweep.yaml section=all runs=quick" in (tmp_path / "quick" / "sweep.yaml").read_text()
    assert "nothing to submit: all 4 runs are finished" in submit(*words).stdout  # the same study
    assert "nothing to submit" in submit("study=quick/sweep.yaml", "section=all", "seeds=1", "runs=quick").stdout
    assert "scratch.template" in status("runs=quick").stdout
    assert aggregate("runs=quick", "out=report").returncode == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.search(r"^\| LR +\| +Batch size 2 \| +Batch size 4 \|$", text, re.MULTILINE)
    assert (tmp_path / "report" / "figures" / "map-scratch.template.png").exists()


def test_rows_of_a_table_and_values_are_multiplied(tmp_path: Path) -> None:
    runs = f"runs={tmp_path / 'runs'}"
    assert labels(parse_request([*WORDS, runs])) == ["1e-3, 32", "1e-3, 64", "1e-2, 32", "1e-2, 64"]
    assert labels(parse_request(["table=scratch.lr", "lr=1e-4,1", runs])) == ["1e-4", "1"]
    rows = labels(parse_request(["table=scratch.lr=5e-2,scratch.lr=1e-2", "max_per_class=0,30", runs]))
    assert rows == ["1e-2, 0", "1e-2, 30", "5e-2, 0", "5e-2, 30"]
    assert labels(parse_request(["table=scratch.epochs", "epochs=2", "lr=1e-2,1e-1", runs])) == ["1e-2", "1e-1"]


def test_sweep_of_frozen_batchnorm_is_of_what_the_command_freezes(tmp_path: Path) -> None:
    words = ["table=scratch.template", "freeze=conv", "frozen_batchnorm=train,eval", f"runs={tmp_path / 'runs'}"]
    assert labels(parse_request([*words, "model=resnet18"])) == ["train", "eval"]
    with pytest.raises(UserError, match="rows 'train' and 'eval' are the same run; keep one of them"):
        parse_request(words)  # AlexNet has no batch normalisation


def test_every_table_of_the_report_can_be_swept_and_keeps_its_settings(tmp_path: Path) -> None:
    sweep = make_sweep({"gamma": ["0.1", "0.5"]}, {}, THE_REPORT.tables, StudyFolder(tmp_path))
    swept = read_catalog(sweep.text, "sweep", "sweep.yaml")
    by_key = {table_key(section.name, table.name): table for section, table in swept.tables}
    for section, table in THE_REPORT.tables:
        expected = {row.config.but(gamma=gamma).id for row in table.rows for gamma in (0.1, 0.5)}
        assert {row.config.id for row in by_key[table_key(section.name, table.name)].rows} == expected


def test_one_value_is_an_override_and_a_file_may_have_a_comma(tmp_path: Path) -> None:
    (tmp_path / "a,b.pth").touch()
    (tmp_path / "a,b.py").touch()
    given = {"lr": "1e-3", "weights": f"{tmp_path}/a,b.pth", "model": f"{tmp_path}/a,b.py:f", "epochs": "1,2"}
    single, swept = split_sweep(given)
    assert list(single) == ["lr", "weights", "model"]
    assert swept == {"epochs": ["1", "2"]}


def test_own_network_and_report_network_are_swept(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def Tiny(num_classes): ...\n")
    words = ["table=scratch.template", f"model={tmp_path}/nets.py:Tiny,alexnet", f"runs={tmp_path / 'runs'}"]
    request = parse_request(words)
    assert labels(request) == ["tiny", "alexnet"]
    assert len(request.networks) == 1
    submitted(request)
    assert labels(parse_request(words)) == ["tiny", "alexnet"]


def test_same_sweep_is_the_same_study_and_more_values_extend_it(tmp_path: Path) -> None:
    runs = f"runs={tmp_path / 'runs'}"
    first = parse_request([*WORDS, "epochs=2", runs])
    submitted(first)
    again = parse_request([*WORDS, runs])
    assert (again.file, again.settings) == (first.file, first.settings)
    assert labels(parse_request(["section=scratch", runs])) == labels(first)
    more = parse_request(["table=scratch.template", "lr=1e-3,1e-2,1e-1", "batch_size=32,64", runs])
    assert len(labels(more)) == 6
    submitted(more)
    assert labels(parse_request([*WORDS, runs])) == labels(first)  # a part of it
    assert parse_request([*WORDS, runs]).file == more.file


def test_edited_file_counts_if_it_has_the_rows_and_is_never_overwritten(tmp_path: Path) -> None:
    runs, path = f"runs={tmp_path / 'runs'}", tmp_path / "runs" / "sweep.yaml"
    submitted(parse_request([*WORDS, runs]))
    edited = path.read_text().replace("title: Sweep of lr and batch_size", "title: Mine").replace("1e-2]", "0.01]")
    path.write_text(edited)
    request = parse_request([*WORDS, runs])
    assert request.file
    assert (request.file.text, labels(request)[-1]) == (edited, "0.01, 64")
    with pytest.raises(UserError, match=r"sweep.yaml has 4 of the 6 rows .* study=.*sweep.yaml section=all, or"):
        parse_request(["table=scratch.template", "lr=1e-3,1e-2,1", "batch_size=32,64", runs])
    with pytest.raises(UserError, match=r"sweep.yaml has 2 of the 4 rows that this command asks for"):
        parse_request(["table=scratch.template", "lr=1e-3,1", "batch_size=32,64", runs])


def test_edit_that_no_command_submitted_is_told(tmp_path: Path) -> None:
    request = parse_request([*WORDS, f"runs={tmp_path / 'runs'}"])
    assert unsubmitted_edits(request.file, request.runs) == []
    submitted(request)
    assert unsubmitted_edits(request.file, request.runs) == []
    assert request.sweep
    request.sweep.path.write_text(request.sweep.text + "# more\n")
    (line,) = unsubmitted_edits(request.file, request.runs)
    assert line.endswith(f"give study={request.sweep.path}")


def test_contradiction_with_the_folder_is_a_difference_as_elsewhere(tmp_path: Path) -> None:
    runs = f"runs={tmp_path / 'runs'}"
    submitted(parse_request([*WORDS, "epochs=2", runs]))
    with pytest.raises(UserError, match="was started with epochs=2; this command says epochs=3; use"):
        parse_request([*WORDS, "epochs=3", runs])
    other = StudyFolder(tmp_path / "report")
    other.write_study(
        Study(
            settings=parse_request(["section=all"]).settings, data=DATA, created="2026-01-01T00:00:00Z", code=CODE
        )
    )
    message = "holds the report's study, but this command submits the study sweep; choose another runs= folder"
    with pytest.raises(UserError, match=message):
        parse_request([*WORDS, f"runs={other.path}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr=1e-3,1e-2"], "nothing to submit: give section="),
        (["table=scratch.lr", "lr=,"], "lr=,: there is an empty value between the commas; leave lr= out"),
        (["table=scratch.lr", "lr=1,,2"], "there is an empty value between the commas"),
        (
            ["table=scratch.lr", "engine=fast,reference", "precision=bf16,fp32"],
            "engine=reference computes in fp32",
        ),
        (["table=scratch.lr", "workers=2,4"], "rows '1e-3, 2' and '1e-3, 4' are the same run; keep one of them"),
        (["table=scratch.lr", "weights=none,x.pth"], "weights=x.pth: there is no such file"),
        (["table=scratch.lr", "model=alexnet,vgg"], "model=vgg: there is no such network"),
        (
            ["table=scratch.template", "weights=none,imagenet", "model=n.py:f,alexnet"],
            "ImageNet weights exist for",
        ),
        (
            [
                "table=scratch.template",
                *(f"{key}={','.join(map(str, range(1, 102)))}" for key in ("lr", "epochs")),
            ],
            "10,201 rows up to here are more than 10,000; sweep fewer values",
        ),
        (["table=scratch.lr", "seed=1,2"], "unknown key 'seed'; write seeds=1,2"),
    ],
    ids=str,
)
def test_mistake_in_a_sweep_is_answered_in_a_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        parse_request(words)
    assert not list(tmp_path.iterdir())


def test_long_path_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 100)
    with pytest.raises(UserError, match="at most 100 characters, and in a sweep the path is one"):
        make_sweep({"weights": ["none", str(path)]}, {}, THE_REPORT.tables[:1], StudyFolder(tmp_path))


def test_values_read_as_their_settings_are_compared() -> None:
    with pytest.raises(UserError, match=r"lr=1e-3,0\.001: 1e-3 and 0.001 are the same value; keep one"):
        split_sweep({"lr": "1e-3,0.001"})
    assert split_sweep({"lr": "1e-3, 2e-3"})[1] == {"lr": ["1e-3", "2e-3"]}
    assert RunConfig.model_fields["lr"].annotation is float  # which tells a decimal comma
