"""The console command, `caltech-exp COMMAND [word ...]`, and what the scripts in jobs/ and reports/ call.

Python 3.8 can read this file, and it imports the standard library alone: one line says what is missing, Python or
a library, and how to get it.
"""

from __future__ import annotations

import gc
import importlib
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

OLDEST_PYTHON = (3, 11)
CONSOLE = "caltech-exp"
COMMANDS = {
    "submit": "submit the runs of a section, a table or a study file",
    "status": "show how far a study is",
    "list": "show the studies below a folder",
    "cancel": "cancel the jobs of a study",
    "prepare": "download data set and weights, and decode the images",
    "benchmark": "measure both engines, here or on a cluster",
    "aggregate": "write the report of a study",
    "compare": "compare two studies of the same runs",
    "publish": "copy the results of a study to where others may read them",
    "clean": "remove half-written files and unused code from a study",
}
SCRIPT = re.compile(rf"(?:python )?(?:jobs|reports)/({'|'.join(COMMANDS)})\.py")
USAGE = "\n".join(
    [
        f"{CONSOLE} COMMAND [option=value ...]",
        "",
        *(f"  {name:12}{purpose}" for name, purpose in COMMANDS.items()),
        "  completion  print what bash, zsh or fish needs to complete these: caltech-exp completion bash",
        "",
        f"`{CONSOLE} COMMAND --help` lists the options of a command; `{CONSOLE} --version` names the code.",
    ]
)


def main() -> NoReturn:
    """Run the command that the first word names."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    sys.argv[1:2] = [] if command in (*COMMANDS, "completion") else [command]
    run(command, console=True)


def run(command: str, *, console: bool = False) -> NoReturn:
    """Run a command on the words in `sys.argv`; under `console` texts name `caltech-exp`, not scripts."""
    if sys.version_info < OLDEST_PYTHON:
        version, oldest = (".".join(map(str, numbers)) for numbers in (sys.version_info[:2], OLDEST_PYTHON))
        _stop(f"{sys.executable} is Python {version}; {oldest} or newer is needed")
    if command == "aggregate":
        gc.disable()  # one pass over records that all stay: looking through them again and again frees nothing
    try:
        command_main, usage = _load(command)
        from caltech_exp.cli import run_command_line

        run_command_line(command_main, usage, _name_console if console else str)
    except KeyboardInterrupt:  # while modules are loaded
        signal.signal(signal.SIGINT, lambda *_: None)
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        library = (error.name or "caltech_exp").partition(".")[0]
        if library == "caltech_exp":
            raise
        _stop(f"{sys.executable} lacks the library {library}")


def _load(command: str) -> tuple[Callable[[Sequence[str]], int], str]:
    """The main function of a command, and its help text."""
    if command not in (*COMMANDS, "completion"):
        return _other, USAGE
    module = importlib.import_module(f"caltech_exp.commands.{command}")
    return module.main, getattr(module, "USAGE", USAGE)


def _other(argv: Sequence[str]) -> int:
    """Print the version, or raise UserError for a word that is no command."""
    from caltech_exp.cli import UserError, other_names, unknown
    from caltech_exp.provenance import code_version

    if argv[0] != "--version":
        if command := other_names("commands").get(argv[0]):
            raise UserError(f"unknown command {argv[0]!r}; write {CONSOLE} {command}")
        raise unknown("command", argv[0], COMMANDS)
    print(f"caltech_exp {code_version()}")
    return 0


def _name_console(text: str) -> str:
    """`python jobs/submit.py` -> `caltech-exp submit`"""
    return SCRIPT.sub(rf"{CONSOLE} \1", text)


def _stop(problem: str) -> NoReturn:
    """Print what is missing and how to get it, and end with status 2."""
    checkout = Path(__file__).resolve().parent.parent.parent
    activate = checkout / ".venv" / "bin" / "activate"
    if activate.is_file():
        remedy = f"activate the environment first: . {shlex.quote(str(activate))}"
    elif (checkout / "pyproject.toml").is_file():
        remedy = f"activate your environment, or make one with `make setup` in {checkout}"
    else:
        remedy = "activate the environment that caltech_exp is installed in, or install caltech_exp again"
    print(f"error: {problem}; {remedy}", file=sys.stderr)
    raise SystemExit(2)
