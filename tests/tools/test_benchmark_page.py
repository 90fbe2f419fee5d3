"""The figures of a benchmark as a table and a plot for the docs."""

from pathlib import Path

import pytest

from caltech_exp.benchmark.records import (
    MODELS,
    Benchmark,
    EpochCosts,
    MeasurementResult,
    SideBySideCosts,
    plan,
)
from caltech_exp.cli import UserError
from tests.tools.benchmark_page import caption, draw, read, table
from tests.tools.benchmark_records import make_benchmark


@pytest.fixture
def figures() -> Benchmark:
    """An epoch takes 10 ms an image, whatever the network."""
    results = []
    for step in plan(MODELS, ["growth", "batches", "side_by_side"], {}, images=400):
        seconds = step.config.max_images / 100 * max(1, step.runs)
        times = (0.0, seconds, 2.5 * seconds)
        cost = EpochCosts(
            epoch_seconds=seconds, images_per_second=1, start_seconds=1, peak_memory_bytes=2**29, times=times
        )
        costs = SideBySideCosts(runs=(cost,) * step.runs) if step.runs else cost
        results.append(MeasurementResult(name=step.name, config=step.config, costs=costs))
    return make_benchmark(results, images=400, words=("parts=growth", "data=/home/me", "out=x.json"))


def test_benchmark_page_has_every_cell_with_its_spread(figures: Benchmark) -> None:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(figures).splitlines()]
    assert ["AlexNet", "400 images", "4.00 to 6.00", "1.0", "0.50"] in lines
    assert ["ResNet-18", "100 images, batches of 64", "1.00 to 1.50", "1.0", "0.50"] in lines
    assert ["ResNet-18", "50 images, runs at a time: 4", "2.00 to 3.00", "4.0", "2.00"] in lines
    assert len(lines) == 2 + 2 * (3 + 2 + 3)


def test_benchmark_page_names_the_command_without_the_users_folders(figures: Benchmark) -> None:
    assert caption(figures) == (
        "`python jobs/benchmark.py parts=growth` on EPYC, 2 cores, python 3.11, torch 2.9.0, 2026-01-01; "
        "the least to the most of all epochs:"
    )


def test_benchmark_plot_is_the_same_file_for_the_same_figures(figures: Benchmark, tmp_path: Path) -> None:
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw(figures, first)
    draw(figures, second)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().count("<svg") == 1


def test_benchmark_page_refuses_a_missing_or_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[")
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path / "bad.json")
