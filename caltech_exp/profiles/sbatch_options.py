"""Options of sbatch: which a profile may set, which variables set them too, which jobs without a GPU keep.

Only options that need a decision are listed. sbatch itself judges every other one.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING

from caltech_exp.cli import shown

if TYPE_CHECKING:
    from caltech_exp.profiles.profile import SlurmProfile

# Options that a profile has its own setting for -> how to write that.
SETTINGS = {
    "account": "account: my_project",
    "constraint": "constraint: a100",
    "cpus-per-task": "cpus_per_task: 16",
    "exclude": "exclude: node[03-04]",
    "gpus-per-node": "gpus_per_node: 1",
    "gres": "gres: gpu:a100:1",
    "mem": "mem_gb: 32",
    "partition": "partition: gpu",
    "qos": "qos: normal",
    "time": "time_minutes: 240",
}
OTHER_NAMES = {"cpus": "cpus-per-task", "gpus": "gpus-per-node", "memory": "mem"}  # that people type
CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]+))?(?::([0-9]+))?")  # as sbatch writes a time limit
DURATION = re.compile(r"([0-9.]+) ?(s|m|h|d)[a-z]*")
MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)i?b?")
CPU_JOB_SETTINGS = ("account", "cpus-per-task", "mem", "partition", "qos", "time")  # those that `cpu_jobs` has too

# By these the suite finds its jobs and logs, and ends its tasks in time.
SET_BY_SUITE = (
    "array", "comment", "dependency", "error", "job-name", "open-mode", "output", "signal", "wait",
)  # fmt: skip
# With these sbatch queues nothing, or does not print the job's id as the suite reads it.
WITHOUT_JOB_ID = ("help", "parsable", "quiet", "test-only", "usage", "version", "wrap")

# Options that ask for the same thing: setting one of a group overrides the others.
GROUPS = (
    ("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "tres-per-task"),
    ("mem", "mem-per-cpu", "mem-per-gpu"),
    ("cpus-per-task", "cpus-per-gpu"),
    ("requeue", "no-requeue"),
)
REQUEUE = GROUPS[-1]
# What no environment variable may set.
NEVER_FROM_ENVIRONMENT = (*SET_BY_SUITE, *WITHOUT_JOB_ID, *REQUEUE, "verbose")
# What only tasks that train ask for: GPUs, a size, certain nodes.
TRAINING_ONLY = (
    "constraint", "cpus-per-task", "exclusive", "gpu-bind", "gpu-freq", "gpus", "gres-flags", "mem",
    "ntasks-per-gpu", "reservation", "time", "tres-bind",
)  # fmt: skip
# Variables by which sbatch takes an option, if they are not called SBATCH_ and the option's name.
VARIABLES = {
    "array": ("SBATCH_ARRAY_INX",),
    "hint": ("SBATCH_HINT", "SLURM_HINT"),
    "mem": ("SBATCH_MEM_PER_NODE",),
    "time": ("SBATCH_TIMELIMIT",),
    "verbose": ("SBATCH_DEBUG",),
    "bb": ("SBATCH_BURST_BUFFER",),
    "cpu-freq": ("SBATCH_CPU_FREQ_REQ",),
    "segment": ("SBATCH_SEGMENT_SIZE",),
    "switches": ("SBATCH_REQ_SWITCH", "SBATCH_WAIT4SWITCH"),
}


def setting_for(option: str, value: str = "") -> tuple[str, str]:
    """The profile's setting for an option of sbatch, and the value in its unit; an example if it has none."""
    name, _, example = SETTINGS[OTHER_NAMES.get(option, option)].partition(": ")
    return name, in_unit(name, value) or example


def in_unit(setting: str, value: str) -> str:
    """`time_minutes`, `2:00:00` -> `120`; `mem_gb`, `64G` -> `64`. Empty for a value that cannot be read."""
    text = value.strip().lower()
    if setting == "time_minutes":
        return _minutes(text)
    if setting != "mem_gb":
        return value
    memory = MEMORY.fullmatch(text)
    if not memory:
        return ""
    unit = memory[2] or ("m" if float(memory[1]) >= 1000 else "g")  # without one sbatch reads megabytes
    return f"{float(memory[1]) * 1024.0 ** ('kmgt'.index(unit) - 2):g}"


def _minutes(text: str) -> str:
    if duration := DURATION.fullmatch(text):
        with contextlib.suppress(ValueError):
            return str(ceil(float(duration[1]) * {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}[duration[2]]))
    clock = CLOCK.fullmatch(text)
    if not clock:
        return ""
    days, first, second, third = (int(part or 0) for part in clock.groups())
    has_hours = clock[1] is not None or clock[4] is not None  # otherwise minutes:seconds
    minutes, seconds = (60 * first + second, third) if has_hours else (first, second)
    return str(1440 * days + minutes + (1 if seconds else 0))


def complaint(name: str, settings: Iterable[str] = SETTINGS) -> str:
    """Why the option cannot stand under `sbatch`, and what to write instead; empty if it can."""
    if name == "signal":
        return "signal is set by the suite itself; write signal_delay_seconds: 90 for another time"
    if name in SET_BY_SUITE:
        return f"{name} is set by the suite itself; leave it out"
    if name in WITHOUT_JOB_ID:
        return f"{name} keeps sbatch from queueing a job and printing its id; leave it out"
    if name == "clusters":
        return "clusters reaches sbatch alone; export SLURM_CLUSTERS instead, which squeue and scancel read too"
    if name in settings:
        return f"{name} has a setting of its own; write {SETTINGS[name]} instead"
    return ""


