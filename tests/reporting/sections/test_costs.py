"""What the runs cost, by row, by table and in all."""

from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import Prose, Table, Value
from caltech_exp.reporting.sections.costs import cost_blocks, cost_tables, total_sentence
from caltech_exp.study.results import Device
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

CPU = Device(type="cpu", name="EPYC")


def line(table: Table, *names: str) -> dict[str, Value]:
    """The row whose first cells are these, by heading."""
    row = next(row for row in table.rows if row[: len(names)] == names)
    return dict(zip((column.heading for column in table.columns), row, strict=True))


def fill(folder: SampleStudy) -> None:
    """Three runs: two of a row that two tables share, of which one diverged, and one on a CPU."""
    folder.start()
    shared = row_config("scratch.epochs", "30")
    folder.add(
        make_result(shared, 0, energy_joules=3.6e6),
        make_diverged(shared, 1, wall_seconds=3600.0),
        make_result(row_config("scratch.lr", "1e-2"), 0, device=CPU),
    )


def test_shared_runs_count_in_each_row_and_once_in_all(folder: SampleStudy) -> None:
    fill(folder)
    by_table, by_row = cost_tables(read_study(folder.path))
    row = line(by_row, "scratch.lr", "5e-2")
    assert (row["runs"], row["hours"], row["energy, kWh"], row["runs with energy"]) == (2, 1.5, 1.0, 1)
    assert (row["minutes per run"], row["images per second"], row["device"]) == (45, 700, "H200 (GPU)")
    assert by_row.keys == ("scratch.lr=1e-2", "scratch.lr=5e-2", "scratch.epochs=30")
    assert line(by_table, "scratch.lr")["device"] == "EPYC (CPU) and H200 (GPU)"
    assert (line(by_table, "scratch.epochs")["hours"], line(by_table, "all")["hours"]) == (1.5, 2.0)
    assert [row[0] for row in by_table.rows] == ["scratch.lr", "scratch.epochs", "all"]  # no others have a result


def test_total_names_devices_and_counted_energy(folder: SampleStudy) -> None:
    fill(folder)
    assert total_sentence(read_study(folder.path)) == (
        "1 run took 30.0 minutes on EPYC (CPU) and 2 runs took 1.50 hours on H200 (GPU). "
        "Energy: 1.00 kWh (1 of 3 runs count it)."
    )


def test_columns_that_say_nothing_are_details(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "1e-2"), 0))
    study = read_study(folder.path)
    details = [column.heading for column in cost_tables(study)[0].columns if column.is_detail]
    assert details == ["energy, kWh", "runs with energy", "device"]  # no counter, and one device for all
    assert total_sentence(study) == "1 run took 30.0 minutes on H200 (GPU)."


def test_study_without_a_result_says_so(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(row_config("scratch.lr", "1e-2").but(lr=0.123), 0))  # which no row asks for
    assert cost_blocks(read_study(folder.path)) == [Prose("No run has a result yet.")]
