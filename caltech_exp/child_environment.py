"""The environment that other programs get: Slurm's commands, git, other Pythons.

A variable that the user or an enclosing job has set must not change the answer. With `SCANCEL_STATE=RUNNING`, for
example, scancel skips pending jobs. In a git hook, `GIT_DIR` makes git answer about another repository.
"""

import errno
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence

WHERE_SLURM_IS = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
"""The SLURM_* variables that Slurm's commands need: configuration, cluster, and a token where a site requires one.
All others describe the enclosing job or change defaults."""
OF_COMMANDS = ("SLURM_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_", "SRUN_")
"""Prefixes of variables that change what Slurm's commands do. SRUN_* would reach srun inside the tasks."""


def slurm_environment(unset: Collection[str] = ()) -> dict[str, str]:
    """The environment of a Slurm command, sbatch included.

    Only sbatch reads SBATCH_*, so these variables stay, except those in `unset`.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in WHERE_SLURM_IS or not (name.startswith(OF_COMMANDS) or name in unset)
    }
    if "SBATCH_CLUSTERS" in environment:  # only sbatch reads it, and prefers it to SLURM_CLUSTERS
        environment["SLURM_CLUSTERS"] = environment["SBATCH_CLUSTERS"]
    return environment


def python_environment() -> dict[str, str]:
    """The environment of another Python: the user's, without the variables of an enclosing job."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in WHERE_SLURM_IS or not name.startswith(("SLURM_", "SRUN_"))
    }


def start_problem(program: str, error: OSError) -> str:
    """Why the system does not start a program, and what to do, in a line."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        advice = "end some of your processes on this machine and run the command again"
    else:
        advice = f"check how {program} is installed"
    return f"{program} could not be started ({error.strerror or error}); {advice}"


def run_program(
    command: Sequence[str], seconds: float, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a program without input and with this environment only.

    Raises OSError if it cannot be started, subprocess.TimeoutExpired if it takes longer than `seconds`.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
        check=False,
        env=environment,
    )
