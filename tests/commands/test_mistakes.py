"""What somebody types who knows other tools: one line answers it, and what the line advises is accepted.

Each entry of mistakes.txt is a command line, the line that answers it, and a command line that follows the advice.
"""

import importlib
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from caltech_exp.cli import UserError, other_names, read_options
from caltech_exp.commands import console, submit
from caltech_exp.commands.aggregate import AggregateOptions
from caltech_exp.commands.status import StatusOptions
from caltech_exp.profiles.profile import FOLDER
from caltech_exp.submission.request import parse_request

ENTRIES = [entry.splitlines() for entry in Path(__file__).with_name("mistakes.txt").read_text().split("\n\n")]
STUDY = "sections: {own: {title: T, tables: {lr: {title: T, heading: H, sweep: lr, rows: {1e-3: {}}}}}}\n"
FOR_ALL_ROWS = ("last_batch=keep", "profile=demo", "data=DATA", "dry_run=true")
"""What a dry run on the stand-in needs, unless the command line says otherwise."""


@pytest.fixture
def place(tmp_path: Path, stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two folders of studies, a study file, and the data set."""
    for name in ("w1", "w2"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.yaml").write_text(STUDY)
    (tmp_path / "DATA").symlink_to(stand_in)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> None:
    """Read a command line; `submit` plans its runs too, except on Slurm, which only a cluster can judge."""
    command, *words = shlex.split(line)
    if command == "caltech-exp":
        if words[0] not in console.COMMANDS:
            console._other(words)
    elif command != "submit":
        module = importlib.import_module(f"caltech_exp.commands.{command}")
        read_options(getattr(module, f"{command.title()}Options"), words)
    elif words != ["--help"]:
        parse_request(words)
        if not {"profile=slurm", "profile=testbed"}.intersection(words):
            given = {word.partition("=")[0] for word in words}
            words += [word for word in FOR_ALL_ROWS if word.partition("=")[0] not in given]
            assert submit.main(words) == 0


def test_the_list_has_ninety_mistakes_each_once() -> None:
    assert len({wrong for wrong, _, _ in ENTRIES}) == len(ENTRIES) >= 90


@pytest.mark.parametrize(("wrong", "line", "right"), ENTRIES, ids=[entry[0] for entry in ENTRIES])
def test_a_mistake_is_answered_in_a_line_whose_advice_works(
    wrong: str, line: str, right: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        run(wrong)
    assert str(caught.value).replace(str(FOLDER), "PROFILES") == line
    for word in set(shlex.split(right)) - set(shlex.split(wrong)):
        assert word in line or any(part in line for part in word.rsplit("=", 1)), word  # it is the line's advice
    run(right)
    assert not list(place.glob("w1/*")), capsys.readouterr()  # nothing is submitted


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--section=scratch --dry-run", "section=scratch dry_run=true"),
        ("--section scratch --wait --lr 0.1", "section=scratch wait=true lr=0.1"),
        ("--table scratch.lr=5e-2 --batch-size=64", "table=scratch.lr=5e-2 batch_size=64"),
        ("section=scratch --dry-run false --runs-per-task 4", "section=scratch dry_run=false runs_per_task=4"),
        ("section=scratch --profile local --profile.max_parallel=3", "section=scratch profile=local "
         "profile.max_parallel=3"),
        ("--section scratch --lr 1e-2,1e-3", "section=scratch lr=1e-2,1e-3"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_gnu_options_mean_what_our_words_mean(words: str, meant: str) -> None:
    request = parse_request(words.split())
    assert request == replace(parse_request(meant.split()), words=request.words)
    assert parse_request(request.words) == request
    assert not any(word.startswith("--") for word in request.words if "profile." not in word)


def test_every_command_takes_gnu_options() -> None:
    assert read_options(StatusOptions, ["--watch", "--seconds", "10"]) == StatusOptions(watch=True, seconds=10)
    assert read_options(AggregateOptions, ["--open", "--out=rep"]) == AggregateOptions(open=True, out="rep")
    with pytest.raises(UserError, match="'--out' is not of the form key=value; write out="):
        read_options(AggregateOptions, ["--out", "--open"])
    with pytest.raises(UserError, match="open is given twice, 'true' and 'false'; keep one"):
        read_options(AggregateOptions, ["--open", "open=false"])


def test_every_name_of_another_tool_has_one_meaning_for_a_command() -> None:
    text = Path(submit.__file__).parent.with_name("other_names.toml").read_text()
    for section in re.split(r"^\[", text, flags=re.MULTILINE)[1:]:
        words = [word for names in re.findall(r'= "(.*)"$', section, re.MULTILINE) for word in names.split()]
        assert len(set(words)) == len(words), section
        assert set(words) == set(other_names(section.partition("]")[0]))
