"""python reports/compare.py: two studies of the same runs, paired run by run.

Runs of the two studies are paired by settings and seed, whatever their engine, precision or workers. Damaged
results are named on standard error and left out.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from caltech_exp.cli import UserError, read_options, usage
from caltech_exp.config import RunConfig
from caltech_exp.files import user_path
from caltech_exp.records import Corrupt
from caltech_exp.reporting.markup import NOTHING, listing, printable, table
from caltech_exp.reporting.vocabulary import HOW_NOT_WHAT
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Result, read_result

MOST_EXACT = 20
"""Pairs up to which all 2^n assignments of signs are gone through, which is about a million for this many."""
FLIPS = 100_000
"""Assignments drawn for more pairs. The standard error of p is sqrt(p (1 - p) / FLIPS): 0.0007 at p = 0.05."""
SEED = 0
"""Of these draws: the same pairs have the same p."""


@dataclass(frozen=True)
class Paired:
    """Accuracies (0 to 1) of n runs computed in two ways, paired by seed; standard deviations are the sample's.

    n counts the pairs of which both runs finished: all numbers are of these. Where there are none, they are NaN.
    first_diverged, second_diverged  runs of the other pairs that diverged, by side
    p  the share of all assignments of signs to the n differences under which their mean is as far from zero as it
       is (`sign_flip_p`): the smallest it can be is 2 / 2^n. None without two pairs
    """

    settings: str
    n: int
    first_mean: float
    first_std: float
    second_mean: float
    second_std: float
    difference_mean: float
    difference_std: float
    p: float | None
    first_diverged: int = 0
    second_diverged: int = 0


def pair_by_seed(first: Iterable[Result], second: Iterable[Result]) -> dict[str, list[tuple[Result, Result]]]:
    """Runs on the same data with the same seed and settings, but for how they are computed, finished or diverged.

    By the settings that all pairs of a group share, as JSON. Raises UserError if a side has two runs for a pair:
    which of them to compare is not for this to choose.
    """
    ours, others = _by_what(first), _by_what(second)
    pairs: dict[str, list[tuple[Result, Result]]] = {}
    for what, mine in ours.items():
        theirs = others.get(what)
        if theirs:
            pairs.setdefault(what[0], []).append((_only("first", mine), _only("second", theirs)))
    return pairs


def _by_what(results: Iterable[Result]) -> dict[tuple[str, int, str], list[Result]]:
    found: dict[tuple[str, int, str], list[Result]] = {}
    for result in results:
        found.setdefault(_what(result), []).append(result)
    return found


def _only(side: str, runs: Sequence[Result]) -> Result:
    if len(runs) == 1:
        return runs[0]
    named = listing([f"{run.run_id} ({_how(run)})" for run in runs])
    raise UserError(
        f"{side}= holds one run computed in {len(runs)} ways, {named}; give folders with one way each: copy the "
        "runs of each way into a folder of their own, or submit them with engine= and precision= into runs= of "
        "their own"
    )


def _how(run: Result) -> str:
    return " ".join(f"{name}={getattr(run.config, name)}" for name in HOW_NOT_WHAT)


def compare(settings: str, pairs: Sequence[tuple[Result, Result]]) -> Paired:
    """Means, spreads and the test over the final validation accuracies of the pairs that finished."""
    finished = [pair for pair in pairs if all(run.val_accuracy is not None for run in pair)]
    values = np.array([[run.val_accuracy for run in pair] for pair in finished], dtype=np.float64).reshape(-1, 2)
    differences = values[:, 1] - values[:, 0]

    def mean(of: np.ndarray) -> float:
        return float(of.mean()) if len(of) else float("nan")

    def std(of: np.ndarray) -> float:
        return float(np.std(of, ddof=1)) if len(of) > 1 else float("nan")

    return Paired(
        settings=settings,
        n=len(finished),
        first_mean=mean(values[:, 0]),
        first_std=std(values[:, 0]),
        second_mean=mean(values[:, 1]),
        second_std=std(values[:, 1]),
        difference_mean=mean(differences),
        difference_std=std(differences),
        p=sign_flip_p(differences) if len(finished) > 1 else None,
        first_diverged=sum(first.val_accuracy is None for first, _ in pairs),
        second_diverged=sum(second.val_accuracy is None for _, second in pairs),
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the sign-flip test that the differences [n] are symmetric about zero.

    Exact up to MOST_EXACT of them. For more, FLIPS assignments of signs are drawn, and the observed one counts as
    one more: p = (1 + as extreme) / (1 + FLIPS), which never rejects too often (B. Phipson and G. K. Smyth,
    Permutation P-values should never be zero, 2010).
    """
    least = abs(float(differences.sum())) - 1e-12
    if len(differences) <= MOST_EXACT:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate((sums + difference, sums - difference))
        return float(np.mean(np.abs(sums) >= least))
    generator = np.random.default_rng(SEED)
    sums = np.zeros(FLIPS)
    for difference in differences:
        sums += difference * (2 * generator.integers(0, 2, FLIPS) - 1)
    return (1 + int(np.count_nonzero(np.abs(sums) >= least))) / (1 + FLIPS)


def _what(result: Result) -> tuple[str, int, str]:
    config = result.config.model_dump_json(exclude=set(HOW_NOT_WHAT))
    return config, result.seed, result.data.fingerprint


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
    damaged: tuple[Corrupt, ...]


def _results(key: str, folder: str) -> Read:
    if not folder:
        raise UserError(f"{key} is missing: give {key}=DIR, the folder of a study")
    runs = user_path(folder, key)
    if not runs.is_dir():
        raise UserError(f"{key}={folder}: there is no such folder; give the folder of a study")
    found = [read_result(path) for path in StudyFolder(runs).run_folders()]
    return Read(
        tuple(result for result in found if isinstance(result, Result)),
        tuple(result for result in found if isinstance(result, Corrupt)),
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
