"""Options of sbatch: which a profile may set, which variables set them too, which jobs without a GPU keep.

Only options that need a decision are listed. sbatch itself judges every other one.
"""

import os
from collections.abc import Iterable, Mapping
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


def contradiction(options: Mapping[str, object]) -> str:
    """A complaint if two of the options contradict each other; empty otherwise."""
    both = all(options.get(name, False) is not False for name in REQUEUE)
    return "requeue and no-requeue contradict each other; keep one" if both else ""


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
