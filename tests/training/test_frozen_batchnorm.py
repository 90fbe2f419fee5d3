"""frozen_batchnorm: what frozen layers do in training, against plain torch and in custom networks."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD

from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from caltech_exp.data.packs import PackStore
from caltech_exp.data.splits import DataSet, read_data_set
from caltech_exp.models.networks import build, fixed_batchnorms
from caltech_exp.training.loop import train
from tests.tools.engines import CPU, build_setup

CONFIG = RunConfig(
    model="resnet18", freeze="conv", precision="fp32", batch_size=8, max_images=20, workers=0, lr=0.01, epochs=2
)
ENGINES = [pytest.param(CONFIG, id="fast"), pytest.param(CONFIG.but(engine="reference"), id="reference")]
NETS = """
from collections import OrderedDict

from torch import nn


def net(num_classes):
    layers = {"conv": nn.Conv2d(3, 4, 7, stride=16), "norm": nn.BatchNorm2d(4)}
    layers |= {"plain": nn.BatchNorm2d(4, affine=False), "flatten": nn.Flatten()}
    layers["fc"] = nn.Sequential(nn.Linear(4 * 14 * 14, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))
    return nn.Sequential(OrderedDict(layers))


def half_frozen(num_classes):
    built = net(num_classes)
    built.conv.requires_grad_(False)
    built.norm.requires_grad_(False)
    return built
"""


@pytest.fixture(scope="module")
def data(stand_in: Path) -> DataSet:
    return read_data_set(stand_in)


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def statistics_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items() if "running_" in name}


@pytest.mark.parametrize("value", ["train", "eval"])
@pytest.mark.parametrize("engine", ENGINES)
def test_run_equals_a_plain_loop(engine: RunConfig, value: str, data: DataSet, packs: PackStore) -> None:
    config = engine.but(frozen_batchnorm=value)
    trained = train(config, 0, data, CPU, packs, keep_weights="last")

    setup = build_setup(engine, data, packs)
    net = setup.net
    before = statistics_of(net)
    optimizer = SGD(net.get_submodule("fc").parameters(), lr=0.01, momentum=0.9, weight_decay=5e-5)
    losses, val_losses = [], []
    for _ in range(2):
        net.train()
        if value == "eval":
            for layer in net.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        steps = []
        for inputs, labels in setup.train.epoch():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps.append(loss.item())
        losses.append(sum(steps) / len(steps))
        net.eval()
        with torch.no_grad():
            batches = [(net(inputs), labels) for inputs, labels in setup.val.epoch()]
        val_losses.append(sum(nn.functional.cross_entropy(*each, reduction="sum").item() for each in batches) / 20)

    assert [epoch.train_loss for epoch in trained.epochs] == pytest.approx(losses, rel=1e-5)
    assert [epoch.val_loss for epoch in trained.epochs] == pytest.approx(val_losses, rel=1e-5)
    assert trained.kept_weights is not None
    after = trained.kept_weights[1]
    assert len(before) == 40
    for name, statistics in before.items():
        assert torch.equal(after[name], statistics) == (value == "eval"), name
        assert torch.allclose(after[name], net.state_dict()[name], rtol=1e-4, atol=1e-6), name


def test_statistics_are_kept_where_features_are_not_cached(data: DataSet, packs: PackStore) -> None:
    config = CONFIG.but(frozen_batchnorm="eval", augment="crop", epochs=1)
    before = statistics_of(build_setup(config, data, packs).net)
    trained = train(config, 0, data, CPU, packs, keep_weights="last")
    assert trained.kept_weights is not None
    assert len(before) == 40
    for name, statistics in before.items():
        assert torch.equal(trained.kept_weights[1][name], statistics)


@pytest.mark.parametrize(
    ("function", "freeze", "fixed"),
    [
        ("net", "conv", {"norm", "plain"}),
        ("net", "fc", {"fc.1"}),
        ("half_frozen", "none", {"norm"}),
        ("half_frozen", "conv", {"norm", "plain"}),
    ],
)
def test_layers_of_a_custom_network_that_are_fixed(
    function: str, freeze: str, fixed: set[str], nets: Path
) -> None:
    config = RunConfig.model_validate(
        {"model": f"{nets}:{function}", "freeze": freeze, "frozen_batchnorm": "eval"}
    )
    net = build(config)
    layers = fixed_batchnorms(net, config)
    assert {name for name, layer in net.named_modules() if any(layer is each for each in layers)} == fixed
    assert fixed_batchnorms(net, config.but(frozen_batchnorm="train")) == ()


def test_custom_network_without_a_frozen_batchnorm_is_a_user_error(nets: Path) -> None:
    with pytest.raises(
        UserError, match=r"frozen_batchnorm=eval: no frozen layer of .*net is a batch normalisation"
    ):
        build(RunConfig(model=f"{nets}:net", frozen_batchnorm="eval"))
