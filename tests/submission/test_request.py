"""The words of jobs/submit.py."""

import os
import shutil
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.commands.submit import USAGE
from caltech_exp.submission.request import parse_request


def test_options_and_overrides_are_told_apart() -> None:
    request = parse_request(
        ["section=scratch,resnet", "seeds=0,4", "epochs=1", "lr=5e-2", "wait=true", "runs=a b"]
    )
    assert {section.name for section, _ in request.tables} == {"scratch", "resnet"}
    assert set(request.seeds.values()) == {(0, 4)}
    assert request.settings.overrides == {"epochs": 1, "lr": 0.05}
    assert (request.options.wait, request.options.runs) == (True, "a b")


def test_labels_of_rows_may_hold_commas() -> None:
    label = "crop, horizontal flip, grayscale"
    request = parse_request([f"table=scratch.lr=5e-2, augmentation.augment={label},scratch.epochs"])
    found = {table.name: [row.label for row in table.rows] for _, table in request.tables}
    assert found == {"lr": ["5e-2"], "epochs": ["20", "30", "40", "50", "60"], "augment": [label]}


def test_settings_that_do_not_fit_a_row_that_was_not_asked_for(tmp_path: Path) -> None:
    network = tmp_path / "nets.py"
    network.write_text("import torch\n\n\ndef tiny(num_classes):\n    return torch.nn.Linear(1, num_classes)\n")
    with pytest.raises(UserError, match="settings apply to all rows of the study, submitted or not") as caught:
        parse_request(["section=scratch", f"model={network}:tiny", f"runs={tmp_path / 'runs'}"])
    assert str(caught.value).startswith("transfer.diverging=LR = 5e-2 with model=")


def test_section_all_is_every_table_and_data_has_none() -> None:
    assert len(parse_request(["section=all"]).tables) == 16
    assert parse_request(["section=data"]).tables == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to submit: give section=all|data|scratch|transfer|augmentation|resnet or table="),
        (["epochs=1"], "nothing to submit"),
        (["section=trasnfer"], "unknown section 'trasnfer'; did you mean 'transfer'?"),
        (["section=scratch.lr"], "scratch.lr is a table, not a section; write table=scratch.lr"),
        (["table=augmentation.augment=crap"], "known: none; crop, horizontal flip, grayscale; perspective, "),
        (
            ["section=scratch", "retry=true"],
            "retry=true: there is no such value; did you mean 'failed'? (failed: only",
        ),
        (["section=scratch,"], "there is an empty name between the commas"),
        (["table=scratch.rl"], "unknown table 'scratch.rl'; did you mean 'scratch.lr'?"),
        (["section=all", "wait=perhaps"], "wait=perhaps: "),
        (["section=all", "partition=gpu"], "unknown key 'partition'; write profile.partition=gpu"),
        (["section=all", "partion=gpu"], "unknown key 'partion'; write profile.partition=gpu"),
        (["section=all", "account=me"], "unknown key 'account'; write profile.account=me"),
        (["section=all", "time=2:00:00"], "unknown key 'time'; write profile.time_minutes=120"),
        (["section=all", "mem=64G"], "unknown key 'mem'; write profile.mem_gb=64"),
        (["section=all", "gpus=1"], "unknown key 'gpus'; write profile.gpus_per_node=1"),
        (["section=all", "--mail-type=FAIL"], "write profile.sbatch.mail-type=FAIL"),
        (["section=all", "dta=/x"], "unknown key 'dta'; did you mean 'data'?"),
        (["section=all", "pack=/x"], "unknown key 'pack'; did you mean 'packs'?"),
        (["section=all", "batch=3"], "unknown key 'batch'; write batch_size=3"),
        (["augmentations=flip"], "unknown key 'augmentations'; write augment=flip"),
        (["section=all", "partiton=gpu"], "unknown key 'partiton'; write profile.partition=gpu"),
        (["section=all", "precison=fp32"], "unknown key 'precison'; did you mean 'precision'?"),
        (["section=all", "dry_run"], "'dry_run' is not of the form key=value; write dry_run=true"),
        (["section=all", "--dry-run"], "'--dry-run' is not of the form key=value; write dry_run=true"),
        (["section=all", "epochs"], "'epochs' is not of the form key=value; write epochs=..."),
        (["section=all", "--epochs=3"], "unknown key '--epochs'; write epochs=3"),
        (["scratch"], "'scratch' is not of the form key=value; write section=scratch"),
        (["all"], "'all' is not of the form key=value; write section=all"),
        (["scratch.lr"], "'scratch.lr' is not of the form key=value; write table=scratch.lr"),
        (["section=all", "profile.partition"], "'profile.partition' has no value; write profile.partition=VALUE"),
        (["section=all", "runs_per_task=0"], "runs_per_task=0: "),
        (["section=all", "imagenet_weights=/nowhere"], "there is no such folder; give one with state dicts"),
        (["section=all", "imagenet_weights=/"], "imagenet_weights=/: alexnet.pth and resnet18.pth missing"),
        (["section=resnet", "imagenet_weights=/"], "imagenet_weights=/: resnet18.pth missing"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_request(words)
    assert message in str(caught.value)


def test_study_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(
        UserError, match=r"mine.yaml cannot be read \(it is a pipe or a device, not a file\); give"
    ):
        parse_request(["section=all", f"study={tmp_path / 'mine.yaml'}", f"runs={tmp_path / 'runs'}"])


def test_weights_are_pinned(stand_in_weights: Path) -> None:
    request = parse_request(["section=all", f"imagenet_weights={stand_in_weights}"])
    pinned = request.settings.imagenet_weights
    assert set(pinned) == {"alexnet", "resnet18"}
    assert all("@sha256:" in reference for reference in pinned.values())


def test_only_weights_that_the_rows_use_must_be_there(stand_in_weights: Path, tmp_path: Path) -> None:
    shutil.copy(stand_in_weights / "resnet18.pth", tmp_path)
    folder = f"imagenet_weights={tmp_path}"
    for words in (["section=resnet,scratch"], ["section=scratch"], ["section=all", "weights=none"]):
        assert set(parse_request([*words, folder]).settings.imagenet_weights) == {"resnet18"}
    (tmp_path / "alexnet.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert set(parse_request(["section=resnet", folder]).settings.imagenet_weights) == {"resnet18"}
    with pytest.raises(
        UserError, match=r"alexnet\.pth are a Git LFS pointer, not the file itself; run git lfs pull"
    ):
        parse_request(["section=all", folder])
    (tmp_path / "alexnet.pth").unlink()
    with pytest.raises(UserError, match=r"alexnet\.pth missing; put the state dicts there"):
        parse_request(["section=transfer", folder])


def test_usage_names_every_option_and_setting() -> None:
    for word in ("section=", "dry_run=", "imagenet_weights=", "lr=", "augment=", "0.001"):
        assert word in USAGE
