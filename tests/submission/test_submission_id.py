"""What submissions are called: in the order in which they were made."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from caltech_exp.submission.submission import ID, submission_id

NOW = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)


def test_many_of_one_second_are_in_their_order() -> None:
    made = [submission_id(NOW, [])]
    for _ in range(1000):
        made.append(submission_id(NOW, reversed(made)))
    assert all(ID.fullmatch(one) for one in made)
    assert all(one < other for one, other in pairwise(made))


@pytest.mark.parametrize(
    ("others", "begins"),
    [
        ([], "20260131T235959-"),
        (["20260131T235958-ffff"], "20260131T235959-"),
        (["20260131T235959-ffff"], "20260201T000000-0000"),
        (["20260201T001000-0000", "20260131T235959-1234"], "20260201T001000-0"),  # a clock that is ahead
        (["notes", ".lock"], "20260131T235959-"),
    ],
)
def test_each_is_after_those_before(others: list[str], begins: str) -> None:
    assert submission_id(NOW, others).startswith(begins)


def test_two_studies_of_one_second_have_different_ones() -> None:
    assert len({submission_id(NOW, []) for _ in range(20)}) > 10
