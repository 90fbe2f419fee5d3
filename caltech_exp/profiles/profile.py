"""Profiles: where and how to run. Read from YAML, changed by the command line, and validated."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from caltech_exp.cli import UserError, closest, explain, shown, split_arguments, unknown
from caltech_exp.config import FiniteFloat
from caltech_exp.files import user_path
from caltech_exp.machine import local_gpus
from caltech_exp.profiles.resources import (
    TEN_YEARS_MINUTES,
    CpuJobs,
    Gpus,
    Line,
    Memory,
    Name,
    OptionName,
    OptionValue,
    SectionResources,
    is_gpu_resource,
)
from caltech_exp.profiles.sbatch_options import (
    CPU_JOB_SETTINGS,
    OTHER_NAMES,
    SETTINGS,
    contradiction,
    in_unit,
    refusal,
    setting_for,
    setup_complaint,
)
from caltech_exp.provenance import CHECKOUT
from caltech_exp.records import StrictRecord
from caltech_exp.strict_yaml import load_plain, read_text, read_yaml

IN_WHEEL = Path(__file__).resolve().parent / "shipped"  # where setup.py puts the profiles of slurm/profiles
FOLDER = IN_WHEEL if IN_WHEEL.is_dir() else CHECKOUT / "slurm" / "profiles"
EXAMPLES = "examples"
PREFIX = "profile."

Seconds = Annotated[float, Field(ge=0.001, le=86_400)]
SectionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
NetworkName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]


class _Profile(StrictRecord):
    device: Literal["cuda", "cpu", "auto"] = Field(
        "cuda",
        description="cuda, cpu, or auto: cuda if the profile asks for a GPU (on this machine: if it has one), "
        "otherwise the CPU",
    )
    cpus_per_task: int | None = Field(None, ge=1, description="CPU cores of a task")
    data: Line | None = Field(None, description="data folder if data= is not given; ~ and $NAME are expanded")
    data_on_node: Line | None = Field(
        None, description="where a task finds the data, expanded on its node (for node-local scratch)"
    )
    packs: Line | None = Field(
        None, description="folder of decoded images, shared by all tasks; default: ~/.cache/caltech_exp/packs"
    )
    packs_on_node: Line | None = Field(
        None, description="folder on the node's own disk to copy packs to, expanded on the node"
    )
    torch_home: Line | None = Field(None, description="TORCH_HOME, the cache of ImageNet weights")
    images_per_second: dict[NetworkName, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        {}, description="training images per second, by network; for estimates until a run has finished"
    )
    checkpoint_minutes: float = Field(
        10, gt=0, le=10_000, allow_inf_nan=False, description="minutes between two checkpoints of a run"
    )
    log_mb: FiniteFloat = Field(
        64, ge=0.01, le=1e6, description="largest log of a task, MB; a larger one keeps its head and tail"
    )


class LocalProfile(_Profile):
    """This machine, through submitit's local executor, a few tasks at a time."""

    executor: Literal["local"]
    max_parallel: int | None = Field(
        None, ge=1, description="tasks at a time; default: one per GPU, or one on a machine without GPUs"
    )

    @property
    def device_type(self) -> Literal["cuda", "cpu"]:
        """With device auto a GPU if this machine has one."""
        return self.device if self.device != "auto" else "cuda" if local_gpus() else "cpu"

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""
        return self.max_parallel or max(1, 0 if self.device == "cpu" else len(local_gpus()))

    @property
    def poll_seconds(self) -> float:
        """Asking this machine's queue costs nothing."""
        return 2.0

    @property
    def command_timeout_seconds(self) -> float:
        """As in SlurmProfile: a study on this machine may have jobs on a cluster too."""
        return 60.0


