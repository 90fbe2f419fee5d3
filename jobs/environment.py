"""What a submission was made in: versions, modules, driver, and the variables that can change a result."""

import os
import platform
import socket
import sys
from importlib.metadata import distributions
from pathlib import Path

from caltech_exp.child_environment import ask_tool
from caltech_exp.record import StrictRecord
from caltech_exp.results import write_record

ENVIRONMENT = "environment.json"
VARIABLES = (
    "CALTECH101_ROOT",
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LOADEDMODULES",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTORCH_CUDA_ALLOC_CONF",
    "SLURM_CLUSTER_NAME",
    "SLURM_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_HOME",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
)
"""The only variables that are kept: a user's environment holds passwords and tokens too."""
DRIVER_SECONDS = 10.0


class Environment(StrictRecord):
    """The environment of the command that submitted.

    packages     name -> version of every installed distribution, as `pip freeze` lists them
    modules      loaded by environment modules or Lmod, in their order
    conda        name of the conda environment; None outside of one
    cuda_driver  of this machine; None where nvidia-smi is not there or does not answer
    variables    those of VARIABLES that are set
    """

    host: str
    system: str
    python: str
    executable: str
    packages: dict[str, str]
    modules: tuple[str, ...]
    conda: str | None
    cuda_driver: str | None
    variables: dict[str, str]


def describe_environment() -> Environment:
    """The environment of this process."""
    variables = {name: _text(os.environ[name]) for name in VARIABLES if name in os.environ}
    return Environment(
        host=socket.gethostname(),
        system=platform.platform(),
        python=platform.python_version(),
        executable=_text(sys.executable),
        packages=_packages(),
        modules=tuple(name for name in variables.get("LOADEDMODULES", "").split(":") if name),
        conda=variables.get("CONDA_DEFAULT_ENV"),
        cuda_driver=_cuda_driver(),
        variables=variables,
    )


def write_environment(folder: Path) -> None:
    """Leave environment.json in the folder of a submission. Raises OSError."""
    write_record(folder, ENVIRONMENT, describe_environment())


def _packages() -> dict[str, str]:
    """The first of a name on sys.path counts, as it does for `import`."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version:  # a half-removed one has none
            found.setdefault(name, version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _cuda_driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return next(iter((ask_tool(command, DRIVER_SECONDS) or "").split()), None)


def _text(value: str) -> str:
    """The value with bytes that are no text as escapes: a record is UTF-8."""
    return value.encode(errors="backslashreplace").decode()
