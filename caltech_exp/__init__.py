"""Reproduce a report on AlexNet and ResNet-18 on Caltech-101 with batch jobs.

These words mean the same in the code, on the command line and in the report:

section   a chapter of the report: data, scratch, transfer, augmentation, resnet
table     one table of a section, or the single run behind a figure: scratch.lr, transfer.template
row       one configuration of a table, and the value that the report printed for it, if any
run       a row with a seed; its id is a hash of everything that can change its numbers
study     a folder of runs that have the same overrides and the same data set
profile   where and how to run: partition, account, time limit, GPUs, tasks at once (slurm/profiles)
engine    how a run trains: `fast`, or `reference`, the course template's own training loop
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from caltech_exp.models.trained_network import load_run as load_run
    from caltech_exp.reporting.frames import StudyFrames as StudyFrames
    from caltech_exp.reporting.frames import read_study as read_study


def __getattr__(name: str) -> Any:
    """Load what notebooks use, and pandas or torch with it, when it is asked for."""
    if name == "load_run":
        return importlib.import_module("caltech_exp.models.trained_network").load_run
    if name in ("StudyFrames", "read_study"):
        return getattr(importlib.import_module("caltech_exp.reporting.frames"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
