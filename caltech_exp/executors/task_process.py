"""The process of a task: submitit's, but it loads only pickles that no other user can have written.

It is started as `python ... caltech_exp.executors.task_process -u -m submitit.core._submit FOLDER`. The end of the
command line is submitit's own; tasks are found by it among the processes of a machine.
"""

import io
import pickle
import sys
from pathlib import Path
from typing import Any

from submitit.core import submission, utils

from caltech_exp.bootstrap import UntrustedError, check_own_folder, read_own, refuse
from caltech_exp.files import closed_to_others

_dump = utils.cloudpickle_dump


def load_own(filename: str | Path) -> Any:
    """Load a pickle as submitit does. Raises UntrustedError for a file that other users could have written."""
    check_own_folder(Path(filename).parent)
    return pickle.load(io.BytesIO(read_own(Path(filename))))


def dump_own(obj: Any, filename: str | Path) -> None:
    """Dump a pickle as submitit does, into a file that only the user may write, whatever the umask."""
    with closed_to_others():
        _dump(obj, filename)


def main() -> None:
    """Run the task of this job; exit status 2 if its pickle is refused."""
    folder = Path(sys.argv[-1])
    utils.pickle_load, utils.cloudpickle_dump = load_own, dump_own
    try:
        submission.process_job(folder)
    except UntrustedError as error:
        refuse(folder, str(error))


if __name__ == "__main__":
    main()
