"""What commands take is counted from outside, and a table of it goes between its marks."""

import os
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from tests.tools.measuring import Measured, measured
from tests.tools.page import spread, write_part
from tests.tools.study_growth import growth, read_seeds


def test_measured_counts_every_process_and_no_memory_of_its_own() -> None:
    own = bytearray(300 * 2**20)
    child = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'bytearray(100 << 20)']); print('done')"
    )
    cost = measured(["-c", child], os.environ)
    assert cost.printed == "done\n"
    assert 100 < cost.peak_mb < 200 < len(own) / 2**20
    assert cost.processor_seconds > 0


def test_measured_names_a_command_that_fails() -> None:
    with pytest.raises(UserError, match="ended with status 3: why"):
        measured(["-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"], os.environ)


def test_growth_is_a_power_of_the_runs() -> None:
    sizes = {runs: [Measured(1.0, float(runs) ** 0.5, 40.0, "")] for runs in (120, 1200, 12000)}
    (line,) = growth("status", sizes)
    assert line == (
        "- status: from 1,200 to 12,000 runs, processor time grows as the runs to the power of 0.50, "
        "memory to that of 0.00."
    )
    assert not list(growth("status", {120: sizes[120]}))


@pytest.mark.parametrize("text", ["", "3,", "3,x", "0"])
def test_seeds_are_numbers_from_one(text: str) -> None:
    with pytest.raises(UserError, match="give numbers of seeds from 1"):
        read_seeds(text)


def test_page_part_replaces_what_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin: x -->\nold\n<!-- end: x -->\nb\n")
    write_part("x", "new\n\ntable", page)
    assert page.read_text() == "a\n<!-- begin: x -->\nnew\n\ntable\n<!-- end: x -->\nb\n"
    with pytest.raises(UserError, match="lacks the lines"):
        write_part("y", "new", page)


def test_spread_gives_one_number_where_all_are_the_same() -> None:
    assert spread([1.234, 1.2341]) == "1.23"
    assert spread([9.99, 12.34, 1234.0]) == "9.99 to 1,234"
