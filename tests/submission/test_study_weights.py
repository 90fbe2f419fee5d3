"""Weights files that a study names: pinned to their content, and checked before anything is queued."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import alexnet

from caltech_exp.cli import UserError
from caltech_exp.commands.publish import without_folders
from caltech_exp.config import PIN, RunConfig
from caltech_exp.models.custom import save_network
from caltech_exp.provenance import CodeVersion
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.plan import expand
from caltech_exp.study.study import Study, StudyData, StudyFile
from caltech_exp.submission.preflight import check_weights_files, unpinned
from caltech_exp.submission.request import Request, parse_request
from tests.conftest import SMALL, Command
from tests.tools.archives import sha256

NETS = """
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 16, stride=16), nn.ReLU(), nn.Flatten(), nn.Linear(784, num_classes))
"""
STUDY = """
seeds: 1
settings: {epochs: 1, batch_size: 4, max_images: 4, workers: 0, precision: fp32}
networks: {tiny: nets.py:Tiny}
sections:
  mine:
    tables:
      start:
        settings: {model: tiny}
        sweep: weights
        rows: {none: , net.pth: , other/net.pth: }
"""
DATA = StudyData(
    root="/data", fingerprint="1" * 16, stand_in=True, classes=("ant",), train_val_images=4, test_images=2
)


def save(path: Path, classes: int, number: float = 1.0) -> None:
    """Weights of Tiny, other ones for every number."""
    path.parent.mkdir(exist_ok=True)
    layers = {"0": (4, 3, 16, 16), "3": (classes, 784)}
    state = {f"{name}.weight": torch.full(shape, number / 1000) for name, shape in layers.items()}
    torch.save({**state, "0.bias": torch.zeros(4), "3.bias": torch.zeros(classes)}, path)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with a study file, its network and its weights; nobody's current folder."""
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine.yaml").write_text(STUDY)
    (folder / "nets.py").write_text(NETS)
    save(folder / "net.pth", 102)
    save(folder / "other" / "net.pth", 10, 2.0)
    return folder


def asked(there: Path, *words: str) -> Request:
    return parse_request([f"study={there / 'mine.yaml'}", "section=all", f"runs={there / 'runs'}", *words])


def ids(request: Request) -> list[str]:
    return [run.config.id for run in expand(request.tables, request.seeds, request.settings)]


def begin(there: Path, request: Request) -> Study:
    """The record that a submission of the request leaves."""
    code = CodeVersion(version="0", commit=None, dirty=None)
    study = Study(
        settings=request.settings, file=request.file, data=DATA, created="2026-01-01T12:00:00Z", code=code
    )
    StudyFolder(there / "runs").write_study(study)
    for network in request.networks:
        save_network(network)
    return study


def test_weights_of_a_study_file_count_by_their_content(there: Path) -> None:
    request = asked(there)
    assert request.file is not None
    digests = {name: sha256(there / name) for name in ("net.pth", "other/net.pth")}
    assert request.file.weights == {name: f"{there / name}{PIN}{digest}" for name, digest in digests.items()}
    before = ids(request)
    study = begin(there, request)

    moved = Path(shutil.copytree(there, there.parent / "moved"))
    assert ids(asked(moved)) == before
    save(there / "net.pth", 102, 3.0)
    none, changed, other = ids(asked(there))
    assert [none, other] == [before[0], before[2]]
    assert changed != before[1]
    (there / "net.pth").unlink()  # the folder's record is enough for all that trains nothing
    for again in (parse_request(["section=all", f"runs={there / 'runs'}"]), asked(there)):
        assert ids(again) == before
    configs = [run.config for run in expand(again.tables, again.seeds, again.settings)]
    with pytest.raises(
        UserError, match=r"net\.pth cannot be read \(No such file or directory\); restore the file"
    ):
        check_weights_files(configs, again.networks)
    assert [row.config.id for _, table in without_folders(study).catalog.tables for row in table.rows] == before
    assert str(there) not in json.dumps(without_folders(study).model_dump(mode="json"))


