"""YAML of plain values, for files that people write by hand: no tags, no aliases, no name twice."""

import io
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import yaml

from caltech_exp.cli import UserError
from caltech_exp.files import open_file

MAX_CHARACTERS = 100_000
MAX_DEPTH = 20  # libyaml has no limit but the C stack


def read_text(path: Path, where: str, advice: str) -> str:
    """The text of a file that the user gave as `where`; no more than MAX_CHARACTERS and one are read."""
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise UserError(f"{where}: there is no such file; {advice}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{where} cannot be read ({reason}); {advice}") from None


def read_yaml(text: str, where: str, load: Callable[[str], Any]) -> Any:
    """What `load` (load_plain or load_words) makes of a text; `where` names its file in errors."""
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where} is longer than {MAX_CHARACTERS:,} characters; give another file")
    try:
        return load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not YAML: {reason}; correct it") from None


def load_plain(text: str) -> Any:
    """The values of the YAML: dicts, lists, text, numbers, true, false and null.

    Raises yaml.YAMLError, RecursionError for too deep nesting, ValueError for a number with too many digits.
    """
    return yaml.load(text, _PlainLoader)


def load_words(text: str) -> Any:
    """The same, but every value stays text, as on a command line: `1e-3`, `no`, `010`; a missing value is "".

    libyaml reads it if PyYAML has it, which is ten times as fast. Raises yaml.YAMLError.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_WordsLoader):
        _refuse_tags_and_aliases(event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _error(f"it is nested more than {MAX_DEPTH} levels deep; write it flat", event.start_mark)
    return yaml.load(text, _WordsLoader)


def dump_words(value: Any) -> str:
    """The YAML of nested texts that load_words reads; the innermost lists and mappings take a line each."""
    return yaml.dump(
        value, Dumper=_WordsDumper, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10**6
    )


def _refuse_tags_and_aliases(event: yaml.Event) -> None:
    """Raises yaml.YAMLError for a tag, or an alias: a page of text could grow to any size with these."""
    if isinstance(event, yaml.AliasEvent):
        raise _error("aliases are not supported; write the value out", event.start_mark)
    if getattr(event, "tag", None) not in (None, "!"):
        raise _error("tags are not supported; write the value alone", event.start_mark)


def _error(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


class _UniqueNames:
    """Mixin of a loader that refuses a mapping with a name twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)  # type: ignore[misc]
        if len(mapping) < len(node.value):
            raise _error("a name appears twice; keep one", node.start_mark)
        return mapping


class _WordsLoader(_UniqueNames, getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    """Every value as text."""


class _WordsDumper(yaml.SafeDumper):
    """Every value as text: numbers without quotes, nothing as an alias."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_WordsDumper.yaml_implicit_resolvers = {}


class _PlainLoader(_UniqueNames, yaml.SafeLoader):
    """Plain values; numbers are decimal. With YAML's own numbers, 2:00:00 would be 7200 and 010 would be 8."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        _refuse_tags_and_aliases(self.peek_event())  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]*\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
