"""The checks before a submission: warnings, and the packs that are missing."""

import re
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import PIN, RunConfig
from caltech_exp.data.pack_format import split_contents
from caltech_exp.data.packs import shared_pack
from caltech_exp.data.splits import read_data_set
from caltech_exp.executors.executor import make_executor
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results import Failure, FailureKind
from caltech_exp.study.run_status import RunStatus, State
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.preflight import merged_rows, missing_packs, open_runs, without_effect
from caltech_exp.submission.request import parse_request
from caltech_exp.submission.submission import Submission
from tests.conftest import Command
from tests.tools.testbed import path_with


def warnings(*words: str) -> list[str]:
    return merged_rows(parse_request([*words, "profile=local"]))


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("table=scratch.lr lr=0.01 seeds=1", ["with lr=0.01, the 5 rows of scratch.lr are one and the same run"]),
        (
            "table=scratch.lr lr=0.01 seeds=2",
            ["with lr=0.01, the 5 rows of scratch.lr are one and the same run per seed"],
        ),
        (
            "table=scratch.lr,scratch.epochs lr=0.01 max_images=20 seeds=1",
            ["with lr=0.01, 6 of the 10 rows of scratch.lr and scratch.epochs are one and the same run"],
        ),
        ("table=scratch.lr epochs=5 seeds=1", []),
    ],
)
def test_merged_rows_are_named_with_the_overrides_that_merge_them(words: str, lines: list[str]) -> None:
    assert warnings(*words.split()) == [f"warning: {line}" for line in lines]


def test_merged_rows_without_overrides_are_no_warning() -> None:
    assert (
        len(expand(THE_REPORT.tables, [0], StudySettings())) == 40 < sum(len(t.rows) for _, t in THE_REPORT.tables)
    )
    assert warnings("section=all") == []
    assert warnings("section=all", "max_images=20") == []


def test_merged_rows_of_many_tables_take_one_line() -> None:
    words = "section=all lr=0.01 epochs=1 batch_size=8 step_size=1 freeze=none seeds=1"
    (line,) = warnings(*words.split())
    assert re.search(r"rows of scratch, transfer,? .*resnet are only \d different runs$", line)


def test_merged_rows_name_a_network_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def tiny(classes): ...\n")
    words = ("section=all", "weights=none", "epochs=1", "batch_size=8", "seeds=1")
    (line,) = warnings(*words, f"model={tmp_path / 'nets.py'}:tiny")
    assert "model=nets.py:tiny" in line


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"momentum": 0.5, "step_size": 7, "workers": 0}, []),
        ({"optimizer": "adamw"}, []),
        ({"optimizer": "adamw", "momentum": 0.5}, ["momentum has no effect with optimizer=adamw"]),
        (
            {"schedule": "cosine", "step_size": 7, "gamma": 0.5},
            ["step_size has no effect with schedule=cosine", "gamma has no effect with schedule=cosine"],
        ),
        ({"freeze": "conv", "frozen_batchnorm": "eval"}, ["frozen_batchnorm has no effect with model=alexnet"]),
        ({"model": "resnet18", "frozen_batchnorm": "eval"}, ["frozen_batchnorm has no effect with freeze=none"]),
        ({"model": "resnet18", "freeze": "conv", "frozen_batchnorm": "eval"}, []),
        (
            {"epochs": 3, "warmup_epochs": 3},
            ["warmup_epochs=3 is not below epochs=3: lr is never reached"],
        ),
    ],
    ids=str,
)
def test_settings_without_effect_are_named(changes: dict[str, object], lines: list[str]) -> None:
    assert without_effect([RunConfig().but(**changes)] * 2) == lines


@pytest.mark.parametrize(
    ("setting", "named", "other"),
    [
        ("partition: gpuu", "partition=gpuu", "gpu"),
        ("partition: gpu\ncpu_jobs: {partition: cppu}", "cpu_jobs.partition=cppu", "cpu"),
    ],
)
def test_unknown_partition_is_refused_before_the_images_are_checked(
    setting: str, named: str, other: str, submit: Command, stand_in: Path, tmp_path: Path, untouched: Path
) -> None:
    path = path_with(tmp_path, "sinfo", "printf 'gpu\\ncpu\\n'")
    (tmp_path / "p.yaml").write_text(f"executor: slurm\ngpus_per_node: 1\n{setting}\n")
    words = ("table=scratch.lr", "weights=none", f"profile={tmp_path / 'p.yaml'}", f"data={stand_in}")
    done = submit(*words, f"runs={untouched}", PATH=path)
    name = named.partition("=")[2]
    line = f"error: {named} in the profile: Slurm has no partition {name!r}; did you mean {other!r}?\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_dry_run_warns_of_merged_rows(submit: Command, stand_in: Path, tmp_path: Path) -> None:
    words = (
        "table=scratch.lr",
        "lr=1e-2",
        "seeds=2",
        "profile=demo",
        f"data={stand_in}",
        f"runs={tmp_path / 'runs'}",
    )
    done = submit(*words, "dry_run=true")
    assert "2 runs of 1 configuration: 2 pending" in done.stdout
    assert (
        done.stdout.count("warning: with lr=0.01, the 5 rows of scratch.lr are one and the same run per seed\n")
        == 1
    )


