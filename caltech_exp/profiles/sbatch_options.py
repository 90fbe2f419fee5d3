"""The options of sbatch, as data: which a profile has settings for, which the suite sets, which may not be.

As of Slurm 24.11 (sbatch(1)). An option that is not here, as one of a site's plugin, is passed on as it stands.
"""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from caltech_exp.cli import shown

if TYPE_CHECKING:
    from caltech_exp.profiles.profile import SlurmProfile


OPTIONS = (
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint",
    "clusters", "comment", "consolidate-segments", "constraint", "container", "container-id", "contiguous",
    "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu", "cpus-per-task", "deadline", "delay-boot",
    "dependency", "distribution", "error", "exclude", "exclusive", "export", "export-file", "extra",
    "extra-node-info", "get-user-env", "gid", "gpu-bind", "gpu-freq", "gpus", "gpus-per-node",
    "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "help", "hint", "hold", "ignore-pbs", "input",
    "job-name", "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label", "mem", "mem-bind",
    "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nice", "no-kill", "no-requeue", "nodefile",
    "nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node",
    "ntasks-per-socket", "oom-kill-step", "open-mode", "output", "overcommit", "oversubscribe", "parsable",
    "partition", "power", "prefer", "priority", "profile", "propagate", "qos", "quiet", "reboot", "requeue",
    "reservation", "resv-ports", "segment", "signal", "sockets-per-node", "spread-job", "stepmgr", "switches",
    "test-only", "thread-spec", "threads-per-core", "time", "time-min", "tmp", "tres-bind", "tres-per-task",
    "uid", "umask", "usage", "use-min-nodes", "verbose", "version", "wait", "wait-all-nodes", "wckey", "wrap",
    "x11",
)  # fmt: skip
"""By their long names."""

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
"""Options that a profile has settings of its own for, and how those are written."""
OF_CPU_JOBS = ("account", "cpus-per-task", "mem", "partition", "qos", "time")
"""Those of them that `cpu_jobs` has a setting for, too."""

OF_THE_SUITE = (
    "array", "comment", "dependency", "error", "job-name", "open-mode", "output", "signal", "wait",
)  # fmt: skip
"""By these the suite finds its jobs and logs again, and ends them in time."""
OF_ITS_ANSWER = ("help", "parsable", "quiet", "test-only", "usage", "version", "wrap")
"""With these sbatch queues nothing, something else, or does not tell the job's id as the suite reads it."""

SAME = (
    ("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "tres-per-task"),
    ("mem", "mem-per-cpu", "mem-per-gpu"),
    ("cpus-per-task", "cpus-per-gpu"),
    ("requeue", "no-requeue"),
)
"""Options that ask for the same in other words: who sets one has decided about all."""
NEVER = (*OF_THE_SUITE, *OF_ITS_ANSWER, *SAME[-1], "verbose")
"""What no environment variable may change."""
OF_TRAINING = (
    "constraint", "cpus-per-task", "exclusive", "gpu-bind", "gpu-freq", "gpus", "gres-flags", "mem",
    "ntasks-per-gpu", "reservation", "time", "tres-bind",
)  # fmt: skip
"""What tasks that train ask for and others do not: GPUs, a size, certain nodes."""

VARIABLES = {
    "array": ("SBATCH_ARRAY_INX",),
    "bb": ("SBATCH_BURST_BUFFER",),
    "cpu-freq": ("SBATCH_CPU_FREQ_REQ",),
    "hint": ("SBATCH_HINT", "SLURM_HINT"),
    "mem": ("SBATCH_MEM_PER_NODE",),
    "segment": ("SBATCH_SEGMENT_SIZE",),
    "switches": ("SBATCH_REQ_SWITCH", "SBATCH_WAIT4SWITCH"),
    "time": ("SBATCH_TIMELIMIT",),
    "verbose": ("SBATCH_DEBUG",),
}
"""Environment variables by which sbatch takes an option, where they are not called SBATCH_ and its name."""


def complaint(name: str, settings: Iterable[str] = SETTINGS) -> str:
    """Why a profile cannot have the option under `sbatch`, and what to write instead; empty if it can.

    A name that sbatch would take for one of these cut short is as good as it.
    """
    reasons = {
        **dict.fromkeys(OF_THE_SUITE, "is set by the suite itself; leave it out"),
        "signal": "is set by the suite itself; write signal_delay_seconds: 90 for another time",
        **dict.fromkeys(OF_ITS_ANSWER, "keeps sbatch from queueing a job and telling its id; leave it out"),
        "clusters": "is for sbatch alone; export SLURM_CLUSTERS, which squeue and the others hear too",
        **{option: f"has a setting of its own; write {SETTINGS[option]} in place of it" for option in settings},
    }
    for option, reason in reasons.items():
        if name == option or (name not in OPTIONS and option.startswith(name)):
            return f"{option} {reason}"
    return ""


def full_name(name: str) -> str:
    """The option that sbatch takes the name for, which may be cut short."""
    meant = [option for option in OPTIONS if option.startswith(name)]
    return meant[0] if name not in OPTIONS and len(meant) == 1 else name


def contradiction(options: Mapping[str, object]) -> str:
    """Two of the options that say the opposite; empty if there are none."""
    given = {full_name(name) for name, value in options.items() if value is not False}
    return "requeue and no-requeue say the opposite; keep one" if {"requeue", "no-requeue"} <= given else ""


def variables(options: Iterable[str]) -> set[str]:
    """The environment variables by which sbatch would take these options, or others that ask for the same."""
    named = {full_name(option) for option in options}
    named |= {other for same in SAME if named & set(same) for other in same}
    return {variable for option in named for variable in VARIABLES.get(option, (_plain(option),))}


def of_profile(profile: "SlurmProfile") -> set[str]:
    """The options that the profile decides about: the user's variables for these do not count."""
    named = {option: example.partition(":")[0] for option, example in SETTINGS.items()}
    return {*profile.sbatch, *(option for option, name in named.items() if getattr(profile, name) is not None)}


def variables_line(profile: "SlurmProfile") -> str:
    """Which of the user's variables sbatch takes options from for runs of this profile; empty if none."""
    counting = variables(OPTIONS) - variables((*NEVER, *of_profile(profile)))
    found = sorted(name for name in counting & os.environ.keys() if name.startswith("SBATCH_"))
    given = ", ".join(f"{name}={shown(os.environ[name])}" for name in found)
    return f"sbatch also takes options from the environment: {given}" if given else ""


def _plain(option: str) -> str:
    return f"SBATCH_{option.upper().replace('-', '_')}"
