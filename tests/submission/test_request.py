"""The words of jobs/submit.py."""

import os
import shutil
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.commands.submit import USAGE
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.manifest import Manifest
from caltech_exp.study.study import Study, StudyData, StudySettings
from caltech_exp.submission.request import parse_request

CODE = CodeVersion(version="0", commit=None, dirty=None)
DATA = StudyData(
    root="/data", fingerprint="1" * 16, stand_in=True, classes=("ant",), train_val_images=4, test_images=2
)


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


def test_what_is_not_asked_for_is_not_checked(tmp_path: Path) -> None:
    network = tmp_path / "nets.py"
    network.write_text("import torch\n\n\ndef tiny(num_classes):\n    return torch.nn.Linear(1, num_classes)\n")
    words = [f"model={network}:tiny", f"runs={tmp_path / 'runs'}"]
    request = parse_request(["section=scratch", *words])
    assert {section.name for section, _ in request.tables} == {"scratch"}
    study = Study(settings=request.settings, data=DATA, created="2026-01-01T00:00:00Z", code=CODE)
    assert {section.name for section, _ in study.catalog.tables} == {"scratch", "resnet"}
    assert [table.name for section, table in study.catalog.tables if section.name == "resnet"] == ["scratch"]
    with pytest.raises(UserError, match=r"transfer\.diverging=LR = 5e-2 with model=.*give weights=none or a file"):
        parse_request(["section=transfer", *words])


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study that was started with epochs=1 and submitted with the profile demo."""
    folder = StudyFolder(tmp_path / "w1")
    settings = StudySettings(overrides={"epochs": 1})
    folder.write_study(Study(settings=settings, data=DATA, created="2026-01-01T00:00:00Z", code=CODE))
    submitted(folder, "section=scratch", "epochs=1", "profile=demo", "profile.max_parallel=1")
    return folder


def submitted(folder: StudyFolder, *words: str, uid: int | None = None) -> None:
    manifest = Manifest(
        id=f"20260101T00000{len(folder.manifests())}-abcd", executor="local", job_names=(), tasks=(),
        settings=StudySettings(), seeds=(), profile={}, command=("jobs/submit.py", *words), code=CODE, host="here",
        created="2026-01-01T00:00:00Z", uid=os.geteuid() if uid is None else uid,
    )  # fmt: skip
    folder.write_manifest(manifest)


def test_a_folder_remembers_settings_and_profile(folder: StudyFolder) -> None:
    words = ["section=scratch", f"runs={folder.path}"]
    request = parse_request(words)
    assert request.settings.overrides == {"epochs": 1}
    assert (request.profile_name, request.profile.max_parallel) == ("profile demo", 2)  # profile.NAME= is for once
    assert parse_request([*words, "profile=local"]).profile_name == "profile local"  # another is no contradiction
    submitted(folder, "section=scratch", "profile=local")
    submitted(folder, "section=scratch")
    assert parse_request(words).profile_name == "profile local"
    submitted(folder, "section=scratch", "profile=gres", uid=os.geteuid() + 1)  # another user's
    assert parse_request(words).profile_name == "profile local"


def test_only_a_contradiction_is_refused_as_a_difference(folder: StudyFolder) -> None:
    words = ["section=scratch", f"runs={folder.path}"]
    assert parse_request([*words, "epochs=1"]).settings == parse_request(words).settings
    with pytest.raises(UserError) as caught:
        parse_request([*words, "epochs=2"])
    assert str(caught.value) == (
        f"{folder.path} was started with epochs=1; this command says epochs=2; use another runs= folder"
    )
    with pytest.raises(UserError, match=r"was started without lr; this command says lr=0\.5; use another runs="):
        parse_request([*words, "lr=0.5"])
    once = parse_request(["table=scratch.lr=5e-2", f"runs={folder.path}", "lr=5e-2"])  # the row says the same
    assert once.settings.overrides == {"epochs": 1}


def test_a_path_to_a_profile_is_remembered_only_if_nobody_else_writes_it(
    folder: StudyFolder, tmp_path: Path
) -> None:
    words, path = ["section=scratch", f"runs={folder.path}"], tmp_path / "mine.yaml"
    path.write_text("executor: local\nmax_parallel: 7\n")
    path.chmod(0o644)
    submitted(folder, f"profile={path}")
    assert parse_request(words).profile.max_parallel == 7
    path.chmod(0o666)
    with pytest.raises(UserError, match=r"profile=.*mine.yaml can be written by other users; give profile= again"):
        parse_request(words)
    path.unlink()
    with pytest.raises(
        UserError, match=r"mine.yaml, which cannot be read here \(No such file or directory\); give"
    ):
        parse_request(words)


def test_imagenet_weights_are_remembered(stand_in_weights: Path, tmp_path: Path) -> None:
    shutil.copy(stand_in_weights / "resnet18.pth", tmp_path)
    runs = f"runs={tmp_path / 'runs'}"
    first = parse_request(["section=resnet", f"imagenet_weights={tmp_path}", runs])
    StudyFolder(tmp_path / "runs").write_study(
        Study(settings=first.settings, data=DATA, created="2026-01-01T00:00:00Z", code=CODE)
    )
    assert parse_request(["section=resnet", runs]).settings == first.settings
    with pytest.raises(UserError, match=r"was started with imagenet_weights=, but without alexnet\.pth; give"):
        parse_request(["section=transfer", runs])
    more = parse_request(["section=transfer", f"imagenet_weights={stand_in_weights}", runs])
    assert set(more.settings.imagenet_weights) == {"alexnet", "resnet18"}


def test_a_weights_folder_may_go_once_the_study_has_pinned_what_the_rows_need(
    folder: StudyFolder, stand_in_weights: Path, tmp_path: Path
) -> None:
    words = ["section=resnet", f"imagenet_weights={tmp_path / 'gone'}"]
    shutil.copytree(stand_in_weights, tmp_path / "gone")
    settings = parse_request(words).settings
    folder.write_study(folder.require_study().model_copy(update={"settings": settings}))
    shutil.rmtree(tmp_path / "gone")
    for section in ("resnet", "scratch", "transfer"):
        again = parse_request([f"section={section}", f"runs={folder.path}", words[1]])
        assert set(again.settings.imagenet_weights) == {"alexnet", "resnet18"}
    with pytest.raises(UserError, match=r"there is no such folder; give one with alexnet\.pth and resnet18\.pth"):
        parse_request([words[0], f"runs={folder.path}", f"imagenet_weights={tmp_path / 'typo'}"])


def test_a_wrong_folder_is_answered_with_the_files_that_the_study_began_with(
    folder: StudyFolder, stand_in_weights: Path, tmp_path: Path
) -> None:
    shutil.copyfile(stand_in_weights / "resnet18.pth", tmp_path / "resnet18.pth")
    settings = parse_request(["section=resnet", f"imagenet_weights={tmp_path}"]).settings
    folder.write_study(folder.require_study().model_copy(update={"settings": settings}))
    with pytest.raises(UserError, match=r"there is no such folder; give one with resnet18\.pth$"):
        parse_request(["section=resnet", f"runs={folder.path}", f"imagenet_weights={tmp_path / 'typo'}"])


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
            "retry=true: there is no such value (failed: the same as state=failed,lost; finished: train",
        ),
        (["section=scratch", "state=faild"], "unknown state 'faild'; did you mean 'failed'?"),
        (
            ["section=scratch", "state=failed,finished"],
            "state=finished: such runs cannot be chosen here; give pending, failed",
        ),
        (["section=scratch", "state=lost", "retry=failed"], "retry=failed says which states; leave state= out"),
        (["section=scratch,"], "there is an empty name between the commas"),
        (["table=scratch.rl"], "unknown table 'scratch.rl'; did you mean 'scratch.lr'?"),
        (["section=all", "wait=perhaps"], "wait=perhaps: "),
        (["section=all", "partition=gpu"], "unknown key 'partition'; write profile.partition=gpu"),
        (["section=all", "partion=gpu"], "unknown key 'partion'; write profile.partition=gpu"),
        (["section=all", "account=me"], "unknown key 'account'; write profile.account=me"),
        (
            ["section=all", "profile=slurm", "time=soon"],
            "time=soon: write minutes, 2:00:00 for two hours",
        ),
        (["section=all", "profile=local", "time=auto"], "time=auto: tasks on this machine have no time limit"),
        (["section=all", "profile=local", "time=60"], "time_minutes is a setting of Slurm profiles only"),
        (["section=all", "runs_at_once=two"], "runs_at_once=two: write a number, 1 or more, or auto"),
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
        (["section=all", "epochs"], "'epochs' is not of the form key=value; write epochs=..."),
        (["scratch"], "'scratch' is not of the form key=value; write section=scratch"),
        (["all"], "'all' is not of the form key=value; write section=all"),
        (["scratch.lr"], "'scratch.lr' is not of the form key=value; write table=scratch.lr"),
        (["section=all", "profile.partition"], "'profile.partition' has no value; write profile.partition=VALUE"),
        (["section=all", "runs_per_task=0"], "runs_per_task=0: "),
        (["section=all", "imagenet_weights=/nowhere"], "there is no such folder; give one with alexnet.pth and "),
        (
            ["section=all", "imagenet_weights=/"],
            "imagenet_weights=/: alexnet.pth and resnet18.pth are missing, from ",
        ),
        (
            ["section=resnet", "imagenet_weights=/"],
            "resnet18.pth is missing, from which 4 rows of resnet would start",
        ),
        (
            ["section=all", f"imagenet_weights={__file__}"],
            "it is a file; give the folder with alexnet.pth and",
        ),
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
    with pytest.raises(
        UserError, match=r"alexnet\.pth is missing, from which 18 rows of transfer would start; put it there$"
    ):
        parse_request(["section=transfer", folder])
    with pytest.raises(
        UserError, match=r"22 rows of transfer and augmentation .*, or submit section=scratch,resnet alone"
    ):
        parse_request(["section=all", folder])


def test_usage_names_every_option_and_setting() -> None:
    for word in ("section=", "dry_run=", "imagenet_weights=", "lr=", "augment=", "0.001"):
        assert word in USAGE
