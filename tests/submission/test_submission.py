"""Submission ids sort in the order in which they were made."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from caltech_exp.submission.submission import ID, submission_id

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
