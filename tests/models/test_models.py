"""The networks: heads, weights files and frozen parts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.models.networks import build, trained_parameters


@pytest.mark.parametrize("model", ["alexnet", "resnet18"])
def test_head_has_102_outputs(model: str) -> None:
    net = build(RunConfig.model_validate({"model": model})).eval()
    assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 102)


@pytest.mark.parametrize(
    ("model", "head", "inner"),
    [
        ("alexnet", "classifier.6.weight", "classifier.4.weight"),
        ("resnet18", "fc.weight", "layer4.1.conv2.weight"),
    ],
)
def test_weights_of_torchvision_get_a_new_head(model: str, head: str, inner: str, stand_in_weights: Path) -> None:
    file = stand_in_weights / f"{model}.pth"
    state = torch.load(file, weights_only=True)
    net = build(RunConfig.model_validate({"model": model, "weights": str(file)}))
    assert torch.equal(net.state_dict()[inner], state[inner])
    assert state[head].shape[0] == 1000
    assert net.state_dict()[head].shape[0] == 102


def test_weights_trained_here_keep_their_head(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = build(RunConfig(model="resnet18"))
    file = tmp_path / "trained.pth"
    torch.save(first.state_dict(), file)
    second = build(RunConfig(model="resnet18", weights=str(file)))
    assert torch.equal(first.state_dict()["fc.weight"], second.state_dict()["fc.weight"])


class Opener:
    """Pickled, this asks whoever loads it to open a file for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def test_weights_execute_no_code(tmp_path: Path) -> None:
    file, opened = tmp_path / "net.pth", tmp_path / "opened"
    torch.save({"fc.weight": Opener(opened)}, file)
    with pytest.raises(UserError, match=r"hold a dict with the keys fc\.weight, not a state dict"):
        build(RunConfig(model="resnet18", weights=str(file)))
    assert not opened.exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({1: torch.zeros(1)}, "hold more than named tensors"),
        ({"fc.weight": torch.tensor(1.0)}, "do not fit resnet18"),
    ],
)
def test_file_without_state_dict_is_reported(state: object, message: str, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    torch.save(state, file)
    with pytest.raises(UserError, match=message):
        build(RunConfig(model="resnet18", weights=str(file)))


@pytest.mark.parametrize("content", [b"", b"no pickle", "list", "other network"])
def test_wrong_weights_are_reported(content: bytes | str, tmp_path: Path, stand_in_weights: Path) -> None:
    file = tmp_path / "net.pth"
    if content == "other network":
        file = stand_in_weights / "alexnet.pth"
    elif content == "list":
        torch.save([1, 2], file)
    else:
        assert isinstance(content, bytes)
        file.write_bytes(content)
    with pytest.raises(UserError, match=f"weights {file}") as caught:
        build(RunConfig(model="resnet18", weights=str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "freeze", "trained"),
    [
        ("alexnet", "none", {"features", "classifier"}),
        ("alexnet", "conv", {"classifier"}),
        ("alexnet", "fc", {"features"}),
        ("resnet18", "conv", {"fc"}),
        ("resnet18", "fc", {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_freeze_selects_the_trained_layers(model: str, freeze: str, trained: set[str]) -> None:
    config = RunConfig.model_validate({"model": model, "freeze": freeze})
    net = build(config)
    chosen = {id(parameter) for parameter in trained_parameters(net, config)}
    assert {name.split(".")[0] for name, p in net.named_parameters() if id(p) in chosen} == trained
