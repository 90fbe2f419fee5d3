"""The tables of the simulated study, number by number.

golden_tables.csv holds what their CSV files show. After a change that is meant to alter numbers, write it again
with `python -m tests.reporting.test_golden_tables` and read the difference.
"""

import io
import json
import math
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import t

from caltech_exp.catalog import THE_REPORT, Reported, table_key
from caltech_exp.reporting.comparison import table_rows
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.render.files import to_csv, to_frame
from caltech_exp.reporting.sections.tables import results_table
from tests.reporting.conftest import row_config
from tests.tools.simulate import main

GOLDEN = Path(__file__).parent / "golden_tables.csv"


def tables_text(study: StudyFrames) -> str:
    """The CSV files of all tables of the catalog as one."""
    frames = []
    for section, table in study.catalog.tables:
        frame = to_frame(results_table(table_rows(study, section, table)))
        frame = frame.rename(columns={table.heading: "row"})
        frame.insert(0, "table", table_key(section.name, table.name))
        frames.append(frame)
    return to_csv(pd.concat(frames, ignore_index=True))


def half_width(values: list[float], reported: Reported) -> float:
    """Of the difference's 95 % interval by the textbook, the printed digits wherever they make it widest."""
    a = statistics.variance(values) / len(values)
    widths = []
    for std in (max(0, reported.std - 0.0005), reported.std + 0.0005):
        b = std**2 / (reported.runs - 1)
        if a + b > 0:
            degrees = (a + b) ** 2 / (a**2 / (len(values) - 1) + b**2 / (reported.runs - 1))
            widths.append(t.ppf(0.975, degrees) * math.sqrt(a + b))
    return float(max(widths) + 0.0005)


def test_tables_show_what_they_showed(simulated: Path) -> None:
    assert tables_text(read_study(simulated)).splitlines() == GOLDEN.read_text().splitlines()


def test_tables_equal_numbers_computed_from_the_files_by_other_means(simulated: Path) -> None:
    accuracies: dict[str, list[float]] = defaultdict(list)
    tested: dict[str, list[float]] = defaultdict(list)
    for path in simulated.glob("*/result.json"):
        result = json.loads(path.read_text())
        if result["status"] == "finished":
            config = path.parent.name.partition("-")[0]
            accuracies[config].append(result["epochs"][-1]["val_accuracy"])
            tested[config].append(result["test_accuracy"])
    shown = pd.read_csv(io.StringIO(tables_text(read_study(simulated)))).to_dict("records")
    lines = {(line["table"], line["row"]): line for line in shown}
    checked = 0
    for section, table in THE_REPORT.tables:
        name = table_key(section.name, table.name)
        for row in table.rows:
            values = accuracies[row_config(name, row.label).id]
            line = lines[name, row.label]
            assert line["n"] == len(values)
            if not values:
                assert math.isnan(line["measured"])
                continue
            expected = {
                "measured": statistics.fmean(values),
                "measured std": statistics.pstdev(values),
                "test accuracy": statistics.fmean(tested[row.config.id]),
                "95 % interval of the mean, half width": (
                    t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
                ),
            }
            if row.reported:
                difference, half = expected["measured"] - row.reported.mean, half_width(values, row.reported)
                expected |= {"reported": row.reported.mean, "reported std": row.reported.std}
                expected |= {"difference": difference, "difference 95 % half width": half}
                verdict = "differs" if abs(difference) > half else "agrees" if half < 0.1 else "inconclusive"
                assert line["verdict"] == verdict
            for column, value in expected.items():
                assert line[column] == pytest.approx(value, abs=0.0005 + 1e-9), (name, row.label, column)
            checked += 1
    assert checked == 44


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main([f"out={folder}"])
        GOLDEN.write_text(tables_text(read_study(folder)))
