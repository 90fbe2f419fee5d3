"""What sbatch's complaints mean: which are refusals, and how to resolve them."""

import re

from caltech_exp.cli import UserError

# Limits on how many jobs may be queued: of an association or QOS (sacctmgr(1), MaxSubmitJobs), of the cluster
# (slurm.conf(5), MaxJobCount), of an array (MaxArraySize, max_array_tasks).
COUNT_LIMIT = re.compile(
    r"MaxSubmitJob|MaxJobs|GrpSubmitJob|GrpJobs|temporarily unable to accept job|job array", re.IGNORECASE
)
# Any other limit of an association or QOS, by squeue(1)'s names: QOSMaxWallDurationPerJobLimit, QOSMinGRES.
SIZE_LIMIT = re.compile(r"\b(?:QOS|Assoc)\w*(?:Max|Min|Grp)\w+", re.IGNORECASE)
# sbatch may not name the limit: `Job violates accounting/QOS policy (job submit limit, user's size and/or time
# limits)`.
UNNAMED_LIMIT = re.compile(r"job submit limit", re.IGNORECASE)
# Refusals that the nodes that a job excludes may explain.
NODE_REFUSAL = re.compile(r"\bnodes?\b(?! count)", re.IGNORECASE)
NOT_REACHED = re.compile(
    r"unable to contact slurm controller|rate limit exceeded|backup controller", re.IGNORECASE
)
# What sbatch writes before the reason, once it has asked the controller.
SUBMISSION_FAILED = "batch job submission failed: "
# How the reasons begin with which the controller refuses a job (slurm_errno.c), and that of one not reached.
# `Unspecified error` and numbers without words are what a site's job_submit plugin refuses with.
CONTROLLER_REFUSALS = """
    access denied to requested reservation | access/permission denied | burst buffer permission denied |
    burst buffer request invalid | burst buffer resource limit exceeded | circular job dependency |
    cpu count specification invalid | duplicate generic resource | duplicate job id |
    environment is missing in job | error generating job credential |
    i/o error writing script/environment to file | invalid --nice value |
    invalid account or account/partition combination | invalid feature specification |
    invalid generic resource (gres) specification | invalid gres specification | invalid group id |
    invalid job array specification | invalid license specification | invalid mcs_label specified |
    invalid node name specified | invalid node state specified | invalid partition name specified |
    invalid qos specification | invalid time specified | invalid time-min specification |
    invalid trackable resource (tres) specification | invalid user id | invalid wckey specification |
    job --batch option is invalid | job cannot be submitted without the current working directory |
    job dependency problem | job script not specified | job size specification needs to be provided |
    job violates accounting/qos policy | licenses currently unavailable | maxjobcount limit reached |
    memory required by task is not available | more processors requested than permitted |
    multiple knl numa and/or mcdram constraints | multiple partition job request not supported |
    no partition specified or system default partition | node count specification invalid |
    only batch jobs are accepted or processed | partition in down state |
    pathname of a file, directory or other parameter too long | rate limit exceeded |
    requested account has breached requested qos usage threshold | requested gres option unsupported |
    requested node configuration is not available | requested nodes are busy |
    requested nodes not in this partition | requested operation is presently disabled |
    requested operation not supported on this system |
    requested partition configuration not available now | requested reservation |
    requested time limit is invalid | required node not available | required partition not available |
    requires more ports than can be reserved | resource temporarily unavailable |
    system submissions disabled | task count specification invalid |
    task distribution specification invalid | unable to contact slurm controller (connect failure) |
    unknown error | unspecified error | user's group not permitted to use this partition |
    x11 forwarding not available
"""
# Complaints about the command line or the script, before sbatch asks the controller (sbatch.c, opt.c).
SBATCH_REFUSAL = re.compile(
    r"unrecognized option|invalid option|option '.*' (is ambiguous|requires an argument|doesn't allow an argument)"
    r"|invalid (--)?[-\w ]+( \(gres\))? specification|invalid numeric value|unrecognized --\S+ argument"
    r"|is not (a )?valid|(unable to|could not) open (user environment )?file"
    r"|batch script (is empty|contains)|does not look like a batch script|does not allow scripts that"
    r"|script (file .* is too large|.* is too big)|cli_filter plugin terminated",
    re.IGNORECASE,
)

FEWER_JOBS = (
    "the cluster limits how many jobs may be queued: give the same command again when some have ended, or "
    "set max_array_size lower in the profile, or runs_per_task higher"
)
SMALLER_JOBS = (
    "the site limits what a job may ask for: change time_minutes, mem_gb, cpus_per_task or the GPUs in the "
    "profile, or name another qos or partition"
)


def hint(complaint: str) -> str:
    """What to do about a refusal."""
    if COUNT_LIMIT.search(complaint):
        return FEWER_JOBS
    if limit := SIZE_LIMIT.search(complaint):
        return f"{limit[0]}: {SMALLER_JOBS}"
    if UNNAMED_LIMIT.search(complaint):
        return f"{FEWER_JOBS}; or {SMALLER_JOBS}"
    if NOT_REACHED.search(complaint):
        return "look at `scontrol ping` and try again"
    return "correct the profile or ask Slurm"


def is_refusal(complaint: str) -> bool:
    """Whether a failed sbatch says for certain that the job was not taken.

    Any other complaint may come after the controller has taken the job: its answer was lost or not understood, or
    a wrapper around sbatch failed at something of its own.
    """
    text = " ".join(complaint.lower().split())
    _, has_asked, reason = text.rpartition(SUBMISSION_FAILED)
    if has_asked:
        return reason.startswith(tuple(" ".join(CONTROLLER_REFUSALS.split()).split(" | ")))
    return SBATCH_REFUSAL.search(text) is not None


class RefusedError(UserError):
    """sbatch refuses a job."""


class UncertainError(UserError):
    """sbatch did not say whether the jobs are queued. If they are, they are found by their comments."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}; jobs may be queued or not: nothing is removed, and the same command finds those that are "
            "and queues the rest"
        )
