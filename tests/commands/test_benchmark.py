"""jobs/benchmark.py as a user runs it, at the smallest scale; and as a job on the real Slurm."""

import json
from pathlib import Path

import pytest

from caltech_exp.benchmark.records import (
    Benchmark,
    Costs,
    EpochCosts,
    FirstLosses,
    MeasurementResult,
    PhaseCosts,
    SideBySideCosts,
)
from caltech_exp.commands.benchmark import benchmark_tables
from caltech_exp.config import RunConfig
from tests.commands.test_submit import one_line_error
from tests.conftest import Command
from tests.tools.benchmark_records import make_benchmark
from tests.tools.shapes import write_shapes
from tests.tools.testbed import profile, queue, until

SMALL = ("models=resnet18", "parts=epoch", "batch_size=2", "max_images=8", "workers=0", "precision=fp32")


def read(path: Path) -> Benchmark:
    return Benchmark.model_validate_json(path.read_text())


def test_both_engines_side_by_side_as_a_table_and_as_json(
    benchmark: Command, stand_in: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my figures.json"
    done = benchmark(*SMALL, f"data={stand_in}", f"out={out}")
    assert done.returncode == 0, done.stderr
    reference, fast = read(out).measurements
    assert (reference.config.engine, fast.config.engine) == ("reference", "fast")
    assert isinstance(reference.costs, EpochCosts)
    assert isinstance(fast.costs, EpochCosts)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("epoch with validation, s"))
    ratio = reference.costs.epoch_seconds / fast.costs.epoch_seconds
    assert line.split()[-3:] == [
        f"{reference.costs.epoch_seconds:.1f}",
        f"{fast.costs.epoch_seconds:.1f}",
        f"{ratio:.1f}",
    ]


