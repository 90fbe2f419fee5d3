"""Recognise a weights file that is not a state dict written by torch.save, and say what it is. No torch.

Nothing in the file is executed: its pickle is read with a placeholder for each object.
"""

import errno
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, BinaryIO

from caltech_exp.cli import shown

MOST_NAMES = 6  # keys of a checkpoint, or files of an archive, in a message
SAVE = "save net.state_dict() with torch.save and give that file"
AGAIN = "copy or download the file again"

_HEAD_BYTES = 4096
_TORCH_LEGACY = 0x1950A86A20F9469CFC6C  # begins files of torch.save before version 1.6, which are not zip archives
_TENSOR = "torch._utils._rebuild_tensor_v2"
# How files of other programs begin, and what to say about them.
_KINDS = (
    (b"\x93NUMPY", f"hold a numpy array (.npy); {SAVE}"),
    (b"\x89HDF", f"are an HDF5 file, as Keras writes them; {SAVE}"),
    (b"GGUF", f"are a GGUF file; {SAVE}"),
    (b"\x1f\x8b", "are compressed with gzip; unpack them"),
    (b"BZh", "are compressed with bzip2; unpack them"),
    (b"\xfd7zXZ", "are compressed with xz; unpack them"),
    (b"\x28\xb5\x2f\xfd", "are compressed with zstd; unpack them"),
    (b"7z\xbc\xaf", "are a 7z archive; unpack it and give the state dict in it"),
    (b"Rar!", "are a RAR archive; unpack it and give the state dict in it"),
)
# Where training loops store the network in their checkpoints, the most common first.
_USUAL_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")


def foreign_content(file: BinaryIO) -> str | None:
    """What the file is and what to do, to follow "weights PATH"; None if it looks like a state dict.

    Raises OSError.
    """
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        return f"are an empty file; {AGAIN}"
    if head.startswith(b"PK"):
        return _describe_zip(file)
    if head[0] == 0x80:
        return _describe_pickle(file)
    if int.from_bytes(head[:8], "little") < 100_000_000 and head[8:9] == b"{":
        return "are a safetensors file; read it with safetensors.torch.load_file and save that with torch.save"
    kind = next((words for start, words in _KINDS if head.startswith(start)), None)
    if kind is None and head[257:262] == b"ustar":
        kind = "are a tar archive; unpack it and give the state dict in it"
    kind = kind or _describe_text(head)
    return kind or f"were not written by torch.save (they begin with {head[:8].hex(' ')}); {SAVE}"


def _describe_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # more than a character that the head cuts in two
            return None
        text = head[: error.start].decode("utf-8-sig")
    if any(not (char.isprintable() or char.isspace()) for char in text):
        return None
    text = " ".join(text.split())
    if text.startswith("version https://git-lfs"):
        return "are a Git LFS pointer, not the file itself; run git lfs pull where they come from"
    if "/annex/objects/" in text:
        return "are a git-annex pointer, not the file itself; run git annex get where they come from"
    if text.lower().startswith(("<!doctype html", "<html", "<head")):
        return "hold a web page, as after a failed download; download the file again"
    return f"hold text that begins with {shown(text, 40)!r}; {AGAIN}"


def _describe_zip(file: BinaryIO) -> str | None:
    """What a zip archive is; torch.save writes one that contains a data.pkl, and so do other programs."""
    damaged = f"are incomplete or damaged (the end of their zip archive is missing); {AGAIN}"
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            last = {name.rpartition("/")[2] for name in names}
            if "constants.pkl" in last:
                return f"are a TorchScript archive (torch.jit.save); {SAVE}"
            if "archive_format" in last or "serialized_exported_program.json" in last:
                return f"are an exported program (torch.export); {SAVE}"
            if names and all(name.endswith(".npy") for name in names):
                return f"hold numpy arrays (.npz): {join_names(names)}; {SAVE}"
            pickled = next((name for name in names if name.endswith("data.pkl")), None)
            if pickled is None:
                return f"are a zip archive of {join_names(names) or 'nothing'}; give the state dict in it"
            with archive.open(pickled) as opened:
                content = _Outline(opened).load()
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: an offset before the file's beginning
            raise
        return damaged
    except Exception:  # zipfile and pickle raise nearly anything on damaged bytes
        return damaged
    return _describe_object(content)


