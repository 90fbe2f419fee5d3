"""The tables of the simulated study, number by number.

golden_tables.csv holds what they show. After a change that is meant to alter numbers, write it anew with
`python -m tests.reporting.test_golden_tables` and read the difference.
"""

import json
import math
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.collect import Collected, collect
from caltech_exp.reporting.grid import shown
from caltech_exp.reporting.table_files import csv_text
from caltech_exp.reporting.tables import results_grid
from tests.tools.simulate import main

GOLDEN = Path(__file__).parent / "golden_tables.csv"
T = {2: 12.7062047, 3: 4.30265273}
"""Student's t for 95 % over n runs, from a printed table."""


def tables_text(collected: Collected) -> str:
    """Every table of the catalog as it is shown, a line a row."""
    lines = []
    for section, asked in THE_REPORT.select():
        grid = results_grid(section, asked, collected.of(section, asked))
        for row in grid.rows:
            cells = [
                f"{column.heading} {shown(column, value)}"
                for column, value in zip(grid.columns, row, strict=True)
                if column.kind != "text"
            ]
            lines.append([grid.name, str(row[0]), *cells, str(row[-1])])
    return csv_text(["table", "row", "values"], lines)


def test_the_tables_show_what_they_showed(simulated: Path) -> None:
    assert tables_text(collect(simulated)).splitlines() == GOLDEN.read_text().splitlines()


def test_means_and_spreads_computed_from_the_files_by_other_means(simulated: Path) -> None:
    accuracies: dict[str, list[float]] = defaultdict(list)
    for path in simulated.glob("*/result.json"):
        result = json.loads(path.read_text())
        if result["status"] == "finished":
            accuracies[path.parent.name.partition("-")[0]].append(result["epochs"][-1]["val_accuracy"])
    collected = collect(simulated)
    checked = 0
    for section, asked in THE_REPORT.select():
        rows = collected.of(section, asked)
        grid = results_grid(section, asked, rows)
        for row, (_, mean, std, half, n, *_) in zip(rows, grid.rows, strict=True):
            values = accuracies[row.config.id]
            assert n == len(values)
            if values:
                expected = (
                    statistics.fmean(values),
                    statistics.pstdev(values),
                    T[len(values)] * statistics.stdev(values) / math.sqrt(len(values)),
                )
                assert (mean, std, half) == pytest.approx(expected, abs=1e-9)
                checked += 1
    assert checked == 44


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main([f"out={folder}"])
        GOLDEN.write_text(tables_text(collect(Path(folder))))