def test_a_benchmark_goes_on_with_what_its_file_lacks(benchmark: Command, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = (*SMALL, "epochs=1", f"data={stand_in}", f"packs={tmp_path / 'packs'}", f"out={out}")
    done = benchmark(*words)
    assert done.returncode == 0, done.stderr
    whole = read(out)
    out.write_text(whole.model_copy(update={"measurements": whole.measurements[:1]}).model_dump_json())
    done = benchmark(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"  kept from {out}: ") == 1
    assert read(out).measurements[:1] == whole.measurements[:1]
    assert len(read(out).measurements) == 2
    out.write_text(whole.model_copy(update={"host": "other", "images": 5}).model_dump_json())
    one_line_error(benchmark(*words), "a benchmark with other host, images; remove it")
    out.write_text("{")
    one_line_error(benchmark(*words), "is damaged")


def test_the_first_losses_of_both_engines_are_near_each_other(
    benchmark: Command, stand_in: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    words = ("models=alexnet", "parts=losses", "batch_size=2", "max_images=8", "workers=0")
    done = benchmark(*words, f"data={stand_in}", f"out={out}")
    assert done.returncode == 0, done.stderr
    reference, fast = (measured.costs for measured in read(out).measurements)
    assert isinstance(reference, FirstLosses)
    assert isinstance(fast, FirstLosses)
    assert fast.losses == pytest.approx(reference.losses, rel=1e-4)
    assert len(set(fast.losses)) == 20
    assert "alexnet in fp32: the losses of the first 20 steps" in done.stdout


def test_losses_that_diverge_on_own_data_are_told(benchmark: Command, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", 4)
    words = ("models=resnet18", "parts=losses", "batch_size=2", "max_images=8", "workers=0", "lr=1e10")
    done = benchmark(*words, f"data={data}", "split=0.3", "split_seed=1", f"packs={tmp_path / 'packs'}")
    assert done.returncode == 0, done.stderr
    assert "; the template diverges at step " in done.stdout
    assert "; fast diverges at step " in done.stdout


def tables(costs: dict[str, tuple[Costs, ...]]) -> str:
    """What is printed of these measurements, each of the reference first and of the fast engine last."""
    results = [
        MeasurementResult(name=name, config=RunConfig().but(engine=engine), costs=cost)
        for name, both in costs.items()
        for engine, cost in zip(("reference", "fast")[-len(both) :], both, strict=True)
    ]
    return benchmark_tables(make_benchmark(results, images=1000))


def epoch(seconds: float) -> EpochCosts:
    return EpochCosts(epoch_seconds=seconds, images_per_second=1, start_seconds=1, peak_memory_bytes=2**30)


def timed_epoch(start: float, end: float) -> EpochCosts:
    return epoch(end - start).model_copy(update={"times": (start, end)})


def test_tables_compare_the_engines_and_show_growth() -> None:
    text = tables(
        {
            "alexnet epoch": (epoch(30), epoch(12)),
            "alexnet epoch of 1/1": (epoch(12),),
            "alexnet epoch of 1/4": (epoch(3),),
            "alexnet batch 64": (epoch(4),),
            "alexnet side by side 2": (SideBySideCosts(runs=(timed_epoch(0, 8), timed_epoch(1, 9))),),
        }
    )
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("EPYC, 2 cores; batch 256, template with 4 workers; torch 2.9.0; 2026-01-01")
    assert ["epoch", "with", "validation,", "s", "30.0", "12.0", "2.5"] in lines
    assert ["peak", "memory,", "GiB", "1.00", "1.00"] in lines
    assert [line for line in lines if line[:1] in (["1,000"], ["500"], ["250"])] == [
        ["1,000", "images", "12.0", "1.00"],
        ["250", "images", "3.0", "1.00"],
        ["250", "images", "in", "batches", "of", "64", "4.0", "1.00"],
    ]
    assert ["125", "images,", "runs", "side", "by", "side:", "2", "9.0", "2.00"] in lines


def test_tables_of_phases_hold_step_and_evaluation_against_their_limits() -> None:
    template, fast = (
        PhaseCosts(
            input_images_per_second=1,
            step_images_per_second=step,
            eval_images_per_second=4 * step,
            step_flops=1,
            step_flops_per_second=step,
            saved_bytes_per_image=1,
            gemm_flops_per_second=100,
            convolution_flops_per_second={"forward": 100},
            step_limit_images_per_second=50,
            eval_limit_images_per_second=250,
        )
        for step in (20, 40)
    )
    lines = [line.split() for line in tables({"resnet18 phases": (template, fast)}).splitlines()]
    assert ["training", "step,", "images/s", "20.0", "40.0", "2.0"] in lines
    assert [line[-2:] for line in lines if line[:3] == ["share", "of", "what"]] == [
        ["40.0", "80.0"],
        ["32.0", "64.0"],
    ]


def test_tables_of_losses_give_their_difference_and_divergence() -> None:
    losses = FirstLosses(losses=(4.0, 2.0), steps=2), FirstLosses(losses=(4.02,), steps=2)
    assert (
        "alexnet in fp32: the losses of the first 1 steps (4.0000 to 4.0000) differ by at most 5.0e-03 of their "
        "value; fast diverges at step 2"
    ) in tables({"alexnet losses": losses})


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("models=alexnt", "unknown model 'alexnt'; did you mean 'alexnet'?"),
        ("parts=epoch,growt", "unknown part 'growt'; did you mean 'growth'?"),
        ("batch_size=64", "is too large to measure a quarter of the 8 training images; set batch_size=2 or less"),
        ("profile=testbed", "add out=FILE.json"),
        ("out=no/such/folder.json", "there is no folder"),
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_a_mistake_costs_one_line(benchmark: Command, stand_in: Path, word: str, message: str) -> None:
    words = {
        given.partition("=")[0]: given for given in ("max_images=8", "batch_size=2", f"data={stand_in}", word)
    }
    done = benchmark(*words.values())
    one_line_error(done, message)


def test_a_measurement_that_fails_is_named(benchmark: Command, stand_in: Path) -> None:
    done = benchmark(*SMALL, f"data={stand_in}", "device=cuda", CUDA_VISIBLE_DEVICES="")
    one_line_error(done, "a measurement failed: this task on")
    assert "asked for a GPU and finds none" in done.stderr


def test_a_gpu_that_this_machine_has_and_cannot_use_is_told(benchmark: Command, stand_in: Path) -> None:
    done = benchmark(*SMALL, f"data={stand_in}", CUDA_VISIBLE_DEVICES="GPU-of-no-machine")
    one_line_error(done, "a measurement failed: this task on")
    assert "asked for a GPU and finds none" in done.stderr


def test_measurements_keep_what_the_user_has_on_pythonpath(
    benchmark: Command, stand_in: Path, tmp_path: Path
) -> None:
    own, seen = tmp_path / "own", tmp_path / "seen"
    own.mkdir()
    (own / "sitecustomize.py").write_text(f"import sys\nprint(*sys.orig_argv, file=open({str(seen)!r}, 'a'))\n")
    benchmark(*SMALL, f"data={stand_in}", "device=cuda", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(own))
    assert " caltech_exp.benchmark.process " in seen.read_text()


@pytest.mark.slurm
@pytest.mark.usefixtures("empty_queue")
def test_it_is_a_job_on_a_cluster(benchmark: Command, stand_in: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = benchmark(*SMALL, f"data={stand_in}", f"out={out}", f"profile={profile(tmp_path)}")
    assert done.returncode == 0, done.stderr
    assert "submitted job" in done.stdout
    until(lambda: not queue(), 600)
    log = "".join(path.read_text() for path in (tmp_path / "figures-logs").glob("*_log.*"))
    assert out.exists(), log
    measured = json.loads(out.read_text())["measurements"]
    assert len(measured) == 2
    assert measured[0]["config"]["workers"] == 0
    assert "epoch with validation" in log
