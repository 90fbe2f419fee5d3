"""Weights files: pinned by their content, and ImageNet's in torch's offline cache. No torch."""

import hashlib
import io
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from caltech_exp.cli import UserError, one_line, shown, suggestion
from caltech_exp.config import JOIN, NETWORK_NAMES, PIN, RunConfig
from caltech_exp.data.download import IMAGENET, Digest, Origin, fetch, file_digest, file_in
from caltech_exp.files import RefusedFileError, open_file, user_path
from caltech_exp.models.weights_format import foreign_content, tensor_shapes
from caltech_exp.records import Corrupt, without_folders
from caltech_exp.study.results import WEIGHTS, Result, read_result
from caltech_exp.study.study import RUN_FOLDER

NETWORK_SHAPES = Path(__file__).with_name("network_shapes.toml")

Shapes = Mapping[str, tuple[int, ...] | None]
"""Shapes by name; None for a lazy module, which does not know its shape yet."""
UNREADABLE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, RefusedFileError)

READMES = ("README.md", "README.txt", "README")
MAX_ORIGIN = 1200
"""Letters of a README that a study keeps."""
NOT_PROSE = ("", "|", "`", "<", "!", "[", "-", "=")
"""How tables, code, pictures, badges, lists and rules begin in a README."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file as it was read; `sha256` is the hash of exactly this content."""

    path: Path
    content: bytes
    sha256: str


def weights_paths(text: str, folder: Path | None = None) -> list[Path]:
    """The files of `weights=text`: `nets/a.pth+b.pth` names two in `nets`, unless one file has this name."""
    path = user_path(text, "weights", folder)
    if JOIN not in text or path.exists():
        return [path]
    first, *others = text.split(JOIN)
    path = user_path(first, "weights", folder)
    return [path, *(user_path(name, "weights", folder if "/" in name else path.parent) for name in others)]


def joined(paths: Sequence[Path]) -> Path:
    """The path that stands for all of these files of one folder: `weights_paths` splits it again."""
    return paths[0].with_name(JOIN.join(path.name for path in paths))


def pin(text: str, folder: Path | None = None, runs: Path | None = None) -> str:
    """`net.pth` -> `/absolute/net.pth@sha256:<64 hex>`, so that the run's id depends on the content.

    A relative path starts from `folder`, by default the current one. The folder of a run, or the id of one in
    `runs`, stands for the weights that it kept. `a.pth+b.pth` becomes `/absolute/a.pth+b.pth@sha256:<64>+<64>`.
    Raises UserError if a file is missing, is not a state dict at first sight, or does not have the hash that the
    text or the run's result gives.
    """
    name, _, digest = text.partition(PIN)
    paths = weights_paths(name, folder)
    if runs and RUN_FOLDER.fullmatch(name) and not paths[0].exists():
        paths = [runs / name]
        if not paths[0].exists():
            raise UserError(f"weights={name}: there is no such run in {runs}; give one that is finished")
    if paths[0].is_dir():
        digest = digest or require_kept_weights(paths[0], f"weights={name}")[1]
        paths = [paths[0] / WEIGHTS]
    for path in (path for path in paths if not path.exists() or path.is_dir()):
        if paths[1:]:
            raise UserError(f"weights={name}: there is no file {path}; put it there, or name other files")
        hint = suggestion(name, ("none", "imagenet")) if "/" not in name else ""
        hint = hint or "; give none, imagenet or the path of a state dict"
        raise UserError(f"weights={name}: there is no such file{hint}")
    if len({path.parent for path in paths}) > 1:
        raise UserError(f"weights={name}: the files are in different folders; put them into one")
    hashes = []
    for path, pinned in _with_pins(paths, digest):
        try:
            with open_file(path) as file:
                hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
                problem = foreign_content(file)
        except OSError as error:
            raise UserError(f"weights={name} cannot be read ({error.strerror}); make it readable") from None
        _check_pin(pinned, hashes[-1], f"weights {path}" if paths[1:] else f"weights={name}")
        if problem:
            raise UserError(f"weights {path} {problem}")
    first, *others = paths
    path = first.parent.resolve() / joined(paths).name if others else first.resolve()
    return f"{path}{PIN}{JOIN.join(hashes)}"