@pytest.mark.parametrize(
    ("words", "states"),
    [
        ((), ["pending", "failed", "lost", "cancelled"]),
        (("retry=failed",), ["failed", "lost"]),
        (("state=failed,lost",), ["failed", "lost"]),
        (("state=cancelled, pending",), ["pending", "cancelled"]),
    ],
)
def test_cancelled_runs_are_open_but_not_for_retry(words: tuple[str, ...], states: list[State]) -> None:
    runs = expand(THE_REPORT.select(tables=["scratch.lr"]), [0], StudySettings())
    given: list[State] = ["pending", "failed", "lost", "cancelled", "queued"]
    statuses = {run.id: RunStatus(state) for run, state in zip(runs, given, strict=True)}
    request = parse_request(["table=scratch.lr", "profile=local", *words])
    assert [statuses[run.id].state for run in open_runs(runs, statuses, request)] == states


NETWORK = f"/runs/networks/0/abc/nets.py:tiny{PIN}{64 * '0'}"
FRAME = '  File "/runs/networks/0/abc/nets.py", line 3, in forward'


@pytest.mark.parametrize(
    ("model", "kind", "error", "traceback", "is_broken"),
    [
        (NETWORK, "error", "RuntimeError: shapes", FRAME, True),
        (NETWORK, "mistake", f"network {NETWORK} returns a list, not a torch.nn.Module; correct it", "", True),
        (NETWORK, "mistake", "damaged image x.jpg", "", False),
        (NETWORK, "gpu_memory", "CUDA out of memory", FRAME, False),
        (NETWORK, "node", "ECC error", FRAME, False),
        ("alexnet", "error", "RuntimeError: shapes", FRAME, False),
    ],
)
def test_retry_leaves_out_a_broken_network(
    model: str, kind: FailureKind, error: str, traceback: str, is_broken: bool
) -> None:
    run = PlannedRun(RunConfig(model=model), 0, "scratch", ("scratch.x",))
    failure = Failure(
        run_id=run.id, error=error, traceback=traceback, kind=kind, submission="s", job="1", host="", node="",
        log="", when="2026-01-01T12:00:00Z",
    )  # fmt: skip
    statuses = {run.id: RunStatus("failed", error, failure)}
    retry = parse_request(["table=scratch.lr", "profile=local", "retry=failed"])
    assert open_runs([run], statuses, retry) == ([] if is_broken else [run])
    by_state = parse_request(["table=scratch.lr", "profile=local", "state=failed"])
    assert open_runs([run], statuses, by_state) == ([] if is_broken else [run])
    assert open_runs([run], statuses, parse_request(["table=scratch.lr", "profile=local"])) == [run]
    lines = Submission(retry).describe([run], statuses, make_executor(retry.profile))
    line = "not tried again: 1 run that failed in the code of nets.py:tiny; correct your own file and submit with "
    assert any(text.startswith(line) for text in lines) == is_broken


CONFIG = RunConfig(max_images=4)
CENTERS = [("train", 4, "center", 256), ("val", 4, "center", 256), ("test", 4, "center", 256)]


def test_missing_packs_are_one_set_per_resize_and_whole_images_for_random_crops(
    stand_in: Path, tmp_path: Path
) -> None:
    data = read_data_set(stand_in)
    assert sorted(missing_packs([CONFIG], data, tmp_path)) == sorted(CENTERS)
    assert ("train", 4, "resized", 256) in missing_packs([CONFIG.but(augment="crop")], data, tmp_path)
    as_they_are = missing_packs([CONFIG, CONFIG.but(resize=0)], data, tmp_path)
    assert {item[3] for item in as_they_are} == {0, 256}
    assert len(as_they_are) == 6
    assert missing_packs([CONFIG.but(engine="reference")], data, tmp_path) == {}


def test_missing_packs_leave_out_packs_that_exist(stand_in: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    for item in missing_packs([CONFIG], data, tmp_path):
        shared_pack(tmp_path, split_contents(data, *item))
    assert missing_packs([CONFIG], data, tmp_path) == {}
    assert len(missing_packs([CONFIG.but(resize=0)], data, tmp_path)) == 3
