"""`caltech-exp status`, `python jobs/status.py`: show the status of a study."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from pydantic import Field
from rich.console import Console

from caltech_exp.cli import Options, UserError, on_interrupt, read_options
from caltech_exp.executors.slurm_queries import Slurm
from caltech_exp.files import folder_path
from caltech_exp.monitoring.render import as_json, as_text, fit_screen
from caltech_exp.monitoring.study_status import latest_profile, read_status
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.plan import RunFilter
from caltech_exp.study.run_status import STATES
from caltech_exp.usage import usage

MIN_SECONDS = 5.0
CLASHES = {
    "watch": "json results run log",
    "results": "state run log",
    "run": "log section table state",
    "log": "json section table state",
}
"""Options that say nothing together."""


class StatusOptions(Options):
    runs: str = Field("runs", description="folder of the study")
    section: str = Field("", description="only runs of these sections, with commas; default: everything")
    table: str = Field("", description="only runs of these tables, section.table, or of rows of them, with commas")
    state: str = Field("", description=f"only runs in these states, with commas: {', '.join(STATES)}")
    results: bool = Field(False, description="print the report's tables; * marks the best row of each")
    run: str = Field("", description="one run, by the beginning of its id, or as section.table=row with seed=")
    log: str = Field("", description="the log of one run, named as in run=")
    seed: int | None = Field(None, ge=0, description="of the row that run= or log= names")
    follow: bool = Field(
        False, description="with log=, print what is added, over requeues, until the run has ended"
    )
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
    "python jobs/status.py [runs=DIR] [watch=true] [failed=true] [results=true] [run=ID] [json=true]\n\n"
    "Shows how many runs of each table are queued, running, finished, failed and so on, the validation accuracy\n"
    "of each row, the curves of running runs, where their logs are, and the expected end. Coloured on a terminal\n"
    "unless NO_COLOR is set; plain text otherwise.\n\n"
    "  python jobs/status.py table=scratch.lr state=running,failed\n"
    "  python jobs/status.py log=6cb7434bcb-s0 follow=true",
    StatusOptions,
)


def main(argv: Sequence[str]) -> int:
    options = read_options(StatusOptions, argv)
    _check(options)
    folder, slurm = StudyFolder(folder_path(options.runs, "runs")), Slurm(options.timeout)
    run_filter = RunFilter.parse(options.section, options.table, options.state)
    console = Console(highlight=False)
    ascii_only = console.options.ascii_only
    if options.run or options.log:
        return _show_run(options, folder, slurm, ascii_only=ascii_only)
    if options.results:
        print(_results(folder, run_filter, as_data=options.json_))
        return 0
    read = partial(read_status, folder, slurm, run_filter=run_filter)
    if options.json_:
        print(as_json(read(), failures=options.failed))
    elif options.watch:
        from caltech_exp.monitoring.watch import watch

        with on_interrupt("the jobs go on"):
            watch(read, console, options.seconds or _poll_seconds(folder), failures=options.failed)
    elif console.is_terminal:
        console.print(fit_screen(read(), console, failures=options.failed))
    else:
        print(as_text(read(), failures=options.failed, ascii_only=ascii_only))
    return 0


def _check(options: StatusOptions) -> None:
    """Raises UserError for options that contradict each other."""
    given = [name.rstrip("_") for name, value in options if value not in (False, "", None)]
    for name, others in CLASHES.items():
        if clash := [other for other in others.split() if name in given and other in given]:
            raise UserError(f"{name}= cannot be combined with {clash[0]}=; leave one out")
    if not options.log and (options.follow or (options.seed is not None and not options.run)):
        raise UserError("follow= and seed= are of one run; name it, as in log=scratch.lr=5e-2 seed=0")


def _show_run(options: StatusOptions, folder: StudyFolder, slurm: Slurm, *, ascii_only: bool) -> int:
    from caltech_exp.monitoring.single_run import print_log, read_run, run_json, run_text

    single = read_run(folder, slurm, options.run or options.log, options.seed)
    if options.log:
        with on_interrupt("the run goes on"):
            return print_log(folder, slurm, single, _poll_seconds(folder) if options.follow else None)
    print(run_json(single) if options.json_ else run_text(single, ascii_only=ascii_only))
    return 0


def _results(folder: StudyFolder, run_filter: RunFilter, *, as_data: bool) -> str:
    """The report's tables of every row, or of those chosen, that has a result."""
    from caltech_exp.reporting.frames import read_study  # pandas is slow to import
    from caltech_exp.reporting.render.markdown import plain_table
    from caltech_exp.reporting.sections.tables import measured_tables
    from caltech_exp.reporting.wording import cautions

    study = read_study(folder.path)
    study = study.restrict(study.catalog.restrict(run_filter.sections, run_filter.tables))
    tables = measured_tables(study)
    if as_data:
        return json.dumps([asdict(table) for table, _ in tables], indent=1)
    notes = [caution.picture for caution in cautions(study)]
    texts = [f"{plain_table(table)}\n{sentence}".rstrip() for table, sentence in tables]
    return "\n\n".join([*notes, *(texts or ["no results yet"])])


def _poll_seconds(folder: StudyFolder) -> float:
    """As often as the last submission's profile asks the queue."""
    profile, _ = latest_profile(folder.manifests())
    return max(MIN_SECONDS, profile.poll_seconds) if profile else MIN_SECONDS
