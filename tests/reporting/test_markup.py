"""Whatever stands in a file appears letter by letter."""

import re

import pytest

from caltech_exp.reporting.markup import code, escape, listing, printable, table

NASTY = [
    "a|b",
    "`ticks` and ``two``",
    "line\nbreak\r\nand\ttab",
    "<script>alert(1)</script>",
    "&lt; &amp; & &#35;",
    "*a* _b_ **c** ~~d~~ $x$ [l](http://x) ![i](j)",
    "back\\slash \\| \\`",
    "_leading BATCH_SIZE trailing_",
    "naïve ünïcode 日本",
]


ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
"""What markdown reads as the plain character."""


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_reads_as_itself(text: str) -> None:
    assert ESCAPED.sub(r"\1", escape(text)) == printable(text)


@pytest.mark.parametrize("text", NASTY)
def test_nothing_that_means_something_is_left_unescaped(text: str) -> None:
    left = ESCAPED.sub("", escape(text))
    assert re.search(r"[\\`*\[\]<>|~$]|&#?\w+;|\b_|_\b", left.replace("BATCH_SIZE", "")) is None


def test_a_pipe_does_not_end_a_cell() -> None:
    line = table(["h", "k"], [[escape("a|b"), "end"]]).splitlines()[-1]
    assert [cell.strip() for cell in re.split(r"(?<!\\)\|", line)] == ["", r"a\|b", "end", ""]


@pytest.mark.parametrize(
    ("text", "span"),
    [("a b", "`a b`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("``a`", "``` ``a` ```"), ("a\nb|<c>", "`a b|<c>`")],
)
def test_code_spans_are_fenced_by_more_ticks_than_they_hold(text: str, span: str) -> None:
    assert code(text) == span


@pytest.mark.parametrize(
    ("text", "shown"),
    [("bad \udcff byte", "bad ? byte"), ("\x1b[31mred", "?[31mred"), ("\u202ertl", "?rtl"), (" a \n b ", "a b")],
)
def test_what_cannot_be_printed_is_marked(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_listing() -> None:
    assert [listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
