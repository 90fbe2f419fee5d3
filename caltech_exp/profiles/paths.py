"""The folders that a profile names, with `~` and `$NAME` expanded."""

import os
import re
import socket
from pathlib import Path

from caltech_exp.cli import UserError, shown
from caltech_exp.data.download import IMAGENET
from caltech_exp.files import folder_path, user_path
from caltech_exp.models.weights import imagenet_path
from caltech_exp.profiles.profile import Profile

WEIGHTS_VARIABLES = ("TORCH_HOME", "XDG_CACHE_HOME")  # by which torch.hub finds its cache of weights
VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)  # what os.path.expandvars replaces
LONGEST_PATH = 4096


def expand_path(text: str, key: str) -> Path:
    """The absolute path of the setting `key` of a profile. A variable that is not set here is a UserError."""
    if len(text) > LONGEST_PATH:  # searching takes the square of its length
        raise UserError(f"{key}={shown(text)} is longer than {LONGEST_PATH:,} characters; name another path")
    for name in (match[1] or match[2] for match in VARIABLE.finditer(text)):
        if name not in os.environ:
            raise UserError(
                f"{key}={text}: {name} is not set on {socket.gethostname()}; export it (on nodes in `setup`), or "
                "name another path in the profile"
            )
    return user_path(os.path.expandvars(text), key)


def data_folder(given: str, profile: Profile, recorded: str = "") -> Path:
    """The folder of data=, the study (if it is there), $CALTECH101_ROOT or the profile, in this order."""
    if given:
        return user_path(given, "data")
    if recorded and os.access(recorded, os.R_OK | os.X_OK):
        return Path(recorded)
    environment = os.environ.get("CALTECH101_ROOT")
    if environment:
        return user_path(environment, "CALTECH101_ROOT")
    if profile.data:
        return expand_path(profile.data, "data")
    raise UserError(
        "no data set: set data=DIR or CALTECH101_ROOT to the folder of Caltech-101; "
        "python jobs/prepare.py data=DIR fetches it"
    )


def packs_folder(given: str, profile: Profile) -> Path:
    """The folder of decoded images: packs=, the profile's `packs`, or the user's cache (`$XDG_CACHE_HOME`)."""
    if given:
        return folder_path(given, "packs")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return folder_path(str(expand_path(profile.packs or f"{cache}/caltech_exp/packs", "packs")), "packs")


def use_torch_home(profile: Profile) -> None:
    """Look for ImageNet weights in the profile's torch_home, if it has one; child processes do so too."""
    if profile.torch_home:
        os.environ["TORCH_HOME"] = str(expand_path(profile.torch_home, "torch_home"))


def torch_home_here() -> str | None:
    """Where this process looks for ImageNet weights if $TORCH_HOME or $XDG_CACHE_HOME is set; otherwise None.

    It is for tasks that get neither variable, as when sbatch exports nothing. The home folder is not passed on: in
    a task's container it may be another one.
    """
    if not any(os.environ.get(name) for name in WEIGHTS_VARIABLES):
        return None
    return str(imagenet_path(next(iter(IMAGENET))).parents[2].absolute())


def use_torch_home_of_submission(home: str | None) -> None:
    """Look for ImageNet weights in `home` unless variables of the node or of the profile's setup say where."""
    if home and not any(os.environ.get(name) for name in WEIGHTS_VARIABLES):
        os.environ["TORCH_HOME"] = home
