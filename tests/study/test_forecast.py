"""How long runs take and when all of them have ended: arithmetic against numbers worked out by hand."""

import re
import tomllib
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig, run_id
from caltech_exp.executors.executor import JobArray, make_executor
from caltech_exp.profiles.profile import parse_profile
from caltech_exp.study.forecast import (
    MEASURED_RATES,
    Throughput,
    duration,
    forecast,
    measure_throughput,
    rough_throughput,
    run_seconds_left,
    seconds_until_done,
    train_images,
    unfinished_runs,
)
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun, past_runs, run_kind
from caltech_exp.study.run_status import RunStatus
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.cost import cost
from tests.conftest import CHECKOUT

PLAN = expand(THE_REPORT.select(tables=["scratch.lr"]), (0,), StudySettings())
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = RunConfig(epochs=10)
ANOTHER_LR = CONFIG.but(lr=0.5)


def past(config: RunConfig = CONFIG, seconds: float = 210.0, device: str = "cuda", model: str = "A100") -> PastRun:
    """All epochs but 10 s, over 100 images an epoch."""
    return PastRun(
        status="finished", kind=run_kind(config), fingerprint="f", device_type=device, device=model,
        epochs=config.epochs, train_images=100, epoch_seconds=seconds - 10.0, wall_seconds=seconds,
        max_images=config.max_images, max_per_class=config.max_per_class,
    )  # fmt: skip


def progress(left: float | None, epoch: int = 1, when: str = "2026-01-01T11:59:00Z") -> Progress:
    return Progress(
        run_id="r", epoch=epoch, epochs=30, images_per_second=1.0, seconds_left=left, submission="s", job="j",
        host="h", when=when,
    )  # fmt: skip


def planned(config: RunConfig, seed: int = 0) -> PlannedRun:
    return PlannedRun(config, seed, "scratch", ("scratch.lr=1",))


def test_estimate_uses_runs_of_the_same_settings_first() -> None:
    throughput = measure_throughput(
        {run_id(CONFIG, 0): past(seconds=200), run_id(CONFIG, 1): past(seconds=220)}, "cuda", {}
    )
    assert throughput.estimate(CONFIG, 100) == 210.0
    assert throughput.estimate(CONFIG, None) == 210.0


def test_estimate_scales_with_epochs_and_images_of_the_same_network() -> None:
    throughput = measure_throughput({run_id(CONFIG, 0): past()}, "cuda", {"alexnet": 1.0})
    # 200 s for 10 epochs of 100 images: 0.2 s an image, and 10 s besides.
    assert throughput.estimate(ANOTHER_LR, 100) == 210.0
    assert throughput.estimate(ANOTHER_LR.but(epochs=20), 50) == 210.0
    assert throughput.estimate(ANOTHER_LR, None) == 210.0
    assert throughput.estimate(ANOTHER_LR.but(max_images=50), None) is None


@pytest.mark.parametrize(
    "change", [{"model": "resnet18"}, {"freeze": "conv"}, {"augment": "crop"}, {"engine": "reference"}]
)
def test_estimate_ignores_runs_of_another_kind(change: dict[str, str]) -> None:
    throughput = measure_throughput({run_id(CONFIG, 0): past()}, "cuda", {})
    assert throughput.estimate(CONFIG.but(**change), 100) is None


def test_runs_that_keep_the_statistics_of_frozen_layers_are_of_a_kind_of_their_own() -> None:
    frozen = CONFIG.but(model="resnet18", freeze="conv")
    kept = frozen.but(frozen_batchnorm="eval")
    assert run_kind(kept) == "resnet18, fast bf16, freeze=conv frozen_batchnorm=eval, augment=none"
    throughput = measure_throughput({run_id(frozen, 0): past(frozen)}, "cuda", {})
    assert [throughput.estimate(each, 50) for each in (frozen, kept)] == [210.0, None]
    assert run_kind(CONFIG.but(frozen_batchnorm="eval")) == run_kind(CONFIG)
    rough = rough_throughput("NVIDIA H100 80GB HBM3")
    assert rough
    assert rough[1].estimate(kept, 100) == rough[1].estimate(frozen, 100)


