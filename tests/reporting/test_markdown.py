"""Each kind of block as markdown."""

import pytest

from caltech_exp.catalog import row_key
from caltech_exp.reporting.blocks import Block, Heading, Listing, Note, Picture, Prose, Table
from caltech_exp.reporting.markdown import to_markdown


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Heading(3, "1.1. Changing learning rate", "scratch.lr"), "### 1.1. Changing learning rate"),
        (Prose("one `paragraph`"), "one `paragraph`"),
        (Note(("**first**", "second")), "> **first**\n>\n> second"),
        (Listing(("a", "b")), "- a\n- b"),
        (Listing(("a",), "Only:"), "Only:\n\n- a"),
        (Table(("x", "n"), (("a", "1"),), numbers=(1,)), "| x   |   n |\n|-----|-----|\n| a   |   1 |"),
        (
            Picture(5, "what it shows", "*said*", "f/5.png", "f/5.svg"),
            "![what it shows](f/5.png)\n\n*said* ([SVG](f/5.svg))",
        ),
    ],
)
def test_a_block(block: Block, text: str) -> None:
    assert to_markdown([block]) == text + "\n"


def test_blocks_are_parted_by_an_empty_line() -> None:
    assert to_markdown([Prose("a"), Prose("b")]) == "a\n\nb\n"


def test_rows_are_named_after_their_table() -> None:
    assert row_key("transfer", "diverging", "LR = 5e-2") == "transfer.diverging=LR = 5e-2"
