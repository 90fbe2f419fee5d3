"""The folders that a profile names, with `~` and `$NAME` expanded."""

import os
import re
import socket
from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.data.download import IMAGENET
from caltech_exp.files import user_path
from caltech_exp.models.weights import imagenet_path
from caltech_exp.profiles.profile import Profile

WEIGHTS_VARIABLES = ("TORCH_HOME", "XDG_CACHE_HOME")
"""By which torch.hub finds its cache of weights."""
VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)
"""What os.path.expandvars replaces."""


def expand_path(text: str, key: str) -> Path:
    """A path that stands as `key` in a profile: absolute, with `~` and `$NAME` expanded.

    Raises UserError for a variable that is not set here, and for a path that no file could have (user_path).
    """
    for name in (found[1] or found[2] for found in VARIABLE.finditer(text)):
        if name not in os.environ:
            raise UserError(
                f"{key}={text}: {name} is not set on {socket.gethostname()}; export it, on nodes by a line of "
                "`setup`, or name another path in the profile"
            )
    return user_path(os.path.expandvars(text), key)


def packs_folder(given: str, profile: Profile) -> Path:
    """Where tasks find decoded images: packs=, the profile's `packs`, or the user's cache (`$XDG_CACHE_HOME`).

    Raises UserError for a path that no folder could have.
    """
    if given:
        return user_path(given, "packs")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand_path(profile.packs or f"{cache}/caltech_exp/packs", "packs")


def use_torch_home(profile: Profile) -> None:
    """Look for ImageNet weights where the profile says, if it does, in this process and those it starts."""
    if profile.torch_home:
        os.environ["TORCH_HOME"] = str(expand_path(profile.torch_home, "torch_home"))


def torch_home_here() -> str | None:
    """Where this process looks for ImageNet weights if a variable says so ($TORCH_HOME, $XDG_CACHE_HOME).

    For tasks that get neither, as where sbatch exports nothing. None where only the home folder says it, which may
    be another in a task's container.
    """
    if not any(os.environ.get(name) for name in WEIGHTS_VARIABLES):
        return None
    return str(imagenet_path(next(iter(IMAGENET))).parents[2].absolute())


def use_torch_home_of_submission(home: str | None) -> None:
    """Look for ImageNet weights there, unless variables of this node, or of the profile's setup, say where."""
    if home and not any(os.environ.get(name) for name in WEIGHTS_VARIABLES):
        os.environ["TORCH_HOME"] = home
