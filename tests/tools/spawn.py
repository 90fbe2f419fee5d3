"""What a command takes, measured by an interpreter that has loaded nothing: `python -S spawn.py FILE COMMAND ...`.

The kernel counts the memory of the process that starts a command as the command's own, so this one has little. It
waits for every process that the command leaves behind, and writes a JSON file: seconds until the command ended,
processor seconds of all processes, and the peak memory of the largest in MB.
"""

import contextlib
import ctypes
import json
import os
import sys
import time

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(path: str, command: list[str]) -> int:
    """The command's exit status."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, dict(os.environ))
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    costs = [used]
    with contextlib.suppress(ChildProcessError):
        while True:
            costs.append(os.wait4(-1, 0)[2])
    figures = {
        "seconds": seconds,
        "processor_seconds": sum(cost.ru_utime + cost.ru_stime for cost in costs),
        "peak_mb": max(cost.ru_maxrss for cost in costs) / 1024,
    }
    with open(path, "w") as file:  # noqa: PTH123 (pathlib is not loaded)
        json.dump(figures, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