class SlurmProfile(_Profile):
    """A Slurm cluster, through submitit. Names follow sbatch's options.

    The shell of the batch script reads `setup` and `python`. Every other value reaches sbatch or srun as one
    quoted argument.
    """

    executor: Literal["slurm"]
    max_parallel: int = Field(256, ge=1, description="tasks of an array at a time (the %N of --array)")
    max_array_size: int | None = Field(
        None, ge=1, description="most tasks of an array; default: the cluster's MaxArraySize"
    )
    time_minutes: int = Field(
        240, ge=1, le=TEN_YEARS_MINUTES, description="time limit of a task, minutes: 1440 for a day"
    )
    gpus_per_node: Gpus | None = Field(
        None, description="GPUs of a task, by --gpus-per-node: 1, or with their type, a100:1"
    )
    gres: Line | None = Field(None, description="GPUs of a task, by --gres, for example gpu:a100:1")
    mem_gb: Memory | None = Field(None, description="memory of a task, GB: 32, not 32G; 0 for all of a node's")
    partition: Name | None = Field(None, description="partition")
    account: Name | None = Field(None, description="account to charge")
    qos: Name | None = Field(None, description="quality of service")
    constraint: Name | None = Field(None, description="node features")
    exclude: Name | None = Field(None, description="nodes to avoid")
    sbatch: dict[OptionName, OptionValue] = Field(
        {}, description="any other sbatch option by its long name without the dashes"
    )
    setup: list[Line] = Field([], description="shell lines that run on the node before the task")
    python: Line | None = Field(
        None, description="shell command that starts Python, for example in a container; default: this Python"
    )
    srun_args: list[Line] = Field([], description="further arguments of srun, each as --name=value")
    signal_delay_seconds: int = Field(90, ge=1, le=65535, description="warning before the time limit, seconds")
    cpu_jobs: CpuJobs = Field(
        CpuJobs(),
        description="partition, account, qos, time_minutes, cpus_per_task, mem_gb, sbatch of jobs without a GPU",
    )
    sections: dict[SectionName, SectionResources] = Field(
        {},
        description="by section, what its tasks ask for instead: partition, qos, constraint, time_minutes, "
        "cpus_per_task, mem_gb, gpus_per_node, gres, max_parallel",
    )
    poll_seconds: Seconds = Field(30, description="how often wait=true and watch=true ask squeue, seconds")
    command_timeout_seconds: Seconds = Field(
        60, description="how long sbatch, squeue or scontrol may take, seconds"
    )

    @property
    def device_type(self) -> Literal["cuda", "cpu"]:
        """With device auto a GPU if the profile asks for one."""
        return self.device if self.device != "auto" else "cuda" if self.gives_gpus else "cpu"

    @property
    def slots(self) -> int:
        """How many tasks of each array run at a time."""
        return self.max_parallel

    @property
    def gpus(self) -> int:
        """GPUs of a task by gpus_per_node or gres; 1 if neither is set."""
        in_gres = [part for part in (self.gres or "").split(",") if part.startswith("gpu")]
        parts = str(self.gpus_per_node).split(",") if self.gpus_per_node else in_gres or ["1"]
        counts = (part.rpartition(":")[2] for part in parts)
        return sum(int(count) if count.isdecimal() else 1 for count in counts)

    @property
    def gpu_options(self) -> list[str]:
        """The options under `sbatch` that may give GPUs, as `gpus 1`; --exclusive gives all that a node has."""
        options = (f"{name} {value}" for name, value in self.sbatch.items() if value is not False)
        return [option for option in options if option.startswith(("gpu", "gres", "tres", "exclusive"))]

    @property
    def gives_gpus(self) -> bool:
        """Whether a setting, or an option under `sbatch`, asks for GPUs."""
        by_option = any(is_gpu_resource(option) or option.startswith("exclusive") for option in self.gpu_options)
        return bool(self.gpus_per_node) or is_gpu_resource(self.gres) or by_option

    def for_section(self, section: str) -> "SlurmProfile":
        """The profile of the tasks of a section."""
        resources = self.sections.get(section)
        return self.model_copy(update=resources.changes) if resources else self

    @model_validator(mode="after")
    def _check_together(self) -> "SlurmProfile":
        if reason := self._contradiction():
            raise ValueError(reason)
        for name in self.sections:
            if reason := self.for_section(name)._contradiction():
                raise ValueError(f"sections.{name}: {reason}")
        return self

    def _contradiction(self) -> str:
        if self.gpus_per_node and is_gpu_resource(self.gres):
            return "gpus_per_node and gres ask for GPUs twice; keep one (profile.gpus_per_node=null)"
        if reason := contradiction(self.sbatch):
            return f"sbatch: {reason}"
        if self.signal_delay_seconds >= 60 * self.time_minutes:
            return "signal_delay_seconds is not below the time limit; give the task more time_minutes"
        if self.device == "cuda" and not (self.gpus_per_node or self.gres or self.gpu_options):
            return (
                "device cuda needs gpus_per_node: 1 or gres: gpu:1, or sbatch: {exclusive: true} where a node's "
                "GPUs come with it"
            )
        return ""


