"""The job after a study's runs: its report. Pickled by submitit.

Reports are not imported here: their command line is called, that of the same snapshot.
"""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import submitit

from caltech_exp.bootstrap import own_command
from caltech_exp.child_environment import python_environment
from caltech_exp.errors import one_line, shown
from caltech_exp.interruption import Requests
from jobs.aggregated import AGGREGATED, LONGEST_REASON, reason_of, write_end
from jobs.ending import Ending
from jobs.log_limit import limit_logs


@dataclass(frozen=True)
class AggregateTask:
    """Write the report on the study `runs` into `report`, and how that went into the folder `submission`."""

    runs: str
    report: str
    submission: str
    log_mb: float

    def __call__(self) -> None:
        """Raises RuntimeError if there is no report then."""
        Ending(Requests())
        environment = submitit.JobEnvironment()
        try:
            limit_logs(self.log_mb)
            reason = self._aggregate()
        except Exception as error:  # of a node that cannot start a process, for example
            reason = reason_of(error)
        write_end(Path(self.submission), AGGREGATED, reason, environment)
        if reason:
            raise RuntimeError(reason)

    def _aggregate(self) -> str:
        """Call reports/aggregate.py; why it failed, or nothing."""
        command = own_command("reports.aggregate", (f"runs={self.runs}", f"out={self.report}"))
        # The data set is the study's, whatever the environment of who submitted names.
        environment = {name: value for name, value in python_environment().items() if name != "CALTECH101_ROOT"}
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            check=False,
        )
        print(done.stderr, file=sys.stderr, end="", flush=True)
        if done.returncode == 0:
            return ""
        if done.returncode < 0:
            return f"it was killed by {signal.Signals(-done.returncode).name}"
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        return one_line(shown(last.removeprefix("error: "), LONGEST_REASON))
