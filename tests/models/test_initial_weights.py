"""Loading weights files: the head may be new, a wrapper's prefix is ignored, everything else must fit."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.config import NETWORK_NAMES, RunConfig
from caltech_exp.models.custom import find_network, save_network
from caltech_exp.models.networks import build, build_with_weights, check_weights_fit
from caltech_exp.models.weights import note_by_shapes

NETS = """
from torch import nn

def tiny(num_classes):
    features = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return nn.Sequential(features, nn.Dropout(), nn.Linear(4 * 14 * 14, num_classes))

class Inside(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.module = tiny(num_classes)

    def forward(self, images):
        return self.module(images)

def convolutions(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 9), nn.Conv2d(8, num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def one_layer(num_classes):
    return nn.Linear(4, num_classes)
"""
HEADS = {
    "alexnet": "classifier.6",
    "resnet18": "fc",
    "tiny": "2",
    "Inside": "module.2",
    "convolutions": "1",
    "one_layer": "",
}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """What a run's settings call each network of HEADS."""
    (tmp_path / "nets.py").write_text(NETS)
    found = {name: name for name in HEADS}
    for name in list(HEADS)[2:]:
        network = find_network(f"nets.py:{name}", tmp_path, tmp_path / "runs")
        save_network(network)
        found[name] = network.model
    return found


def is_of_head(name: str, model: str) -> bool:
    return name.startswith(f"{HEADS[model]}.") if HEADS[model] else True


def trained(config: RunConfig) -> dict[str, Any]:
    """The state dict of a network in which nothing is as it was made."""
    torch.manual_seed(1)
    state: dict[str, Any] = build(config).state_dict()
    for value in state.values():
        value.add_(1)
    return state


def with_head(state: dict[str, Any], model: str, classes: int) -> dict[str, Any]:
    """The state with a head of so many classes, none for 0."""
    changed: dict[str, Any] = {}
    for name, value in state.items():
        if not is_of_head(name, model):
            changed[name] = value
        elif classes:
            changed[name] = torch.zeros(classes, *value.shape[1:])
    return changed


NO_HEAD, TEN, THOUSAND = (0, " has none"), (10, "'s has 10 classes"), (1000, "'s has 1,000 classes")


@pytest.mark.parametrize(
    ("model", "prefix", "head"),
    [
        ("alexnet", "", THOUSAND),
        ("alexnet", "module.", NO_HEAD),
        ("resnet18", "", NO_HEAD),
        ("resnet18", "", TEN),
        ("resnet18", "_orig_mod.", THOUSAND),
        ("tiny", "", TEN),
        ("tiny", "module.", NO_HEAD),
        ("tiny", "module._orig_mod.", THOUSAND),
        ("Inside", "", THOUSAND),
        ("Inside", "module.", TEN),
        ("convolutions", "", NO_HEAD),
        ("convolutions", "_orig_mod.", TEN),
    ],
)
def test_head_may_be_new(
    model: str, prefix: str, head: tuple[int, str], models: dict[str, str], tmp_path: Path
) -> None:
    classes, why = head
    config = RunConfig(model=models[model])
    state = with_head(trained(config), model, classes)
    file = tmp_path / "net.pth"
    torch.save({prefix + name: value for name, value in state.items()}, file)
    torch.manual_seed(2)
    random = build(config).state_dict()
    torch.manual_seed(2)
    net, initial = build_with_weights(config.but(weights=str(file)))
    for name, value in net.state_dict().items():
        # The head is the one that the same seed makes without any weights.
        assert torch.equal(value, random[name] if is_of_head(name, model) else state[name]), name
    assert initial is not None
    note = f"the head {HEADS[model]} is new (random), since the file{why}"
    left_out = f"the prefix {prefix} of its names is ignored; " if prefix else ""
    assert initial.note == f"weights net.pth: {left_out}{note}"
    assert check_weights_fit(config.but(weights=str(file))) == initial
    expected = initial.note if model in NETWORK_NAMES and not prefix else None  # of others only torch can tell
    assert note_by_shapes(config.but(weights=str(file))) == expected


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("model", ["resnet18", "tiny", "Inside", "one_layer"])
def test_head_that_fits_is_loaded(model: str, prefix: str, models: dict[str, str], tmp_path: Path) -> None:
    config = RunConfig(model=models[model])
    state = trained(config)
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "net.pth")
    net, initial = build_with_weights(config.but(weights=str(tmp_path / "net.pth")))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert initial is not None
    assert initial.note == (f"weights net.pth: the prefix {prefix} of its names is ignored" if prefix else "")
    expected = "" if model == "resnet18" and not prefix else None
    assert note_by_shapes(config.but(weights=str(tmp_path / "net.pth"))) == expected


def test_network_of_a_single_layer_gets_a_new_head(models: dict[str, str], tmp_path: Path) -> None:
    config = RunConfig(model=models["one_layer"], weights=str(tmp_path / "net.pth"))
    torch.save(torch.nn.Linear(4, 10).state_dict(), tmp_path / "net.pth")
    _, initial = build_with_weights(config)
    assert initial is not None
    assert (
        initial.note == "weights net.pth: the head of the network is new (random), since the file's has 10 classes"
    )


@pytest.mark.parametrize("model", ["resnet18", "tiny"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("less", r"they lack \S+\.weight; give weights of that network"),
        ("more", "the network has no extra.weight; give weights of that network"),
        ("shape", r"\S+ has shape \[5, 5\], not \[\d+, 3, \d+, \d+\]; give weights"),
        ("wider head", r"\S+weight has shape \[102, 3\], not \[102, \d+\]; give weights"),
        ("half a head", r"they lack \S+\.bias; give weights"),
        (
            "Lightning",
            r"the network has no model\.\S+, .* and \d+ more \(remove 'model\.' from the beginning of its",
        ),
    ],
)
def test_weights_that_do_not_fit_are_reported(
    model: str, change: str, message: str, models: dict[str, str], tmp_path: Path
) -> None:
    config = RunConfig(model=models[model])
    state: dict[str, Any] = dict(trained(config))
    first, head = next(iter(state)), [name for name in state if is_of_head(name, model)]
    if change == "less":
        del state[first]
    elif change == "more":
        state["extra.weight"] = torch.zeros(1)
    elif change == "shape":
        state[first] = torch.zeros(5, 5)
    elif change == "wider head":
        state[head[0]] = torch.zeros(102, 3)
    elif change == "half a head":
        del state[head[1]]
    else:
        state = {f"model.{name}": value for name, value in state.items()}
    file = tmp_path / "net.pth"
    torch.save(state, file)
    assert note_by_shapes(config.but(weights=str(file))) is None
    for check in (build, check_weights_fit):
        with pytest.raises(UserError) as caught:
            check(config.but(weights=str(file)))
        said = str(caught.value)
        assert said.startswith(f"weights {file} do not fit {models[model].partition('@')[0]}: ")
        assert re.search(message, said), said
        assert len(said) < 2 * len(str(tmp_path)) + 400


def test_weights_of_another_network_are_refused_in_a_short_line(stand_in_weights: Path) -> None:
    file = stand_in_weights / "alexnet.pth"
    with pytest.raises(UserError) as caught:
        build(RunConfig(model="resnet18", weights=str(file)))
    assert str(caught.value) == (
        f"weights {file} do not fit resnet18: they lack conv1.weight, bn1.weight, bn1.bias and 97 more; the "
        "network has no features.0.weight, features.0.bias, features.3.weight and 13 more; give weights of that "
        "network"
    )


def test_joined_files_load_as_one_and_may_not_repeat_a_layer(models: dict[str, str], tmp_path: Path) -> None:
    config = RunConfig(model=models["tiny"])
    state = trained(config)
    parts = {"a.pth": ("0.0.",), "b.pth": ("0.1.", "2."), "c.pth": ("0.0.weight", "0.1.")}
    for file, layers in parts.items():
        torch.save({name: value for name, value in state.items() if name.startswith(layers)}, tmp_path / file)
    net, initial = build_with_weights(config.but(weights=f"{tmp_path}/a.pth+b.pth"))
    assert initial is not None
    assert initial.note == ""
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    with pytest.raises(UserError, match=r"c\.pth repeat 0\.0\.weight; join files of different layers"):
        check_weights_fit(config.but(weights=f"{tmp_path}/a.pth+c.pth"))


def test_half_precision_weights_become_float32(models: dict[str, str], tmp_path: Path) -> None:
    config = RunConfig(model=models["tiny"], weights=str(tmp_path / "net.pth"))
    torch.save(
        {name: value.half() for name, value in trained(RunConfig(model=models["tiny"])).items()},
        tmp_path / "net.pth",
    )
    assert {value.dtype for value in build(config).parameters()} == {torch.float32}


@pytest.mark.filterwarnings("error")
def test_check_on_the_meta_device_prints_no_warning(stand_in_weights: Path) -> None:
    for model in ("alexnet", "resnet18"):
        config = RunConfig.model_validate({"model": model, "weights": str(stand_in_weights / f"{model}.pth")})
        assert check_weights_fit(config).note.endswith("since the file's has 1,000 classes")
