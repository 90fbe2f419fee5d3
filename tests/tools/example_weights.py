"""Random weights for the network of docs/examples/resnet20.py, in two files as the published ones."""

from pathlib import Path

import torch

from caltech_exp.models.custom import load_network
from tests.tools.census import CHECKOUT

NETWORK = CHECKOUT / "docs" / "examples" / "resnet20.py"
FILES = ("resnet18.pth", "resnet18-layer4.2.pth")


def write_resnet20_weights(folder: Path) -> None:
    """Write the weights of an untrained network without its head."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    state = load_network(f"{NETWORK}:resnet20", NETWORK.read_bytes())(2).state_dict()
    for file, is_last in zip(FILES, (False, True), strict=True):
        names = [name for name in state if not name.startswith("fc.") and name.startswith("layer4.2.") == is_last]
        torch.save({name: state[name] for name in names}, folder / file)
