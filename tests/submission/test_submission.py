"""Ids of submissions, and their arrays."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.study.plan import PlannedRun, expand
from caltech_exp.study.run_status import RunStatus
from caltech_exp.study.study import StudySettings
from caltech_exp.submission.request import Request
from caltech_exp.submission.submission import (
    ID,
    Submission,
    TaskSize,
    make_arrays,
    nothing_to_submit,
    seeds_outermost,
    submission_id,
)

NOW = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)


def test_submission_ids_of_one_second_keep_their_order() -> None:
    made = [submission_id(NOW, [])]
    for _ in range(1000):
        made.append(submission_id(NOW, reversed(made)))
    assert all(ID.fullmatch(name) for name in made)
    assert all(earlier < later for earlier, later in pairwise(made))


@pytest.mark.parametrize(
    ("others", "begins"),
    [
        ([], "20260131T235959-"),
        (["20260131T235958-ffff"], "20260131T235959-"),
        (["20260131T235959-ffff"], "20260201T000000-"),
        (["20260201T001000-0000", "20260131T235959-1234"], "20260201T001000-0"),  # a clock that is ahead
        (["notes", ".lock"], "20260131T235959-"),
    ],
)
def test_submission_id_is_later_than_all_others(others: list[str], begins: str) -> None:
    assert submission_id(NOW, others).startswith(begins)


def test_submission_ids_of_two_studies_differ_within_a_second() -> None:
    times = [NOW + timedelta(microseconds=micros) for micros in range(0, 1_000_000, 20)]
    assert len({submission_id(time, []) for time in times}) == 50_000


def plan(*sections: str) -> list[PlannedRun]:
    return expand(THE_REPORT.select(sections), (0, 1, 2), StudySettings())


def test_arrays_are_one_per_section_named_section_and_study() -> None:
    arrays = make_arrays(plan("scratch", "augmentation"), "my study ü", {}, 1001)
    assert [(array.name, len(array.tasks)) for array in arrays] == [
        ("scratch.my-study-", 39),
        ("augmentation.my-study-", 12),
    ]


def test_arrays_are_split_at_the_limit_of_the_cluster_and_lose_nothing() -> None:
    runs = plan("scratch")
    arrays = make_arrays(runs, "s", {}, 10)
    assert [len(array.tasks) for array in arrays] == [10, 10, 10, 9]
    assert [run for array in arrays for task in array.tasks for run in task] == runs


def test_arrays_put_several_runs_into_a_task() -> None:
    (array,) = make_arrays(plan("augmentation"), "s", {"augmentation": TaskSize(5)}, None)
    assert [len(task) for task in array.tasks] == [5, 5, 2]


def test_a_retry_of_nothing_says_that_nothing_failed() -> None:
    runs = expand(THE_REPORT.select(tables=["scratch.lr"]), [0], StudySettings())
    states = {run.id: RunStatus("pending" if place else "queued") for place, run in enumerate(runs)}
    assert nothing_to_submit(runs, states, retry=True) == "nothing to submit: no run failed or was lost"
    assert nothing_to_submit(runs, states, retry=False) == "nothing to submit: 4 pending, 1 queued"


def test_each_row_of_a_section_has_its_first_seed_before_any_has_its_second() -> None:
    runs = plan("scratch", "augmentation")
    ordered = seeds_outermost(runs, {run.id for run in runs})
    assert [(run.section, run.seed) for run in ordered] == [
        *[("scratch", seed) for seed in (0, 1, 2) for _ in range(13)],
        *[("augmentation", seed) for seed in (0, 1, 2) for _ in range(4)],
    ]
    # A row whose first seed is finished has its turn with the others' second.
    left = {run.id for run in runs if run.seed or run.section == "scratch"}
    assert [run.seed for run in seeds_outermost(runs, left) if run.section == "augmentation"] == [1] * 4 + [2] * 4


def test_tasks_without_room_in_the_queue_are_those_of_the_last_seeds() -> None:
    runs = plan("scratch", "augmentation")
    ordered = seeds_outermost(runs, {run.id for run in runs})
    request = cast(Request, None)
    submission = Submission(request, arrays=tuple(make_arrays(ordered, "s", {}, None)))
    assert submission.fitting(None) == submission
    part = submission.fitting(17)
    assert [len(array.tasks) for array in part.arrays] == [13, 4]
    assert {run.seed for array in part.arrays for task in array.tasks for run in task} == {0}
    assert [len(array.tasks) for array in part.left_out] == [26, 8]
    assert not submission.fitting(0).arrays
