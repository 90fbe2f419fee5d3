"""Inline markdown, as blocks carry it, in HTML and as plain text."""

from functools import cache

from markdown_it import MarkdownIt
from markupsafe import Markup


@cache
def _reader() -> MarkdownIt:
    """CommonMark's inline rules; HTML in the text stays text, and nothing loads an image."""
    return MarkdownIt("commonmark", {"html": False}).disable(["image", "autolink", "html_inline"])


def inline_html(text: str) -> Markup:
    """The text as HTML, everything foreign in it escaped."""
    return Markup(_reader().renderInline(text))


def inline_text(text: str) -> str:
    """The text as it reads, without its markup: for attributes."""
    (line,) = _reader().parseInline(text)
    return "".join(token.content for token in line.children or () if token.type in ("text", "code_inline"))
