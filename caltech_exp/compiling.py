"""torch.compile: for which runs, with which options, and where its code is kept."""

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from caltech_exp.bootstrap import UntrustedError, check_own_folder
from caltech_exp.config import RunConfig
from caltech_exp.sampling import training_steps
from caltech_exp.splits import DataSet

COMPILE_FROM_STEPS = 20_000
"""Steps from which on a run is compiled.

An estimate, not measured: compiling takes about 20 s (5 s from its cache), and may save a millisecond a step. The
runs of the report take 330 to 3,600 steps.
"""
OLDEST_FOR_TRITON = (7, 0)
"""Compute capability, NVIDIA's Volta: torch.compile refuses older GPUs (torch/utils/_triton.py, has_triton)."""
OPTIONS = {
    "deterministic": True,  # nothing that decides over the numbers is chosen by timing it
    "dynamic_scale_rblock": False,  # nor by the registers that a kernel turns out to use
    "shape_padding": False,
    "fallback_random": True,  # dropout masks as without compilation
}
"""Inductor's (torch/_inductor/config.py): the same bits every time, and from the same random numbers."""
MANY = 2**20
"""Recompilations: Dynamo gives up at 8 of the same code (torch/_dynamo/config.py), and a task's runs share it."""


def is_compiled(config: RunConfig, data: DataSet, device: torch.device) -> bool:
    """Whether the run's training is compiled on this node, as far as its settings and the node decide.

    (Where the convolutions' output is kept, there is nothing to compile.)
    """
    return _pays(config, data, device) and not _missing(device)


def compiled(
    net: nn.Module, config: RunConfig, data: DataSet, device: torch.device, packs: Path
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network through torch.compile where `is_compiled`, else as it is.

    Where something is missing for that, the log says what. The compiled code is kept beside the packs, in
    a folder of the user's own, unless that cannot be written or TORCHINDUCTOR_CACHE_DIR names another place: array
    tasks that share it compile once.
    """
    if not _pays(config, data, device):
        return net
    if missing := _missing(device):
        print(f"{missing}: training without torch.compile", flush=True)
        return net
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and (cache := _own_folder(packs)):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    _never_give_up()
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(net, dynamic=False, options=known_options())
    return forward


def _pays(config: RunConfig, data: DataSet, device: torch.device) -> bool:
    """Whether the run is long enough to be compiled, and would be compiled at all."""
    if config.engine != "fast" or device.type != "cuda":
        return False
    return training_steps(config, data) >= COMPILE_FROM_STEPS


def known_options() -> dict[str, str | int | bool | Callable[..., object]]:
    """Those of OPTIONS that this version of torch has; without `deterministic` nothing is compiled."""
    import torch._inductor.config as inductor

    return {name: value for name, value in OPTIONS.items() if hasattr(inductor, name)}


def _never_give_up() -> None:
    import torch._dynamo.config as dynamo

    for name in ("recompile_limit", "accumulated_recompile_limit"):
        if hasattr(dynamo, name):
            setattr(dynamo, name, MANY)


def _own_folder(packs: Path) -> Path | None:
    """This user's folder for compiled code, None if there can be none: what lies in it is executed."""
    folder = packs / f"compiled-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        check_own_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, UntrustedError):
        return None


def _missing(device: torch.device) -> str | None:
    """What keeps torch.compile from the same bits every time, or would fail it at the first step.

    Triton builds a C extension of Python on the node. It looks for $CC, gcc and clang (triton/runtime/build.py).
    """
    import torch._inductor.config as inductor

    if not hasattr(inductor, "deterministic"):
        return f"torch {torch.__version__} may compile to other bits when a run goes on"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler on this machine"
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        return f"no {headers / 'Python.h'} on this machine (the package python3-dev or python3-devel has it)"
    if torch.cuda.get_device_capability(device) < OLDEST_FOR_TRITON:
        return f"Triton does not know GPUs as old as this {torch.cuda.get_device_name(device)}"
    return None
