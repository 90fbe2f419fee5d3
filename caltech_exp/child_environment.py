"""What other programs get of this process's environment: Slurm's commands, git, nvidia-smi, other Pythons.

A variable that the user or an enclosing job has set must not change what the suite asks for. With
`SCANCEL_STATE=RUNNING` scancel passes over the jobs it is given. git sets `GIT_DIR` for its hooks, and answers
about another repository then.
"""

import os
import subprocess
from collections.abc import Collection, Mapping, Sequence

WHERE_SLURM_IS = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
"""What Slurm's commands need of SLURM_*: its configuration, the cluster, and a token where a site wants one. Any
other describes the job that this process is in, or changes defaults."""
OF_COMMANDS = ("SLURM_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_", "SQUEUE_", "SRUN_")
"""How variables begin that change what Slurm's commands do. SRUN_* would go into the tasks, to their srun."""
OF_TOOLS = (
    "PATH", "LD_LIBRARY_PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE",
    "LC_MESSAGES",
)  # fmt: skip
"""What git and nvidia-smi need: to start, their settings, a language."""


def slurm_environment(unset: Collection[str] = ()) -> dict[str, str]:
    """The environment of a Slurm command, sbatch included.

    SBATCH_* stay, because only sbatch reads them, apart from the variables in `unset`.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in WHERE_SLURM_IS or not (name.startswith(OF_COMMANDS) or name in unset)
    }
    if "SBATCH_CLUSTERS" in kept:  # which only sbatch reads, and puts above SLURM_CLUSTERS
        kept["SLURM_CLUSTERS"] = kept["SBATCH_CLUSTERS"]
    return kept


def python_environment() -> dict[str, str]:
    """The environment of another Python: the user's, without what describes an enclosing job."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in WHERE_SLURM_IS or not name.startswith(("SLURM_", "SRUN_"))
    }


def ask_tool(command: Sequence[str], seconds: float, **variables: str) -> str | None:
    """What git or nvidia-smi prints; None where it is missing, fails or takes longer than `seconds`.

    variables  that it gets besides OF_TOOLS
    """
    environment = {name: os.environ[name] for name in OF_TOOLS if name in os.environ} | variables
    try:
        done = run_program(command, seconds, environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout


def run_program(
    command: Sequence[str], seconds: float, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """What a program prints and how it ends. It gets no input, and nothing of the environment but what is given.

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
