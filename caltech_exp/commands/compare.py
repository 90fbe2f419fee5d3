"""`python reports/compare.py`: whether two studies of the same runs agree, paired by settings, seed and data set.

Damaged results are named on standard error and skipped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options
from caltech_exp.files import folder_path
from caltech_exp.records import Corrupt
from caltech_exp.usage import usage

if TYPE_CHECKING:
    from caltech_exp.reporting.frames import StudyFrames


class CompareOptions(Options):
    first: str = Field("", description="folder of a study")
    second: str = Field(
        "",
        description="a second study that trained the same runs differently, e.g. with another engine; without it, "
        "the runs that retry=finished trained again are compared with their first results",
    )


USAGE = usage(
    "python reports/compare.py first=DIR [second=DIR]\n\n"
    "Says whether two studies agree in the runs that they share: the final validation accuracies are paired by\n"
    "seed, and each row has the interval of its difference.\n\n"
    "  python reports/compare.py first=runs second=runs-reference",
    CompareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Print the verdict, the cautions, and the rows."""
    options = read_options(CompareOptions, argv)
    if options.first and not options.second:
        return _compare_again(options.first)
    folders = [_folder(key, getattr(options, key)) for key in ("first", "second")]
    if folders[0].samefile(folders[1]):
        raise UserError(f"first= and second= are the same folder, {folders[0].resolve()}; give two studies")
    from caltech_exp.reporting.frames import read_study  # pandas is slow to import
    from caltech_exp.reporting.study_pairs import (
        caution_lines,
        compare_pairs,
        footnote,
        pair_runs,
        row_names,
        rows_table,
        verdict_line,
    )

    studies = [read_study(folder) for folder in folders]
    for study in studies:
        for corrupt in _corrupt_results(study):
            print(f"skipped: {corrupt.complaint('submit its run again')}", file=sys.stderr)
    pairs = pair_runs(*studies)
    if pairs.empty:
        raise UserError(
            f"first={options.first} and second={options.second} share no completed run on the same data set; "
            "submit the same tables and seeds to both"
        )
    rows = compare_pairs(pairs, row_names(studies))
    for text in (verdict_line(rows), *caution_lines(*studies), "", rows_table(rows), "", footnote(rows)):
        print(text)
    return 0


def _compare_again(name: str) -> int:
    """Print of every run that was trained again whether its second result equals the first."""
    folder = _folder("first", name)
    from caltech_exp.reporting.frames import read_study
    from caltech_exp.reporting.sections.provenance import count_equal

    runs = read_study(folder).runs.dropna(subset="again")
    if runs.empty:
        raise UserError(
            f"first={name}: no run was trained again; give second=, the folder of another study, or submit "
            "some with retry=finished"
        )
    print(count_equal(runs["again"]))
    for run in runs.itertuples():
        print(f"{run.run_id}  {str(run.rows).partition('; ')[0]}: {run.again}")
    return 0


def _folder(key: str, name: str) -> Path:
    if not name:
        raise UserError(f"{key} is missing: give {key}=DIR, the folder of a study")
    folder = folder_path(name, key)
    if not folder.is_dir():
        raise UserError(f"{key}={name}: there is no such folder; give the folder of a study")
    return folder


def _corrupt_results(study: "StudyFrames") -> list[Corrupt]:
    """The results in the study's folder that cannot be read."""
    corrupt = []
    for run in study.runs[study.runs["state"].isin(["damaged", "newer"])].itertuples():
        name, _, reason = str(run.detail).partition(": ")
        path = study.folder / str(run.run_id) / name
        if path.exists():  # a published study names those of the original
            corrupt.append(Corrupt(path, reason, is_newer=str(run.state) == "newer"))
    return corrupt
