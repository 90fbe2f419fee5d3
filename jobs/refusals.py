"""What to do when sbatch does not take an array."""

import re

OF_HOW_MANY = re.compile(
    r"MaxSubmitJob|MaxJobs|GrpSubmitJob|GrpJobs|temporarily unable to accept job|job array", re.IGNORECASE
)
"""In complaints of limits on how many jobs may be queued: of an association or QOS (sacctmgr(1), MaxSubmitJobs),
of the cluster (slurm.conf(5), MaxJobCount), of an array (MaxArraySize, max_array_tasks)."""
OF_SIZE = re.compile(r"\b(?:QOS|Assoc)\w*(?:Max|Min|Grp)\w+", re.IGNORECASE)
"""Any other limit of an association or QOS, as squeue(1) calls it: QOSMaxWallDurationPerJobLimit, QOSMinGRES."""
OF_EITHER = re.compile(r"job submit limit", re.IGNORECASE)
"""Where sbatch does not name the limit: `Job violates accounting/QOS policy (job submit limit, user's size and/or
time limits)`."""
NO_ANSWER = re.compile(
    r"timed out|zero bytes|receive failure|connection (reset|closed)|broken pipe", re.IGNORECASE
)
"""In complaints that no answer came from the controller (slurm_errno.c): it may have taken the job even so."""

WAIT = (
    "the cluster limits how many jobs may be queued: give the same command again when some have ended, or "
    "set max_array_size lower in the profile, or runs_per_task higher"
)
LESS = (
    "the site limits what a job may ask for: change time_minutes, mem_gb, cpus_per_task or the GPUs in the "
    "profile, or name another qos or partition"
)


def remedy(reason: str) -> str:
    """What ends the error of a refusal with this complaint of sbatch's."""
    if OF_HOW_MANY.search(reason):
        return WAIT
    if named := OF_SIZE.search(reason):
        return f"{named[0]}: {LESS}"
    if OF_EITHER.search(reason):
        return f"{WAIT}; or {LESS}"
    return "correct the profile or ask Slurm"


def may_be_queued(reason: str) -> bool:
    """Whether sbatch complains that no answer came, so that nobody knows whether the job was taken."""
    return NO_ANSWER.search(reason) is not None
