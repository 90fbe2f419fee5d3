"""Custom networks: a user's function in a Python file, copied into the study and loaded from there. No torch.

The function takes the number of classes and returns a network with as many outputs, for images of shape
[n, 3, 224, 224]: `def tiny(num_classes: int) -> nn.Module`. Only this file is copied into the study, so it may
import installed packages, but not the files beside it.
"""

import ast
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from caltech_exp.bootstrap import UntrustedError, read_own, user_name
from caltech_exp.cli import UserError, did_you_mean, shown
from caltech_exp.config import CUSTOM_NETWORK, PIN
from caltech_exp.files import closed_to_others, make_own_folder, read_file, user_path, write_atomically

LONGEST = 2**20
"""Bytes of a network's file, which Python parses in memory."""
FOLDER = "networks"  # of the study: networks/<user id>/<first digits of the file's hash>/<file>.py


@dataclass(frozen=True)
class CustomNetwork:
    """A network as a study holds it.

    model   the setting of its runs: the path of the study's copy, the function and the content's hash
    path    the study's copy of the file, which `save_network` writes
    source  the user's own file, or the study's copy where that was submitted before
    """

    model: str
    path: Path
    content: bytes
    source: Path = field(compare=False)

    @property
    def function(self) -> str:
        return _match(self.model)["function"]


def find_network(text: str, folder: Path, runs: Path) -> CustomNetwork:
    """The network `nets.py:tiny` for the study `runs`; a relative path starts from `folder`.

    The file is parsed, not executed, and nothing is written.
    """
    match = CUSTOM_NETWORK.fullmatch(text)
    if match is None:
        raise UserError(f"network {shown(text)!r}: give a file and a function in it, as in nets.py:tiny")
    path = user_path(match["path"], "network", folder)
    try:
        content = read_file(path, LONGEST)
        tree = ast.parse(content)
    except OSError as error:
        raise UserError(f"network {text}: {path} cannot be read ({error.strerror}); correct the path") from None
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UserError(f"network {text}: {path} is not Python ({error}); correct it") from None
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if match["function"] not in names:
        hint = did_you_mean(match["function"], names)
        raise UserError(f"network {text}: no function {match['function']!r}{hint}")
    _check_content(match, path, content)
    return _study_copy(match["function"], path, content, runs)


def recorded_network(model: str, runs: Path) -> CustomNetwork:
    """The network that a study was last submitted with, from this user's own copy of its file.

    Raises UserError if the study has no such copy. Then another user submitted the file, and nobody but this user
    decides what this user executes.
    """
    match = _match(model)
    if not match["digest"]:
        raise ValueError(f"{model} is not pinned")
    recorded = Path(match["path"])
    paths = [networks_folder(runs) / match["digest"][:12] / recorded.name]
    if (runs / FOLDER) in recorded.parents:  # another user's copy, or that of an earlier version
        paths.append(recorded)
    owners = set()
    for path in paths:
        with contextlib.suppress(OSError):
            content, owner = read_file(path, LONGEST), path.lstat().st_uid
            if hashlib.sha256(content).hexdigest() == match["digest"]:
                owners.add(owner)
                if owner == os.geteuid():
                    return _study_copy(match["function"], recorded, content, runs)
    problem = f"belongs to {user_name(owners.pop())}" if owners else "no longer exists"
    raise UserError(
        f"the study's network {match['function']}: {recorded} {problem}; "
        "give study=FILE or model=FILE:FUNCTION with your own file"
    )


def networks_folder(runs: Path) -> Path:
    """This user's networks in a study: what a task executes belongs to the user who submitted it."""
    return runs / FOLDER / str(os.geteuid())


def _study_copy(function: str, source: Path, content: bytes, runs: Path) -> CustomNetwork:
    digest = hashlib.sha256(content).hexdigest()
    path = networks_folder(runs) / digest[:12] / source.name
    return CustomNetwork(f"{path}:{function}{PIN}{digest}", path, content, source)


def save_network(network: CustomNetwork) -> None:
    """Copy the network's file into the study, unless a sound copy is there already. Raises OSError."""
    make_own_folder(network.path.parent.parent)
    make_own_folder(network.path.parent)
    with contextlib.suppress(OSError, UntrustedError):
        if read_own(network.path) == network.content:
            return
    with closed_to_others():
        write_atomically(network.path, network.content)


def load_network(model: str, content: bytes | None = None) -> Callable[[int], Any]:
    """Execute the file that a run's `model` names, and return the function.

    content  of the file, before the first submission has copied it into the study

    The file must be what was submitted, and only this user may be able to write it. It is executed again for every
    run, so that nothing it draws at random or stores depends on earlier runs.
    """
    match = _match(model)
    path = Path(match["path"])
    try:
        content = read_own(path) if content is None else content
    except OSError as error:
        raise UserError(f"network {path} cannot be read ({error.strerror}); restore the file") from None
    except UntrustedError as error:
        raise UserError(f"network {error}") from None
    digest = _check_content(match, path, content)
    # A real module, because pickle, inspect and torch.compile look up where a class or function comes from.
    module = ModuleType(f"caltech_exp_network_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))  # the user's own code, at the user's request
    except Exception as error:
        raise UserError(f"network {path} fails: {type(error).__name__}: {error}; correct it") from error
    build: Callable[[int], Any] = vars(module)[match["function"]]
    return build


def _match(model: str) -> re.Match[str]:
    match = CUSTOM_NETWORK.fullmatch(model)
    if match is None:
        raise ValueError(f"{model} is not a custom network")
    return match


def _check_content(match: re.Match[str], path: Path, content: bytes) -> str:
    """The content's SHA-256. Raises UserError if the setting pins another."""
    digest = hashlib.sha256(content).hexdigest()
    if match["digest"] not in (None, digest):
        raise UserError(
            f"network {path}: its SHA-256 is {digest}, but {match['digest']} was submitted; restore the right file"
        )
    return digest
