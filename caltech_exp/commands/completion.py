"""`caltech-exp completion bash|zsh|fish`: what a shell needs to complete keys, values, tables, rows and profiles.

The script holds every word itself, so that completing starts no Python. A key without known words takes a path.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from caltech_exp.catalog import THE_REPORT, row_key, table_key
from caltech_exp.cli import UserError, did_you_mean
from caltech_exp.commands.console import COMMANDS, CONSOLE
from caltech_exp.config import choices
from caltech_exp.profiles.profile import profile_files
from caltech_exp.usage import Usage, field_choices

SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str]) -> int:
    """Print the script of the shell that the first word names."""
    if len(argv) != 1 or argv[0] not in SHELLS:
        known = did_you_mean(argv[0] if argv else "", SHELLS)
        raise UserError(f"{CONSOLE} completion takes a shell: {CONSOLE} completion bash{known}")
    script = Path(__file__).with_suffix(f".{argv[0]}").read_text(encoding="utf-8")
    print(_words_function(argv[0]) + script, end="")
    return 0


def _words_function(shell: str) -> str:
    """The function `_caltech_exp_words COMMAND`, which prints the words of a command; without one, commands."""
    cases = {"''": [*COMMANDS, "completion"], "completion": [*SHELLS]}
    cases |= {command: sorted(set(_words(command))) for command in COMMANDS}
    if shell == "fish":
        lines = [f"    case {name}\n      printf '%s\\n' {' '.join(words)}" for name, words in cases.items()]
        return "\n".join(["function _caltech_exp_words", "  switch $argv[1]", *lines, "  end", "end", ""])
    lines = [f"  {name}) printf '%s\\n' {' '.join(words)} ;;" for name, words in cases.items()]
    return "\n".join(["_caltech_exp_words() {", "  case $1 in", *lines, "  esac", "}", ""])


def _words(command: str) -> Iterator[str]:
    """Every `key=` of a command, and every `key=value` where the values are known and need no quotes."""
    usage: Usage = importlib.import_module(f"caltech_exp.commands.{command}").USAGE
    tables = [(table_key(section.name, table.name), section, table) for section, table in THE_REPORT.tables]
    rows = [row_key(section.name, table.name, row.label) for _, section, table in tables for row in table.rows]
    named = {
        "section": ["all", *(section.name for section in THE_REPORT.sections)],
        "table": [*(key for key, _, _ in tables), *rows],
        "profile": list(profile_files()),
        "model": list(choices("model")),
        "weights": ["none", "imagenet"],
    }
    for name, field in usage.fields.items():
        yield f"{name}="
        values = field_choices(field) or named.get(name, [])
        yield from (f"{name}={value}" for value in values if set(value).isdisjoint(" '\"\\$`;&|()<>*?#,"))
    yield "help="
    yield from (f"help={name}" for name in usage.fields)
