"""Which classes a network takes for which: a confusion matrix, short enough to stand in every result."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import StringConstraints

from caltech_exp.config import NUM_CLASSES

if TYPE_CHECKING:  # who only reads states of runs need not import numpy
    import numpy as np
    from numpy.typing import NDArray

Matrix: TypeAlias = "NDArray[np.int64]"
"""Images by true class (row) and predicted class (column), [NUM_CLASSES, NUM_CLASSES]."""

_CLASS = "(?:[0-9]|[1-9][0-9]|10[01])"
_ENTRY = f"{_CLASS}\\*[1-9][0-9]{{0,8}}"
_ROW = f"{_CLASS}:{_ENTRY}(?:,{_ENTRY})*"

Confusion = Annotated[str, StringConstraints(pattern=f"^(?:{_ROW}(?: {_ROW})*)?$")]
"""`0:0*390,5*3 5:5*21`: of class 0, 390 images taken for class 0 and 3 for class 5; of class 5, 21 for itself."""


def encode(matrix: Matrix) -> str:
    """The matrix as text; classes without images, and pairs that do not occur, are left out."""
    rows = []
    for true, counts in enumerate(matrix):
        entries = ",".join(f"{predicted}*{counts[predicted]}" for predicted in counts.nonzero()[0])
        if entries:
            rows.append(f"{true}:{entries}")
    return " ".join(rows)


def decode(text: Confusion) -> Matrix:
    """The matrix of a text that has Confusion's form."""
    import numpy as np

    trues: list[int] = []
    numbers: list[int] = []  # predicted class and images, in turns
    for row in text.split():
        true, _, entries = row.partition(":")
        numbers += map(int, entries.replace("*", ",").split(","))
        trues += [int(true)] * (entries.count(",") + 1)
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    matrix[trues, numbers[::2]] = numbers[1::2]
    return matrix
