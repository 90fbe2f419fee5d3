"""What the values of a profile may be."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r\x00]*$")]
"""One line of text: a value of an sbatch option must not start a line of its own in the batch script."""
MINUTES_OF_TEN_YEARS = 10 * 366 * 24 * 60
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
"""A time that a timer can be set to."""

NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

RESERVED = ("array", "comment", "dependency", "error", "job-name", "open-mode", "output", "signal", "wait")
"""Options of sbatch by which the suite finds its jobs and logs again; a profile cannot set them."""


def _not_reserved(name: str) -> str:
    for option in RESERVED:
        if option.startswith(name):  # sbatch takes options cut short
            raise ValueError(f"{option} is set by the suite itself; leave it out")
    return name


OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$"), AfterValidator(_not_reserved)]