def test_estimate_falls_back_to_the_profiles_rate() -> None:
    throughput = measure_throughput({}, "cuda", {"alexnet": 50.0})
    assert throughput.estimate(CONFIG, 100) == 20.0
    assert throughput.estimate(CONFIG.but(model="resnet18"), 100) is None


def test_estimate_knows_custom_networks_by_function_and_file() -> None:
    mine = CONFIG.but(model=f"/a/nets.py:tiny@sha256:{'1' * 64}")
    moved = mine.but(model=f"/b/nets.py:tiny@sha256:{'1' * 64}", lr=0.5)
    changed = mine.but(model=f"/a/nets.py:tiny@sha256:{'2' * 64}")
    throughput = measure_throughput({run_id(mine, 0): past(mine)}, "cuda", {"tiny": 1.0})
    assert throughput.estimate(moved, 100) == 210.0
    assert throughput.estimate(changed, 100) == 1010.0


def test_estimate_with_max_per_class_needs_an_epoch_of_as_many_images() -> None:
    cut = CONFIG.but(max_per_class=10)
    assert train_images(cut, 200) is None
    throughput = measure_throughput({run_id(cut, 0): past(cut)}, "cuda", {"alexnet": 1.0})
    runs = [planned(each) for each in (cut, cut.but(lr=0.5), cut.but(epochs=20), cut.but(max_per_class=5))]
    assert throughput.estimate_runs(runs, 200) == [210.0, 210.0, 410.0, None]
    throughput = measure_throughput({}, "cuda", {}, [(cut, progress(290, epoch=1), None)])
    assert throughput.estimate_runs(runs, 200) == [100.0, 100.0, 200.0, None]


def test_estimate_ignores_runs_on_another_type_of_device() -> None:
    throughput = measure_throughput({run_id(CONFIG, 0): past(device="cpu", model="EPYC")}, "cuda", {})
    assert throughput.estimate(CONFIG, 100) is None
    assert not throughput.models


def test_estimate_uses_runs_in_training() -> None:
    throughput = measure_throughput({}, "cuda", {}, [(CONFIG, progress(290, epoch=1), 100)])
    # 10 s an epoch
    assert throughput.estimate(ANOTHER_LR, 100) == 100.0


def test_estimate_counts_the_start_of_other_kinds() -> None:
    another = CONFIG.but(model="resnet18")
    throughput = measure_throughput(
        {run_id(CONFIG, 0): past()}, "cuda", {"resnet18": 50.0}, [(another, progress(290, epoch=1), 100)]
    )
    assert throughput.estimate(another, 100) == 110.0
    assert throughput.unfinished == 1
    assert throughput.estimate(another.but(freeze="conv"), 100) == 30.0  # 20 s at the profile's rate
    assert [throughput.uses_rate(each) for each in (another, another.but(freeze="conv"), CONFIG)] == [
        False,
        True,
        False,
    ]


def test_unfinished_runs_are_those_with_an_epoch() -> None:
    states = {run.id: RunStatus("pending") for run in PLAN}
    states[PLAN[0].id] = RunStatus("lost", progress=progress(290))
    assert unfinished_runs(PLAN, states, 200) == [(PLAN[0].config, progress(290), 100)]
    assert unfinished_runs(PLAN, states, None) == [(PLAN[0].config, progress(290), None)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "under a minute"), (59.9, "under a minute"), (60, "1 min"), (3600, "1 h 00 min"), (2e5, "2 d 8 h")],
)
def test_duration_has_sensible_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_throughput_accepts_runs_without_epochs() -> None:
    empty = PastRun("diverged", run_kind(CONFIG), "f", "cuda", "A100", 0, 0, 0.0, 5.0)
    throughput = measure_throughput({run_id(CONFIG, 0): empty}, "cuda", {})
    assert throughput.estimate(CONFIG, 100) == 5.0


