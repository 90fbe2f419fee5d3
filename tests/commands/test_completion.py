"""Completion in a real bash, zsh and fish; and help for one option."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.commands import aggregate, console, status, submit
from caltech_exp.commands.completion import SHELLS, main
from caltech_exp.profiles.profile import parse_profile
from tests.conftest import CHECKOUT

LINES = {
    "caltech-exp subm": ["submit"],
    "caltech-exp status wat": ["watch="],
    "caltech-exp submit section=sc": ["section=scratch"],
    "caltech-exp submit section=scratch,tr": ["section=scratch,transfer"],
    "caltech-exp submit table=resnet.batch_256=2": ["table=resnet.batch_256=256"],
    "caltech-exp submit --section=re": ["--section=resnet"],
    "caltech-exp submit lr=1 engine=": ["engine=fast", "engine=reference"],
    "caltech-exp submit profile=dem": ["profile=demo"],
    "caltech-exp submit help=last": ["help=last_batch"],
    "caltech-exp completion z": ["zsh"],
    "caltech-exp status runs=w": ["runs=w1"],
}
"""What is typed before the tab -> the words that are offered for the last one."""
ZSH = r"""
zmodload zsh/zpty
zpty -b z 'zsh -f -i'
zpty -w z "PROMPT=; autoload -U compinit; compinit -u -D; source $1; setopt noautomenu; print rea''dy"
zpty -r -m z out '*ready*'
for line in "${@:2}"; do
  zpty -n -w z "$line"$'\t\C-a'"print -r -- '"$'\C-e'"' >> completed; print do''ne"$'\n'
  zpty -r -m z out '*done*'
done
zpty -n -w z $'exit\n'
while zpty -r z out; do :; done
cat completed
"""


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The script of a shell, in a folder with a study w1."""
    if not shutil.which(request.param):
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {request.param}")
        pytest.skip(f"no {request.param} here: apt install {request.param}")
    assert main([request.param]) == 0
    path = tmp_path / "completion"
    path.write_text(capsys.readouterr().out)
    (tmp_path / "w1").mkdir()
    return path


def shell(words: list[str], folder: Path) -> list[str]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TERM": "dumb",
    }  # no caltech-exp, no Python of ours
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize("line", LINES)
def test_bash_completes(line: str, script: Path) -> None:
    typed = f"COMP_LINE={shlex.quote(line)}; COMP_POINT={len(line)}; _caltech_exp 2>&1"
    printed = shell(
        ["bash", "--norc", "-c", f'source {script}; {typed}; printf "%s\\n" "${{COMPREPLY[@]}}"'], script.parent
    )
    last = line.rpartition(" ")[2]
    kept = last[: last.rfind("=") + 1]  # which bash keeps
    assert [kept + word for word in printed if word] == LINES[line]


@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str, script: Path) -> None:
    printed = shell(["fish", "-N", "-c", f"source {script}; complete -C {shlex.quote(line)}"], script.parent)
    assert [word.rstrip("/") for word in printed] == LINES[line]


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes(script: Path) -> None:
    (script.parent / "try").write_text(ZSH)
    lines = {line: words[0] for line, words in LINES.items() if len(words) == 1}
    printed = shell(["zsh", "-f", "try", str(script), *lines], script.parent)
    expected = [f"{line.rpartition(' ')[0]} {word}" for line, word in lines.items()]
    assert [line.strip().rstrip("/") for line in printed] == expected


@pytest.mark.parametrize("shell_name", SHELLS)
def test_every_word_needs_no_quotes(shell_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([shell_name])
    words = capsys.readouterr().out.partition(f"caltech-exp completion {shell_name}")[0].rpartition("\n")[0]
    assert "table=scratch.lr=5e-2" in words.split()
    assert not set(words) & set('"`&|<>*?,')


def test_unknown_shell_is_named() -> None:
    with pytest.raises(UserError, match="takes a shell: caltech-exp completion bash; did you mean 'fish'"):
        main(["fihs"])
    with pytest.raises(UserError, match="known: bash, zsh, fish"):
        main([])


def test_console_prints_the_script() -> None:
    words = [sys.executable, "-c", "from caltech_exp.commands.console import main; main()", "completion", "bash"]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("complete -F _caltech_exp caltech-exp\n")
    assert "  completion " in console.USAGE


def test_help_of_one_option() -> None:
    assert submit.USAGE.describe("lr") == (
        "lr: initial learning rate, a number above 0\n"
        "  takes    above 0, at most 1e+38\n"
        "  default  0.001\n"
        "  example  lr=5e-2"
    )
    assert submit.USAGE.describe("--dry-run").endswith(
        "takes    true, false\n  default  false\n  example  dry_run=true"
    )
    assert "  takes    fast, reference\n" in submit.USAGE.describe("engine")
    assert status.USAGE.describe("json").startswith("json: ")
    with pytest.raises(UserError, match="unknown option 'opne'; did you mean 'open'"):
        aggregate.USAGE.describe("opne")


def test_every_option_has_its_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for key in submit.USAGE.fields:
        assert f"\n  example  {key}=" in submit.USAGE.describe(key)
    monkeypatch.setattr(sys, "argv", ["caltech-exp", "submit", "help=lr", "--help=seeds"])
    with pytest.raises(SystemExit) as end:
        console.main()
    printed = capsys.readouterr().out
    assert (end.value.code, printed.count("example")) == (0, 2)


def test_profile_of_the_docs_is_whole() -> None:
    text = (CHECKOUT / "docs" / "clusters.md").read_text()
    example = (
        text.partition("## A profile from what sinfo prints")[2].partition("```yaml\n")[2].partition("```")[0]
    )
    profile = parse_profile(example, "docs/clusters.md")
    assert (profile.executor, profile.slots, profile.device) == ("slurm", 256, "cuda")
