"""key=value words: taken as they stand, or refused in one line."""

import subprocess
import sys
import time

import pytest
from pydantic import BaseModel, Field

from caltech_exp.cli import VALUE, UserError, did_you_mean, parse, split_arguments
from caltech_exp.config import RunConfig
from caltech_exp.usage import usage

HINTS = {"partition": f"profile.partition={VALUE}", "time": "profile.time_minutes=60"}
KNOWN = ["section", "runs", "lr"]


def test_split_arguments_keeps_values_as_typed() -> None:
    words = ["runs=a b;c 'd' \"e\" ${HOME} ü=x", "section=[all]"]
    assert split_arguments(words, KNOWN) == {"runs": "a b;c 'd' \"e\" ${HOME} ü=x", "section": "[all]"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sectoin=all"], "unknown key 'sectoin'; did you mean 'section'?"),
        (["--section"], "'--section' is not of the form key=value; write section=..."),
        (["secton"], "'secton' is not of the form key=value; did you mean 'section'?"),
        (["wait"], "'wait' is not of the form key=value; write wait=true"),
        (["--wait-all"], "'--wait-all' is not of the form key=value; did you mean 'wait'?"),
        (["partition=gpu"], "unknown key 'partition'; write profile.partition=gpu"),
        (["partion=gpu"], "unknown key 'partion'; write profile.partition=gpu"),
        (["partition"], "'partition' is not of the form key=value; write profile.partition=..."),
        (["time=2:00:00"], "unknown key 'time'; write profile.time_minutes=60"),
        (["lr=1", "lr=2"], "lr is given twice, '1' and '2'; keep one"),
        (["lr="], "lr= has no value; give one, or leave lr= out"),
        (["=3"], "unknown key ''; known: section, runs, lr, wait"),
        (["runs=a\0b"], "runs=a\\x00b is not valid UTF-8 text; use another name"),
        (["runs=a\udcff"], "runs=a\\udcff is not valid UTF-8 text; use another name"),
    ],
)
def test_split_arguments_names_the_wrong_word(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        split_arguments(words, [*KNOWN, "wait"], ["wait"], HINTS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("word", "known", "end"),
    [
        ("a" * 10**5, ["b" * 10**5, "a" * 99], f"; known: {'b' * 100}…, {'a' * 99}"),
        ("aa", ["a" * 10**5, "ab"], f"; known: {'a' * 100}…, ab"),
        ("aab", ["a" * 10**5, "aac"], "; did you mean 'aac'?"),
        ("x", [f"{number:05}" for number in range(10_000)], "00029 and 9,970 more"),
    ],
)
def test_did_you_mean_takes_no_time_for_long_words_and_lists(word: str, known: list[str], end: str) -> None:
    start = time.process_time()
    assert did_you_mean(word, known).endswith(end)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"lr": "abc"}, ["lr=abc: ", "initial learning rate, a number above 0"]),
        ({"lr": "-1"}, ["lr=-1: ", "greater than 0"]),
        ({"model": "alexnt"}, ["model=alexnt: ", "did you mean 'alexnet'?"]),
        ({"epochs": "1.5"}, ["epochs=1.5: ", "a whole number from 1"]),
        ({"epoch": "1"}, ["unknown setting 'epoch'; did you mean 'epochs'?"]),
        ({"epochs": "1\n2\x1b[2J"}, ["epochs=1\\n2\\x1b[2J: "]),
        ({"epochs": "9" * 10**6}, [f"epochs={'9' * 100}…: "]),
        ({"lr": "1e400"}, ["lr=1e400: ", "finite"]),
        ({"lr": "nan"}, ["lr=nan: "]),
    ],
)
def test_parse_names_the_setting_and_what_it_takes(values: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse(RunConfig, values)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_usage_lists_every_option_with_its_default() -> None:
    class Options(BaseModel):
        colour: str = Field("red", description="the colour")
        wait: bool = Field(False, description="whether to wait")
        out: str = Field(description="a folder")

    text = usage("synopsis", Options)
    assert "colour=" in text
    assert "the colour [red]" in text
    assert "whether to wait [false]" in text
    assert "a folder\n" in f"{text}\n"  # there is no default to tell


HOSTILE = "a\x1b[2J\x9b31m\u202eb\tc\nd\r\x07"
ESCAPED = "a\\x1b[2J\\x9b31m\\u202eb\tc\nd\\r\\x07\n"


def test_command_prints_no_codes_for_the_terminal_but_those_of_rich() -> None:
    code = f"""
import sys
from rich.console import Console
from caltech_exp.cli import run_command_line
def main(argv):
    print({HOSTILE!r})
    print({HOSTILE!r}, file=sys.stderr)
    Console(force_terminal=True).print("bold", style="bold")
    return 0
run_command_line(main, "")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env={"TERM": "xterm"})
    assert done.stdout.decode() == f"{ESCAPED}\x1b[1mbold\x1b[0m\n"
    assert (done.returncode, done.stderr.decode()) == (0, ESCAPED)
