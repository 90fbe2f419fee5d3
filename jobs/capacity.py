"""What a profile gives: the type of device, and how many tasks run at a time."""

from typing import Literal

from jobs.local_gpus import local_gpus
from jobs.profiles import Profile, SlurmProfile


def device_type(profile: Profile) -> Literal["cuda", "cpu"]:
    """What tasks of this profile run on; with `auto` the GPU that they are given, or that this machine has."""
    if profile.device != "auto":
        return profile.device
    if isinstance(profile, SlurmProfile):
        return "cuda" if profile.gives_gpus else "cpu"
    return "cuda" if local_gpus() else "cpu"


def tasks_at_once(profile: Profile) -> int:
    """The most tasks that run at a time: of each array on Slurm, of all on this machine."""
    if isinstance(profile, SlurmProfile):
        return profile.max_parallel
    return profile.max_parallel or max(1, 0 if profile.device == "cpu" else len(local_gpus()))
