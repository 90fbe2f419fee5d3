"""Which measurements the benchmark makes."""

from caltech_exp.benchmark.records import MODELS, PARTS, EpochCosts, SideBySideCosts, plan


def test_plan_measures_both_engines_with_the_same_settings() -> None:
    steps = list(plan(MODELS, PARTS, {"batch_size": 8, "epochs": 2}, images=100))
    for name in {step.name for step in steps if step.config.max_images == 0}:
        reference, fast = (step.config for step in steps if step.name == name)
        assert (reference.engine, fast.engine) == ("reference", "fast")
        assert reference.but(engine="fast", precision=fast.precision) == fast
        assert fast.precision == ("fp32" if name.endswith("losses") else "bf16")
        assert (fast.batch_size, fast.epochs) == (8, 2)


def test_plan_measures_growth_at_all_images_a_half_and_a_quarter() -> None:
    steps = list(plan(["alexnet"], ["growth"], {}, images=100))
    assert [step.config.max_images for step in steps] == [100, 50, 25]


def test_plan_has_only_the_chosen_parts() -> None:
    assert {step.kind for step in plan(["resnet18"], ["augment"], {}, images=100)} == {"augment"}
    assert {step.name for step in plan(["alexnet"], ["frozen"], {}, images=100)} == {"alexnet frozen epoch"}


def test_plan_measures_a_frozen_resnet_with_both_kinds_of_batch_normalisation() -> None:
    steps = [
        step.config for step in plan(["resnet18"], ["frozen"], {}, images=100) if step.config.engine == "fast"
    ]
    assert [(config.freeze, config.frozen_batchnorm) for config in steps] == [("conv", "train"), ("conv", "eval")]


def test_plan_measures_batches_that_a_quarter_of_the_images_holds() -> None:
    steps = list(plan(["alexnet"], ["batches"], {}, images=600))
    assert [(step.config.batch_size, step.config.max_images) for step in steps] == [
        (32, 150),
        (64, 150),
        (128, 150),
    ]


def test_plan_measures_runs_side_by_side_on_a_small_part() -> None:
    steps = list(plan(["resnet18"], ["side_by_side"], {}, images=800))
    assert [step.runs for step in steps] == [1, 2, 4]
    assert {(step.config.batch_size, step.config.max_images) for step in steps} == {(64, 100)}


def process(*times: float) -> EpochCosts:
    return EpochCosts(epoch_seconds=1, images_per_second=1, start_seconds=1, peak_memory_bytes=10, times=times)


def test_side_by_side_counts_from_the_first_start_to_the_last_end() -> None:
    costs = SideBySideCosts(runs=(process(100, 110, 120), process(104, 114, 126)))
    assert costs.epoch_seconds == 13
    assert costs.peak_memory_bytes == 20
    assert costs.runs[1].each_epoch == (10, 12)
