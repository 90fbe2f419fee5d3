"""Inputs as they should not be, made from sound ones by small damage, and what must hold when they are read."""

import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from caltech_exp.cli import UserError
from caltech_exp.records import Corrupt

Value = TypeVar("Value")

TEXTS = (
    "", " ", "\n", "a\nb", "a\r\nb", "\0", "\t", "\x1b[31m", "\u2028", "\u202e", "\ufeff", "\udcff", "é", "日本",
    "🂡", "true", "None", "null", "nan", "-inf", "1e400", "1e-400", "-0", "0", "-1", "1_0", "0x10", "010", "٣",
    "1.0", "1,", "0,0", ",", "9" * 400, "9" * 5000, "x" * 300, "x" * 5000, "/", "..", "../..", "/dev/null", "~",
    "~nobody_x/y", "a/" * 2500, "$(touch made)", "`touch made`", "; touch made", "'; touch made; '", '"', "\\",
    "%", "{}", "[]", "=", "*a", "&a", "!!python/name:os.system", "<<", "|", "<script>", "@sha256:",
    "a@sha256:" + "0" * 64,
)  # fmt: skip
"""Words that some reader somewhere stumbled over."""

NESTED = "@nested@"
"""Stands for a list in a list in a list, 20,000 deep, which json.dumps could not write."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), [], [[]], {}, {"": {}}, {"a\nb": 1}, ["x"] * 50, NESTED, "\ud800",
    *(text for text in TEXTS if text != "\udcff"),
)  # fmt: skip


def generated(count: int) -> settings:
    """Settings of a property that is tried on `count` inputs, in CI always on the same."""
    return settings(
        max_examples=count,
        derandomize=bool(os.environ.get("CI")),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Reader:
    """Reads bad inputs and counts those that it refuses; nothing in `folder` may change by that."""

    folder: Path
    refused: int = 0

    def read(self, read: Callable[[], Value]) -> Value | None:
        """What `read` returns, or None if it refuses its input.

        It refuses by a UserError or by returning Corrupt, each of which says why in a line that can be printed.
        Any other exception fails the test.
        """
        before = snapshot(self.folder)
        value: Value | None = None
        reason = None
        try:
            value = read()
        except UserError as error:
            reason = str(error)
        if isinstance(value, Corrupt):
            reason = value.reason
        assert snapshot(self.folder) == before
        if reason is None:
            return value
        assert reason
        assert reason.isprintable(), reason
        self.refused += 1
        return None


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of change of everything below `folder`."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        state = path.lstat()
        found[str(path)] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


@st.composite
def damaged_text(draw: DrawFn, sound: SearchStrategy[str]) -> str:
    """A text with up to three damages: a piece lost, doubled or replaced, something put in."""
    text = draw(sound)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 20)))
        piece = draw(st.sampled_from(("", text[start:end] * 2, text[end:])) | st.sampled_from(TEXTS) | st.text())
        text = text[:start] + piece + text[draw(st.sampled_from((start, end, len(text)))) :]
    return text


@st.composite
def damaged_bytes(draw: DrawFn, sound: SearchStrategy[bytes]) -> bytes:
    """A file's content cut short, with bits flipped, bytes put in, or in another encoding."""
    content = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(("cut", "flip", "insert", "encode")))
        if kind == "cut":
            del content[place:]
        elif kind == "flip" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            word = draw(st.sampled_from(TEXTS)).encode("utf-8", "surrogatepass")
            content[place:place] = draw(st.binary(max_size=20) | st.just(word))
        elif kind == "encode":
            encoding = draw(st.sampled_from(("utf-16", "utf-32", "utf-8-sig")))
            content = bytearray(content.decode("latin-1").encode(encoding))
    return bytes(content)


@st.composite
def damaged_value(draw: DrawFn, sound: Any) -> Any:
    """Dicts and lists in which one to three nodes were replaced, dropped, renamed, added to or wrapped."""
    value = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        value = _damage(draw, value)
    return value


def _damage(draw: DrawFn, value: Any) -> Any:
    inside = isinstance(value, dict | list) and len(value) > 0
    if inside and draw(st.integers(0, 4)):  # 4 of 5 times one level down
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw(st.sampled_from(keys))
        value[key] = _damage(draw, value[key])
        return value
    kind = draw(st.sampled_from(("replace", "wrap", "drop", "rename", "add")))
    if inside and kind == "drop":
        value.pop(draw(st.sampled_from(list(value))) if isinstance(value, dict) else 0)
    elif isinstance(value, dict) and value and kind == "rename":
        value[draw(st.sampled_from(TEXTS))] = value.pop(draw(st.sampled_from(list(value))))
    elif isinstance(value, dict) and kind == "add":
        value[draw(st.sampled_from(TEXTS))] = deepcopy(draw(st.sampled_from(VALUES)))
    elif kind == "wrap":
        return draw(st.sampled_from(([value], {"a": value}, [value] * 3, str(value))))
    else:
        return deepcopy(draw(st.sampled_from(VALUES)))
    return value


def as_json(value: Any) -> bytes:
    """JSON of a damaged value; lone surrogates as the bytes that they would be in UTF-8, which has none."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace(json.dumps(NESTED), "[" * 20_000 + "]" * 20_000).encode("utf-8", "surrogatepass")
