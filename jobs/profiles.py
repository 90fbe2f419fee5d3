"""Where and how to run: profiles, read from YAML and validated."""

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from caltech_exp.arguments import explain
from caltech_exp.config import FiniteFloat
from caltech_exp.errors import UserError, shown, unknown
from caltech_exp.files import user_path
from caltech_exp.plain_yaml import MOST_CHARACTERS, load_plain, read_yaml
from caltech_exp.provenance import CHECKOUT
from jobs.cpu_jobs import CpuJobs
from jobs.profile_values import (
    GIVE_GPUS,
    MINUTES_OF_TEN_YEARS,
    Gpus,
    Line,
    Memory,
    Name,
    NetworkName,
    OptionName,
    OptionValue,
    Rate,
    Seconds,
    gives_gpus,
)
from jobs.profile_words import NO_WORDS, PREFIX, ProfileWords
from jobs.sbatch_options import SETTINGS, contradiction

FOLDER = CHECKOUT / "slurm" / "profiles"
EXAMPLES = "examples"


class _Profile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["cuda", "cpu", "auto"] = Field(
        "cuda",
        description="cuda, cpu, or auto: cuda where this asks for a GPU (here: where there is one), else the CPU",
    )
    cpus_per_task: int | None = Field(None, ge=1, description="CPU cores of a task")
    data: Line | None = Field(None, description="the data folder where data= is not given; ~ and $NAME expanded")
    data_on_node: Line | None = Field(
        None, description="where a task finds the data, expanded on its node (for node-local scratch)"
    )
    packs: Line | None = Field(
        None, description="folder of decoded images, shared by all tasks; left out: ~/.cache/caltech_exp/packs"
    )
    packs_on_node: Line | None = Field(
        None, description="folder on a node's own disk to copy them to, expanded on the node"
    )
    torch_home: Line | None = Field(None, description="TORCH_HOME, the cache of ImageNet weights")
    images_per_second: dict[NetworkName, Rate] = Field(
        {},
        description="training images a second over whole epochs, by network; for forecasts until results tell",
    )
    checkpoint_minutes: float = Field(
        10, gt=0, le=10_000, allow_inf_nan=False, description="how often a run saves where it is, minutes"
    )
    log_mb: FiniteFloat = Field(
        64, ge=0.01, le=1e6, description="longest log of a task, MB; of a longer one head and tail are kept"
    )


class LocalProfile(_Profile):
    """This machine, through submitit's local executor, a few tasks at once."""

    executor: Literal["local"]
    max_parallel: int | None = Field(
        None, ge=1, description="tasks at once; left out: one per GPU, or one where there is none"
    )


class SlurmProfile(_Profile):
    """A Slurm cluster, through submitit; names follow sbatch's options.

    `setup` and `python` are shell, and the shell of the batch script reads them. Every other value is quoted:
    whatever stands in it, it reaches sbatch or srun as one argument.
    """

    executor: Literal["slurm"]
    max_parallel: int = Field(256, ge=1, description="array tasks at once (the %N of --array)")
    max_array_size: int | None = Field(
        None, ge=1, description="tasks of an array at most; left out: the cluster's MaxArraySize"
    )
    time_minutes: int = Field(
        240, ge=1, le=MINUTES_OF_TEN_YEARS, description="time limit of a task, minutes: 1440 for a day"
    )
    gpus_per_node: Gpus | None = Field(
        None, description="GPUs of a task, by --gpus-per-node: 1, or those of a type, a100:1"
    )
    gres: Line | None = Field(None, description="GPUs of a task, by --gres, for example gpu:a100:1")
    mem_gb: Memory | None = Field(None, description="memory of a task, GB: 32, not 32G; 0 for all of a node's")
    partition: Name | None = Field(None, description="partition")
    account: Name | None = Field(None, description="account to charge")
    qos: Name | None = Field(None, description="quality of service")
    constraint: Name | None = Field(None, description="node features")
    exclude: Name | None = Field(None, description="nodes to leave out")
    sbatch: dict[OptionName, OptionValue] = Field(
        {}, description="any other sbatch option by its long name without the dashes"
    )
    setup: list[Line] = Field([], description="shell lines, as they stand, run on the node before the task")
    python: Line | None = Field(
        None, description="shell command, as it stands, that starts Python, for example in a container"
    )
    srun_args: list[Line] = Field([], description="further arguments of srun, each as it stands")
    signal_delay_seconds: int = Field(90, ge=1, le=65535, description="warning before the time limit, seconds")
    cpu_jobs: CpuJobs = Field(
        CpuJobs(),
        description="partition, account, qos, time_minutes, cpus_per_task, mem_gb, sbatch of jobs without a GPU",
    )
    poll_seconds: Seconds = Field(30, description="how often wait=true and watch=true ask squeue, seconds")
    command_timeout_seconds: Seconds = Field(60, description="how long sbatch, squeue or scontrol may take")

    @property
    def gpus(self) -> int:
        """GPUs of a task by gpus_per_node, 1 where that says nothing."""
        return sum(int(part.rpartition(":")[2]) for part in str(self.gpus_per_node or 1).split(","))

    @property
    def gpu_options(self) -> list[str]:
        """The options under `sbatch` that may give GPUs, as `gres gpu:1`."""
        options = (f"{name} {value}" for name, value in self.sbatch.items() if value is not False)
        return [option for option in options if option.startswith(GIVE_GPUS)]

    @property
    def gives_gpus(self) -> bool:
        """Whether it asks for GPUs: by a setting, by an option under `sbatch`, or with all that a node has."""
        asked = any(gives_gpus(option) or option.startswith("exclusive") for option in self.gpu_options)
        return bool(self.gpus_per_node) or gives_gpus(self.gres) or asked

    @model_validator(mode="after")
    def _values_that_fit_together(self) -> "SlurmProfile":
        if self.gpus_per_node and gives_gpus(self.gres):
            raise ValueError("gpus_per_node and gres ask for GPUs twice; keep one")
        if reason := contradiction(self.sbatch):
            raise ValueError(f"sbatch: {reason}")
        if self.signal_delay_seconds >= 60 * self.time_minutes:
            raise ValueError("signal_delay_seconds is not below the time limit; give the task more time_minutes")
        if self.device == "cuda" and not (self.gpus_per_node or self.gres or self.gpu_options):
            raise ValueError(
                "device cuda needs gpus_per_node: 1 or gres: gpu:1, or sbatch: {exclusive: true} where a node's "
                "GPUs come with it"
            )
        return self


