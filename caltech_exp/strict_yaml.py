"""YAML of plain values, for files that people write by hand."""

import re
from collections.abc import Callable, Hashable
from typing import Any

import yaml

from caltech_exp.cli import UserError

MOST_CHARACTERS = 100_000
"""Longest file that is read."""
DEEPEST = 20
"""Levels of nesting that are read as words; a parser in C has no other end but its stack."""


def read_yaml(text: str, where: str, load: Callable[[str], Any]) -> Any:
    """What `load` (load_plain, load_words) makes of a text; `where` names its file in errors. Raises UserError."""
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{where} is longer than {MOST_CHARACTERS:,} characters; give another file")
    try:
        return load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not YAML: {reason}; correct it") from None


def load_plain(text: str) -> Any:
    """What stands in the YAML: dicts, lists, text, numbers, true, false and null.

    Raises yaml.YAMLError, and RecursionError or ValueError for nesting too deep or a number of too many digits.
    """
    return yaml.load(text, _Loader)


def load_words(text: str) -> Any:
    """The same with every value as the text that stands there, as on a command line: `1e-3`, `no` and `010` stay.

    Nothing after a name is "". Read by libyaml where PyYAML has it, ten times as fast. Raises yaml.YAMLError.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Words):
        if isinstance(event, yaml.AliasEvent):
            raise _not_read("aliases are not read; write the value out", event.start_mark)
        if getattr(event, "tag", None) not in (None, "!"):
            raise _not_read("tags are not read; write the value alone", event.start_mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _not_read(f"it is nested more than {DEEPEST} levels deep; write it flat", event.start_mark)
    return yaml.load(text, _Words)


class _Words(getattr(yaml, "CBaseLoader", yaml.BaseLoader)):  # type: ignore[misc]
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise _not_read("a name stands there twice; keep one", node.start_mark)
        return mapping


class _Loader(yaml.SafeLoader):
    """YAML of plain values: no tags, no aliases, which can make a page of text grow to any size, no name twice.

    Numbers are decimal: with YAML's numbers to base 60 a time limit of 2:00:00 would be 7200, and 010 would be 8.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _not_read("aliases are not read; write the value out", event.start_mark)
        if event.tag:
            raise _not_read("tags are not read; write the value alone", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise _not_read("a name stands there twice; keep one", node.start_mark)
        return mapping


def _not_read(problem: str, where: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]*\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+0123456789."),
)
