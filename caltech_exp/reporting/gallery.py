"""The report's pictures in one folder, drawn only if what they show has changed.

An index keeps, for every picture, a digest of what it was drawn from (numbers, words, the drawing code, the
version of matplotlib) and of both files. A picture is drawn anew if either differs, or if the index is damaged.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from caltech_exp.files import write_atomically
from caltech_exp.reporting.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Drawing:
    """A figure, and words about it that only drawing it tells."""

    figure: "Figure"
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What the index holds of a picture: digests of what it shows and of its files, and the words about it."""

    shows: str
    files: tuple[str, ...]
    words: tuple[str, ...]


_INDEX = TypeAdapter(dict[str, Entry])


def figure_name(number: int) -> str:
    """5 -> `figure-05`"""
    return f"figure-{number:02d}"


class Gallery:
    """The pictures of one report in `folder`; `finish` ends it. The index is a file outside the folder."""

    def __init__(self, folder: Path, index: Path, pool: Executor | None = None) -> None:
        self.folder, self.index, self.pool = folder, index, pool
        self.before = _read_index(index)
        self.shown: dict[str, Entry] = {}
        self.waiting: dict[str, tuple[str, Future[tuple[str, ...]]]] = {}
        self.code = _code()

    def show(self, name: str, shows: Sequence[object], draw: Callable[[], Drawing]) -> tuple[str, ...]:
        """Have `name`.png and .svg in the folder, drawn from `shows`; the words about it. Raises OSError."""
        digest = _digest((self.code, *shows))
        known = self.before.get(name)
        if known is None or known.shows != digest or known.files != _files(self.folder, name):
            words = _draw(self.folder, name, draw)
            known = Entry(digest, _files(self.folder, name), words)
        self.shown[name] = known
        return known.words

    def show_later(self, name: str, shows: Sequence[object], draw: Callable[[], Drawing]) -> None:
        """As `show`, for a picture without words: it is there after `finish`, drawn by another process if there is
        a pool, so `draw` must be a partial of a plain function."""
        digest = _digest((self.code, *shows))
        known = self.before.get(name)
        if known is not None and known.shows == digest and known.files == _files(self.folder, name):
            self.shown[name] = known
        elif self.pool is None:
            self.show(name, shows, draw)
        else:
            self.waiting[name] = digest, self.pool.submit(_draw, self.folder, name, draw)

    def path(self, name: str, kind: str) -> str:
        """The picture's file as the page names it: `figures/figure-05.png`."""
        return f"{self.folder.name}/{name}.{kind}"

    def finish(self) -> None:
        """Wait for what is drawn, and delete what an earlier report drew and this one does not show: it would pass
        for part of this one. What the index does not name is not the report's, and stays. Raises OSError."""
        for name, (digest, drawn) in self.waiting.items():
            words = drawn.result()
            self.shown[name] = Entry(digest, _files(self.folder, name), words)
        for name in self.before.keys() - self.shown.keys():
            for kind in FORMATS:
                if Path(name).name == name:  # whatever stands in the index
                    (self.folder / f"{name}.{kind}").unlink(missing_ok=True)
        if self.shown != self.before:
            self.index.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.index, _INDEX.dump_json(self.shown))


def _draw(folder: Path, name: str, draw: Callable[[], Drawing]) -> tuple[str, ...]:
    from caltech_exp.reporting.images import save

    drawing = draw()
    save(drawing.figure, folder, name)
    return drawing.words


def digests(outcomes: Iterable[Outcome]) -> str:
    """What changes with anything that a figure can show of these runs."""
    return " ".join(one.digest for one in outcomes)


def _digest(parts: Iterable[object]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.tobytes() if isinstance(part, np.ndarray) else json.dumps(part, default=repr).encode()
        digest.update(f"{type(part).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path, name: str) -> tuple[str, ...]:
    """Digests of the picture's files, empty for one that cannot be read."""
    found = []
    for kind in FORMATS:
        content = b""
        with contextlib.suppress(OSError):
            content = (folder / f"{name}.{kind}").read_bytes()
        found.append(hashlib.blake2b(content, digest_size=16).hexdigest() if content else "")
    return tuple(found)


def _read_index(path: Path) -> dict[str, Entry]:
    try:
        return _INDEX.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}


def _code() -> str:
    """Stands for all that decides how pictures look: this folder's code and matplotlib."""
    digest = hashlib.blake2b(version("matplotlib").encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
