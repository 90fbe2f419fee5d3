"""The job after a study's runs: its report. Pickled by submitit.

Reports are not imported here: their command line is called, that of the same source.
"""

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import UncompletedJobError

from caltech_exp.child_environment import python_environment
from caltech_exp.clock import utc_now
from caltech_exp.errors import one_line, shown
from caltech_exp.interruption import Requests
from caltech_exp.provenance import CHECKOUT
from caltech_exp.results import write_record
from jobs.aggregated import AGGREGATED, Aggregated
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
        limit_logs(self.log_mb)
        Ending(Requests())
        environment = submitit.JobEnvironment()
        try:
            reason = self._aggregate()
        except UncompletedJobError:
            reason = "it reached its time limit; give cpu_jobs in the profile more time_minutes"
        record = Aggregated(
            status="failed" if reason else "finished",
            reason=reason,
            job=environment.job_id,
            log=str(environment.paths.stdout),
            when=utc_now(),
        )
        with contextlib.suppress(OSError):  # the log says it too
            write_record(Path(self.submission), AGGREGATED, record)
        if reason:
            raise RuntimeError(reason)

    def _aggregate(self) -> str:
        """Call reports/aggregate.py; why it failed, or nothing."""
        command = [
            sys.executable,
            str(CHECKOUT / "reports" / "aggregate.py"),
            f"runs={self.runs}",
            f"out={self.report}",
        ]
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
        return one_line(shown(last.removeprefix("error: "), 500))
