"""`caltech-exp status`, `python jobs/status.py`: show the status of a study."""

from collections.abc import Sequence
from functools import partial

from pydantic import Field
from rich.console import Console

from caltech_exp.cli import Options, UserError, on_interrupt, read_options
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import folder_path
from caltech_exp.monitoring.render import as_json, as_text, fit_screen
from caltech_exp.monitoring.study_status import latest_profile, read_status
from caltech_exp.study.folder import StudyFolder
from caltech_exp.usage import usage

MIN_SECONDS = 5.0


class StatusOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    watch: bool = Field(False, description="refresh the status in place until all runs have ended")
    seconds: float | None = Field(
        None,
        ge=MIN_SECONDS,
        le=86_400,
        description="how often watch=true refreshes, 5 or more; default: the profile's poll_seconds",
    )
    failed: bool = Field(False, description="also show the last lines of each run that failed or was lost")
    json_: bool = Field(False, alias="json", description="print JSON instead")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/status.py [runs=DIR] [watch=true] [failed=true] [json=true]\n\n"
    "Shows how many runs of each table are queued, running, finished, failed and so on, where their logs are,\n"
    "and the expected end. Coloured on a terminal unless NO_COLOR is set; plain text otherwise.\n\n"
    "  python jobs/status.py runs=runs watch=true",
    StatusOptions,
)


def main(argv: Sequence[str]) -> int:
    options = read_options(StatusOptions, argv)
    if options.watch and options.json_:
        raise UserError("watch=true cannot be combined with json=true, which prints once; leave one out")
    folder = StudyFolder(folder_path(options.runs, "runs"))
    read = partial(read_status, folder, Slurm(options.timeout))
    console = Console(highlight=False)
    if options.json_:
        print(as_json(read(), failures=options.failed))
    elif options.watch:
        from caltech_exp.monitoring.watch import watch

        with on_interrupt("the jobs go on"):
            watch(read, console, options.seconds or _poll_seconds(folder), failures=options.failed)
    elif console.is_terminal:
        console.print(fit_screen(read(), console, failures=options.failed))
    else:
        print(as_text(read(), failures=options.failed))
    return 0


def _poll_seconds(folder: StudyFolder) -> float:
    """As often as the last submission's profile asks the queue."""
    profile, _ = latest_profile(folder.manifests())
    return max(MIN_SECONDS, profile.poll_seconds) if profile else MIN_SECONDS
