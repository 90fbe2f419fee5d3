"""What the values of a profile may be."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from caltech_exp.config import FiniteFloat
from jobs.sbatch_options import OF_CPU_JOBS, complaint

Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r\x00]*$")]
"""One line of text: a value of an sbatch option must not start a line of its own in the batch script."""
Name = Annotated[Line, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""A line that YAML reads as a number where it is one, as some accounts are."""
MINUTES_OF_TEN_YEARS = 10 * 366 * 24 * 60
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
"""A time that a timer can be set to."""

NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _allowed(name: str) -> str:
    if reason := complaint(name):
        raise ValueError(reason)
    return name


def _allowed_in_cpu_jobs(name: str) -> str:
    if reason := complaint(name, OF_CPU_JOBS):
        raise ValueError(reason)
    return name


def _with_dashes(name: Any) -> Any:
    return name.replace("_", "-") if isinstance(name, str) else name


_Spelled = Annotated[str, BeforeValidator(_with_dashes), StringConstraints(pattern=r"^[a-z][a-z-]*$")]
OptionName = Annotated[_Spelled, AfterValidator(_allowed)]
"""Of an sbatch option, without the dashes before it; within it underscores are as good."""
CpuOptionName = Annotated[_Spelled, AfterValidator(_allowed_in_cpu_jobs)]
"""The same for jobs without a GPU, which have fewer settings."""
OptionValue = Line | int | FiniteFloat | bool
"""Of an sbatch option; true for one without a value, false for none."""


def _memory(gigabytes: float) -> float:
    if 0 < gigabytes < 0.001:
        raise ValueError("write gigabytes: 32, or 0 for all of a node's memory")
    return gigabytes


Memory = Annotated[FiniteFloat, Field(ge=0, le=1e6), AfterValidator(_memory)]
"""Gigabytes; 0 for all that a node has, as sbatch takes --mem=0."""


def _gpus(value: object) -> object:
    """A number also where one was written as text."""
    if re.fullmatch(r"0*[1-9][0-9]*", str(value)):
        return int(str(value))
    if not all(re.fullmatch(r"[A-Za-z0-9][\w.-]*:0*[1-9][0-9]*", part) for part in str(value).split(",")):
        raise ValueError("write a number of GPUs, 1 or more, or a type and a number, as in a100:1")
    return value


Gpus = Annotated[int | str, BeforeValidator(_gpus)]
"""How many GPUs, or of which type how many."""
GIVE_GPUS = ("gpu", "gres", "tres", "exclusive")
"""Beginnings of sbatch's options that give a task GPUs, the last one all that a node has."""


def gives_gpus(gres: str | None) -> bool:
    """Whether generic resources are GPUs or parts of them, as Slurm calls those."""
    return any(word in (gres or "") for word in ("gpu", "shard", "mps"))
