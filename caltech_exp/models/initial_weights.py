"""Load a weights file into a network: the head may be new, everything else must fit."""

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from caltech_exp.cli import UserError
from caltech_exp.config import JOIN, PIN, RunConfig
from caltech_exp.models.weights import Shapes, WeightsFile, belongs, new_head_note, read_weights
from caltech_exp.models.weights_format import SAVE, foreign_content, join_names

PREFIXES = ("module.", "_orig_mod.")  # of names saved from DataParallel or torch.compile
MOST_NAMES = 3  # of each kind in a message


@dataclass(frozen=True)
class InitialWeights:
    """What a network started from: the SHA-256 of the files, and a line that says what was not taken."""

    sha256: str
    note: str


def load_initial_weights(net: nn.Module, head: str | None, config: RunConfig) -> InitialWeights:
    """Load the weights file of a configuration into `net`, whose weights are random.

    head  the name of the network's last layer; None to look for it

    If the file lacks the head, or has one for another number of classes, the head stays random. Raises UserError
    if the file is missing, is not the pinned one, or does not fit otherwise.
    """
    files = read_weights(config)
    state = _read_state_dict(files[0])
    for file in files[1:]:
        more = _read_state_dict(file)
        if repeated := [name for name in more if name in state]:
            names = join_names(repeated, MOST_NAMES)
            raise UserError(f"weights {file.path} repeat {names}; join files of different layers")
        state.update(more)
    shapes = _shapes(net.state_dict())
    notes = []
    if prefix := _remove_prefix(state, shapes):
        notes.append(f"the prefix {prefix} of its names is ignored")
    head = last_layer(net, config.classes) if head is None else head
    if head is not None and (note := new_head_note(_shapes(state), shapes, head, config.classes)):
        for name in [name for name in state if belongs(name, head)]:
            del state[name]
        notes.append(note)
    else:
        head = None
    if problem := _load(net, state, head):
        network = config.model.partition(PIN)[0]
        path = config.weights.partition(PIN)[0] if files[1:] else files[0].path
        raise UserError(f"weights {path} do not fit {network}: {problem}; give weights of that network")
    name = JOIN.join(file.path.name for file in files)
    sha256 = JOIN.join(file.sha256 for file in files)
    return InitialWeights(sha256, f"weights {name}: {'; '.join(notes)}" if notes else "")


def last_layer(net: nn.Module, classes: int) -> str | None:
    """The last module with a weight matrix whose own parameters all have `classes` outputs; None without one."""
    layer = None
    for name, module in net.named_modules():
        shapes = [_shape(parameter) or () for parameter in module.parameters(recurse=False)]
        if shapes and all(shape[:1] == (classes,) for shape in shapes) and max(map(len, shapes)) > 1:
            layer = name
    return layer


def _read_state_dict(file: WeightsFile) -> dict[str, Any]:
    """The tensors in the file by name, on the CPU."""
    if problem := foreign_content(io.BytesIO(file.content)):
        raise UserError(f"weights {file.path} {problem}")
    try:
        state = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises nearly anything on damaged bytes, even IndexError
        raise UserError(
            f"weights {file.path} are damaged, or torch cannot load them safely ({type(error).__name__}); {SAVE}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"weights {file.path} hold other things than tensors; {SAVE}")
    return state


def _remove_prefix(state: dict[str, Any], shapes: Shapes) -> str:
    """Remove PREFIXES from the names, unless the network's names begin with them too; return what was removed."""
    removed = ""
    while not state.keys() & shapes.keys():
        prefix = next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None)
        if prefix is None:
            break
        consume_prefix_in_state_dict_if_present(state, prefix)  # it also renames the metadata of modules
        removed += prefix
    return removed


def _load(net: nn.Module, state: dict[str, Any], new_head: str | None) -> str:
    """Load the state, but for a new head; return why it does not fit, empty if it does."""
    file_shapes, net_shapes = _shapes(state), _shapes(net.state_dict())
    # On the meta device copying has no effect, and torch warns of it.
    on_meta = any(parameter.is_meta for parameter in net.parameters())
    failure = ""
    try:
        missing, unexpected = net.load_state_dict(state, strict=False, assign=on_meta)
    except Exception as error:  # a custom network may run its own code here
        lines = str(error).splitlines()
        failure = lines[min(1, len(lines) - 1)].strip()[:200] if lines else type(error).__name__
        missing = list(net_shapes.keys() - file_shapes.keys())
        unexpected = list(file_shapes.keys() - net_shapes.keys())
    if new_head is not None:
        missing = [name for name in missing if not belongs(name, new_head)]
    reasons = []
    if missing:
        reasons.append(f"they lack {_join_in_order(missing, net_shapes)}")
    if unexpected:
        names = _join_in_order(unexpected, file_shapes)
        reasons.append(f"the network has no {names}{_prefix_advice(file_shapes, net_shapes)}")
    wrong = [name for name, shape in net_shapes.items() if shape and file_shapes.get(name, shape) != shape]
    if wrong and failure:
        name, more = wrong[0], f", and so on for {len(wrong) - 1} more" if wrong[1:] else ""
        shapes = f"{list(file_shapes[name] or ())}, not {list(net_shapes[name] or ())}"
        reasons.append(f"{name} has shape {shapes}{more}")
    return "; ".join(reasons) or failure


def _join_in_order(names: list[str], order: Mapping[str, object]) -> str:
    """The names in the order of the network or the file."""
    return join_names([name for name in order if name in set(names)] or names, MOST_NAMES)


def _prefix_advice(file_shapes: Shapes, net_shapes: Shapes) -> str:
    """What to do if the names would fit without their first part."""
    first = {name.partition(".")[0] for name in file_shapes}
    if len(first) == 1 and any(name.partition(".")[2] in net_shapes for name in file_shapes):
        return f" (remove {first.pop() + '.'!r} from the beginning of its names)"
    return ""


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {name: _shape(value) for name, value in state.items()}


def _shape(value: Any) -> tuple[int, ...] | None:
    with suppress(RuntimeError):  # an uninitialised parameter of a lazy module
        return tuple(value.shape) if isinstance(value, torch.Tensor) else None
    return None
