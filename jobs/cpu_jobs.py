"""The jobs that train nothing: no GPU, little time, perhaps a partition of their own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.profile_values import MINUTES_OF_TEN_YEARS, CpuOptionName, Memory, Name, OptionValue
from jobs.sbatch_options import contradiction, full_name

if TYPE_CHECKING:
    from jobs.profiles import SlurmProfile

OF_GPUS = ("gpu", "gres", "tres", "cpus-per-gpu", "mem-per-gpu", "ntasks-per-gpu", "constraint")
"""Beginnings of sbatch's and srun's options that ask for GPUs, or for nodes that have them."""
OF_ONE_TASK = ("time-min", "cpus-per-task", "mem", "mincpus", "exclusive", "reservation", "nodelist", "nodefile")
"""Options that say how much a training task takes and from which nodes; these jobs have their own."""
SHORT = {"-c": "cpus-per-task", "-C": "constraint", "-G": "gpus", "-t": "time"}
"""Short names of such options of srun's."""
REQUEUEING = ("requeue", "no-requeue")
MEMORY_OF_CORES = "mem-per-cpu"
"""What sites ask for that do not take --mem; sbatch takes one of the two."""


class CpuJobs(BaseModel):
    """What jobs that train nothing ask for: packing the images before the runs, the report after them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    partition: Name | None = Field(None, description="partition; left out: the profile's")
    account: Name | None = Field(None, description="account to charge; left out: the profile's")
    qos: Name | None = Field(None, description="quality of service; left out: the profile's")
    time_minutes: int = Field(30, ge=1, le=MINUTES_OF_TEN_YEARS, description="time limit, minutes")
    cpus_per_task: int | None = Field(2, ge=1, description="CPU cores; null: the site's default")
    mem_gb: Memory | None = Field(4, description="memory, GB; null: the site's default")
    sbatch: dict[CpuOptionName, OptionValue] = Field(
        {}, description="further sbatch options beside the profile's; false leaves one of those out"
    )

    @model_validator(mode="after")
    def _no_contradiction(self) -> "CpuJobs":
        if reason := contradiction(self.sbatch):
            raise ValueError(f"sbatch: {reason}")
        return self


def cpu_profile(profile: "SlurmProfile") -> "SlurmProfile":
    """The profile with what its `cpu_jobs` says, and without all that asks for GPUs."""
    asked = profile.cpu_jobs
    kept = {name: value for name, value in profile.sbatch.items() if not _of_training(name)}
    if any(full_name(name) in REQUEUEING for name in asked.sbatch):
        kept = {name: value for name, value in kept.items() if full_name(name) not in REQUEUEING}
    kept |= asked.sbatch
    by_cores = kept.get(MEMORY_OF_CORES, False) is not False and "mem_gb" not in asked.model_fields_set
    mem_gb = None if by_cores else asked.mem_gb
    changes = {
        "device": "cpu",
        "gpus_per_node": None,
        "gres": None,
        "constraint": None,
        "partition": asked.partition or profile.partition,
        "account": asked.account or profile.account,
        "qos": asked.qos or profile.qos,
        "time_minutes": asked.time_minutes,
        "cpus_per_task": asked.cpus_per_task,
        "mem_gb": mem_gb,
        "signal_delay_seconds": min(profile.signal_delay_seconds, 30 * asked.time_minutes),
        "sbatch": {name: value for name, value in kept.items() if name != MEMORY_OF_CORES or mem_gb is None},
        "srun_args": _srun_args(profile.srun_args),
    }
    return profile.model_copy(update=changes)


def _srun_args(words: Sequence[str]) -> list[str]:
    """The words without options of training; the value of one may be a word of its own."""
    kept = []
    value_follows = False
    for word in words:
        if value_follows and not word.startswith("-"):
            value_follows = False
            continue
        long = word.startswith("--")
        name = full_name(word[2:].partition("=")[0]) if long else SHORT.get(word[:2], "")
        dropped = name.startswith(OF_GPUS) or name in ("cpus-per-task", "mem", "time")
        value_follows = dropped and (("=" not in word) if long else len(word) == 2)
        if not dropped:
            kept.append(word)
    return kept


def _of_training(option: str) -> bool:
    """Whether an sbatch option of the profile, perhaps cut short, is for tasks that train alone."""
    return option.startswith(OF_GPUS) or (
        option != MEMORY_OF_CORES and any(of_task.startswith(option) for of_task in OF_ONE_TASK)
    )