def test_train_images_are_every_second_one_up_to_max_images() -> None:
    assert train_images(CONFIG, 5784) == 2892
    assert train_images(CONFIG, 5785) == 2893
    assert train_images(CONFIG.but(max_images=10), 5784) == 10
    assert train_images(CONFIG.but(max_images=9999), 5784) == 2892


def test_estimate_runs_keeps_the_order_of_the_runs() -> None:
    throughput = Throughput("cuda", rates={"alexnet": 10.0})
    runs = [planned(CONFIG), planned(CONFIG.but(model="resnet18")), planned(CONFIG.but(epochs=1))]
    estimates = throughput.estimate_runs(runs, 200)
    assert estimates == [100.0, None, 10.0]


def test_cost_of_arrays() -> None:
    throughput = Throughput("cuda", rates={"alexnet": 10.0})
    runs = [planned(CONFIG, seed) for seed in range(5)]  # 100 s each
    first = JobArray("a", ((runs[0], runs[1]), (runs[2],)))
    second = JobArray("b", ((runs[3],), (runs[4],)))
    slurm = make_executor(parse_profile("executor: slurm\ngpus_per_node: 1\nmax_parallel: 1", "test"))
    apart = cost([first, second], throughput, 200, slurm)
    assert (apart.seconds, apart.late[0], apart.wall) == (500.0, 200.0, 300.0)
    one, two = (
        make_executor(parse_profile(f"executor: local\ndevice: cpu\nmax_parallel: {number}", "test"))
        for number in (1, 2)
    )
    assert cost([first, second], throughput, 200, one).wall == 500.0
    assert cost([first, second], throughput, 200, two).wall == 300.0
    assert (apart.runs, apart.unknown) == (5, {})
    unknown = cost([JobArray("c", ((planned(CONFIG.but(model="resnet18")),),))], throughput, 200, slurm)
    assert (unknown.runs, unknown.unknown, unknown.known_runs) == (1, {"resnet18": 1}, 0)
    assert cost([], throughput, 200, slurm).wall == 0.0


@given(st.lists(st.floats(0, 1e6), max_size=30), st.integers(1, 8))
def test_seconds_until_done_stays_within_bounds(tasks: list[float], at_once: int) -> None:
    end = seconds_until_done(tasks, at_once)
    least = max([sum(tasks) / at_once, *tasks, 0.0])
    assert least * (1 - 1e-9) <= end <= (sum(tasks) / at_once + max([*tasks, 0.0])) * (1 + 1e-9)


def test_seconds_until_done_respects_busy_slots() -> None:
    assert seconds_until_done([10.0], 2, [100.0]) == 100.0
    assert seconds_until_done([10.0], 1, [100.0]) == 110.0
    assert seconds_until_done([10.0, 10.0], 2, [100.0, 50.0]) == 100.0
    assert seconds_until_done([], 4) == 0.0


def test_run_seconds_left_subtracts_the_time_since_the_last_epoch() -> None:
    assert run_seconds_left(RunStatus("running", progress=progress(600)), None, NOON) == 540
    assert run_seconds_left(RunStatus("running", progress=progress(10)), None, NOON) == 0
    before_first_epoch, estimate = (
        RunStatus("running", progress=progress(None)),
        70.0,
    )
    assert run_seconds_left(before_first_epoch, estimate, NOON) == 70
    assert run_seconds_left(RunStatus("running"), None, NOON) is None


def test_forecast_waits_for_the_longest_run() -> None:
    first, second, *others = PLAN
    states = {run.id: RunStatus("pending") for run in others}
    states |= {first.id: RunStatus("running", progress=progress(600)), second.id: RunStatus("finished")}
    nothing = Throughput("cuda")

    def left() -> float | None:
        return forecast(PLAN, states, nothing, 200, slots=4, now=NOON).seconds_left

    assert left() == 540
    states[second.id] = RunStatus("running", progress=progress(300))
    assert left() == 540  # two at once: the longer one
    states[second.id] = RunStatus("queued")
    assert left() is None  # nothing tells how long it takes
    ahead = forecast(PLAN, states, nothing, 200, slots=4, now=NOON)
    assert (ahead.known_seconds, ahead.unknown, ahead.pending_unknown) == (540, {"alexnet": 1}, len(others))
    states = {run.id: RunStatus("finished") for run in PLAN}
    assert left() is None


