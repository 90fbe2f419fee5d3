"""Bounds of the dependencies, the versions on record, and undocumented parts of libraries that the suite uses."""

import re

import pytest
from packaging.utils import canonicalize_name

from tests.conftest import CHECKOUT
from tests.tools.constraints import direct_requirements

LINES = [line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
UNDOCUMENTED = {
    "submitit": "<2",  # the batch script, what starts a task, where it is queued again
    "torch": "<3",  # classes of layers by which frozen features are recognised
    "pydantic": "<3",  # pydantic_core's own JSON reader
    "bokeh": "<4",  # the scripts that the report's page holds
}


def test_constraints_name_every_direct_dependency_within_its_bounds() -> None:
    versions = dict(line.split("==") for line in LINES)
    for requirement in direct_requirements():
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in constraints.txt: make constraints"
        assert requirement.specifier.contains(versions[name], prereleases=True), requirement


def test_constraints_are_names_and_versions_alone() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in LINES)
    assert sorted(LINES, key=lambda line: line.partition("==")[0]) == LINES


@pytest.mark.parametrize("name", UNDOCUMENTED)
def test_libraries_with_undocumented_parts_in_use_have_an_upper_bound(name: str) -> None:
    (requirement,) = (each for each in direct_requirements() if each.name == name)
    assert UNDOCUMENTED[name] in str(requirement.specifier).split(",")


def test_undocumented_parts_of_submitit_exist() -> None:
    import submitit
    from submitit.core import core, submission, utils
    from submitit.core.job_environment import JobEnvironment

    assert callable(submitit.SlurmExecutor._make_submission_file_text)
    assert isinstance(submitit.SlurmExecutor._submitit_command_str, property)
    assert callable(JobEnvironment._requeue)
    assert callable(submission.process_job)
    assert callable(utils.pickle_load)
    assert callable(utils.cloudpickle_dump)
    assert hasattr(core.Job, "watcher")


def test_undocumented_parts_of_torch_exist() -> None:
    from torch.nn import BatchNorm2d, Dropout, Linear
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.dropout import _DropoutNd
    from torch.optim import SGD, lr_scheduler

    assert issubclass(BatchNorm2d, _BatchNorm)
    assert issubclass(Dropout, _DropoutNd)
    optimizer = SGD(Linear(1, 1).parameters(), lr=1)
    lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    assert optimizer._opt_called  # type: ignore[attr-defined]  # training/checkpoint.py sets it