def tensor_shapes(file: BinaryIO) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes in a sound state dict; None if only torch can read them, or tell what is wrong."""
    try:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(pickled) as opened:
                content = _Outline(opened).load()
            is_sound = archive.testzip() is None and all(value.source == _TENSOR for value in content.values())
            return {name: tuple(value.args[2]) for name, value in content.items()} if is_sound else None
    except Exception:  # as above
        return None


def _describe_pickle(file: BinaryIO) -> str | None:
    try:
        if _Outline(file).load() != _TORCH_LEGACY:
            return f"are a pickle that torch.save did not write; load it where it was made, and {SAVE}"
        for _ in ("protocol", "machine"):
            _Outline(file).load()
        content = _Outline(file).load()
    except OSError:
        raise
    except Exception:  # as above
        return f"are incomplete or damaged; {AGAIN}"
    return _describe_object(content)


class _Placeholder:
    """Stands for any object but a dict. `source` is the class or function that would make it."""

    source = ""
    args: tuple[object, ...] = ()
    state: object = None

    def __new__(cls, *args: object, **_options: object) -> "_Placeholder":
        placeholder = super().__new__(cls)
        placeholder.args = args
        return placeholder

    def __init__(self, *_args: object, **_options: object) -> None:
        """Accept whatever arguments the object is made with."""

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *_args: object, **_options: object) -> "_Placeholder":
        return self

    def append(self, *_items: object) -> None:
        """Ignore the items of lists, sets and dicts of other classes."""

    extend = add = __setitem__ = append

    @property
    def is_tensor(self) -> bool:
        return self.source.startswith(("torch._utils._rebuild", "torch._tensor._rebuild"))

    @property
    def is_network(self) -> bool:
        return isinstance(self.state, dict) and "_parameters" in self.state

    @property
    def kind(self) -> str:
        """The class, also if one of the oldest protocols wrote the object."""
        first = self.args[0] if self.args else None
        if self.source == "copyreg._reconstructor" and isinstance(first, type):
            return str(getattr(first, "source", self.source))
        return self.source


class _Outline(pickle.Unpickler):
    """Reads a pickle without importing or calling what it names: dicts are real, all else is placeholders."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("collections", "defaultdict"):
            return defaultdict
        module = {"copy_reg": "copyreg"}.get(module, module)
        return type("Placeholder", (_Placeholder,), {"source": f"{module}.{name}"})

    def persistent_load(self, key: object) -> object:
        if isinstance(key, tuple) and key[:1] == ("module",) and key[1:]:  # a network's class (torch < 1.6)
            return key[1]
        return _Placeholder()  # a tensor's numbers, elsewhere in the file


def _describe_object(content: object) -> str | None:
    """What torch.save has saved; None for a state dict."""
    if isinstance(content, dict):
        return _describe_dict(content)
    if isinstance(content, _Placeholder):
        if content.is_network:
            return f"hold a whole network ({content.kind}), not its state dict; save net.state_dict() alone"
        kind = "one tensor" if content.is_tensor else f"an object ({content.kind})"
    else:
        kind = f"a {type(content).__name__}"
    return f"hold {kind}, not a state dict; save net.state_dict() alone"


def _describe_dict(content: Mapping[Any, Any]) -> str | None:
    if not content:
        return "hold an empty dict; save net.state_dict() alone"
    if _is_state_dict(content):
        return None
    keys = join_names([name if isinstance(name, str) else repr(name) for name in content])
    if {"state", "param_groups"} <= content.keys():
        return "hold the state of an optimizer; save net.state_dict() alone"
    inner = next((key for key in (*_USUAL_KEYS, *content) if _is_network_or_its_state(content.get(key))), None)
    if inner is not None:
        kind = "Lightning" if "pytorch-lightning_version" in content else "training"
        alone = f"checkpoint[{inner!r}]" + (".state_dict()" if isinstance(content[inner], _Placeholder) else "")
        return f"hold a {kind} checkpoint with the keys {keys}; save {alone} alone"
    if all(isinstance(value, _Placeholder) and value.source.startswith("numpy") for value in content.values()):
        return f"hold numpy arrays ({keys}), not tensors; {SAVE}"
    other = next(name for name, value in content.items() if not (isinstance(name, str) and _is_tensor(value)))
    if sum(map(_is_tensor, content.values())) > len(content) / 2:
        return f"hold more than named tensors: {shown(other, 60)!r}; save net.state_dict() alone"
    return f"hold a dict with the keys {keys}, not a state dict; save net.state_dict() alone"


def _is_network_or_its_state(value: object) -> bool:
    if isinstance(value, _Placeholder):
        return value.is_network
    return isinstance(value, dict) and bool(value) and _is_state_dict(value)


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and _is_tensor(value) for name, value in content.items())


def _is_tensor(value: object) -> bool:
    return isinstance(value, _Placeholder) and value.is_tensor


def join_names(names: list[str], most: int = MOST_NAMES) -> str:
    """`a, b, c and 12 more`: the first names, each shortened."""
    text = ", ".join(shown(name, 60) for name in names[:most])
    return f"{text} and {len(names) - most} more" if len(names) > most else text
