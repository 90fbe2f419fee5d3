"""A file of lines, of which only new ones are made: always what making all of them would give."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caltech_exp.reporting.line_file import Lines, write_lines

HEADING = "name,content\n"
Contents = dict[str, str]


class Table:
    """A file in a folder, and which names' lines were made for it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.index, self.made = folder / "lines.csv", folder / "cache" / "index", list[str]()

    def write(self, contents: Contents, heading: str = HEADING, code: bytes = b"1") -> str:
        """Write a line for each word of each content; the text of the file."""
        self.made.clear()
        write_lines(self.path, self.index, heading, [self.lines(*item) for item in contents.items()], code)
        return self.path.read_bytes().decode()

    def lines(self, name: str, content: str) -> Lines:
        def make() -> str:
            self.made.append(name)
            return "".join(f"{name},{word}\n" for word in content.split())

        return name, content, make


def expected(contents: Contents) -> str:
    return HEADING + "".join(f"{name},{word}\n" for name, content in contents.items() for word in content.split())


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


OLD = {"a": "1 2", "b": "", "c": "3", "d": "ü"}


@pytest.mark.parametrize(
    ("new", "made"),
    [
        (OLD, []),
        ({**OLD, "e": "5"}, ["e"]),
        ({"e": "5", **OLD}, ["e"]),
        ({**OLD, "c": "4 4 4"}, ["c"]),
        ({"d": "ü", "c": "3", "a": "1 2"}, []),
        ({"a": "1 2", "d": "ü"}, []),
        ({}, []),
    ],
)
def test_only_new_lines_are_made(table: Table, new: Contents, made: list[str]) -> None:
    table.write(OLD)
    assert table.write(new) == expected(new)
    assert table.made == made


@given(st.lists(st.dictionaries(st.sampled_from("abcde"), st.text("12 ü", max_size=5)), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_any_sequence_of_files(tmp_path_factory: pytest.TempPathFactory, files: list[Contents]) -> None:
    table = Table(tmp_path_factory.mktemp("table"))
    for contents in files:
        assert table.write(contents) == expected(contents)


def test_a_file_that_would_not_change_is_not_touched(table: Table) -> None:
    table.write(OLD)
    before = table.path.stat().st_ino
    table.write(OLD)
    assert table.path.stat().st_ino == before


@pytest.mark.parametrize("damage", ["file", "short", "no file", "index", "place", "no index"])
def test_what_was_damaged_is_made_anew(table: Table, damage: str) -> None:
    text = table.write(OLD)
    match damage:
        case "file":
            table.path.write_text(text.replace("2", "9"))
        case "short":
            table.path.write_text(text[:-1])
        case "no file":
            table.path.unlink()
        case "index":
            table.index.write_text("{")
        case "place":
            table.index.write_text(table.index.read_text().replace("13", "14"))
        case "no index":
            table.index.unlink()
    assert table.write(OLD) == expected(OLD)
    assert table.made == list(OLD)


def test_another_heading_or_other_code_make_all_anew(table: Table) -> None:
    table.write(OLD)
    assert table.write(OLD, heading="other\n").startswith("other\n")
    assert table.made == list(OLD)
    table.write(OLD, heading="other\n", code=b"2")
    assert table.made == list(OLD)
