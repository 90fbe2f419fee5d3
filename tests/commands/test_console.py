"""The console command, and what a command says where its environment is missing."""

import ast
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.commands import console
from tests.conftest import CHECKOUT

SCRIPTS = [*sorted((CHECKOUT / "jobs").glob("*.py")), *sorted((CHECKOUT / "reports").glob("*.py"))]
CONSOLE = CHECKOUT / "caltech_exp" / "commands" / "console.py"
BARE = [*SCRIPTS, CHECKOUT / "caltech_exp" / "__init__.py", CONSOLE.with_name("__init__.py"), CONSOLE]
"""What runs before it is known whether the environment is there."""


def call(
    *words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """Exit status, output and errors of `caltech-exp WORD ...`."""
    monkeypatch.setattr(sys, "argv", ["caltech-exp", *words])
    with pytest.raises(SystemExit) as end:
        console.main()
    return (end.value.code, *capsys.readouterr())


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)], ids=str)
def test_help_lists_every_command(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, _ = call(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert status == 0
    assert all(f"\n  {path.stem} " in output for path in SCRIPTS)
    assert console.COMMANDS.keys() == {path.stem for path in SCRIPTS}


def test_unknown_command_gets_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = call("sumbit", "section=all", monkeypatch=monkeypatch, capsys=capsys)
    assert (status, output, errors) == (2, "", "error: unknown command 'sumbit'; did you mean 'submit'?\n")


@pytest.mark.parametrize("command", console.COMMANDS)
def test_console_command_names_itself_in_its_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enabled = gc.isenabled()
    status, output, _ = call(command, "--help", monkeypatch=monkeypatch, capsys=capsys)
    (gc.enable if enabled else gc.disable)()
    assert status == 0
    assert output.startswith(f"caltech-exp {command} ")
    assert ".py" not in output.splitlines()[0]


def test_errors_name_the_console_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, errors = call("status", f"runs={tmp_path}", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2
    assert "caltech-exp submit" in errors
    assert "jobs/" not in errors


@pytest.mark.parametrize("path", BARE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_runs_without_the_environment_is_readable_by_python_3_8(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_without_its_libraries_says_so_in_one_line(script: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", str(script), "--help"]  # -S: the standard library alone
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sys.executable} lacks the library ")
    assert "activate" in done.stderr
    assert done.stderr.count("\n") == 1


def test_python_that_is_too_old_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "OLDEST_PYTHON", (99, 0))
    status, _, errors = call("submit", monkeypatch=monkeypatch, capsys=capsys)
    assert status == 2
    assert errors.startswith(f"error: {sys.executable} is Python 3.")
    assert "; 99.0 or newer is needed; " in errors
    assert errors.count("\n") == 1


def test_remedy_fits_the_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def remedy() -> str:
        monkeypatch.setattr(console, "OLDEST_PYTHON", (99, 0))
        return call("submit", monkeypatch=monkeypatch, capsys=capsys)[2]

    monkeypatch.setattr(console, "__file__", str(tmp_path / "caltech_exp" / "commands" / "console.py"))
    assert "install caltech_exp again" in remedy()
    (tmp_path / "pyproject.toml").write_text("")
    assert f"make one with `make setup` in {tmp_path}" in remedy()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    assert f"activate the environment first: . {tmp_path}/.venv/bin/activate" in remedy()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "module",
    ["caltech_exp", "caltech_exp.commands.console", "caltech_exp.cli", "pydantic", "caltech_exp.commands.{name}"],
)
def test_ctrl_c_while_a_script_starts_is_one_line(script: Path, module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module.format(name=script.stem)!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
""")
    done = interrupted(script, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_after_a_command_has_ended_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
    )
    done = interrupted(SCRIPTS[0], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def interrupted(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `script --help`, which `folder/sitecustomize.py` interrupts."""
    return subprocess.run(
        [sys.executable, str(script), "--help"], env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
