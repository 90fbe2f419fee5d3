"""What a profile may ask for: the types of its settings, and the resources of jobs that differ from the others."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from caltech_exp.config import FiniteFloat
from caltech_exp.profiles.sbatch_options import CPU_JOB_SETTINGS, SETTINGS, complaint, contradiction
from caltech_exp.records import StrictRecord

TEN_YEARS_MINUTES = 10 * 366 * 24 * 60

# One line: the value of an sbatch option must not start a line of its own in the batch script.
Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\n\r\x00]*$")]
# YAML reads some accounts as numbers.
Name = Annotated[Line, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


def _with_dashes(name: Any) -> Any:
    return name.replace("_", "-") if isinstance(name, str) else name


def _check_option(name: str, settings: Iterable[str] = SETTINGS) -> str:
    if reason := complaint(name, settings):
        raise ValueError(reason)
    return name


# An sbatch option without the dashes before it; within it underscores are as good as dashes.
_Spelled = Annotated[str, BeforeValidator(_with_dashes), StringConstraints(pattern=r"^[a-z][a-z-]*$")]
OptionName = Annotated[_Spelled, AfterValidator(lambda name: _check_option(name))]
CpuOptionName = Annotated[_Spelled, AfterValidator(lambda name: _check_option(name, CPU_JOB_SETTINGS))]
# true for an option without a value; false removes the option.
OptionValue = Line | int | FiniteFloat | bool


def _check_memory(gigabytes: float) -> float:
    if 0 < gigabytes < 0.001:
        raise ValueError("write gigabytes: 32, or 0 for all of a node's memory")
    return gigabytes


Memory = Annotated[FiniteFloat, Field(ge=0, le=1e6), AfterValidator(_check_memory)]


def _read_gpus(value: object) -> object:
    """An int for a number of GPUs, also if it is written as text; `a100:1,v100:2` stays."""
    if re.fullmatch(r"0*[1-9][0-9]*", str(value)):
        return int(str(value))
    if not all(re.fullmatch(r"[A-Za-z0-9][\w.-]*:0*[1-9][0-9]*", part) for part in str(value).split(",")):
        raise ValueError("write a number of GPUs, 1 or more, or a type and a number, as in a100:1")
    return value


Gpus = Annotated[int | str, BeforeValidator(_read_gpus)]


def is_gpu_resource(text: str | None) -> bool:
    """Whether a generic resource is a GPU, or a part of one, as Slurm names them."""
    return any(word in (text or "") for word in ("gpu", "shard", "mps"))


class CpuJobs(StrictRecord):
    """Resources of the jobs that train nothing: making packs before the runs, writing the report after them."""

    partition: Name | None = Field(None, description="partition; default: the profile's")
    account: Name | None = Field(None, description="account to charge; default: the profile's")
    qos: Name | None = Field(None, description="quality of service; default: the profile's")
    time_minutes: int = Field(30, ge=1, le=TEN_YEARS_MINUTES, description="time limit, minutes")
    cpus_per_task: int | None = Field(2, ge=1, description="CPU cores; null: the site's default")
    mem_gb: Memory | None = Field(4, description="memory, GB; null: the site's default")
    sbatch: dict[CpuOptionName, OptionValue] = Field(
        {}, description="further sbatch options, added to the profile's; false removes one of those"
    )

    @model_validator(mode="after")
    def _check_options(self) -> "CpuJobs":
        if reason := contradiction(self.sbatch):
            raise ValueError(f"sbatch: {reason}")
        return self


class SectionResources(StrictRecord):
    """Resources of the tasks of one section of the report or of a study; what is not given is the profile's."""

    partition: Name | None = None
    qos: Name | None = None
    constraint: Name | None = None
    time_minutes: int = Field(240, ge=1, le=TEN_YEARS_MINUTES)
    cpus_per_task: int | None = Field(None, ge=1)
    mem_gb: Memory | None = None
    gpus_per_node: Gpus | None = None
    gres: Line | None = None
    max_parallel: int = Field(256, ge=1)

    @property
    def changes(self) -> dict[str, Any]:
        """What it sets in the profile. GPUs in one form replace those in the other."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        other = {"gres": None} if given.get("gpus_per_node") else {}
        return {**({"gpus_per_node": None} if is_gpu_resource(self.gres) else other), **given}
