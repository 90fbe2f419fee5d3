"""Commands in name spaces of their own: another /proc, other mounts, nothing changed on the machine."""

import os
import shutil
import subprocess

import pytest


def in_namespaces(*command: str) -> str:
    """What `unshare` with these words prints; CI fails where it cannot be called."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        if os.environ.get("CI"):
            pytest.fail("CI needs root and unshare")
        pytest.skip("other name spaces need root and unshare")
    done = subprocess.run(["unshare", *command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
