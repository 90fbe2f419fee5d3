"""Where initial weights lie and whether they are what they should be; no torch until one is fetched."""

import hashlib
import os
import re
import socket
from pathlib import Path

from caltech_exp.config import PIN, RunConfig
from caltech_exp.errors import UserError, did_you_mean
from caltech_exp.files import folder_if_it_succeeds, user_path

IMAGENET_FILES = {"alexnet": "alexnet-owt-7be5be79.pth", "resnet18": "resnet18-f37072fd.pth"}
"""File names of torchvision's IMAGENET1K_V1 weights; each ends in the first hex digits of its SHA-256."""

NETWORK_TIMEOUT_SECONDS = 20.0


def imagenet_path(model: str) -> Path:
    """Where torch.hub caches the ImageNet weights of `model`: under $TORCH_HOME, as torch.hub does."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch"))  # noqa: PTH111 (fails on ~nobody)
    return Path(home) / "hub" / "checkpoints" / IMAGENET_FILES[model]


def sha256(path: Path) -> str:
    """64 hex digits of the file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pin(path: str) -> str:
    """`net.pth` -> `/absolute/net.pth@sha256:<64 hex>`, so that the run's identity follows the content.

    Raises UserError if there is no such file, or if a hash given along does not fit it.
    """
    name, pinned, digest = path.partition(PIN)
    file = user_path(name, "weights")
    if not file.is_file():
        hint = did_you_mean(name, ("none", "imagenet")) if "/" not in name else ""
        hint = hint if hint.startswith("; did") else "; it takes none, imagenet or the path of a state dict"
        raise UserError(f"weights={name}: there is no such file{hint}")
    try:
        found = sha256(file)
    except OSError as error:
        raise UserError(f"weights={name} cannot be read ({error.strerror}); make it readable") from None
    if pinned and digest != found:
        raise UserError(f"weights={name}: the file's SHA-256 is {found}, not {digest}; bring the right file back")
    return f"{file.resolve()}{PIN}{found}"


def imagenet_problem(model: str, *, read: bool = True) -> str | None:
    """Why the cached ImageNet weights of `model` cannot be used, or None. `read=False` skips the hash."""
    path = imagenet_path(model)
    match = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    try:
        if not path.is_file():
            return f"{path.name} is not in the offline cache {path.parent}"
        whole = not read or match is None or sha256(path).startswith(match[1])
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if not whole:
        return f"{path} does not have the hash its name gives (damaged?); delete it and fetch it again"
    return None


def fetch_imagenet(model: str) -> None:
    """Make sure that the ImageNet weights of `model` are in the offline cache, hash checked.

    Downloads them where there is a network. Raises UserError if they are damaged or cannot be had.
    """
    problem = imagenet_problem(model)
    if problem is None:
        return
    path = imagenet_path(model)
    if path.is_file():
        raise UserError(f"weights=imagenet: {problem}")
    import torch.hub  # only where something is missing: planning stays fast
    import torchvision.models

    url = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"].url
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_SECONDS)
    try:
        with folder_if_it_succeeds(path.parent):
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"weights=imagenet: {problem} and cannot be downloaded here ({reason}); "
            f"fetch {url} on a machine with a network and put it there"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def weights_file(config: RunConfig) -> Path:
    """The file a pretrained configuration starts from, verified by hash. Raises UserError if it is not whole."""
    if config.weights == "imagenet":
        problem = imagenet_problem(config.model)
        if problem:
            raise UserError(f"weights=imagenet: {problem}; fetch it on the login node before the run")
        return imagenet_path(config.model)
    return Path(pin(config.weights).partition(PIN)[0])
