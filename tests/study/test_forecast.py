"""How long runs take and when all of them have ended: arithmetic against numbers worked out by hand."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.catalog import THE_REPORT
from caltech_exp.config import RunConfig, run_id
from caltech_exp.executors.executor import JobArray
from caltech_exp.monitoring.study_status import outlook
from caltech_exp.study.forecast import Length, Paces, ended_after, learn, left_of, length, lengths, train_images
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.results import Progress
from caltech_exp.study.results_cache import PastRun, kind_of
from caltech_exp.study.run_status import RunState
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.cost import cost

PLAN = expand(THE_REPORT.select(tables=["scratch.lr"]), (0,), StudySettings())
NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CONFIG = RunConfig(epochs=10)
ANOTHER_LR = CONFIG.but(lr=0.5)


def past(config: RunConfig = CONFIG, seconds: float = 210.0, device: str = "cuda", model: str = "A100") -> PastRun:
    """All epochs but 10 s, over 100 images an epoch."""
    return PastRun(
        status="finished", kind=kind_of(config), fingerprint="f", device_type=device, device=model,
        epochs=config.epochs, train_images=100, epoch_seconds=seconds - 10.0, wall_seconds=seconds,
    )  # fmt: skip


def progress(left: float | None, epoch: int = 1, when: str = "2026-01-01T11:59:00Z") -> Progress:
    return Progress(
        run_id="r", epoch=epoch, epochs=30, images_per_second=1.0, seconds_left=left, submission="s", job="j",
        host="h", when=when,
    )  # fmt: skip


def planned(config: RunConfig, seed: int = 0) -> PlannedRun:
    return PlannedRun(config, seed, "scratch", ("scratch.lr=1",))


def test_the_same_settings_tell_first() -> None:
    paces = learn({run_id(CONFIG, 0): past(seconds=200), run_id(CONFIG, 1): past(seconds=220)}, "cuda", {})
    assert length(CONFIG, 100, paces) == Length(210.0, "the same settings")
    assert length(CONFIG, None, paces) == Length(210.0, "the same settings")


def test_then_an_epoch_of_the_same_network_and_images_by_epochs_and_images() -> None:
    paces = learn({run_id(CONFIG, 0): past()}, "cuda", {"alexnet": 1.0})
    # 200 s for 10 epochs of 100 images: 0.2 s an image, and 10 s besides.
    assert length(ANOTHER_LR, 100, paces) == Length(210.0, "the same network and images")
    assert length(ANOTHER_LR.but(epochs=20), 50, paces) == Length(210.0, "the same network and images")
    assert length(ANOTHER_LR, None, paces) is None


@pytest.mark.parametrize(
    "change", [{"model": "resnet18"}, {"freeze": "conv"}, {"augment": "crop"}, {"engine": "reference"}]
)
def test_what_changes_the_rate_is_not_told_from_others(change: dict[str, str]) -> None:
    paces = learn({run_id(CONFIG, 0): past()}, "cuda", {})
    assert length(CONFIG.but(**change), 100, paces) is None


def test_then_the_profiles_rate() -> None:
    paces = learn({}, "cuda", {"alexnet": 50.0})
    assert length(CONFIG, 100, paces) == Length(20.0, "the profile's rate")
    assert length(CONFIG.but(model="resnet18"), 100, paces) is None


def test_networks_of_ones_own_by_their_function_and_file() -> None:
    mine = CONFIG.but(model=f"/a/nets.py:tiny@sha256:{'1' * 64}")
    moved = mine.but(model=f"/b/nets.py:tiny@sha256:{'1' * 64}", lr=0.5)
    changed = mine.but(model=f"/a/nets.py:tiny@sha256:{'2' * 64}")
    paces = learn({run_id(mine, 0): past(mine)}, "cuda", {"tiny": 1.0})
    assert length(moved, 100, paces) == Length(210.0, "the same network and images")
    assert length(changed, 100, paces) == Length(1000.0, "the profile's rate")


def test_classes_cut_short_are_told_by_the_same_settings_only() -> None:
    cut = CONFIG.but(max_per_class=10)
    assert train_images(cut, 200) is None
    paces = learn({run_id(cut, 0): past(cut)}, "cuda", {"alexnet": 1.0})
    assert [one and one.seconds for one in lengths([planned(cut), planned(cut.but(lr=0.5))], paces, 200)] == [
        210.0,
        None,
    ]


def test_another_type_of_device_tells_nothing() -> None:
    paces = learn({run_id(CONFIG, 0): past(device="cpu", model="EPYC")}, "cuda", {})
    assert length(CONFIG, 100, paces) is None
    assert not paces.past


def test_a_run_in_training_tells_of_those_like_it() -> None:
    paces = learn({}, "cuda", {}, [(CONFIG, progress(290, epoch=1), 100)])
    assert length(ANOTHER_LR, 100, paces) == Length(100.0, "the same network and images")  # 10 s an epoch


def test_records_of_nothing_divide_by_nothing() -> None:
    empty = PastRun("diverged", kind_of(CONFIG), "f", "cuda", "A100", 0, 0, 0.0, 5.0)
    assert length(CONFIG, 100, learn({run_id(CONFIG, 0): empty}, "cuda", {})) == Length(5.0, "the same settings")


def test_images_of_an_epoch() -> None:
    assert train_images(CONFIG, 5784) == 2892
    assert train_images(CONFIG, 5785) == 2893
    assert train_images(CONFIG.but(max_images=10), 5784) == 10
    assert train_images(CONFIG.but(max_images=9999), 5784) == 2892


def test_lengths_are_in_the_order_of_the_runs() -> None:
    paces = Paces("cuda", rates={"alexnet": 10.0})
    runs = [planned(CONFIG), planned(CONFIG.but(model="resnet18")), planned(CONFIG.but(epochs=1))]
    assert [one and one.seconds for one in lengths(runs, paces, 200)] == [100.0, None, 10.0]


def test_the_cost_of_arrays() -> None:
    paces = Paces("cuda", rates={"alexnet": 10.0})
    runs = [planned(CONFIG, seed) for seed in range(5)]  # 100 s each
    first = JobArray("a", ((runs[0], runs[1]), (runs[2],)))
    second = JobArray("b", ((runs[3],), (runs[4],)))
    apart = cost([first, second], paces, 200, 1, each_array=True)
    assert (apart.seconds, apart.longest, apart.wall) == (500.0, 200.0, 300.0)
    together = cost([first, second], paces, 200, 1, each_array=False)
    assert together.wall == 500.0
    assert cost([first, second], paces, 200, 2, each_array=False).wall == 300.0
    assert (apart.runs, apart.unknown) == (5, 0)
    unknown = cost([JobArray("c", ((planned(CONFIG.but(model="resnet18")),),))], paces, 200, 1, each_array=True)
    assert (unknown.runs, unknown.unknown, unknown.is_known) == (1, 1, False)
    assert cost([], paces, 200, 1, each_array=True).wall == 0.0


@given(st.lists(st.floats(0, 1e6), max_size=30), st.integers(1, 8))
def test_no_schedule_beats_its_bounds(tasks: list[float], at_once: int) -> None:
    end = ended_after(tasks, at_once)
    least = max([sum(tasks) / at_once, *tasks, 0.0])
    assert least * (1 - 1e-9) <= end <= (sum(tasks) / at_once + max([*tasks, 0.0])) * (1 + 1e-9)


def test_places_that_are_taken() -> None:
    assert ended_after([10.0], 2, [100.0]) == 100.0
    assert ended_after([10.0], 1, [100.0]) == 110.0
    assert ended_after([10.0, 10.0], 2, [100.0, 50.0]) == 100.0
    assert ended_after([], 4) == 0.0


def test_what_a_run_in_training_has_left() -> None:
    assert left_of(RunState("running", progress=progress(600)), None, NOON) == 540
    assert left_of(RunState("running", progress=progress(10)), None, NOON) == 0
    assert left_of(RunState("running", progress=progress(None)), Length(70.0, "the same settings"), NOON) == 70
    assert left_of(RunState("running"), None, NOON) is None


def test_the_end_is_expected_from_what_runs_say() -> None:
    first, second, *others = PLAN
    states = {run.id: RunState("pending") for run in others}
    states |= {first.id: RunState("running", progress=progress(600)), second.id: RunState("finished")}
    nothing = Paces("cuda")

    def left() -> float | None:
        return outlook(PLAN, states, nothing, 200, 4, NOON).left

    assert left() == 540
    states[second.id] = RunState("running", progress=progress(300))
    assert left() == 540  # two at once: the longer one
    states[second.id] = RunState("queued")
    assert left() is None  # nothing tells how long it takes
    states = {run.id: RunState("finished") for run in PLAN}
    assert left() is None


def test_queued_runs_wait_for_those_in_training() -> None:
    first, second, third, *others = PLAN
    states = {run.id: RunState("finished") for run in others}
    states |= {first.id: RunState("running", progress=progress(600)), second.id: RunState("queued")}
    states[third.id] = RunState("pending")
    paces = Paces("cuda", rates={"alexnet": 30 * 100 / 1000})  # 1,000 s a run of 30 epochs
    ahead = outlook(PLAN, states, paces, 200, 4, NOON)
    assert ahead.left == 1540
    assert (ahead.at_once, ahead.pending) == (1, 1000)
    assert ahead.ends == {first.id: 540}
    states[first.id] = RunState("queued")
    assert outlook(PLAN, states, paces, 200, 4, NOON).left == 1000  # nothing runs: four at a time
