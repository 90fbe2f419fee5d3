"""The network that a run has trained, for notebooks.

    from caltech_exp import load_run
    run = load_run("runs/ffaa4cfdb4-s0")
    outputs = run.net(run.transform(image)[None])

docs/notebooks.md has more. A data set of your own that normalises by its own averages (normalization=data) has no
transform here: its averages are the data's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from caltech_exp.config import PIN, RunConfig
from caltech_exp.data.dataset import eval_transform
from caltech_exp.models.networks import build_with_weights
from caltech_exp.models.weights import require_kept_weights
from caltech_exp.study.results import WEIGHTS, Result


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A run with a result, and its network with the weights that it kept.

    net        in evaluation mode, on the CPU, in fp32: inputs [n, 3, 224, 224] -> [n, NUM_CLASSES]
    config     the settings of the run
    transform  from a PIL image to one input of the network, [3, 224, 224], as in validation; None with
               normalization=data
    """

    net: nn.Module
    config: RunConfig
    result: Result
    transform: Callable[[Any], Any] | None


def load_run(folder: str | os.PathLike[str]) -> TrainedNetwork:
    """Load the network of the run in a folder, `runs/<run id>`, which was trained with keep_weights=last or best.

    A network of your own is built by the file that the study keeps. Raises UserError if the run kept no weights,
    or if they do not have the hash in its result.
    """
    path = Path(folder).expanduser().resolve()
    result, sha256 = require_kept_weights(path, str(folder))
    net, _ = build_with_weights(result.config.but(weights=f"{path / WEIGHTS}{PIN}{sha256}"))
    transform = None if result.config.normalization == "data" else eval_transform(result.config)
    return TrainedNetwork(net.eval(), result.config, result, transform)
