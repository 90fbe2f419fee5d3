"""The pictures of a report in one folder, drawn in other processes, and only if what they show has changed.

An index keeps, for every picture, a digest of what it shows (numbers, words, the drawing code, the version of
matplotlib) and of both files. A picture is drawn again if either differs, or if the index is damaged. No picture
that is still good imports matplotlib.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import tempfile
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from caltech_exp.files import pool_processes, read_file, write_atomically
from caltech_exp.reporting.render.blocks import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
ROOM = __name__.rpartition(".")[0]
MAX_TEMP_PATH = 70
"""Bytes: a socket's path has at most 104 on macOS and 108 on Linux, of which multiprocessing takes 32."""


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


def drawing_pool() -> contextlib.AbstractContextManager[Executor | None]:
    """Processes that draw; none where the system starts no more.

    They start with the first picture, from a process that has matplotlib imported once, so that nothing of the
    caller (threads, open files, gigabytes of frames) is copied into them.
    """
    processes = pool_processes()
    if not processes:
        return contextlib.nullcontext()
    # That process listens at a socket in the temporary folder, whose path must be short.
    is_short = len(os.fsencode(tempfile.gettempdir())) <= MAX_TEMP_PATH
    context = multiprocessing.get_context("forkserver" if is_short else "spawn")
    # The style comes first: it sets what matplotlib reads as it is imported.
    context.set_forkserver_preload(
        [f"{ROOM}.{module}" for module in ("style", "curves", "comparisons", "dataset")]
    )
    return ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=signal.signal,  # a terminal sends Ctrl-C to these processes too; only the caller reports it
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


class FigureCache:
    """The pictures of one report in `folder`; `finish` ends it. The index is a file outside the folder."""

    def __init__(self, folder: Path, index: Path, pool: Executor | None = None) -> None:
        self.folder, self.index, self.pool = folder, index, pool
        self.known = _read_index(index)
        self.shown: dict[str, Entry] = {}
        self.drawn: dict[str, tuple[str, Future[tuple[str, ...]]]] = {}
        self.code = _code()
        if pool and not self.known:
            pool.submit(os.getpid)  # everything is to be drawn: the processes start while the study is read

    def add(
        self,
        name: str,
        draw: str,
        data: Any,
        *,
        alternative: str,
        caption: str,
        number: int = 0,
        keys: tuple[str, ...] = (),
    ) -> Picture:
        """Have <name>.png and .svg in the folder once `finish` returns, and return the block that shows them.

        draw  a function of this package, `curves:draw_curves`, that turns `data` into a Figure or a Drawing
        data  a frozen dataclass of plots.data

        Raises OSError.
        """
        digest = hashlib.blake2b(f"{self.code} {draw} {_canonical(data)}".encode(), digest_size=16).hexdigest()
        entry = self.known.get(name)
        if entry and entry.shows == digest and entry.files == _files(self.folder, name):
            self.shown[name] = entry
        elif self.pool:
            self.drawn[name] = digest, self.pool.submit(_draw, self.folder, name, draw, data)
        else:
            words = _draw(self.folder, name, draw, data)
            self.shown[name] = Entry(digest, _files(self.folder, name), words)
        return Picture(name, alternative, caption, number, keys)

    def words(self, name: str) -> tuple[str, ...]:
        """What only drawing a picture tells; waits for it. Raises OSError."""
        if name in self.drawn:
            digest, future = self.drawn.pop(name)
            words = future.result()
            self.shown[name] = Entry(digest, _files(self.folder, name), words)
        return self.shown[name].words

    def finish(self) -> None:
        """Wait for what is drawn, and delete what an earlier report drew and this one does not show.

        It would pass for part of this one. A file that the index does not name stays. Raises OSError.
        """
        for name in list(self.drawn):
            self.words(name)
        for name in self.known.keys() - self.shown.keys():
            for kind in FORMATS:
                if Path(name).name == name:  # whatever the index holds
                    (self.folder / f"{name}.{kind}").unlink(missing_ok=True)
        if self.shown != self.known:
            self.index.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.index, _INDEX.dump_json(self.shown))


def _draw(folder: Path, name: str, draw: str, data: Any) -> tuple[str, ...]:
    from caltech_exp.reporting.plots.style import report_style, save

    module, _, function = draw.partition(":")
    with report_style():
        drawing = getattr(import_module(f"{ROOM}.{module}"), function)(data)
        figure, words = (drawing.figure, drawing.words) if isinstance(drawing, Drawing) else (drawing, ())
        save(figure, folder, name)
    return words


def _canonical(data: Any) -> str:
    """The same text for equal data: dataclasses by their compared fields, arrays by shape and content."""
    if is_dataclass(data):
        values = [_canonical(getattr(data, field.name)) for field in fields(data) if field.compare]
        return f"{type(data).__name__}({', '.join(values)})"
    if isinstance(data, np.ndarray):
        content = hashlib.blake2b(np.ascontiguousarray(data).tobytes(), digest_size=16).hexdigest()
        return f"{data.dtype}{data.shape}{content}"
    if isinstance(data, tuple):
        return f"({', '.join(map(_canonical, data))})"
    return json.dumps(data)


def _files(folder: Path, name: str) -> tuple[str, ...]:
    """Digests of the picture's files, empty for one that cannot be read."""
    digests = []
    for kind in FORMATS:
        content = b""
        with contextlib.suppress(OSError):
            content = read_file(folder / f"{name}.{kind}")
        digests.append(hashlib.blake2b(content, digest_size=16).hexdigest() if content else "")
    return tuple(digests)


def _read_index(path: Path) -> dict[str, Entry]:
    try:
        return _INDEX.validate_json(read_file(path))
    except (OSError, ValidationError):
        return {}


def _code() -> str:
    """Stands for all that decides how pictures look: this package's code and matplotlib."""
    digest = hashlib.blake2b(version("matplotlib").encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
