"""Where and how to run: profiles, read from YAML, changed by the command line, and validated."""

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from caltech_exp.cli import UserError, explain, shown, split_arguments, unknown
from caltech_exp.config import FiniteFloat
from caltech_exp.files import user_path
from caltech_exp.machine import local_gpus
from caltech_exp.profiles.sbatch_options import OF_CPU_JOBS, SETTINGS, complaint, contradiction, full_name
from caltech_exp.provenance import CHECKOUT
from caltech_exp.strict_yaml import MAX_CHARACTERS, load_plain, read_yaml

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


PREFIX = "profile."
NULL_IS_A_VALUE = ("cpu_jobs.cpus_per_task", "cpu_jobs.mem_gb")
"""Settings that have a default and may be none all the same."""


@dataclass(frozen=True)
class ProfileWords:
    """The words as they were given, and what each sets, as it would stand in a profile's file."""

    words: tuple[str, ...] = ()
    settings: tuple[Mapping[str, Any], ...] = ()

    def __str__(self) -> str:
        """` with profile.partition=short`, nothing without words."""
        return f" with {' '.join(self.words)}" if self.words else ""

    def change(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a profile's file, changed by the words in their order; null leaves a setting out."""
        changed = dict(values)
        for setting in self.settings:
            changed = _changed(changed, setting)
        return changed


NO_WORDS = ProfileWords()


def take_profile_words(argv: Sequence[str]) -> tuple[ProfileWords, list[str]]:
    """What `argv` says of the profile, and its other words. Values are YAML, as in a profile's file.

    Raises UserError for a word that is no `profile.setting=value`. Whether there is such a setting is not asked
    here: the profile checks it with all others.
    """
    mine = [word for word in argv if word.startswith(PREFIX)]
    for word in mine:
        if "=" not in word:
            raise UserError(f"{shown(word)!r} has no value; write {shown(word)}=VALUE, or =null to leave it out")
    given = split_arguments(mine, [word.partition("=")[0] for word in mine])
    words = ProfileWords(
        tuple(f"{key}={shown(text)}" for key, text in given.items()),
        tuple(_setting(key, text) for key, text in given.items()),
    )
    return words, [word for word in argv if word not in mine]


def _setting(key: str, text: str) -> dict[str, Any]:
    """`profile.sbatch.nice`, `100` -> `{"sbatch": {"nice": 100}}`"""
    names = key.removeprefix(PREFIX).split(".")
    if not all(names):
        raise UserError(f"{shown(key)}= names no setting of a profile; write it as in profile.partition=short")
    value = read_yaml(text, f"{shown(key)}={shown(text)}", load_plain)
    for name in reversed(names):
        value = {name: value}
    return dict(value)


def _changed(values: Mapping[str, Any], setting: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Of a mapping within, only what is named changes."""
    changed = dict(values)
    for name, new in setting.items():
        old = changed.get(name)
        if new is None and f"{place}{name}" not in NULL_IS_A_VALUE:
            changed.pop(name, None)
        elif isinstance(new, Mapping):
            changed[name] = _changed(old if isinstance(old, Mapping) else {}, new, f"{place}{name}.")
        else:
            changed[name] = new
    return changed


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


IN_WHEEL = Path(__file__).resolve().parent / "shipped"
"""Where setup.py puts the profiles of slurm/profiles."""
FOLDER = IN_WHEEL if IN_WHEEL.is_dir() else CHECKOUT / "slurm" / "profiles"
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

    @property
    def device_type(self) -> Literal["cuda", "cpu"]:
        """What tasks run on; with device auto a GPU if this machine has one."""
        return self.device if self.device != "auto" else "cuda" if local_gpus() else "cpu"

    @property
    def slots(self) -> int:
        """How many tasks run at a time."""
        return self.max_parallel or max(1, 0 if self.device == "cpu" else len(local_gpus()))

    @property
    def poll_seconds(self) -> float:
        """How often the queue is asked; asking costs nothing here."""
        return 2.0

    @property
    def command_timeout_seconds(self) -> float:
        """As in SlurmProfile: a study on this machine may have jobs on a cluster too."""
        return 60.0


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
    def device_type(self) -> Literal["cuda", "cpu"]:
        """What tasks run on; with device auto a GPU if the profile asks for one."""
        return self.device if self.device != "auto" else "cuda" if self.gives_gpus else "cpu"

    @property
    def slots(self) -> int:
        """How many tasks of each array run at a time."""
        return self.max_parallel

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
    """The profile of that name (profile_files), or in the file of that path, as the command line changes it.

    Raises UserError if there is none, or if it holds anything but a valid profile.
    """
    known = profile_files()
    if name not in known and os.sep not in name and not name.endswith((".yaml", ".yml")):
        raise unknown("profile", name, [each for each in known if os.sep not in each])
    try:
        path = known.get(name) or user_path(name, "profile")
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
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
