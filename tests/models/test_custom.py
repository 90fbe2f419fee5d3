"""Custom networks: found without being executed, copied into the study, loaded unchanged."""

import hashlib
import importlib
import inspect
import os
import pickle
from pathlib import Path

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import read_data_set
from caltech_exp.models.custom import (
    CustomNetwork,
    find_network,
    load_network,
    networks_folder,
    recorded_network,
    save_network,
)
from caltech_exp.models.networks import build
from caltech_exp.training.loop import evaluate, train_step
from tests.tools.engines import build_setup, losses

TINY = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 7, stride=16), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 14 * 14, num_classes)

    def forward(self, images):
        return self.head(self.features(images))

def bare(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, num_classes))

def half_frozen(num_classes):
    net = Tiny(num_classes)
    net.features.requires_grad_(False)
    return net

def frozen(num_classes):
    return Tiny(num_classes).requires_grad_(False)

class Pair(Tiny):
    def forward(self, images):
        outputs = super().forward(images)
        return (outputs, outputs) if self.training else outputs

def too_many(num_classes):
    return Tiny(num_classes + 1)

def too_few(num_classes):
    return Tiny(num_classes - 1)

def number(num_classes):
    return num_classes

def failing(num_classes):
    raise RuntimeError("no such layer")
"""


def network(folder: Path, function: str = "Tiny", content: str = TINY) -> CustomNetwork:
    (folder / "my nets.py").write_text(content)
    found = find_network(f"my nets.py:{function}", folder, folder / "runs")
    save_network(found)
    return found


def test_network_is_copied_into_the_study(tmp_path: Path) -> None:
    found = network(tmp_path)
    assert found.path.read_text() == TINY
    assert found.path.is_relative_to(tmp_path / "runs" / "networks")
    (tmp_path / "my nets.py").unlink()
    assert build(RunConfig(model=found.model))(torch.zeros(2, 3, 224, 224)).shape == (2, 102)


def test_run_id_depends_on_content_and_function_not_on_the_path(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("here", "there", "changed")]
    for place in places:
        place.mkdir()
    here, there = (RunConfig(model=network(place).model).id for place in places[:2])
    assert here == there
    assert RunConfig(model=network(places[0], "bare").model).id != here
    assert RunConfig(model=network(places[2], content=TINY + "# changed\n").model).id != here


def test_planning_does_not_execute_the_file(tmp_path: Path) -> None:
    made = tmp_path / "made"
    network(tmp_path, "f", f"open({str(made)!r}, 'w')\ndef f(n): pass\n")
    assert not made.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nets", "give a file and a function in it, as in nets.py:tiny"),
        ("pipe.py:f", "pipe.py cannot be read (it is a pipe or a device, not a file); correct the path"),
        ("none.py:f", "none.py cannot be read (No such file or directory); correct the path"),
        ("broken.py:f", "broken.py is not Python"),
        ("my nets.py:Tinny", "no function 'Tinny'; did you mean 'Tiny'?"),
        (f"my nets.py:Tiny@sha256:{'0' * 64}", "restore the right file"),
    ],
)
def test_wrong_network_is_reported(text: str, message: str, tmp_path: Path) -> None:
    network(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:")
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(UserError) as caught:
        find_network(text, tmp_path, tmp_path / "runs")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("number", "returns a int, not a torch.nn.Module; correct it"),
        ("failing", "fails for 102 classes: RuntimeError: no such layer; correct it"),
    ],
)
def test_network_that_cannot_be_built_is_a_user_error(function: str, message: str, tmp_path: Path) -> None:
    config = RunConfig(model=network(tmp_path, function).model)
    with pytest.raises(UserError, match=message):
        build(config)


def test_file_changed_after_submission_is_not_trained(tmp_path: Path) -> None:
    found = network(tmp_path)
    found.path.write_text(TINY + "# later\n")
    with pytest.raises(UserError, match="restore the right file"):
        build(RunConfig(model=found.model))
    found.path.unlink()
    with pytest.raises(UserError, match=r"cannot be read .* restore the file"):
        build(RunConfig(model=found.model))


def test_custom_network_starts_from_its_trained_weights(tmp_path: Path) -> None:
    config = RunConfig(model=network(tmp_path).model)
    state = build(config).state_dict()
    torch.save(state, tmp_path / "net.pth")
    again = build(config.but(weights=str(tmp_path / "net.pth"))).state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    other = RunConfig(model=network(tmp_path, "bare").model, weights=str(tmp_path / "net.pth"))
    with pytest.raises(UserError, match="do not fit"):
        build(other)


@pytest.mark.parametrize("freeze", ["none", "conv", "fc"])
def test_both_engines_train_a_custom_network_alike(
    freeze: str, tmp_path: Path, stand_in: Path, packs: PackStore
) -> None:
    config = RunConfig(
        model=network(tmp_path).model,
        freeze=freeze,
        precision="fp32",
        batch_size=4,
        max_images=16,
        workers=0,
        lr=0.1,
    )
    data = read_data_set(stand_in)
    expected = losses(build_setup(config.but(engine="reference"), data, packs), 8)
    assert losses(build_setup(config, data, packs), 8) == pytest.approx(expected, rel=1e-4)
    assert len(set(expected)) == 8


def test_layers_frozen_by_the_file_stay_frozen_in_both_engines(
    tmp_path: Path, stand_in: Path, packs: PackStore
) -> None:
    config = RunConfig(
        model=network(tmp_path, "half_frozen").model, precision="fp32", batch_size=4, max_images=16, lr=0.1,
        workers=0,
    )  # fmt: skip
    data, found = read_data_set(stand_in), []
    for setup in (build_setup(config.but(engine=engine), data, packs) for engine in ("reference", "fast")):
        before = {name: value.clone() for name, value in setup.net.state_dict().items()}
        found.append(losses(setup, 8))
        changed = {name for name, value in setup.net.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"head.weight", "head.bias"}
    reference, fast = found
    assert fast == pytest.approx(reference, rel=1e-4)
    assert len(set(fast)) == 8


@pytest.mark.parametrize("freeze", ["none", "conv"])
def test_network_frozen_as_a_whole_is_a_user_error(freeze: str, tmp_path: Path) -> None:
    config = RunConfig(model=network(tmp_path, "frozen").model, freeze=freeze)
    with pytest.raises(UserError, match="has no parameter with requires_grad, so nothing to train; leave some"):
        build(config)


def test_freezing_the_last_trained_layers_is_a_user_error(tmp_path: Path) -> None:
    config = RunConfig(model=network(tmp_path, "half_frozen").model, freeze="fc")
    with pytest.raises(UserError, match=r"freeze=fc leaves nothing of .* to train"):
        build(config)


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize(
    ("function", "returned", "evaluated"),
    [
        ("too_many", r"shape \[4, 103\]", True),
        ("too_few", r"shape \[4, 101\]", True),
        ("Pair", "a tuple", False),  # as GoogLeNet's in training
    ],
)
def test_network_with_other_outputs_is_a_user_error(
    function: str, returned: str, evaluated: bool, engine: str, tmp_path: Path, stand_in: Path, packs: PackStore
) -> None:
    config = RunConfig(
        model=network(tmp_path, function).model, engine="fast", precision="fp32", batch_size=4, max_images=4,
        workers=0,
    ).but(engine=engine)  # fmt: skip
    setup = build_setup(config, read_data_set(stand_in), packs)
    message = f"network .*my nets.py:{function}.* returns {returned} for 4 images; return one tensor of shape "
    setup.start_training()
    with pytest.raises(UserError, match=message + r"\[4, 102\]"):
        train_step(setup, next(setup.train.epoch()))
    if evaluated:
        with pytest.raises(UserError, match=message):
            evaluate(setup, setup.val)


def test_freezing_needs_a_named_classifier(tmp_path: Path) -> None:
    config = RunConfig(model=network(tmp_path, "bare").model, freeze="conv")
    with pytest.raises(UserError, match=r"freeze=conv: .* has no child called classifier, fc, head; give its"):
        build(config)


def test_freezing_leaves_something_to_train(tmp_path: Path) -> None:
    content = TINY.replace("nn.Conv2d(3, 4, 7, stride=16)", "nn.AvgPool2d(7, stride=16)").replace(
        "4 * 14", "3 * 14"
    )
    config = RunConfig(model=network(tmp_path, content=content).model, freeze="fc")
    with pytest.raises(UserError, match=r"freeze=fc leaves nothing of .* to train"):
        build(config)


def test_custom_network_has_no_imagenet_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ImageNet weights exist for alexnet and resnet18 only"):
        RunConfig(model=network(tmp_path).model, weights="imagenet")


def test_classes_of_the_file_can_be_imported_and_pickled(tmp_path: Path) -> None:
    found = network(tmp_path)
    net = build(RunConfig(model=found.model))
    name = type(net).__module__
    assert name == f"caltech_exp_network_{hashlib.sha256(TINY.encode()).hexdigest()[:12]}"
    module = importlib.import_module(name)
    assert module.Tiny is type(net)
    assert module.__file__ == str(found.path)
    assert inspect.getsource(type(net)).startswith("class Tiny(nn.Module):")
    state = net.state_dict()
    again = pickle.loads(pickle.dumps(net)).state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())


def test_file_is_executed_again_for_every_run(tmp_path: Path) -> None:
    layer = "from torch import nn\nhead = nn.Linear(3 * 224 * 224, 102)\n"
    content = f"{layer}def f(n):\n    return nn.Sequential(nn.Flatten(), head)\n"
    config = RunConfig(model=network(tmp_path, "f", content).model)
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        nets.append(build(config))
    first, second = (net.state_dict()["1.weight"] for net in nets)
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(first, second)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o077])
def test_study_copy_is_closed_to_others_for_any_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        kept = network(tmp_path).path
    finally:
        os.umask(before)
    assert kept.parent.parent == networks_folder(tmp_path / "runs")
    assert [path.stat().st_mode & 0o022 for path in (kept, kept.parent, kept.parent.parent)] == [0, 0, 0]


def test_changed_study_copy_is_restored(tmp_path: Path) -> None:
    kept = network(tmp_path).path
    kept.write_text("raise SystemExit('changed')\n")
    assert network(tmp_path).path.read_text() == TINY
    kept.chmod(0o666)
    assert network(tmp_path).path.stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("what", ["a group's", "a link"])
def test_file_writable_by_others_is_not_executed(what: str, tmp_path: Path) -> None:
    found = network(tmp_path)
    if what == "a link":
        found.path.rename(tmp_path / "elsewhere.py")
        found.path.symlink_to(tmp_path / "elsewhere.py")
    else:
        found.path.chmod(0o664)
    reason = "is a link; put the file itself there" if what == "a link" else "can be written by other users; chmod"
    with pytest.raises(UserError, match=rf"network .*my nets.py {reason}"):
        load_network(found.model)


def test_copy_of_an_earlier_version_is_used(tmp_path: Path) -> None:
    found = network(tmp_path)
    earlier = tmp_path / "runs" / "networks" / found.path.parent.name
    found.path.parent.rename(earlier)
    (earlier / found.path.name).chmod(0o664)
    _, _, pinned = found.model.partition(":")
    again = recorded_network(f"{earlier / found.path.name}:{pinned}", tmp_path / "runs")
    assert again == found
    save_network(again)
    assert build(RunConfig(model=again.model))(torch.zeros(2, 3, 224, 224)).shape == (2, 102)


def test_missing_study_copy_is_reported(tmp_path: Path) -> None:
    found = network(tmp_path)
    found.path.rename(tmp_path / found.path.name)
    for place in (found.path, tmp_path / found.path.name):
        _, _, pinned = found.model.partition(":")
        with pytest.raises(UserError, match=r"the study's network Tiny: .* no longer exists; give study=FILE"):
            recorded_network(f"{place}:{pinned}", tmp_path / "runs")