def read_origins(files: Iterable[str]) -> dict[str, str]:
    """SHA-256 of pinned files -> what the README beside each says of it; of those that have one."""
    pairs = [file.partition(PIN)[::2] for file in files if file.startswith("/")]  # not the bare names of a copy
    origins = {digest: _read_origin(Path(path).parent) for path, digest in pairs}
    return {digest: text for digest, text in origins.items() if text}


def _read_origin(folder: Path) -> str:
    """The first paragraphs of the folder's README, up to MAX_ORIGIN letters, as a line without folders."""
    text = ""
    for name in READMES:
        with suppress(OSError), open_file(folder / name) as file:
            text = text or file.read(2**16).decode("utf-8", "replace")
    paragraphs = (" ".join(part.split()).lstrip("# ") for part in re.split(r"\n\s*\n", text))
    prose = [part if part.endswith((".", ":")) else f"{part}." for part in paragraphs if part[:1] not in NOT_PROSE]
    whole = [part for part, end in zip(prose, accumulate(map(len, prose)), strict=True) if end <= MAX_ORIGIN]
    return shown(without_folders(one_line(" ".join(whole or prose[:1]))), MAX_ORIGIN)


def require_kept_weights(folder: Path, name: str) -> tuple[Result, str]:
    """The result in a run's folder, and the hash of the weights beside it. Raises UserError if it has none."""
    result = read_result(folder.resolve())
    if isinstance(result, Corrupt):
        raise UserError(result.complaint("give another run"))
    if result is None:
        raise UserError(f"{name} is a folder without the result of a run; give a file in it, or a finished run")
    if result.kept_weights is None:
        advice = "submit it with keep_weights=last to another runs= folder, and give that run"
        raise UserError(f"{name}: the {result.status} run {result.run_id} kept no weights; {advice}")
    return result, result.kept_weights.sha256


def _with_pins(paths: Sequence[Path], digest: str) -> list[tuple[Path, str]]:
    """Each file with the hash that is pinned for it; empty if none is."""
    pins = digest.split(JOIN) if paths[1:] else [digest]
    return list(zip(paths, pins + pins[-1:] * len(paths), strict=False))


def _check_pin(digest: str, sha256: str, name: str) -> None:
    if digest not in ("", sha256):
        raise UserError(f"{name}: the file's SHA-256 is {sha256}, not {digest}; restore the right file")