Profile = LocalProfile | SlurmProfile
_KINDS: dict[str, type[LocalProfile] | type[SlurmProfile]] = {"local": LocalProfile, "slurm": SlurmProfile}


def command_timeout(profile: Profile) -> float:
    """Seconds that a Slurm command may take; a study on this machine may have runs on a cluster too."""
    return profile.command_timeout_seconds if isinstance(profile, SlurmProfile) else 60.0


def profile_files() -> dict[str, Path]:
    """Name -> file of the profiles that come with the suite; an example is `gres`, or `examples/gres`."""
    examples = {path.stem: path for path in sorted((FOLDER / EXAMPLES).glob("*.yaml"))}
    own = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    return {**{f"{EXAMPLES}/{name}": path for name, path in examples.items()}, **examples, **own}


def load_profile(name: str, words: ProfileWords = NO_WORDS) -> Profile:
    """The profile of that name in slurm/profiles, or in the file of that path, as the command line changes it.

    Raises UserError if there is none, or if it holds anything but a valid profile.
    """
    known = profile_files()
    if name not in known and os.sep not in name and not name.endswith((".yaml", ".yml")):
        raise unknown("profile", name, [each for each in known if os.sep not in each])
    try:
        path = known.get(name) or user_path(name, "profile")
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)
    except FileNotFoundError:
        names = ", ".join(each for each in known if os.sep not in each)
        raise UserError(f"profile {shown(name)}: there is no such file; known: {names}") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"profile {shown(name)} cannot be read ({reason}); give a YAML file") from None
    return parse_profile(text, str(path), words)


def parse_profile(text: str, where: str, words: ProfileWords = NO_WORDS) -> Profile:
    """A profile from YAML text and the command line; `where` names it in errors. Raises UserError."""
    values = read_yaml(text, f"profile {where}", load_plain)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"profile {where} is not a list of `setting: value` lines; correct it")
    before = values.get("executor")
    values, where = words.change(values), f"{where}{words}"
    executor = values.get("executor")
    if not isinstance(executor, str) or executor not in _KINDS:
        raise UserError(f"profile {where}: executor takes slurm or local, not {shown(repr(executor))}; set one")
    if executor != before and before in tuple(_KINDS):
        raise UserError(
            f"profile {where}: a profile for {before} does not become one for {executor} by it; "
            f"use profile={executor}, or another file"
        )
    kind = _KINDS[executor]
    if kind is SlurmProfile:
        _check_names(values, where, {name for setting in words.settings for name in setting})
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise explain(error, kind.model_fields, f"profile {where}") from None


def _check_names(values: Mapping[str, Any], where: str, words: Collection[str]) -> None:
    """Raises UserError for a name that is like none of the settings, but could be an option of sbatch.

    words  the names that stand in the command
    """
    own = {**SETTINGS, "gpus": SETTINGS["gpus-per-node"]}
    for name in values:
        if not difflib.get_close_matches(name, SlurmProfile.model_fields):
            option = name.replace("_", "-")
            here = own.get(name) or f"sbatch: {{{option}: ...}}"
            if name in words:
                here = f"{PREFIX}{own[name].replace(': ', '=', 1) if name in own else f'sbatch.{option}=VALUE'}"
            raise UserError(
                f"profile {where}: unknown setting {shown(repr(name))}; "
                f"if it is an option of sbatch, write {shown(here)}"
            )


def recorded_profile(values: Mapping[str, Any]) -> Profile | None:
    """The profile that a manifest keeps; None if it keeps none that this version reads."""
    kind = _KINDS.get(str(values.get("executor")))
    try:
        return kind.model_validate(values) if kind else None
    except ValidationError:
        return None
