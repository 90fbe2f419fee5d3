"""The benchmark of runs at once: all counts start alike, and the shortest of several tries counts."""

import json
from pathlib import Path

from tests.tools.at_once import read_costs, table


def test_at_once_table_compares_with_the_first_and_keeps_the_spread(tmp_path: Path) -> None:
    cost = {"of_runs": 20.0, "with_start": 30.0, "threads": 2}
    faster = {"of_runs": 10.0, "with_start": 24.0, "threads": 1}
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({1: [cost, {**cost, "of_runs": 22.0}], 2: [faster, faster]}))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(read_costs(path)).splitlines()]
    assert lines[2] == ["1", "2", "20.0 to 22.0", "1.00", "30.0", "1.00", ""]
    assert lines[3] == ["2", "1", "10.0", "2.00", "24.0", "1.25", ""]
