"""Why a run has no result: the last lines that it left."""

import os
import stat
from pathlib import Path

from caltech_exp.errors import one_line, shown
from caltech_exp.plan import PlannedRun
from jobs.standing import Standing

LAST_LINES = 8
TAIL_BYTES = 16_384
LONGEST = 400


def last_lines(now: Standing, run: PlannedRun) -> list[str]:
    """Indented: of a failed run its traceback's, of a lost one its log's, and its errors' (.err) if it has any.

    Whatever stands in them, a line is a line: terminal codes are escaped.
    """
    failure, log = now.states[run.id].failure, now.logs.get(run.id)
    if failure:
        lines = failure.traceback.strip().splitlines()
    elif log:
        lines = [*tail(log), *(tail(log.with_suffix(".err")) if log.suffix == ".out" else ())]
    else:
        lines = []
    return [f"    {one_line(shown(line.rstrip(), LONGEST))}" for line in lines[-LAST_LINES:]]


def tail(path: Path) -> list[str]:
    """The last lines of a file that are not empty; none if it cannot be read.

    Others may write into the folder of a study: a link there may name any file, and a pipe would never end.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return []
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.replace("\r", "\n").splitlines() if line.strip()][-LAST_LINES:]