def imagenet_path(model: str) -> Path:
    """Where torch.hub caches the ImageNet weights of `model`; it follows $TORCH_HOME as torch.hub does."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch"))  # noqa: PTH111 (fails on ~nobody)
    return Path(home) / "hub" / "checkpoints" / IMAGENET[model].name


def imagenet_problem(model: str, *, read: bool = True) -> str | None:
    """Why the cached ImageNet weights of `model` cannot be used, or None. `read=False` skips the hash."""
    path = imagenet_path(model)
    try:
        if not path.is_file():
            return f"{path.name} is not in the offline cache {path.parent}"
        if read and not IMAGENET[model].digest.matches(file_digest(path, "sha256")):
            return hash_problem(path)
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None


def hash_problem(path: Path) -> str:
    return f"{path} does not have the hash in its name, so it may be damaged; delete it and download it again"


def fetch_imagenet(model: str, folder: Origin | None = None) -> None:
    """Fetch the ImageNet weights of `model` into the offline cache, unless they are there; check their hash.

    folder  a folder or base URL that has a file of the same name; torchvision's server by default
    """
    problem = imagenet_problem(model)
    if problem is None:
        return
    path, source = imagenet_path(model), IMAGENET[model]
    if path.is_file():
        raise UserError(problem)
    origin = file_in(folder, source.name) if folder else source.url
    file = source.url if folder else "it"
    advice = f"download {file} on a machine with a network and put it into the offline cache {path.parent}"
    fetch(origin, path, (source.digest,), advice)


def read_weights(config: RunConfig) -> list[WeightsFile]:
    """The files that a pretrained configuration starts from, with the content that the configuration pins.

    Raises UserError if one is missing or has other content, OSError if the disk fails.
    """
    name, _, digest = config.weights.partition(PIN)
    is_imagenet = config.weights == "imagenet"
    if is_imagenet and (problem := imagenet_problem(config.model, read=False)):
        raise UserError(f"weights=imagenet: {problem}; download it on the login node with python jobs/prepare.py")
    files = []
    paths = [imagenet_path(config.model)] if is_imagenet else weights_paths(name)
    for path, pinned in _with_pins(paths, digest):
        try:
            with open_file(path) as file:
                content = file.read()
        except UNREADABLE as error:
            raise UserError(f"weights {path} cannot be read ({error.strerror}); restore the file") from None
        files.append(WeightsFile(path, content, hashlib.sha256(content).hexdigest()))
        if is_imagenet and not IMAGENET[config.model].digest.matches(Digest("sha256", files[0].sha256)):
            raise UserError(f"weights=imagenet: {hash_problem(path)}")
        _check_pin(pinned, files[-1].sha256, f"weights {path}")
    return files


def fit_note(config: RunConfig, network: bytes | None = None) -> str:
    """What a run does not take from its weights file, in a line. Raises UserError if that does not fit, OSError.

    Imports torch for a network of the user's own (`network` is its content), or a file that is not plainly fit.
    """
    if (note := note_by_shapes(config)) is not None:
        return note
    from caltech_exp.models.networks import check_weights_fit

    return check_weights_fit(config, network).note


def note_by_shapes(config: RunConfig) -> str | None:
    """The same of a file that fits one of torchvision's networks, without torch; None if only torch can tell."""
    if config.model not in NETWORK_NAMES:
        return None
    files = read_weights(config)
    file = files[0]
    if files[1:]:
        return None
    if (shapes := tensor_shapes(io.BytesIO(file.content))) is None:
        return None
    published = tomllib.loads(NETWORK_SHAPES.read_text(encoding="utf-8"))[config.model]
    head = list(published)[-1].rpartition(".")[0]
    net = {
        name: (config.classes, *shape[1:]) if belongs(name, head) else tuple(shape)
        for name, shape in published.items()
    }
    note = new_head_note(shapes, net, head, config.classes)
    if any(shapes.get(name) != net.get(name) for name in shapes | net if not (note and belongs(name, head))):
        return None
    return f"weights {file.path.name}: {note}" if note else ""


def new_head_note(file_shapes: Shapes, net_shapes: Shapes, head: str, outputs: int) -> str:
    """Why the head cannot come from the file; empty if it can, or fits in no way."""
    is_new = f"the head {head or 'of the network'} is new (random), since the file"
    of_net = {name: shape for name, shape in net_shapes.items() if belongs(name, head)}
    of_file = {name: shape for name, shape in file_shapes.items() if belongs(name, head)}
    if not of_file:
        return f"{is_new} has none"
    common = of_net.keys() & of_file.keys()
    if not common or any((of_net[name] or ())[1:] != (of_file[name] or ())[1:] for name in common):
        return ""
    classes = {(of_file[name] or (0,))[0] for name in common if of_file[name]}
    if len(classes) != 1 or classes == {outputs}:
        return ""
    return f"{is_new}'s has {classes.pop():,} classes"


def belongs(name: str, module: str) -> bool:
    """Whether a tensor belongs to the module; "" is the network itself, if it is a single layer."""
    return name.startswith(f"{module}.") if module else "." not in name
