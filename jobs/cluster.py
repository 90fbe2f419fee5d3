"""Questions to Slurm: is it there, how large may an array be, which of my jobs are queued?"""

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence

from caltech_exp.errors import UserError


def has_sbatch() -> bool:
    """Whether this machine can talk to a Slurm cluster at all."""
    return shutil.which("sbatch") is not None


def ask(command: Sequence[str], timeout: float) -> str:
    """Standard output of a Slurm command. Raises UserError if it fails or takes over `timeout` seconds."""
    name = command[0]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise UserError(f"{name} is not on this machine; submit from a login node, or use profile=local") from None
    except subprocess.TimeoutExpired:
        raise not_answering(f"{name} did not end within {timeout:g} s") from None
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise not_answering(f"{name}: {reason}")
    return done.stdout


def not_answering(reason: str) -> UserError:
    return UserError(
        f"Slurm does not answer ({reason}); look at `scontrol ping` and try again, or use profile=local"
    )


def max_array_size(timeout: float) -> int:
    """The cluster's MaxArraySize: the most tasks an array can have. Raises UserError if Slurm is down."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"], timeout), re.MULTILINE)
    return int(found[1]) if found else 1001


def queued_jobs(names: Collection[str], timeout: float) -> dict[tuple[str, str], str]:
    """(Job id, job name) -> `queued` or `running`, for every job of these names in the queue, whoever's it is.

    An array task's id is `1234_5`. The name belongs to it: a cluster set up anew counts from 1 again.
    """
    command = [
        "squeue",
        "--noheader",
        "--array",
        "--all",
        f"--name={','.join(sorted(names))}",
        "--format=%i|%T|%j",
    ]
    jobs = {}
    for line in ask(command, timeout).splitlines():
        job, state, name = line.strip().split("|", 2)
        jobs[job, name] = "running" if state in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED") else "queued"
    return jobs
