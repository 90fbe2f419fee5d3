"""Where initial weights lie, whether they are what they should be, and fetching those of ImageNet. No torch."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from caltech_exp.cli import UserError, did_you_mean
from caltech_exp.config import PIN, RunConfig
from caltech_exp.data.download import IMAGENET, Digest, Origin, fetch, file_digest, file_in
from caltech_exp.files import user_path
from caltech_exp.models.weights_format import foreign_content


def imagenet_path(model: str) -> Path:
    """Where torch.hub caches the ImageNet weights of `model`: under $TORCH_HOME, as torch.hub does."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch"))  # noqa: PTH111 (fails on ~nobody)
    return Path(home) / "hub" / "checkpoints" / IMAGENET[model].name


def sha256(path: Path) -> str:
    """64 hex digits of the file's content. Raises OSError."""
    return file_digest(path, "sha256").digits


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was read once: `sha256` is the hash of exactly this content."""

    path: Path
    content: bytes
    sha256: str


def pin(path: str, folder: Path | None = None) -> str:
    """`net.pth` -> `/absolute/net.pth@sha256:<64 hex>`, so that the run's identity follows the content.

    A relative path starts from `folder`, by default the current one. Raises UserError if there is no such file, if
    a hash given along does not fit it, or if it is no state dict at first sight.
    """
    name, pinned, digest = path.partition(PIN)
    file = user_path(name, "weights", folder)
    if file.is_dir():
        raise UserError(f"weights={name} is a folder; name the file in it")
    if not file.is_file():
        hint = did_you_mean(name, ("none", "imagenet")) if "/" not in name else ""
        hint = hint if hint.startswith("; did") else "; it takes none, imagenet or the path of a state dict"
        raise UserError(f"weights={name}: there is no such file{hint}")
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
            foreign = foreign_content(opened)
    except OSError as error:
        raise UserError(f"weights={name} cannot be read ({error.strerror}); make it readable") from None
    if pinned and digest != found:
        raise UserError(f"weights={name}: {_other_content(found, digest)}")
    if foreign:
        raise UserError(f"weights {file} {foreign}")
    return f"{file.resolve()}{PIN}{found}"


def _other_content(found: str, pinned: str) -> str:
    return f"the file's SHA-256 is {found}, not {pinned}; bring the right file back"


def imagenet_problem(model: str, *, read: bool = True) -> str | None:
    """Why the cached ImageNet weights of `model` cannot be used, or None. `read=False` skips the hash."""
    path = imagenet_path(model)
    try:
        if not path.is_file():
            return f"{path.name} is not in the offline cache {path.parent}"
        whole = not read or IMAGENET[model].digest.matches(file_digest(path, "sha256"))
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
    origin = file_in(folder, source.name) if folder else source.url
    what = source.url if folder else "it"
    advice = f"fetch {what} on a machine with a network and put it into the offline cache {path.parent}"
    fetch(origin, path, (source.digest,), advice)


def read_weights(config: RunConfig) -> WeightsFile:
    """The file that a pretrained configuration starts from.

    Raises UserError if it is missing, or has other content than the configuration pins (of torchvision's weights:
    than the file's name promises). Raises OSError if the disk does not give it.
    """
    name, pinned, digest = config.weights.partition(PIN)
    if config.weights == "imagenet":
        problem = imagenet_problem(config.model, read=False)
        if problem:
            raise UserError(f"weights=imagenet: {problem}; fetch it on the login node before the run")
        path = imagenet_path(config.model)
    else:
        path = user_path(name, "weights")
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"weights {path} cannot be read ({error.strerror}); bring the file back") from None
    found = hashlib.sha256(content).hexdigest()
    if config.weights == "imagenet" and not IMAGENET[config.model].digest.matches(Digest("sha256", found)):
        raise UserError(f"weights=imagenet: {damaged_weights(path)}")
    if pinned and digest != found:
        raise UserError(f"weights {path}: {_other_content(found, digest)}")
    return WeightsFile(path, content, found)
