"""The tables that a measurement writes into a page of the docs, each between two marks that bear its name."""

from pathlib import Path

from caltech_exp.cli import UserError
from caltech_exp.files import write_atomically
from caltech_exp.provenance import CHECKOUT

PERFORMANCE = CHECKOUT / "docs" / "performance.md"


def write_part(name: str, text: str, page: Path = PERFORMANCE) -> None:
    """Replace what stands between the marks of a name. Raises UserError if the page lacks them."""
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise UserError(
            f"{page} lacks the lines {begin.strip()} and {end.strip()}; add them where the table belongs"
        )
    write_atomically(page, f"{before}{begin}{text.strip()}\n{end}{after}")


def spread(values: list[float]) -> str:
    """`1.2 to 1.4`, or a single number where both are the same as shown; three digits each."""
    least, most = (
        f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}" for value in (min(values), max(values))
    )
    return least if least == most else f"{least} to {most}"
