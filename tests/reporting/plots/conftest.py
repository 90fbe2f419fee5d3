"""Pictures are looked at with the settings that they are drawn with."""

from collections.abc import Iterator

import pytest

from caltech_exp.reporting.plots.style import report_style


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with report_style():
        yield