def test_forecast_starts_queued_runs_after_those_in_training() -> None:
    first, second, third, *others = PLAN
    states = {run.id: RunStatus("finished") for run in others}
    states |= {first.id: RunStatus("running", progress=progress(600)), second.id: RunStatus("queued")}
    states[third.id] = RunStatus("pending")
    throughput = Throughput("cuda", rates={"alexnet": 30 * 100 / 1000})  # 1,000 s a run of 30 epochs
    ahead = forecast(PLAN, states, throughput, 200, slots=4, now=NOON)
    assert ahead.seconds_left == 1540
    assert ahead.slots == 1
    assert ahead.pending_seconds == pytest.approx(1000)
    assert ahead.eta == {first.id: NOON + timedelta(seconds=540)}
    states[first.id] = RunStatus("queued")
    # Nothing runs: four at a time.
    assert forecast(PLAN, states, throughput, 200, slots=4, now=NOON).seconds_left == pytest.approx(1000)


def test_measured_rates_are_those_of_the_docs() -> None:
    rates = tomllib.loads(MEASURED_RATES.read_text())["H100"]
    text = (CHECKOUT / "docs" / "performance.md").read_text().partition("| one H100")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    printed = {row[0]: [float(cell.replace(",", "") or "nan") for cell in row[1:]] for row in rows}
    seconds, inputs = rates["epoch_seconds"], rates["inputs_per_second"]
    for network, name in (("alexnet", "AlexNet"), ("resnet18", "ResNet-18")):
        template, fast, _ = printed[f"{name}: epoch with validation, s"]
        assert (seconds[f"{network}, reference fp32"], seconds[f"{network}, fast bf16"]) == (template, fast)
    for augment, rate in inputs.items():
        assert [rate] == [row[1] for name, row in printed.items() if re.search(rf"augment={augment}\b", name)]


def test_measured_start_is_that_of_the_reproduction() -> None:
    rates = tomllib.loads(MEASURED_RATES.read_text())["H100"]
    kept = past_runs(CHECKOUT / "reports" / "reproduction" / "runs", None, keep=False).values()
    past = [run for run in kept if "H100" in run.device]
    assert len(past) == 48
    assert all(run.train_images == rates["images"] for run in past)
    assert median(run.wall_seconds - run.epoch_seconds for run in past) == pytest.approx(
        rates["start_seconds"], abs=0.1
    )
    rough = rough_throughput("NVIDIA H100 80GB HBM3")
    assert rough
    for run in past:  # rough: within a third of each kind's own epochs
        assert rough[1].kinds[run.kind] * rates["images"] == pytest.approx(
            run.epoch_seconds / run.epochs, rel=0.34
        )


@pytest.mark.parametrize(
    ("gpu", "device"), [("", "H100"), ("h100", "H100"), ("A100-SXM4", None), ("unknown", None)]
)
def test_rough_rates_are_only_of_measured_devices(gpu: str, device: str | None) -> None:
    rough = rough_throughput(gpu)
    assert (rough and rough[0]) == device


def test_rough_rates_add_the_inputs_and_leave_out_what_was_not_measured() -> None:
    rough = rough_throughput("h100")
    assert rough
    estimate = rough[1].estimate
    assert estimate(RunConfig(), 2892) == pytest.approx(0.5 + 30 * 0.13)
    assert estimate(RunConfig(augment="combined"), 2892) == pytest.approx(0.5 + 30 * (0.13 + 2892 / 12_982))
    assert estimate(RunConfig(engine="reference"), 2892) == pytest.approx(0.5 + 30 * 7.6)
    assert estimate(RunConfig(engine="reference", augment="crop"), 2892) is None
    assert estimate(RunConfig(precision="fp32"), 2892) is None
