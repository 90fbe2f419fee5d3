"""Inline markdown in HTML: everything that markup.escape and markup.code give reads letter by letter."""

from html import unescape

import pytest

from caltech_exp.reporting.inline import inline_html, inline_text
from caltech_exp.reporting.markup import code, escape, printable
from tests.reporting.test_markup import NASTY


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("write", [escape, code])
def test_foreign_text_reads_as_itself(text: str, write: type[str]) -> None:
    html = inline_html(write(text))
    bare = html.removeprefix("<code>").removesuffix("</code>")
    assert "<" not in bare
    assert unescape(bare) == printable(text)
    assert inline_text(write(text)) == printable(text)


def test_own_markup_is_rendered() -> None:
    assert inline_html("**a** *b* `c`") == "<strong>a</strong> <em>b</em> <code>c</code>"
    assert inline_html("[CSV](tables/a.csv)") == '<a href="tables/a.csv">CSV</a>'


@pytest.mark.parametrize(
    "text", ["<b>x</b>", "<img src=x>", "![a](b.png)", "[x](javascript:alert(1))", "<http://x>"]
)
def test_neither_html_nor_images_nor_scripts_come_through(text: str) -> None:
    html = inline_html(text)
    assert not any(tag in html for tag in ("<b", "<img", 'href="javascript'))
