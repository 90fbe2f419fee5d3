"""One screen on how a study stands: `python jobs/status.py [runs=DIR] [watch=true]`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console

from caltech_exp.cli import EXIT_INTERRUPTED, UserError, read_options, run_command_line, usage
from caltech_exp.executors.executor import make_executor
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import user_path
from caltech_exp.monitoring.render import as_json, as_text
from caltech_exp.monitoring.study_status import latest_profile, look
from caltech_exp.study.folder import StudyFolder

LEAST_SECONDS = 5.0


class StatusOptions(BaseModel):
    """What `jobs/status.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str = Field("runs", description="folder of the study")
    watch: bool = Field(False, description="look again and again, in place, until all runs have ended")
    seconds: float | None = Field(
        None,
        ge=5,
        le=86_400,
        description="how often watch=true looks, from 5; left out: the profile's poll_seconds",
    )
    failed: bool = Field(False, description="also the last lines of each run that failed or was lost")
    json_: bool = Field(False, alias="json", description="print JSON instead")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/status.py [runs=DIR] [watch=true] [failed=true] [json=true]\n\n"
    "How many runs of each table are queued, running, finished, failed and so on, where their logs are, and the\n"
    "expected end. Tables with colours on a terminal (NO_COLOR is heard), plain lines in a pipe.",
    StatusOptions,
)


def main(argv: Sequence[str]) -> int:
    """Print how the study stands. Raises UserError if there is none, or a record of it is damaged."""
    options = read_options(StatusOptions, argv)
    runs = user_path(options.runs, "runs")
    if options.watch and options.json_:
        raise UserError("watch=true and json=true: JSON is printed once; keep one")
    console, slurm = Console(highlight=False), Slurm(options.timeout)
    if options.json_:
        print(as_json(look(runs, slurm), failures=options.failed))
    elif options.watch:
        from caltech_exp.monitoring.watch import watch

        look_remembering = partial(look, runs, slurm, {})
        try:
            watch(look_remembering, console, options.seconds or _poll_seconds(runs), failures=options.failed)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
    elif console.is_terminal:
        from caltech_exp.monitoring.render import fitted

        console.print(fitted(look(runs, slurm), console, failures=options.failed))
    else:
        print(as_text(look(runs, slurm), failures=options.failed))
    return 0


def _poll_seconds(runs: Path) -> float:
    """How often the profile of the last submission asks the queue."""
    profile, _ = latest_profile(StudyFolder(runs).manifests())
    return max(LEAST_SECONDS, make_executor(profile).poll_seconds) if profile else LEAST_SECONDS


if __name__ == "__main__":
    sys.exit(run_command_line(main, USAGE))
