"""One screen on how a study stands: `python jobs/status.py [runs=DIR] [watch=true]`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.arguments import read_options, run_command_line, usage
from caltech_exp.errors import EXIT_INTERRUPTED, UserError
from caltech_exp.files import user_path
from caltech_exp.plan import expand
from caltech_exp.study import read_study
from jobs.queued import sound_manifests
from jobs.run_states import states_of
from jobs.standing import Standing, standing


class StatusOptions(BaseModel):
    """What `jobs/status.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: str = Field("runs", description="folder of the study")
    watch: bool = Field(False, description="look again and again, in place, until all runs have ended")
    seconds: float = Field(30, ge=5, le=86_400, description="how often watch=true looks, seconds from 5")
    failed: bool = Field(False, description="also why runs failed: the last lines of each, and its log")
    json_: bool = Field(False, alias="json", description="print JSON instead")
    timeout: float = Field(60, gt=0, le=3600, description="how long a Slurm command may take, seconds")


USAGE = usage(
    "python jobs/status.py [runs=DIR] [watch=true] [failed=true] [json=true]\n\n"
    "How many runs of each table are queued, running, finished, failed and so on, and the expected end.",
    StatusOptions,
)


def main(argv: Sequence[str]) -> int:
    """Print how the study stands. Raises UserError if there is none, or the queue does not answer."""
    options = read_options(StatusOptions, argv)
    runs = user_path(options.runs, "runs")
    if not options.watch:
        print(_printed(look(runs, options.timeout), options))
        return 0
    from rich.live import Live
    from rich.text import Text

    try:
        with Live(auto_refresh=False) as screen:
            while True:
                now = look(runs, options.timeout)
                screen.update(Text(_printed(now, options)), refresh=True)
                if not now.open:
                    return 0
                time.sleep(options.seconds)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def look(runs: Path, timeout: float) -> Standing:
    """How the study in `runs` stands now."""
    study = read_study(runs)
    if study is None:
        raise UserError(f"runs={runs} holds no study; submit one with jobs/submit.py, or name another")
    manifests = sound_manifests(runs)
    seeds = sorted({seed for manifest in manifests for seed in manifest.seeds})
    tables = study.catalog.tables
    plan = expand(tables, seeds, study.settings)
    return standing(runs, tables, plan, states_of(plan, runs, manifests, timeout, study.data.fingerprint))


def _printed(now: Standing, options: StatusOptions) -> str:
    from jobs import standing_text

    if options.json_:
        return standing_text.as_json(now)
    return standing_text.as_text(now, failures=options.failed)


if __name__ == "__main__":
    sys.exit(run_command_line(main, USAGE))
