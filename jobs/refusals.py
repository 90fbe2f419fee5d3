"""What to do when sbatch does not take an array."""

import re

OF_HOW_MANY = re.compile(
    r"MaxSubmitJob|MaxJobs|GrpSubmitJob|GrpJobs|job submit limit|temporarily unable to accept job|Job array index",
    re.IGNORECASE,
)
"""In complaints of limits on how many jobs may be queued: of an association or QOS (sacctmgr(1), MaxSubmitJobs),
of the cluster (slurm.conf(5), MaxJobCount), of an array (MaxArraySize)."""


def remedy(reason: str) -> str:
    """What ends the error of a refusal with this complaint of sbatch's."""
    if OF_HOW_MANY.search(reason):
        return (
            "the cluster limits how many jobs may be queued: give the same command again when some have ended, or "
            "set max_array_size lower in the profile, or runs_per_task higher"
        )
    return "correct the profile or ask Slurm"
