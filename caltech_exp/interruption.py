"""How a run in training learns that it is to stop, and tells that it has."""

from dataclasses import dataclass


class Interrupted(BaseException):
    """The run was asked to stop and has saved where it is; no failure."""


@dataclass
class Requests:
    """What signals ask of the run that trains in this process.

    heard  whether it will look: from its first step on until its result is written
    stop   to save where it is and stop there
    """

    heard: bool = False
    stop: bool = False
