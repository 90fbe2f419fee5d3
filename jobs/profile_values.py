"""What the values of a profile may be."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from caltech_exp.config import FiniteFloat

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r\x00]*$")]
"""One line of text: a value of an sbatch option must not start a line of its own in the batch script."""
Name = Annotated[Line, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A line that YAML reads as a number where it is one, as some accounts are."""
MINUTES_OF_TEN_YEARS = 10 * 366 * 24 * 60
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
"""A time that a timer can be set to."""

NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

OF_THE_SUITE = (
    "array", "comment", "dependency", "error", "job-name", "open-mode", "output", "signal", "wait",
)  # fmt: skip
"""Options of sbatch by which the suite finds its jobs and logs again; a profile cannot set them."""


def _not_reserved(name: str) -> str:
    for option in OF_THE_SUITE:
        if option.startswith(name):  # sbatch takes options cut short
            raise ValueError(f"{option} is set by the suite itself; leave it out")
    if "clusters".startswith(name):
        raise ValueError(
            "clusters is for sbatch alone; export SLURM_CLUSTERS, which squeue and the others hear too"
        )
    return name


def _with_dashes(name: Any) -> Any:
    return name.replace("_", "-") if isinstance(name, str) else name


OptionName = Annotated[
    str, BeforeValidator(_with_dashes), StringConstraints(pattern=r"^[a-z][a-z-]*$"), AfterValidator(_not_reserved)
]
"""Of an sbatch option, without the dashes before it; within it underscores are as good."""
OptionValue = Line | int | FiniteFloat | bool
"""Of an sbatch option; true for one without a value, false for none."""
GIVE_GPUS = ("gpu", "gres", "tres", "exclusive")
"""Beginnings of sbatch's options that give a task GPUs, the last one all that a node has."""
