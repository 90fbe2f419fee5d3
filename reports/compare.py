"""python reports/compare.py first=runs/reference second=runs/fast: the same runs, computed in two ways.

Runs of the two studies are paired by settings and seed, whatever their engine, precision or workers. Damaged
results are named on standard error and left out.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.arguments import read_options, run_command_line, usage
from caltech_exp.config import RunConfig
from caltech_exp.errors import UserError
from caltech_exp.files import user_path
from caltech_exp.results import Damaged, Result, read_result
from caltech_exp.study import run_folders
from reports.markup import NOTHING, printable, table
from reports.paired import FLIPS, MOST_EXACT, Paired, compare, pair_by_seed


class CompareOptions(BaseModel):
    """What `reports/compare.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str = Field("", description="folder of a study")
    second: str = Field("", description="folder of another, of the same runs computed otherwise")


USAGE = usage(
    "python reports/compare.py first=DIR second=DIR\n\n"
    "Final validation accuracies of the runs that two studies share, paired by seed, with a sign-flip test.",
    CompareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Print the comparison. Raises UserError if the studies share no run, or one holds a run in two ways."""
    options = read_options(CompareOptions, argv)
    first, second = (_results(key, getattr(options, key)) for key in ("first", "second"))
    for damaged in (*first.damaged, *second.damaged):
        print(printable(f"left out: {damaged.complaint('submit its run again')}"), file=sys.stderr)
    pairs = pair_by_seed(first.results, second.results)
    if not pairs:
        raise UserError(
            f"first={options.first} and second={options.second} have no run in common that has ended and was "
            "trained on the same data; submit the same tables and seeds into both"
        )
    compared = [compare(settings, group) for settings, group in pairs.items()]
    print(comparison_table(compared))
    print(f"\n{footnote(compared)}")
    return 0


def footnote(compared: Sequence[Paired]) -> str:
    """What the columns mean, in plain text."""
    words = ["n: pairs of which both runs finished. Standard deviations are the sample's. p: sign-flip test on"]
    words += [f"the differences, two-sided; exact up to n = {MOST_EXACT}"]
    if any(one.n > MOST_EXACT for one in compared):
        words += [f"and from {FLIPS:,} random flips above, (1 + as extreme) / (1 + {FLIPS:,})"]
    text = " ".join(words) + ". Not below 2 / 2^n: with fewer than six pairs not below 0.05."
    if any(one.first_diverged or one.second_diverged for one in compared):
        text += " Diverged: runs of first and of second; their pairs count nowhere else."
    return text


def comparison_table(compared: Sequence[Paired]) -> str:
    """Markdown, one line per configuration."""
    headings = ("settings", "n", "diverged", "first", "second", "difference", "p")
    rows = [
        (
            _changed(one.settings),
            str(one.n),
            f"{one.first_diverged} + {one.second_diverged}",
            _spread(one.first_mean, one.first_std, one.n),
            _spread(one.second_mean, one.second_std, one.n),
            _spread(one.difference_mean, one.difference_std, one.n),
            NOTHING if one.p is None else f"{one.p:.3f}",
        )
        for one in compared
    ]
    return table(headings, rows, numbers=(1, 2, 3, 4, 5, 6))


@dataclass(frozen=True)
class Read:
    """What the result files of a study hold, and those that hold nothing that can be read."""

    results: tuple[Result, ...]
    damaged: tuple[Damaged, ...]


def _results(key: str, folder: str) -> Read:
    if not folder:
        raise UserError(f"{key} is missing: give {key}=DIR, the folder of a study")
    runs = user_path(folder, key)
    if not runs.is_dir():
        raise UserError(f"{key}={folder}: there is no such folder; give the folder of a study")
    found = [read_result(path) for path in run_folders(runs)]
    return Read(
        tuple(result for result in found if isinstance(result, Result)),
        tuple(result for result in found if isinstance(result, Damaged)),
    )


def _changed(settings: str) -> str:
    """The settings that are not the template's."""
    template = RunConfig().model_dump()
    given = json.loads(settings)
    return " ".join(f"{name}={value}" for name, value in given.items() if value != template[name]) or "template"


def _spread(mean: float, std: float, n: int) -> str:
    if n == 0:
        return NOTHING
    return f"{mean:.4f}" if n < 2 else f"{mean:.4f} ± {std:.4f}"


if __name__ == "__main__":
    run_command_line(main, USAGE)
