"""Loading a weights file into a network: its head may be new, everything else must fit."""

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from caltech_exp.cli import UserError
from caltech_exp.config import NUM_CLASSES, PIN, RunConfig
from caltech_exp.models.weights import WeightsFile, read_weights
from caltech_exp.models.weights_format import SAVE, foreign_content, listed

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, DistributedDataParallel and torch.compile put before the names of a network's tensors."""
MOST_NAMES = 3
"""Names of each kind in a message."""

Shapes = Mapping[str, tuple[int, ...] | None]
"""Shapes by name; None where the network decides on it later (lazy modules)."""


@dataclass(frozen=True)
class InitialWeights:
    """What a network started from: the SHA-256 of the file, and a line about it if not all was taken as it is."""

    sha256: str
    note: str


def load_initial_weights(net: nn.Module, head: str | None, config: RunConfig) -> InitialWeights:
    """Load the weights that a configuration names into `net`, which has random ones.

    head  the name of the network's last layer, None to look for it

    If the file lacks the head, or has one of another number of classes, the head stays as it is. Raises UserError
    if the file is missing, is not the pinned one, or does not fit otherwise.
    """
    file = read_weights(config)
    state = _read_state_dict(file)
    shapes = _shapes(net.state_dict())
    said = []
    if prefix := _remove_prefix(state, shapes):
        said.append(f"{prefix} before its names is left out")
    head = last_layer(net) if head is None else head
    if head is not None and (reason := _why_new(_shapes(state), shapes, head)):
        for name in [name for name in state if _belongs(name, head)]:
            del state[name]
        said.append(f"the head {head or 'of the network'} is new (random), since the file{reason}")
    else:
        head = None
    _load(net, state, head, file, config)
    note = f"weights {file.path.name}: {'; '.join(said)}" if said else ""
    return InitialWeights(file.sha256, note)


def last_layer(net: nn.Module) -> str | None:
    """The last module whose own parameters all have NUM_CLASSES outputs, a matrix among them; None without one."""
    found = None
    for name, module in net.named_modules():
        shapes = [_shape(parameter) or () for parameter in module.parameters(recurse=False)]
        if shapes and all(shape[:1] == (NUM_CLASSES,) for shape in shapes) and max(map(len, shapes)) > 1:
            found = name
    return found


def _read_state_dict(file: WeightsFile) -> dict[str, Any]:
    """The tensors in the file by their names, on the CPU. Raises UserError that says what else it is."""
    if foreign := foreign_content(io.BytesIO(file.content)):
        raise UserError(f"weights {file.path} {foreign}")
    try:
        state = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes torch's unpickler raises nearly anything, an IndexError too
        raise UserError(
            f"weights {file.path} are damaged, or torch cannot load them safely ({type(error).__name__}); {SAVE}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"weights {file.path} hold other things than tensors; {SAVE}")
    return state


def _remove_prefix(state: dict[str, Any], shapes: Shapes) -> str:
    """Take PREFIXES away from the names, unless the network's begin so too; what was taken away."""
    removed = ""
    while not state.keys() & shapes.keys():
        prefix = next((one for one in PREFIXES if all(name.startswith(one) for name in state)), None)
        if prefix is None:
            break
        consume_prefix_in_state_dict_if_present(state, prefix)  # in the versions of its modules too
        removed += prefix
    return removed


def _why_new(given: Shapes, shapes: Shapes, head: str) -> str:
    """Why the head cannot be the file's, to follow "since the file"; empty if it is, or if it fits in no way."""
    of_net = {name: shape for name, shape in shapes.items() if _belongs(name, head)}
    of_file = {name: shape for name, shape in given.items() if _belongs(name, head)}
    if not of_file:
        return " has none"
    common = of_net.keys() & of_file.keys()
    if not common or any((of_net[name] or ())[1:] != (of_file[name] or ())[1:] for name in common):
        return ""
    classes = {(of_file[name] or (0,))[0] for name in common if of_file[name]}
    if len(classes) != 1 or classes == {NUM_CLASSES}:
        return ""
    return f"'s has {classes.pop():,} classes"


def _load(
    net: nn.Module, state: dict[str, Any], new_head: str | None, file: WeightsFile, config: RunConfig
) -> None:
    given, shapes = _shapes(state), _shapes(net.state_dict())
    # On the meta device copying does nothing, and warns of it.
    on_meta = any(parameter.is_meta for parameter in net.parameters())
    other = ""
    missing: list[str] = []
    unexpected: list[str] = []
    try:
        missing, unexpected = net.load_state_dict(state, strict=False, assign=on_meta)
    except Exception as error:  # of a network of the user's own its own code, too
        lines = str(error).splitlines()
        other = lines[min(1, len(lines) - 1)].strip()[:200] if lines else type(error).__name__
        missing, unexpected = [*(shapes.keys() - given.keys())], [*(given.keys() - shapes.keys())]
    if new_head is not None:
        missing = [name for name in missing if not _belongs(name, new_head)]
    wrong = [name for name in shapes if shapes[name] and name in given and given[name] != shapes[name]]
    reasons = []
    if missing:
        reasons.append(f"they lack {_listed(shapes, missing)}")
    if unexpected:
        reasons.append(f"the network has no {_listed(given, unexpected)}{_prefix_advice(given, shapes)}")
    if wrong and other:
        one = wrong[0]
        more = f", and so on for {len(wrong) - 1} more" if wrong[1:] else ""
        reasons.append(f"{one} has shape {list(given[one] or ())}, not {list(shapes[one] or ())}{more}")
    if not reasons and other:
        reasons.append(other)
    if reasons:
        network = config.model.partition(PIN)[0]
        raise UserError(
            f"weights {file.path} do not fit {network}: {'; '.join(reasons)}; give weights of that network"
        )


def _listed(order: Mapping[str, object], names: list[str]) -> str:
    """The names as they come in the network or the file."""
    return listed([name for name in order if name in set(names)] or names, MOST_NAMES)


def _prefix_advice(given: Shapes, shapes: Shapes) -> str:
    """Of a file whose names would fit without their first part."""
    first = {name.partition(".")[0] for name in given}
    if len(first) == 1 and any(name.partition(".")[2] in shapes for name in given):
        return f" (take {first.pop() + '.'!r} away from the beginning of its names)"
    return ""


def _belongs(name: str, module: str) -> bool:
    """Whether a tensor is the module's; "" is the network itself, if it is a single layer."""
    return name.startswith(f"{module}.") if module else "." not in name


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {name: _shape(value) for name, value in state.items()}


def _shape(value: Any) -> tuple[int, ...] | None:
    with suppress(RuntimeError):  # of a parameter that a lazy module makes later
        return tuple(value.shape) if isinstance(value, torch.Tensor) else None
    return None