def test_files_of_rows_that_are_not_asked_for_need_not_exist(there: Path) -> None:
    (there / "mine.yaml").write_text(STUDY + "      other:\n        rows: {a: {model: alexnet}, b: {lr: 0.5}}\n")
    words = [f"study={there / 'mine.yaml'}", f"runs={there / 'runs'}"]
    whole = ids(asked(there))
    for name in ("nets.py", "net.pth"):
        (there / name).rename(there / f"away-{name}")
    (there / "other" / "net.pth").write_text("<html>404</html>")
    first = parse_request(["table=mine.other", *words])
    assert first.networks == ()
    begin(there, first)
    assert ids(parse_request(["table=mine.other", *words[1:]])) == ids(first)
    for table, name in (("mine.start", "nets.py:Tiny"), ("mine.start=none", "nets.py:Tiny")):
        with pytest.raises(
            UserError, match=rf"{name} was missing when mine.yaml was submitted; give study= again"
        ):
            parse_request([f"table={table}", words[1]])
        with pytest.raises(UserError, match=r"network nets\.py:Tiny: .*nets\.py cannot be read"):
            parse_request([f"table={table}", *words])
    (there / "away-nets.py").rename(there / "nets.py")
    begin(there, parse_request(["table=mine.start=none", *words]))  # its weights files may be missing
    assert ids(parse_request(["table=mine.start=none", words[1]])) == whole[:1]
    with pytest.raises(UserError, match=r"mine\.yaml: weights=net\.pth: there is no such file"):
        parse_request(["section=all", *words])
    (there / "away-net.pth").rename(there / "net.pth")
    save(there / "other" / "net.pth", 10, 2.0)
    study = begin(there, asked(there))
    assert ids(asked(there)) == whole
    (there / "nets.py").write_text("not Python (")
    save(there / "net.pth", 102, 3.0)
    again = parse_request(["table=mine.other", *words])  # what was submitted stays on record
    assert again.file == study.file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gone", "mine.yaml: weights=net.pth: there is no such file; give none, imagenet or the path of"),
        ("page", "mine.yaml: weights {there}/net.pth hold a web page, as after a failed download; download"),
        ("other content", "mine.yaml: weights=net.pth: the file's SHA-256 is "),
        (
            "same content",
            "mine.yaml: section mine, table start: rows 'net.pth' and 'other/net.pth' are the same run; keep",
        ),
    ],
)
def test_mistakes_are_named_with_the_study_file(change: str, message: str, there: Path) -> None:
    if change == "gone":
        (there / "net.pth").unlink()
    elif change == "page":
        (there / "net.pth").write_text("<html>404</html>")
    elif change == "same content":
        shutil.copy(there / "net.pth", there / "other" / "net.pth")
    else:
        (there / "mine.yaml").write_text(
            STUDY.replace("{none: , net.pth:", f"{{none: , 'net.pth{PIN}{'0' * 64}':")
        )
    with pytest.raises(UserError) as caught:
        asked(there)
    assert str(caught.value).startswith(message.replace("{there}", str(there)))


def test_a_study_of_an_earlier_version_keeps_its_ids(there: Path) -> None:
    request = asked(there)
    assert request.file is not None
    old = StudyFile(name="mine", text=STUDY, networks=request.file.networks)  # no weights are on record
    before = [row.config.id for _, table in old.catalog.tables for row in table.rows]
    begin(there, replace(request, file=old, networks=()))

    save(there / "new.pth", 102, 5.0)
    (there / "mine.yaml").write_text(STUDY.replace("other/net.pth: }", "other/net.pth: , new.pth: }"))
    request = asked(there)
    assert request.file is not None
    assert list(request.file.weights) == ["new.pth"]
    assert ids(request)[:3] == before
    (line,) = unpinned(run.config for run in expand(request.tables, request.seeds, request.settings))
    assert line == (
        "weights net.pth, other/net.pth: this study began before weights were pinned, so its runs keep their "
        "ids; do not change the file, or start the study again with another runs= folder"
    )
    assert unpinned([RunConfig(weights="imagenet"), RunConfig(weights=request.file.weights["new.pth"])]) == []


def test_imagenet_weights_come_to_a_study_as_its_rows_need_them(stand_in_weights: Path, tmp_path: Path) -> None:
    def of(section: str) -> Request:
        return parse_request([f"section={section}", f"imagenet_weights={tmp_path}", f"runs={tmp_path / 'runs'}"])

    shutil.copy(stand_in_weights / "resnet18.pth", tmp_path)
    first = of("resnet")
    study = begin(tmp_path, first)
    shutil.copy(stand_in_weights / "alexnet.pth", tmp_path)
    both = of("all")
    folder = StudyFolder(tmp_path / "runs")
    folder.require_same(both.settings, DATA)
    whole = study.settings.joined(both.settings)
    assert whole == both.settings
    folder.write_study(study.model_copy(update={"settings": whole}))
    folder.require_same(first.settings, DATA)
    folder.write_study(study)
    torch.save({"fc.bias": torch.zeros(1)}, tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"was started with imagenet_weights\[resnet18\]=\S+; this command says"):
        of("resnet")
    with pytest.raises(UserError, match=r"this command says nothing of imagenet_weights\[resnet18\]; use another"):
        folder.require_same(parse_request(["section=resnet"]).settings, DATA)


