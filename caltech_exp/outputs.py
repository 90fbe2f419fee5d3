"""What a network must return: of its user's making it may return anything."""

import torch

from caltech_exp.config import NUM_CLASSES
from caltech_exp.errors import UserError


def require_outputs(outputs: object, labels: torch.Tensor, network: str) -> torch.Tensor:
    """The network's outputs, if they are one tensor [n, NUM_CLASSES] for labels [n].

    Raises UserError that names the network and what it returned. Shapes are known without waiting for the device.
    """
    wanted = (len(labels), NUM_CLASSES)
    if isinstance(outputs, torch.Tensor) and outputs.shape == wanted:
        return outputs
    found = f"shape {list(outputs.shape)}" if isinstance(outputs, torch.Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"network {network} returns {found} for {len(labels)} images; return one tensor of shape {list(wanted)}, "
        "in training as in evaluation"
    )
