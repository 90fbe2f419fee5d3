"""The engines by name: each prepares the parts that the training loop runs on."""

import torch

from caltech_exp import fast, reference
from caltech_exp.config import RunConfig
from caltech_exp.packs import PackPlace
from caltech_exp.parts import Parts
from caltech_exp.splits import DataSet


def prepare(config: RunConfig, data: DataSet, device: torch.device, packs: PackPlace) -> Parts:
    """What `config.engine` trains with. Initial weights are drawn from torch's global generator.

    Raises UserError for damaged weights, and (engine=fast) if packs cannot be made or the GPU lacks the precision.
    """
    if config.engine == "reference":
        return reference.prepare(config, data, device)
    return fast.prepare(config, data, device, packs)