Profile = LocalProfile | SlurmProfile
_KINDS: dict[str, type[LocalProfile] | type[SlurmProfile]] = {"local": LocalProfile, "slurm": SlurmProfile}

# Settings whose default is a number and for which null is valid too: it asks for none.
NULL_IS_A_VALUE = ("cpu_jobs.cpus_per_task", "cpu_jobs.mem_gb")


@dataclass(frozen=True)
class ProfileWords:
    """The words of a command line that change a profile, and what each sets, nested as in a profile's file."""

    words: tuple[str, ...] = ()
    settings: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        """` with profile.partition=short`, empty without words."""
        return f" with {' '.join(self.words)}" if self.words else ""

    def write(self, place: str, setting: str, value: object) -> str:
        """The setting as it is written where `place` was: on the command line, or in the profile's file."""
        if any(word.startswith(f"{PREFIX}{place}") for word in self.words):
            return f"{PREFIX}{setting}={shown(value)}"
        option = setting.removeprefix("sbatch.")
        return f"{setting}: {shown(value)}" if option == setting else f"sbatch: {{{option}: {shown(value)}}}"

    def change(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a profile's file with the changes; null removes a setting."""
        changed = dict(values)
        for setting in self.settings:
            changed = _merge(changed, setting)
        return changed


NO_WORDS = ProfileWords()


def take_profile_words(argv: Sequence[str]) -> tuple[ProfileWords, list[str]]:
    """Split the words `profile.NAME=VALUE`, whose values are YAML, from the others.

    Whether there is such a setting is checked with the whole profile.
    """
    argv = [word[2:] if word.startswith(f"--{PREFIX}") else word for word in argv]
    own = [word for word in argv if word.startswith(PREFIX)]
    for word in own:
        if "=" not in word:
            raise UserError(f"{shown(word)!r} has no value; write {shown(word)}=VALUE, or =null to remove it")
    values = split_arguments(own, [word.partition("=")[0] for word in own])
    words = ProfileWords(
        tuple(f"{key}={shown(text)}" for key, text in values.items()),
        tuple(_read_setting(key, text) for key, text in values.items()),
    )
    return words, [word for word in argv if word not in own]


def _read_setting(key: str, text: str) -> dict[str, Any]:
    """`profile.sbatch.nice`, `100` -> `{"sbatch": {"nice": 100}}`"""
    names = key.removeprefix(PREFIX).split(".")
    if not all(names):
        raise UserError(f"{shown(key)}= names no setting of a profile; write it as in profile.partition=short")
    value = read_yaml(text, f"{shown(key)}={shown(text)}", load_plain)
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _merge(values: Mapping[str, Any], setting: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The values with those of the setting; mappings are merged."""
    merged = dict(values)
    for name, new in setting.items():
        old = merged.get(name)
        if new is None and f"{place}{name}" not in NULL_IS_A_VALUE:
            merged.pop(name, None)
        elif isinstance(new, Mapping):
            merged[name] = _merge(old if isinstance(old, Mapping) else {}, new, f"{place}{name}.")
        else:
            merged[name] = new
    return merged


def profile_files() -> dict[str, Path]:
    """Name -> file of every profile; an example is `gres`, or `examples/gres`.

    A profile in the current folder's slurm/profiles comes before one in the user's configuration folder, and both
    come before one of the suite. In a checkout the current folder's are the suite's.
    """
    examples = {path.stem: path for path in sorted((FOLDER / EXAMPLES).glob("*.yaml"))}
    files = {**{f"{EXAMPLES}/{name}": path for name, path in examples.items()}, **examples}
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 (never fails)
    current = Path("slurm", "profiles")
    is_own = current.is_dir() and current.resolve() != FOLDER
    for folder in (FOLDER, Path(configuration, "caltech_exp", "profiles"), *((current,) if is_own else ())):
        files |= {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return files


def load_profile(name: str, words: ProfileWords = NO_WORDS) -> Profile:
    """The profile of that name (profile_files) or path, changed by the command line."""
    known = profile_files()
    if name not in known and os.sep not in name and not name.endswith((".yaml", ".yml")):
        raise unknown("profile", name, [other for other in known if os.sep not in other])
    path = known.get(name) or user_path(name, "profile")
    names = ", ".join(other for other in known if os.sep not in other)
    text = read_text(path, f"profile {shown(name)}", f"give a YAML file, or one of {names}")
    return parse_profile(text, str(path), words)


def parse_profile(text: str, where: str, words: ProfileWords = NO_WORDS) -> Profile:
    """The profile in a YAML text, changed by the command line; `where` names it in errors."""
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
            f"profile {where}: this profile is for {before} and cannot be changed to {executor}; "
            f"use profile={executor}, or another file"
        )
    kind = _KINDS[executor]
    _check_names(values, where, words)
    if kind is SlurmProfile and (reason := setup_complaint(values.get("setup"))):
        raise UserError(f"profile {where}: {reason}")
    try:
        profile = kind.model_validate(values)
    except ValidationError as error:
        problem = explain(error, kind.model_fields, f"profile {where}")
        raise UserError(f"{problem}{_in_unit(error, words)}") from None
    if isinstance(profile, SlurmProfile) and (reason := refusal(profile.sbatch, profile.mem_gb)):
        raise UserError(f"profile {where}: {reason}")
    return profile


def _check_names(values: Mapping[str, Any], where: str, words: ProfileWords) -> None:
    """Raises UserError for a name that is an option of sbatch, or may be one, with what to write instead."""
    kind = _KINDS[values["executor"]]
    for name in (name for name in values if name not in kind.model_fields):
        option = name.replace("_", "-")
        is_option = option in SETTINGS or option in OTHER_NAMES
        if kind is LocalProfile and (is_option or name in SlurmProfile.model_fields):
            remedy = "a setting of Slurm profiles only; leave it out, or use profile=slurm"
            raise UserError(f"profile {where}: {name} is {remedy}")
        if kind is LocalProfile or (not is_option and closest(name, kind.model_fields)):
            continue
        setting, text = setting_for(option, str(values[name])) if is_option else (f"sbatch.{option}", values[name])
        hint = f"{'' if is_option else 'if it is an option of sbatch, '}write {words.write(name, setting, text)}"
        raise UserError(f"profile {where}: unknown setting {shown(repr(name))}; {hint}")
    for place, settings in (("", values), ("cpu_jobs.", values.get("cpu_jobs"))):
        options = settings.get("sbatch") if isinstance(settings, dict) else None
        for name, value in options.items() if isinstance(options, dict) else ():
            option = str(name).replace("_", "-")
            if option in (CPU_JOB_SETTINGS if place else SETTINGS):
                setting, text = setting_for(option, str(value))
                hint = words.write(f"{place}sbatch", f"{place}{setting}", text)
                reason = f"{option} has a setting of its own; write {hint} instead"
                raise UserError(f"profile {where}: {place}sbatch.{option}: {reason}")


def _in_unit(error: ValidationError, words: ProfileWords) -> str:
    """The end of an error on a time or a memory with a unit: the number to write."""
    first = error.errors(include_url=False)[0]
    place, value = ".".join(map(str, first["loc"])), first["input"]
    setting = place.rpartition(".")[2]
    number = in_unit(setting, value) if isinstance(value, str) and setting in ("time_minutes", "mem_gb") else ""
    return f"; write {words.write(place, place, number)}" if number else ""


def recorded_profile(values: Mapping[str, Any]) -> tuple[Profile | None, list[str]]:
    """The profile in a manifest, and its settings that this version does not have, which are ignored.

    The profile is None if this version does not accept its other values.
    """
    kind = _KINDS.get(str(values.get("executor")))
    if kind is None:
        return None, []
    known = {name: value for name, value in values.items() if name in kind.model_fields}
    ignored = sorted(values.keys() - known.keys())
    cpu_jobs = known.get("cpu_jobs")
    if isinstance(cpu_jobs, dict):
        known["cpu_jobs"] = {name: value for name, value in cpu_jobs.items() if name in CpuJobs.model_fields}
        ignored += [f"cpu_jobs.{name}" for name in sorted(cpu_jobs.keys() - CpuJobs.model_fields.keys())]
    try:
        return kind.model_validate(known), ignored
    except ValidationError:
        return None, []
