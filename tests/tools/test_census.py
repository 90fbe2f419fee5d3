"""`make census`: each rule fails on a tree that breaks it, and the package keeps them all."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tools.census import CHECKOUT, PACKAGE, REPORTING, Bounds, main, read_modules, table, violations

SMALL = Bounds(modules=2, total_lines=20, shortest=2, longest=8)
BOUNDS = {PACKAGE: SMALL, REPORTING: SMALL}
SOUND = '"""A module."""\n\nVALUE = 1\n'


def tree(folder: Path, **texts: str) -> Path:
    """A checkout with these modules in the room `room`."""
    room = folder / "caltech_exp" / "room"
    room.mkdir(parents=True)
    for name, text in texts.items():
        (room / f"{name}.py").write_text(text)
    return folder


def test_census_table_lists_modules_by_room_with_totals(tmp_path: Path) -> None:
    checkout = tree(tmp_path, one=SOUND, __init__='"""A room."""\n')
    modules = read_modules(checkout)
    assert violations(modules, BOUNDS) == []
    lines = table(modules).splitlines()
    assert lines[:3] == ["caltech_exp/room/  2 modules, 4 lines", "     1  __init__.py", "     3  one.py"]
    assert lines[-3] == "caltech_exp: 1 modules besides commands and __init__.py; 4 lines in all"
    assert lines[-1] == "caltech_exp/reporting: 0 modules besides commands and __init__.py; 0 lines in all"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("from os import *\n\nVALUE = sep\n", "1: star import"),
        ('"""Doc."""\n\nfrom os import sep\n\n__all__ = ["sep"]\n', "1: only re-exports"),
        ("VALUE = 1\ndef f(a, b, /, c, d, e, f): ...\n", "2: f has 6 positional parameters, at most 5"),
        (
            "class C:\n    async def f(self, a, b, c, d, e, f=1): ...\n",
            "2: f has 6 positional parameters, at most 5",
        ),
        (
            "class C:\n    @staticmethod\n    def f(a, b, c, d, e, f): ...\n",
            "3: f has 6 positional parameters, at most 5",
        ),
        ("VALUE = 1\nclass Keeper: ...\n", "2: the name Keeper"),
        ("VALUE = 1\ndef _adopt(): ...\n", "2: the name _adopt"),
        ("VALUE = 1\ndef f(*, told): ...\n", "2: the name told"),
        ("VALUE = 1\nfor said, b in {}: ...\n", "2: the name said"),
        ("class C:\n    def f(self) -> None:\n        self.standing = 1\n", "3: the name standing"),
        ("import os as look\nVALUE = look\n", "1: the name look"),
        ("try: ...\nexcept OSError as told: ...\n", "2: the name told"),
        ("match 1:\n    case told: ...\n", "2: the name told"),
        ("VALUE = 1\n", "1: 1 lines, not 2 to 8"),
        ("VALUE = 1\n" * 9, "1: 9 lines, not 2 to 8"),
    ],
)
def test_census_names_the_place_of_a_broken_rule(text: str, place: str, tmp_path: Path) -> None:
    modules = read_modules(tree(tmp_path, bad=text, good=SOUND))
    assert violations(modules, BOUNDS) == [f"caltech_exp/room/bad.py:{place}"]


@pytest.mark.parametrize(
    "text",
    [
        "class C:\n    def f(self, a, b, c, d, e, *, f): ...\n",
        "class C:\n    @classmethod\n    def f(cls, a, b, c, d, e): ...\n",
        '"""What was said and told."""\n\nVALUE = {"told": 1}["told"]\n',
        "import os\nos.standing()\n",
    ],
)
def test_census_accepts_what_breaks_no_rule(text: str, tmp_path: Path) -> None:
    assert violations(read_modules(tree(tmp_path, bad=text)), BOUNDS) == []


def test_census_counts_modules_and_lines(tmp_path: Path) -> None:
    modules = read_modules(tree(tmp_path, a=SOUND, b=SOUND * 2, c=SOUND * 2))
    assert violations(modules, BOUNDS) == ["caltech_exp: 3 modules, at most 2"]
    assert violations(modules, BOUNDS | {PACKAGE: replace(SMALL, modules=3, total_lines=14)}) == [
        "caltech_exp: 15 lines, at most 14"
    ]


def test_census_counts_the_report_by_itself(tmp_path: Path) -> None:
    checkout = tree(tmp_path, a=SOUND, b=SOUND)
    (tmp_path / REPORTING / "plots").mkdir(parents=True)
    (tmp_path / REPORTING / "plots" / "x.py").write_text(SOUND * 2)
    (tmp_path / REPORTING / "y.py").write_text(f"{SOUND}told = 1\n")
    modules = read_modules(checkout)
    assert violations(modules, BOUNDS) == ["caltech_exp/reporting/y.py:4: the name told"]
    small = BOUNDS | {REPORTING: replace(SMALL, modules=1, total_lines=9)}
    assert violations(modules, small)[:2] == [
        "caltech_exp/reporting: 2 modules, at most 1",
        "caltech_exp/reporting: 10 lines, at most 9",
    ]


def test_census_does_not_measure_commands_and_scripts(tmp_path: Path) -> None:
    checkout = tree(tmp_path, a=SOUND)
    for folder in ("caltech_exp/commands", "jobs", "reports", "reports/reproduction"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.py").write_text("VALUE = 1\n")
    modules = read_modules(checkout)
    assert violations(modules, BOUNDS) == []
    assert sum(module.lines for module in modules) == 6


def test_census_exceptions_are_few_and_true(tmp_path: Path) -> None:
    modules = read_modules(tree(tmp_path, long="VALUE = 1\n" * 9, good=SOUND))
    long, good = "caltech_exp/room/long.py", "caltech_exp/room/good.py"

    def broken(exceptions: dict[str, str]) -> list[str]:
        return violations(modules, BOUNDS | {PACKAGE: replace(SMALL, exceptions=exceptions)})

    assert broken({long: "long by nature"}) == []
    stale = {long: "long by nature", good: "short by nature"}
    assert broken(stale) == [f"{good}:1: named as an exception, and is none"]
    many = {long: "", **{f"caltech_exp/room/{number}.py": "" for number in range(8)}}
    assert "caltech_exp: 9 exceptions, at most 8" in broken(many)


def test_census_command_fails_and_prints_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '"""A module."""\n' + "VALUE = 1\n" * 60
    bounds = {PACKAGE: Bounds(), REPORTING: Bounds()}
    assert main(tree(tmp_path, good=text), bounds) == 0
    (tmp_path / "caltech_exp" / "room" / "bad.py").write_text(f"{text}told = 1\n")
    assert main(tmp_path, bounds) == 1
    assert capsys.readouterr().err == "caltech_exp/room/bad.py:62: the name told\n"


def test_census_of_the_package_finds_no_broken_rule() -> None:
    assert violations(read_modules(CHECKOUT)) == []
