"""Each kind of block as Markdown for GitHub."""

import pytest

from caltech_exp.reporting.render.blocks import (
    Badge,
    Badges,
    Block,
    Column,
    Details,
    Heading,
    Interval,
    Listing,
    Note,
    Panel,
    Picture,
    Prose,
    Spread,
    Table,
)
from caltech_exp.reporting.render.markdown import to_markdown

TABLE = Table(
    "scratch.lr",
    "Learning rates.",
    (
        Column("rate", "text"),
        Column("measured", "spread"),
        Column("difference", "difference"),
        Column("n", "count", is_detail=True),
    ),
    (("1e-3", Spread(0.3, 0.01), Interval(-0.01, 0.02), 3), ("a|b", None, None, 0)),
    best=(0,),
)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Heading(1, "Title", "page-top"), "# Title"),
        (Prose("one `paragraph`"), "one `paragraph`"),
        (Note(("**first**", "second")), "> [!CAUTION]\n> **first**\n>\n> second"),
        (Listing(("a", "b")), "- a\n- b"),
        (Listing(("a",), "Only:"), "Only:\n\n- a"),
        (
            Badges((Badge("agrees", 26, "of 29"), Badge("inconclusive", 2), Badge("differs", 1))),
            "**26 agree** (of 29) · **2 inconclusive** · **1 differs**",
        ),
        (
            Picture("figure-05", "what it shows", "words", number=5),
            "![what it shows](figures/figure-05.png)\n\n*words* ([SVG](figures/figure-05.svg))",
        ),
        (Panel((Prose("left"),), (Prose("right"),)), "left\n\nright"),
        (
            Details("More of `a`", (Prose("inside"),)),
            "<details><summary>More of <code>a</code></summary>\n\ninside\n\n</details>",
        ),
    ],
)
def test_block_is_rendered(block: Block, text: str) -> None:
    assert to_markdown([block]) == text + "\n"


def test_table_has_right_aligned_numbers_a_bold_best_row_and_no_details() -> None:
    assert to_markdown([TABLE]) == (
        "| rate     |          measured |         difference |\n"
        "|:---------|------------------:|-------------------:|\n"
        "| **1e-3** | **0.300 ± 0.010** | **−0.010 ± 0.020** |\n"
        "| a\\|b     |                 – |                  – |\n"
    )


def test_best_cell_is_bold() -> None:
    table = Table("", "", (Column("a", "text"), Column("b")), (("x", 0.5),), best_cells=((0, 1),))
    assert to_markdown([table]).splitlines()[-1] == "| x   | **0.500** |"


def test_table_without_rows_keeps_its_headings() -> None:
    assert to_markdown([Table("", "", (Column("a", "text"), Column("b")), ())]).startswith("| a   |")


def test_contents_stand_before_the_first_section_and_link_to_anchors() -> None:
    text = to_markdown(
        [
            Heading(1, "Title", "page-top"),
            Prose("first screen"),
            Heading(2, "From scratch", "scratch", "1"),
            Heading(3, "Template", "scratch.template", is_listed=False),
            Heading(3, "Rates", "scratch.lr", "1.1"),
            Heading(2, "Cost", "page-cost", is_appendix=True),
        ]
    )
    links = "- [1. From scratch](#scratch)\n  - [1.1. Rates](#scratch.lr)\n- [Cost](#page-cost)"
    assert text.startswith(f"# Title\n\nfirst screen\n\n{links}\n\n")
    assert '<a id="scratch.lr"></a>\n### 1.1. Rates\n' in text
