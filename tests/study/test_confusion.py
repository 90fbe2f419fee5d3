"""Confusion matrices as text."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from caltech_exp.config import NUM_CLASSES
from caltech_exp.study.results import Confusion, decode, encode


def test_a_matrix_comes_back_from_its_text() -> None:
    matrix = np.random.default_rng(0).poisson(0.2, (NUM_CLASSES, NUM_CLASSES)).astype(np.int64)
    text = encode(matrix)
    assert TypeAdapter(Confusion).validate_python(text) == text
    assert (decode(text) == matrix).all()


def test_the_text_is_short_and_readable() -> None:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    matrix[0, 0], matrix[0, 5], matrix[5, 101] = 390, 3, 21
    assert encode(matrix) == "0:0*390,5*3 5:101*21"
    assert encode(np.zeros_like(matrix)) == ""
    assert not decode("").any()


@pytest.mark.parametrize(
    "text", ["0:10000*1", "0:0*0", "0:0*-1", "00:0*1", "0:", "0:0*1,", "0:0*1  1:1*1", "nonsense"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Confusion).validate_python(text)
