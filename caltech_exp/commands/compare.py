"""`python reports/compare.py`: compare two studies of the same runs, paired by settings and seed.

Engine, precision and workers may differ within a pair. Damaged results are named on standard error and skipped.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from caltech_exp.cli import Options, UserError, read_options, usage
from caltech_exp.config import RunConfig
from caltech_exp.files import user_path
from caltech_exp.records import Corrupt
from caltech_exp.reporting.markup import NOTHING, listing, printable, table
from caltech_exp.reporting.vocabulary import HOW_NOT_WHAT
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import Result, read_result

MOST_EXACT = 20
"""Up to so many pairs, all 2^n sign flips are computed (a million); of more pairs, FLIPS random ones."""
FLIPS = 100_000  # standard error of p: sqrt(p (1 - p) / FLIPS), 0.0007 at p = 0.05
SEED = 0  # the same pairs always have the same p


@dataclass(frozen=True)
class Paired:
    """Accuracies (0 to 1) of the n pairs of which both runs finished; NaN without a pair.

    Standard deviations are the sample's.

    first_diverged, second_diverged  diverged runs of the other pairs
    p  of the sign-flip test (`sign_flip_p`), at least 2 / 2^n; None for less than two pairs
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
    """Settings as JSON -> pairs of results with these settings and the same seed and data set.

    The settings do not include engine, precision and workers. Raises UserError if a side has two runs for a pair.
    """
    second_results = _by_key(second)
    pairs: dict[str, list[tuple[Result, Result]]] = {}
    for key, results in _by_key(first).items():
        if key in second_results:
            pair = _only("first", results), _only("second", second_results[key])
            pairs.setdefault(key[0], []).append(pair)
    return pairs


def _by_key(results: Iterable[Result]) -> dict[tuple[str, int, str], list[Result]]:
    """(settings as JSON, seed, fingerprint of the data set) -> results."""
    groups: dict[tuple[str, int, str], list[Result]] = {}
    for result in results:
        settings = result.config.model_dump_json(exclude=set(HOW_NOT_WHAT))
        groups.setdefault((settings, result.seed, result.data.fingerprint), []).append(result)
    return groups


def _only(side: str, runs: Sequence[Result]) -> Result:
    if len(runs) == 1:
        return runs[0]
    names = listing([f"{run.run_id} ({_how(run)})" for run in runs])
    raise UserError(
        f"{side}= holds {len(runs)} versions of one run, {names}; give a folder with one of them: copy each "
        "version to a folder of its own, or submit each engine= and precision= to its own runs="
    )


def _how(run: Result) -> str:
    return " ".join(f"{name}={getattr(run.config, name)}" for name in HOW_NOT_WHAT)


def compare(settings: str, pairs: Sequence[tuple[Result, Result]]) -> Paired:
    """Means, standard deviations and the test of the last epochs' validation accuracies of the finished pairs."""
    finished = [pair for pair in pairs if all(run.val_accuracy is not None for run in pair)]
    values = np.array([[run.val_accuracy for run in pair] for pair in finished], dtype=np.float64).reshape(-1, 2)
    differences = values[:, 1] - values[:, 0]

    def mean(values: np.ndarray) -> float:
        return float(values.mean()) if len(values) else float("nan")

    def std(values: np.ndarray) -> float:
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

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

    It is the share of sign flips whose mean is as far from zero as the observed one. Of more than MOST_EXACT
    differences, FLIPS random flips and the observed one count: p = (1 + as extreme) / (1 + FLIPS), which never
    rejects too often (B. Phipson and G. K. Smyth, Permutation P-values should never be zero, 2010).
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


class CompareOptions(Options):
    first: str = Field("", description="folder of a study")
    second: str = Field(
        "", description="a second study that trained the same runs differently, e.g. with another engine"
    )


USAGE = usage(
    "python reports/compare.py first=DIR second=DIR\n\n"
    "Compares the final validation accuracies of the runs that two studies share, paired by seed, with a\n"
    "sign-flip test.\n\n"
    "  python reports/compare.py first=runs second=runs-reference",
    CompareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Print the comparison."""
    options = read_options(CompareOptions, argv)
    first, second = (_read_results(key, getattr(options, key)) for key in ("first", "second"))
    for corrupt in (*first.corrupt, *second.corrupt):
        print(printable(f"skipped: {corrupt.complaint('submit its run again')}"), file=sys.stderr)
    pairs = pair_by_seed(first.results, second.results)
    if not pairs:
        raise UserError(
            f"first={options.first} and second={options.second} share no completed run on the same data set; "
            "submit the same tables and seeds to both"
        )
    compared = [compare(settings, group) for settings, group in pairs.items()]
    print(comparison_table(compared))
    print(f"\n{footnote(compared)}")
    return 0


def footnote(compared: Sequence[Paired]) -> str:
    """What the columns mean, in plain text."""
    text = (
        "n: pairs of which both runs finished. Standard deviations are the sample's. "
        f"p: two-sided sign-flip test on the differences, exact up to n = {MOST_EXACT}"
    )
    if any(row.n > MOST_EXACT for row in compared):
        text += f", above that from {FLIPS:,} random flips, (1 + as extreme) / (1 + {FLIPS:,})"
    text += ". p is at least 2 / 2^n, so with fewer than six pairs it stays above 0.05."
    if any(row.first_diverged or row.second_diverged for row in compared):
        text += " Diverged: runs of first and of second; their pairs do not count elsewhere."
    return text


def comparison_table(compared: Sequence[Paired]) -> str:
    """Markdown, one line per configuration."""
    headings = ("settings", "n", "diverged", "first", "second", "difference", "p")
    rows = [
        (
            _changed(row.settings),
            str(row.n),
            f"{row.first_diverged} + {row.second_diverged}",
            _spread(row.first_mean, row.first_std, row.n),
            _spread(row.second_mean, row.second_std, row.n),
            _spread(row.difference_mean, row.difference_std, row.n),
            NOTHING if row.p is None else f"{row.p:.3f}",
        )
        for row in compared
    ]
    return table(headings, rows, numbers=(1, 2, 3, 4, 5, 6))


@dataclass(frozen=True)
class StudyRecords:
    results: tuple[Result, ...]
    corrupt: tuple[Corrupt, ...]


def _read_results(key: str, folder: str) -> StudyRecords:
    if not folder:
        raise UserError(f"{key} is missing: give {key}=DIR, the folder of a study")
    runs = user_path(folder, key)
    if not runs.is_dir():
        raise UserError(f"{key}={folder}: there is no such folder; give the folder of a study")
    records = [read_result(path) for path in StudyFolder(runs).run_folders()]
    return StudyRecords(
        tuple(record for record in records if isinstance(record, Result)),
        tuple(record for record in records if isinstance(record, Corrupt)),
    )


def _changed(settings: str) -> str:
    """The settings that differ from the template's."""
    template = RunConfig().model_dump()
    changed = {name: value for name, value in json.loads(settings).items() if value != template[name]}
    return " ".join(f"{name}={value}" for name, value in changed.items()) or "template"


def _spread(mean: float, std: float, n: int) -> str:
    if n == 0:
        return NOTHING
    return f"{mean:.4f}" if n < 2 else f"{mean:.4f} ± {std:.4f}"
