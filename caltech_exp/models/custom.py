"""Networks of the user's own: a function in a Python file, found, kept with the study, and loaded. No torch.

The function takes the number of classes and returns a network of that many outputs, for images of shape
[n, 3, 224, 224]: `def tiny(num_classes: int) -> nn.Module`. The file must do with what is installed: it is copied
into the study on its own, and files beside it are not.
"""

import ast
import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from caltech_exp.bootstrap import UntrustedError, read_own, user_name
from caltech_exp.cli import UserError, did_you_mean, shown
from caltech_exp.config import CUSTOM_NETWORK, PIN
from caltech_exp.files import closed_to_others, make_own_folder, user_path, write_atomically

FOLDER = "networks"
"""In the study's folder: networks/<user id>/<first digits of the file's hash>/<file>.py."""


@dataclass(frozen=True)
class CustomNetwork:
    """A network as a run names it: `model` is the kept file's path, the function and the content's hash."""

    model: str
    path: Path
    content: bytes


def find_network(text: str, folder: Path, runs: Path) -> CustomNetwork:
    """The network `nets.py:tiny`, its file looked for from `folder`, as it is to be kept in the study `runs`.

    Nothing is written, and nothing of the file is run. Raises UserError if there is no such file or function.
    """
    match = CUSTOM_NETWORK.fullmatch(text)
    if match is None:
        raise UserError(f"network {shown(text)!r}: give a file and a function in it, as in nets.py:tiny")
    path = user_path(match["path"], "network", folder)
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
    return _kept(match["function"], path.name, content, runs)


def _kept(function: str, file: str, content: bytes, runs: Path) -> CustomNetwork:
    digest = hashlib.sha256(content).hexdigest()
    kept = networks_folder(runs) / digest[:12] / file
    return CustomNetwork(f"{kept}:{function}{PIN}{digest}", kept, content)


def networks_folder(runs: Path) -> Path:
    """Where this user's networks in a study lie: what a task executes belongs to the user who submitted it."""
    return runs / FOLDER / str(os.geteuid())


def recorded_network(model: str, runs: Path) -> CustomNetwork:
    """The network that a study was last submitted with, from this user's copy of its file.

    Raises UserError if the study holds no such copy: another user brought the file, who is not to decide what this
    user executes.
    """
    match = CUSTOM_NETWORK.fullmatch(model)
    if match is None or not match["digest"]:
        raise ValueError(f"{model} is no kept network")
    recorded = Path(match["path"])
    places = [networks_folder(runs) / match["digest"][:12] / recorded.name]
    if (runs / FOLDER) in recorded.parents:  # where earlier versions kept it, or another user
        places.append(recorded)
    owners = set()
    for place in places:
        with contextlib.suppress(OSError):
            content, owner = place.read_bytes(), place.lstat().st_uid
            if hashlib.sha256(content).hexdigest() == match["digest"]:
                owners.add(owner)
                if owner == os.geteuid():
                    return _kept(match["function"], recorded.name, content, runs)
    what = f"is a file of {user_name(owners.pop())}" if owners else "is not there any more"
    raise UserError(
        f"the study's network {match['function']}: {recorded} {what}; give study=FILE with a network file of yours"
    )


def save_network(network: CustomNetwork) -> None:
    """Copy the network's file into the study, unless it is there as it should be. Raises OSError, UserError."""
    make_own_folder(network.path.parent.parent)
    make_own_folder(network.path.parent)
    with contextlib.suppress(OSError, UntrustedError):
        if read_own(network.path) == network.content:
            return
    with closed_to_others():
        write_atomically(network.path, network.content)


def load_network(model: str, content: bytes | None = None) -> Callable[[int], Any]:
    """The function that a run's `model` names; its file is executed if its content is what was submitted
    and only the user can have written it.

    `content` is the file's, where the study does not keep it yet: before its first submission.
    Executed anew for every run: what it draws at random and what it keeps must not depend on the runs before.
    Raises UserError if the file is not there, is another one than was pinned, or fails.
    """
    match = CUSTOM_NETWORK.fullmatch(model)
    if match is None:
        raise ValueError(f"{model} is no network of a file")
    path = Path(match["path"])
    try:
        content = read_own(path) if content is None else content
    except OSError as error:
        raise UserError(f"network {path} cannot be read ({error.strerror}); bring it back") from None
    except UntrustedError as error:
        raise UserError(f"network {error}") from None
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
