"""Which measurements the benchmark makes."""

from caltech_exp.benchmark.records import MODELS, PARTS, plan


def test_plan_measures_both_engines_with_the_same_settings() -> None:
    steps = list(plan(MODELS, PARTS, {"batch_size": 8, "epochs": 2}, images=100))
    for name in {step.name for step in steps if " of 1/" not in step.name}:
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
    assert {step.name for step in plan(["resnet18"], ["frozen"], {}, images=100)} == {"resnet18 frozen epoch"}