def test_imagenet_weights_come_to_a_study_without_runs_from_torchvisions(
    stand_in_weights: Path, tmp_path: Path
) -> None:
    words = [f"imagenet_weights={stand_in_weights}", f"runs={tmp_path / 'runs'}"]
    folder, study = StudyFolder(tmp_path / "runs"), begin(tmp_path, parse_request(["section=scratch", words[1]]))
    settings = parse_request(["section=resnet", *words]).settings
    assert settings.imagenet_weights.keys() == {"alexnet", "resnet18"}
    assert folder.joined_settings(study, settings) == settings
    (folder.path / f"{ids(parse_request(['section=transfer', words[1]]))[0]}-s0").mkdir()
    with pytest.raises(
        UserError, match=r"was started without imagenet_weights\[alexnet\] and .*; use another runs="
    ):
        parse_request(["section=resnet", *words])
    settings = parse_request(["section=scratch", *words]).settings  # whose runs are the same with them
    assert folder.joined_settings(study, settings) == study.settings


def test_customs_with_weights_start_a_study(there: Path, stand_in: Path, submit: Command, tmp_path: Path) -> None:
    words = (f"study={there / 'mine.yaml'}", "section=all", f"data={stand_in}", "profile=demo", "runs=runs")
    queued = submit(*words, "runs_per_task=3")
    assert (queued.returncode, queued.stderr) == (0, "")
    note = "weights net.pth: the head 3 is new (random), since the file's has 10 classes\n"
    assert queued.stdout.count(note) == 1
    assert submit(*words, "wait=true").returncode == 0
    (log,) = (tmp_path / "runs").glob("submissions/*/*.out")
    assert log.read_text().count(note) == 1
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/result.json")]
    digests = {result["config"]["weights"]: result["weights_sha256"] for result in results}
    pinned = {
        f"{there / name}{PIN}{sha256(there / name)}": sha256(there / name) for name in ("net.pth", "other/net.pth")
    }
    assert digests == {"none": None, **pinned}

    # What the rows ask for is another run now; the old one stays, and who names only the folder still sees it.
    save(there / "net.pth", 102, 3.0)
    assert "3 runs of 3 configurations: 2 finished, 1 pending" in submit(*words, "dry_run=true").stdout
    assert "nothing to submit" in submit("section=all", *words[2:]).stdout
    study = StudyFolder(tmp_path / "runs").study()
    assert study is not None
    assert study.file is not None
    assert set(study.file.weights) == {"net.pth", "other/net.pth"}


def test_a_network_of_the_command_line_with_weights(there: Path) -> None:
    words = [
        "table=scratch.lr=5e-2", f"model={there / 'nets.py'}:Tiny", f"weights={there / 'net.pth'}",
        f"runs={there / 'runs'}",
    ]  # fmt: skip
    request = parse_request(words)
    configs = [run.config for run in expand(request.tables, request.seeds, request.settings)]
    assert check_weights_files(configs, request.networks) == []
    torch.save({"3.bias": torch.zeros(102)}, there / "net.pth")
    with pytest.raises(UserError, match=r"SHA-256 is .*; restore the right file"):
        check_weights_files(configs, request.networks)
    request = parse_request(words)
    configs = [run.config for run in expand(request.tables, request.seeds, request.settings)]
    with pytest.raises(
        UserError, match=r"nets\.py:Tiny: they lack 0\.weight, 0\.bias, 3\.weight; give weights of"
    ):
        check_weights_files(configs, request.networks)
    torch.save({"epoch": 1, "state_dict": {"3.bias": torch.zeros(1)}}, there / "net.pth")
    with pytest.raises(UserError, match=r"with the keys epoch, state_dict; save checkpoint\['state_dict'\] alone"):
        parse_request(words)
    assert not (there / "runs").exists()


