"""Values as they are shown, and texts from files as they read: letter by letter."""

import re

import pytest

from caltech_exp.reporting.render.blocks import (
    Column,
    Interval,
    Kind,
    Spread,
    Value,
    code,
    escape,
    join_words,
    printable,
    shown,
)

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
"""What Markdown reads as the plain character."""


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_reads_as_itself(text: str) -> None:
    assert ESCAPED.sub(r"\1", escape(text)) == printable(text)


@pytest.mark.parametrize("text", NASTY)
def test_escaped_text_holds_no_markup(text: str) -> None:
    left = ESCAPED.sub("", escape(text))
    assert re.search(r"[\\`*\[\]<>|~$]|&#?\w+;|\b_|_\b", left.replace("BATCH_SIZE", "")) is None


@pytest.mark.parametrize(
    ("text", "span"),
    [("a b", "`a b`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("``a`", "``` ``a` ```"), ("a\nb|<c>", "`a b|<c>`")],
)
def test_code_span_is_fenced_by_more_ticks_than_it_holds(text: str, span: str) -> None:
    assert code(text) == span


@pytest.mark.parametrize(
    ("text", "line"),
    [("bad \udcff byte", "bad ? byte"), ("\x1b[31mred", "?[31mred"), ("\u202ertl", "?rtl"), (" a \n b ", "a b")],
)
def test_unprintable_characters_become_question_marks(text: str, line: str) -> None:
    assert printable(text) == line


def test_words_are_joined() -> None:
    assert [join_words(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("text", "agrees", "agrees"),
        ("accuracy", None, "–"),
        ("accuracy", 0.4604, "0.460"),
        ("count", 12345, "12,345"),
        ("signed", -0.0004, "0.000"),
        ("signed", -0.0005001, "−0.001"),
        ("signed", 0.014, "+0.014"),
        ("amount", 0.0123, "0.0123"),
        ("amount", 12.34, "12.3"),
        ("amount", 1234.4, "1,234"),
        ("whole", 1234.6, "1,235"),
        ("spread", Spread(0.46, 0.0049), "0.460 ± 0.005"),
        ("spread", Spread(0.46), "0.460"),
        ("spread", Spread(0.39, 0.06, (0.325, 0.454)), "0.325 to 0.454"),
        ("difference", Interval(0.014, 0.025), "+0.014 ± 0.025"),
        ("difference", Interval(-0.121, None, "n = 2: too few"), "−0.121 (n = 2: too few)"),
        ("difference", Interval(0.0), "0.000"),
        ("difference", "diverged", "diverged"),
    ],
)
def test_value_is_shown_as_its_kind(kind: Kind, value: Value, text: str) -> None:
    assert shown(Column("", kind), value) == text
