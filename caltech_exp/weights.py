"""Where initial weights lie, whether they are what they should be, and fetching those of ImageNet. No torch."""

import hashlib
import os
from pathlib import Path

from caltech_exp.config import PIN, RunConfig
from caltech_exp.digests import file_digest
from caltech_exp.download import Origin, bring, inside
from caltech_exp.errors import UserError, did_you_mean
from caltech_exp.files import user_path
from caltech_exp.sources import IMAGENET


def imagenet_path(model: str) -> Path:
    """Where torch.hub caches the ImageNet weights of `model`: under $TORCH_HOME, as torch.hub does."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch"))  # noqa: PTH111 (fails on ~nobody)
    return Path(home) / "hub" / "checkpoints" / IMAGENET[model].name


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
    try:
        if not path.is_file():
            return f"{path.name} is not in the offline cache {path.parent}"
        whole = not read or IMAGENET[model].digest.fits(file_digest(path, "sha256"))
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if not whole:
        return damaged_weights(path)
    return None


def damaged_weights(path: Path) -> str:
    return f"{path} does not have the hash its name gives (damaged?); delete it and fetch it again"


def fetch_imagenet(model: str, folder: Origin | None = None) -> None:
    """Make sure that the ImageNet weights of `model` are in the offline cache, hash checked.

    They are taken from torchvision's server, or from `folder`: a folder or base URL that has a file of the same
    name. Raises UserError if they are damaged or cannot be had.
    """
    problem = imagenet_problem(model)
    if problem is None:
        return
    path, source = imagenet_path(model), IMAGENET[model]
    if path.is_file():
        raise UserError(problem)
    origin = inside(folder, source.name) if folder else source.url
    what = source.url if folder else "it"
    advice = f"fetch {what} on a machine with a network and put it into the offline cache {path.parent}"
    bring(origin, path, (source.digest,), advice)


def weights_file(config: RunConfig) -> Path:
    """The file a pretrained configuration starts from, verified by hash. Raises UserError if it is not whole."""
    if config.weights == "imagenet":
        problem = imagenet_problem(config.model)
        if problem:
            raise UserError(f"weights=imagenet: {problem}; fetch it on the login node before the run")
        return imagenet_path(config.model)
    return Path(pin(config.weights).partition(PIN)[0])
