"""What is said of the two networks."""

import pytest
import torch
import torchvision

from caltech_exp.config import NUM_CLASSES
from caltech_exp.reporting.networks import PARAMETERS, best_rows
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_torchvisions_networks(name: str) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(num_classes=NUM_CLASSES)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_the_best_row_of_each_network_and_way(folder: SampleStudy) -> None:
    folder.add(
        make_result(row_config("scratch.lr", "1e-2"), 0, 0.3),
        make_result(row_config("scratch.step_size", "50"), 0, 0.5),
        make_result(row_config("resnet.transfer", "5e-2"), 0, 0.9),
        make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0),
    )
    found = {str(best.way): best.key for best in best_rows(folder.collect())}
    assert found == {
        "AlexNet from scratch": "scratch.step_size=50",
        "ResNet-18 pretrained": "resnet.transfer=5e-2",
    }
