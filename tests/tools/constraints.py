"""The versions of all libraries that this environment has: `make constraints` writes them to constraints.txt."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from caltech_exp.provenance import CHECKOUT

HEADER = """\
# The versions that all checks last passed with, of what pyproject.toml asks for and what that needs in turn.
# make setup CONSTRAINTS=constraints.txt installs them; make constraints writes this file again.
"""


def direct_requirements(project: Path = CHECKOUT / "pyproject.toml") -> list[Requirement]:
    """What the project asks for, its development tools too."""
    table = tomllib.loads(project.read_text())["project"]
    return [Requirement(line) for line in (*table["dependencies"], *table["optional-dependencies"]["dev"])]


def installed_versions() -> dict[str, str]:
    """Name -> version of every requirement, direct or not, that does not depend on the platform."""
    versions: dict[str, str] = {}
    waiting = direct_requirements()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            library = distribution(name)
        except PackageNotFoundError:
            continue
        if name not in versions:
            versions[name] = Version(library.version).public  # without the build, as in 2.9.0+cpu
            waiting += [needed for line in library.requires or () if _is_needed(needed := Requirement(line))]
    return dict(sorted(versions.items()))


def _is_needed(requirement: Requirement) -> bool:
    """False for what an option asks for, and for what one platform has, such as NVIDIA's libraries."""
    marker = requirement.marker
    if marker is None:
        return True
    return not re.search(r"platform|os_name", str(marker)) and marker.evaluate({"extra": ""})


if __name__ == "__main__":
    print(HEADER + "\n".join(f"{name}=={version}" for name, version in installed_versions().items()))
