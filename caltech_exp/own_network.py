"""Networks of the user's own: a function in a Python file, found, kept with the study, and loaded. No torch.

The function takes the number of classes and returns a network of that many outputs, for images of shape
[n, 3, 224, 224]: `def tiny(num_classes: int) -> nn.Module`. The file must do with what is installed: it is copied
into the study on its own, and files beside it are not.
"""

import ast
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from caltech_exp.config import OWN_NETWORK, PIN
from caltech_exp.errors import UserError, did_you_mean, shown
from caltech_exp.files import user_path, write_atomically

FOLDER = "networks"
"""In the study's folder: networks/<first digits of the file's hash>/<file>.py."""


@dataclass(frozen=True)
class OwnNetwork:
    """A network as a run names it: `model` is the kept file's path, the function and the content's hash."""

    model: str
    kept: Path
    content: bytes


def find_network(text: str, folder: Path, runs: Path) -> OwnNetwork:
    """The network `nets.py:tiny`, its file looked for from `folder`, as it is to be kept in the study `runs`.

    Nothing is written, and nothing of the file is run. Raises UserError if there is no such file or function.
    """
    match = OWN_NETWORK.fullmatch(text)
    if match is None:
        raise UserError(f"network {shown(text)!r}: give a file and a function in it, as in nets.py:tiny")
    path = user_path(str(folder / Path(match["path"]).expanduser()), "network")
    try:
        content = path.read_bytes()
        defined = [
            node.name for node in ast.parse(content).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
        ]
    except OSError as error:
        raise UserError(f"network {text}: {path} cannot be read ({error.strerror}); name its file") from None
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"network {text}: {path} is not Python ({error}); correct it") from None
    if match["function"] not in defined:
        raise UserError(
            f"network {text}: no function {match['function']!r}{did_you_mean(match['function'], defined)}"
        )
    digest = hashlib.sha256(content).hexdigest()
    if match["digest"] not in (None, digest):
        raise UserError(f"network {text}: the file's SHA-256 is {digest}; bring the right file back")
    kept = runs / FOLDER / digest[:12] / path.name
    return OwnNetwork(f"{kept}:{match['function']}{PIN}{digest}", kept, content)


def keep_network(network: OwnNetwork) -> None:
    """Copy the network's file into the study, unless it is there. Raises OSError."""
    if not network.kept.exists():
        network.kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(network.kept, network.content)


def load_network(model: str) -> Callable[[int], Any]:
    """The function that a run's `model` names; its file is executed if its content is what was submitted.

    Executed anew for every run: what it draws at random and what it keeps must not depend on the runs before.
    Raises UserError if the file is not there, is another one than was pinned, or fails.
    """
    match = OWN_NETWORK.fullmatch(model)
    if match is None:
        raise ValueError(f"{model} is no network of a file")
    path = Path(match["path"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"network {path} cannot be read ({error.strerror}); bring it back") from None
    digest = hashlib.sha256(content).hexdigest()
    if match["digest"] not in (None, digest):
        raise UserError(
            f"network {path}: its SHA-256 is {digest}, not {match['digest']}; bring the right file back"
        )
    # A module by that name, for what asks a class or function where it comes from: pickle, inspect, torch.compile.
    module = ModuleType(f"caltech_exp_network_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))  # the user's own code, asked for by the user
    except Exception as error:
        raise UserError(f"network {path} fails: {type(error).__name__}: {error}; correct it") from error
    build: Callable[[int], Any] = vars(module)[match["function"]]
    return build
