"""The report's own text."""

import os
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT


@pytest.fixture(scope="session")
def report_text(named_data: str) -> str:
    """The report, from beside the data of CALTECH101_ROOT or beside the checkout; CI fails without it."""
    places = [Path(named_data).parent / "report"] if named_data else []
    for place in (*places, CHECKOUT.parent / "shared" / "report"):
        if files := sorted(place.glob("*.txt")):
            return "\n".join(file.read_text() for file in files)
    if os.environ.get("CI"):
        pytest.fail("CI needs the report's text: beside the data of CALTECH101_ROOT, or in ../shared/report")
    pytest.skip("the report's text is neither beside this checkout nor beside the data of CALTECH101_ROOT")
