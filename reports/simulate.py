"""A whole study without training: `python reports/simulate.py out=DIR [seeds=3]`.

Every run of the report with every seed, drawn at random around the reported values and marked as simulated in
study.json and in every result. The files are written by the functions that jobs write theirs with, so that
`python reports/aggregate.py runs=DIR` makes a whole report of them, which says on every page what it shows.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.arguments import read_options, run_command_line, usage
from caltech_exp.catalog import THE_REPORT, Row
from caltech_exp.clock import utc_now
from caltech_exp.errors import UserError
from caltech_exp.files import user_path
from caltech_exp.manifest import Manifest, SubmittedTask, write_manifest
from caltech_exp.plan import PlannedRun, expand
from caltech_exp.provenance import code_version
from caltech_exp.results import RESULT, Result, write_record
from caltech_exp.seeds import parse_seeds
from caltech_exp.study import Study, StudyData, StudySettings, write_study
from reports.simulated_data import ImageCounts, counts_of, invented_counts
from reports.simulated_runs import simulate_run

SUBMISSION = "simulated"


class SimulateOptions(BaseModel):
    """What `reports/simulate.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: str = Field("", description="folder of the new study; it must be new or empty")
    seeds: str = Field("3", description="how many seeds, or which, as jobs/submit.py takes them")
    data: str = Field("", description="a Caltech-101 folder whose classes and splits to take; else invented ones")


USAGE = usage(
    "python reports/simulate.py out=DIR [seeds=3] [data=DIR]\n\n"
    "Writes all runs of the report with results drawn at random around the reported values: nothing is trained.",
    SimulateOptions,
)


def main(argv: Sequence[str]) -> int:
    """Write the study. Raises UserError if `out` is missing, not empty, or cannot be written."""
    options = read_options(SimulateOptions, argv)
    if not options.out:
        raise UserError("out is missing: give out=DIR, a new folder")
    out, seeds = user_path(options.out, "out"), parse_seeds(options.seeds)
    counts = counts_of(user_path(options.data, "data")) if options.data else invented_counts()
    try:
        if out.exists() and any(out.iterdir()):
            raise UserError(
                f"out={options.out} is not empty; give a new folder, so that no study is mixed with it"
            )
        written = write_simulated_study(out, seeds, counts)
    except OSError as error:
        place = error.filename or out
        raise UserError(
            f"out={options.out} cannot be written ({place}: {error.strerror or error}); give another folder"
        ) from None
    print(f"simulated study: {out}, {written:,} runs; nothing was trained")
    return 0


def write_simulated_study(out: Path, seeds: Sequence[int], counts: ImageCounts) -> int:
    """Write study, manifest and a result for every run of the report; returns how many. Raises OSError."""
    code, settings = code_version(), StudySettings()
    data = StudyData(
        root=counts.root,
        fingerprint=counts.fingerprint,
        stand_in=counts.stand_in,
        simulated=True,
        classes=counts.classes,
        train_val_images=int((counts.train + counts.val).sum()),
        test_images=int(counts.test.sum()),
    )
    runs = expand(THE_REPORT.tables, seeds, settings)
    tasks = tuple(
        SubmittedTask(array=0, index=number, job=SUBMISSION, runs=(run.id,)) for number, run in enumerate(runs)
    )
    write_study(out, Study(settings=settings, data=data, created=utc_now(), code=code))
    write_manifest(
        out,
        Manifest(
            id=SUBMISSION,
            executor="local",
            job_names=(SUBMISSION,),
            tasks=tasks,
            settings=settings,
            seeds=tuple(seeds),
            profile={},
            command=tuple(sys.argv),
            code=code,
            host=SUBMISSION,
            created=utc_now(),
        ),
    )
    for result in simulated_results(runs, counts):
        write_record(out / result.run_id, RESULT, result)
    return len(runs)


def simulated_results(runs: Sequence[PlannedRun], counts: ImageCounts) -> Iterator[Result]:
    """A result for each of the runs, drawn around the first of its rows that the report prints a value for."""
    rows = {f"{s.name}.{t.name}={row.label}": row for s, t in THE_REPORT.tables for row in t.rows}
    code = code_version()
    for run in runs:
        key, row = _row(run, rows)
        yield simulate_run(row, key, run.config, run.seed, counts, code)


def _row(run: PlannedRun, rows: dict[str, Row]) -> tuple[str, Row]:
    keys = sorted(run.serves, key=lambda key: rows[key].reported is None)
    return keys[0], rows[keys[0]]


if __name__ == "__main__":
    run_command_line(main, USAGE)