def test_a_submission_with_weights_writes_nothing_to_standard_error(
    stand_in: Path, stand_in_weights: Path, submit: Command, tmp_path: Path
) -> None:
    shutil.copy(stand_in_weights / "resnet18.pth", tmp_path)  # there is no alexnet.pth
    words = (
        "table=resnet.batch_256", f"imagenet_weights={tmp_path}", *SMALL, "seeds=1", f"data={stand_in}",
        "profile=demo", "runs=runs",
    )  # fmt: skip
    queued = submit(*words)
    assert (queued.returncode, queued.stderr) == (0, "")
    note = "weights resnet18.pth: the head fc is new (random), since the file's has 1,000 classes\n"
    assert note in queued.stdout
    assert submit(*words, "wait=true").returncode == 0
    (result,) = (tmp_path / "runs").glob("*/result.json")
    assert json.loads(result.read_text())["weights_sha256"] == sha256(stand_in_weights / "resnet18.pth")


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_weights_of_a_submission_that_slurm_refused_do_not_bind_the_study(
    stand_in: Path, stand_in_weights: Path, submit: Command, held: Path, tmp_path: Path
) -> None:
    shutil.copy(stand_in_weights / "resnet18.pth", tmp_path)
    words = (f"imagenet_weights={tmp_path}", *SMALL, "seeds=1", f"data={stand_in}", f"profile={held}", "runs=runs")
    assert submit("table=resnet.batch_256", *words).returncode == 0
    record = tmp_path / "runs" / "study.json"
    before = record.read_text()
    shutil.copy(stand_in_weights / "alexnet.pth", tmp_path)
    refused = submit("table=transfer.lr=1e-3", *words, "profile.constraint=nothing")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert record.read_text() == before
    assert submit("table=transfer.lr=1e-3", *words).returncode == 0
    assert set(json.loads(record.read_text())["settings"]["imagenet_weights"]) == {"alexnet", "resnet18"}


def check_weights(*words: str) -> list[str]:
    """What a submission of the report's section on ResNet says of its weights before anything is queued."""
    request = parse_request(["section=resnet", "profile=local", *words])
    return check_weights_files([run.config for run in expand(request.tables, request.seeds, request.settings)], ())


def write_wrong_weights(kind: str, path: Path, right: Path) -> None:
    """Write a file that is no state dict of ResNet-18 in one way."""
    state = torch.load(right, weights_only=True)
    match kind:
        case "text":
            path.write_text("these are no weights")
        case "truncated":
            path.write_bytes(right.read_bytes()[:1_000_000])
        case "pipe":
            os.mkfifo(path)
        case "another network":
            torch.save(alexnet().state_dict(), path)
        case "wrong shape":
            torch.save(state | {"conv1.weight": state["conv1.weight"][:, :1].clone()}, path)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("text", "hold text that begins with 'these are no weights'; copy or download the file again"),
        ("truncated", "are incomplete or damaged (the end of their zip archive is missing); copy or download"),
        ("pipe", "cannot be read (it is a pipe or a device, not a file); make it readable"),
        ("another network", "do not fit resnet18: they lack conv1.weight, bn1.weight, bn1.bias and 97 more; "),
        ("wrong shape", "do not fit resnet18: conv1.weight has shape [64, 1, 7, 7], not [64, 3, 7, 7]; give"),
    ],
)
def test_wrong_imagenet_weights_are_refused_in_one_line(
    stand_in_weights: Path, tmp_path: Path, kind: str, problem: str
) -> None:
    write_wrong_weights(kind, tmp_path / "resnet18.pth", stand_in_weights / "resnet18.pth")
    with pytest.raises(UserError) as caught:
        check_weights(f"imagenet_weights={tmp_path}", f"runs={tmp_path / 'runs'}")
    assert problem in str(caught.value)
    assert "resnet18.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_imagenet_weights_that_have_changed_are_refused(stand_in_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights" / "resnet18.pth"
    file.parent.mkdir()
    shutil.copy(stand_in_weights / "resnet18.pth", file)
    runs, given = f"runs={tmp_path / 'runs'}", f"imagenet_weights={file.parent}"
    begin(tmp_path, parse_request(["section=resnet", given, runs]))
    state = torch.load(file, weights_only=True)
    torch.save(state | {"bn1.bias": state["bn1.bias"] + 1}, file)
    with pytest.raises(UserError, match=r"with imagenet_weights\[resnet18\]=.*; this command says .*; use"):
        check_weights(runs, given)
    changed = r"resnet18\.pth: the file's SHA-256 is \w{64}, not \w{64}; restore the right file"
    with pytest.raises(UserError, match=changed):
        check_weights(runs)


def test_weights_without_a_head_get_a_new_one_in_one_line(stand_in_weights: Path, tmp_path: Path) -> None:
    state = torch.load(stand_in_weights / "resnet18.pth", weights_only=True)
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "resnet18.pth")
    line = "weights resnet18.pth: the head fc is new (random), since the file has none"
    assert check_weights(f"imagenet_weights={tmp_path}", f"runs={tmp_path / 'runs'}") == [line]
