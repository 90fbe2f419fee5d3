"""The figures of both engines as tables for the docs."""

from pathlib import Path

import pytest

from caltech_exp.benchmark.records import AugmentCosts, Benchmark, Costs, EpochCosts, MeasurementResult, plan
from caltech_exp.cli import UserError
from tests.tools.benchmark_records import make_benchmark
from tests.tools.engines_page import caption, main, require_same_settings, tables


def benchmark(slower: float, cores: int = 2) -> Benchmark:
    """An epoch of the template takes 60 s, then 80 s, of the fast engine a tenth of that, all times `slower`."""
    results = []
    for step in plan(["alexnet"], ["epoch", "augment"], {}, images=400):
        seconds = slower * (60 if step.config.engine == "reference" else 6)
        costs: Costs = AugmentCosts(input_images_per_second=6000 / seconds)
        if step.kind == "epochs":
            costs = EpochCosts(
                epoch_seconds=seconds,
                images_per_second=400 / seconds,
                start_seconds=4,
                peak_memory_bytes=2**30,
                times=(0.0, seconds, seconds * 7 / 3),
            )
        results.append(MeasurementResult(name=step.name, config=step.config, costs=costs))
    return make_benchmark(
        results, images=400, words=("models=alexnet", "data=/home/me", "out=x.json"), cores=cores
    )


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_tables_have_the_spread_over_files_and_epochs_and_the_ratio_of_the_medians() -> None:
    network, transforms = tables([benchmark(1), benchmark(1.5)])
    assert cells(network)[0] == ["AlexNet", "template", "fast", "times as fast"]
    assert cells(network)[2:] == [
        ["epoch with validation, s", "60.0 to 120", "6.00 to 12.0", "10.0"],
        ["– images/s in training", "4.44 to 6.67", "44.4 to 66.7", "10.0"],
        ["– peak memory, GiB", "1.00", "1.00", ""],
        ["– process start to first step, s", "4.00", "4.00", ""],
    ]
    assert ["augment=crop", "66.7 to 100", "667 to 1,000", "10.0"] in cells(transforms)


def test_caption_names_every_command_how_often_it_ran_and_no_folder_of_a_user() -> None:
    more = benchmark(1).model_copy(update={"words": ("parts=frozen",)})
    assert caption([benchmark(1), more, benchmark(2)]) == (
        "`python jobs/benchmark.py models=alexnet` (twice) and `python jobs/benchmark.py parts=frozen` (once) on "
        "EPYC, 2 cores, python 3.11, torch 2.9.0, 2026-01-01; the least to the most, and the ratio of the medians:"
    )


def test_files_of_other_machines_are_refused(tmp_path: Path) -> None:
    for name, cores in (("a.json", 2), ("b.json", 4)):
        (tmp_path / name).write_text(benchmark(1, cores).model_dump_json())
    with pytest.raises(UserError, match=r"b\.json have other cores; measure again"):
        main([str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    with pytest.raises(UserError, match="give them"):
        main([])


def test_figures_of_other_settings_or_threads_are_never_mixed() -> None:
    first, second = benchmark(1), benchmark(2)
    require_same_settings([first, second])
    (result, *others) = second.measurements
    for change in ({"threads": 1}, {"config": result.config.but(batch_size=32)}):
        changed = (result.model_copy(update=change), *others)
        with pytest.raises(UserError, match="alexnet epoch was measured with other settings in another file"):
            require_same_settings([first, second.model_copy(update={"measurements": changed})])