def setup_complaint(lines: object) -> str:
    """What is wrong with the lines of `setup`: an option of sbatch, which reads none there, or an empty line."""
    for line in lines if isinstance(lines, list) else ():
        if line is None:
            remedy = "remove it, or quote the line if it begins with #, which YAML takes for a comment"
            return f"setup has an empty line; {remedy}"
        if str(line).lstrip().startswith("#SBATCH"):
            option = str(line).partition("#SBATCH")[2].strip()
            name = option.removeprefix("--").partition("=")[0] if option.startswith("--") else "OPTION"
            advice = complaint(name) or f"write sbatch: {{{shown(name)}: VALUE}}"
            return f"setup: sbatch does not read {shown(str(line))!r} there; {advice}"
    return ""


def contradiction(options: Mapping[str, object]) -> str:
    """A complaint if two of the options contradict each other; empty otherwise."""
    both = all(options.get(name, False) is not False for name in REQUEUE)
    return "requeue and no-requeue contradict each other; keep one" if both else ""


def refusal(options: Mapping[str, object], mem_gb: float | None) -> str:
    """Why sbatch would refuse the options beside the profile's memory, and what to do; empty if it would not."""
    names = [name for name, value in options.items() if value is not False]
    if "gpus-per-task" in names and not {"ntasks", "gpus"}.intersection(names):
        return "gpus-per-task needs ntasks; add ntasks: 1 under `sbatch` (profile.sbatch.ntasks=1)"
    for name in ("mem-per-cpu", "mem-per-gpu"):
        if name in names and mem_gb is not None:
            return f"{name} needs mem_gb: null, as sbatch takes only one of them (profile.mem_gb=null)"
    return ""


def variables(options: Iterable[str]) -> set[str]:
    """The environment variables by which sbatch would take these options, or others of their groups."""
    named = set(options)
    named |= {other for group in GROUPS if named & set(group) for other in group}
    return {
        variable
        for option in named
        for variable in VARIABLES.get(option, (f"SBATCH_{option.upper().replace('-', '_')}",))
    }


def options_of(profile: "SlurmProfile") -> set[str]:
    """The options that the profile sets, which the user's environment variables do not override."""
    settings = {option: example.partition(":")[0] for option, example in SETTINGS.items()}
    return {*profile.sbatch, *(option for option, name in settings.items() if getattr(profile, name) is not None)}


def variables_line(profile: "SlurmProfile") -> str:
    """Names the environment variables that sbatch takes options from for runs of this profile; empty if none."""
    overridden = variables((*NEVER_FROM_ENVIRONMENT, *options_of(profile)))
    names = sorted(name for name in os.environ if name.startswith("SBATCH_") and name not in overridden)
    values = ", ".join(f"{name}={shown(os.environ[name])}" for name in names)
    return f"sbatch also takes options from the environment: {values}" if values else ""


# Beginnings of the sbatch and srun options that ask for GPUs, or for nodes that have them.
GPU_OPTIONS = ("gpu", "gres", "tres", "cpus-per-gpu", "mem-per-gpu", "ntasks-per-gpu", "constraint")
# sbatch options for the size and the nodes of a training task; jobs without a GPU have their own.
TASK_OPTIONS = ("time-min", "cpus-per-task", "mem", "mincpus", "exclusive", "reservation", "nodelist", "nodefile")
MEM_PER_CPU = "mem-per-cpu"  # asked for at sites that refuse --mem; sbatch takes only one of the two


def cpu_profile(profile: "SlurmProfile") -> "SlurmProfile":
    """The profile of the jobs without a GPU: changed by its `cpu_jobs`, and without all that asks for GPUs."""
    jobs = profile.cpu_jobs
    options = {
        name: value
        for name, value in profile.sbatch.items()
        if not name.startswith(GPU_OPTIONS) and name not in TASK_OPTIONS
    }
    if any(name in REQUEUE for name in jobs.sbatch):
        options = {name: value for name, value in options.items() if name not in REQUEUE}
    options |= jobs.sbatch
    is_per_cpu = options.get(MEM_PER_CPU, False) is not False and "mem_gb" not in jobs.model_fields_set
    mem_gb = None if is_per_cpu else jobs.mem_gb
    if mem_gb is not None:
        options.pop(MEM_PER_CPU, None)
    changes = {
        "device": "cpu",
        "gpus_per_node": None,
        "gres": None,
        "constraint": None,
        "partition": jobs.partition or profile.partition,
        "account": jobs.account or profile.account,
        "qos": jobs.qos or profile.qos,
        "time_minutes": jobs.time_minutes,
        "cpus_per_task": jobs.cpus_per_task,
        "mem_gb": mem_gb,
        "signal_delay_seconds": min(profile.signal_delay_seconds, 30 * jobs.time_minutes),
        "sbatch": options,
        "srun_args": [argument for argument in profile.srun_args if not _is_for_training(argument)],
    }
    return profile.model_copy(update=changes)


def _is_for_training(argument: str) -> bool:
    """Whether an argument of srun, `--name=value`, asks for GPUs or for the size of a training task."""
    name = argument.removeprefix("--").partition("=")[0]
    return argument.startswith("--") and (name.startswith(GPU_OPTIONS) or name in ("cpus-per-task", "mem", "time"))
