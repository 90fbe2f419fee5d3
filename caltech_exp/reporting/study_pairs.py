"""Two studies of the same runs, paired by settings, seed and data set: do they agree?

Engine, precision and workers may differ within a pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from caltech_exp.cli import UserError
from caltech_exp.config import SAME_RESULT_SETTINGS, RunConfig
from caltech_exp.reporting.comparison import MAX_HALF_WIDTH, Verdict, all_rows
from caltech_exp.reporting.frames import StudyFrames
from caltech_exp.reporting.render.blocks import NOTHING, join_words, printable
from caltech_exp.reporting.stats import (
    CONFIDENCE,
    FLIPS,
    MAX_EXACT,
    MIN_PAIRS_FOR_P,
    MIN_RUNS,
    PairedDifference,
    Summary,
    paired_difference,
    summarize,
)
from caltech_exp.reporting.wording import as_typed, cautions

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, MAX_HALF_WIDTH)
"""Of these the verdict names the first that no difference reaches."""
COLUMNS = {
    "pairs": "pairs: both runs finished.",
    "diverged": "diverged: runs of first + of second; their pairs do not count elsewhere.",
    "first": "first, second: mean validation accuracy after the last epoch ± population standard deviation.",
    "difference": "difference: second - first ± half its 95 % interval.",
    "verdict": (
        "verdict: a row differs if zero lies outside its interval at the level of all rows together "
        "(Bonferroni);\n"
        f"  it agrees if zero lies inside its 95 % interval and that is narrower than ±{MAX_HALF_WIDTH:g}."
    ),
    "p": (
        f"p: two-sided sign-flip test from {MIN_PAIRS_FOR_P} pairs on, exact up to n = {MAX_EXACT}, "
        f"above that from {FLIPS:,} random flips, (1 + as extreme) / (1 + {FLIPS:,})."
    ),
}
"""What the columns of the table of rows mean."""


@dataclass(frozen=True)
class PairedRow:
    """A configuration that both studies trained. All numbers are over the pairs of which both runs finished.

    name           the rows that ask for it, `scratch.lr=5e-2; scratch.epochs=30`, or its settings if none does
    first, second  of the validation accuracy after the last epoch
    difference     second - first, with its 95 % interval
    joint          the same with the interval at the level of all rows together
    diverged       how many runs of first and of second diverged
    one_diverged   pairs of which one run alone diverged
    """

    name: str
    first: Summary
    second: Summary
    difference: PairedDifference
    joint: PairedDifference
    diverged: tuple[int, int]
    one_diverged: int

    @property
    def verdict(self) -> Verdict:
        """A row that differs by its own interval, but not at the level of all rows, is inconclusive."""
        n, half_width, size = self.difference.n, self.difference.half_width, abs(self.difference.mean or 0)
        diverges_in_one = sorted(self.diverged) == [0, self.one_diverged]
        if self.joint.is_significant or (n == 0 and diverges_in_one and self.one_diverged >= MIN_RUNS):
            return "differs"
        if self.one_diverged or 0 < n < MIN_RUNS:
            return "inconclusive"
        if half_width is None:  # all pairs differ alike, or every run diverged in both studies
            return "agrees" if not self.difference.minimum and not self.difference.maximum else "inconclusive"
        return "agrees" if size <= half_width < MAX_HALF_WIDTH else "inconclusive"


def pair_runs(first: StudyFrames, second: StudyFrames) -> pd.DataFrame:
    """One line a pair of runs with results: `recipe`, `seed`, `data`, `state_first`, `state_second` and so on.

    Raises UserError if a study has two runs for one pair.
    """
    keys = ["recipe", "seed", "data"]
    pairs = _results(first).merge(_results(second), on=keys, suffixes=("_first", "_second"))
    for side in ("first", "second"):
        runs = pairs.drop_duplicates(f"run_id_{side}")
        for _, versions in runs[runs.duplicated(keys, keep=False)].groupby(keys, sort=False):
            names = [
                f"{run} ({as_typed(config.model_dump(include=set(SAME_RESULT_SETTINGS)))})"
                for run, config in zip(versions[f"run_id_{side}"], versions[f"config_{side}"], strict=True)
            ]
            raise UserError(
                f"{side}= holds {len(names)} versions of one run, {join_words(names)}; give a folder with one of "
                "them: copy each version to a folder of its own, or submit each engine= and precision= to its own "
                "runs="
            )
    return pairs


def _results(study: StudyFrames) -> pd.DataFrame:
    """The runs with a result, with their `config` and `recipe`."""
    runs = study.runs[study.runs["state"].isin(["finished", "diverged"])]
    lines = runs.drop_duplicates("config_id").set_index("config_id")[list(RunConfig.model_fields)]
    configs = {name: RunConfig.model_validate(values) for name, values in lines.to_dict("index").items()}
    recipes = {name: recipe(config) for name, config in configs.items()}
    return runs.assign(config=runs["config_id"].map(configs), recipe=runs["config_id"].map(recipes))


def recipe(config: RunConfig) -> str:
    """The id that a configuration shares with those of another engine, precision or number of workers."""
    return RunConfig.model_validate(config.model_dump(exclude=set(SAME_RESULT_SETTINGS))).id


def row_names(studies: Iterable[StudyFrames]) -> dict[str, str]:
    """Recipe -> the rows that ask for it, in the order of the first study's tables, then of the second's."""
    names: dict[str, str] = {}
    for study in studies:
        own: dict[str, list[str]] = {}
        for row in all_rows(study):
            own.setdefault(recipe(row.config), []).append(row.key)
        for name, keys in own.items():
            names.setdefault(name, "; ".join(keys))
    return names


def compare_pairs(pairs: pd.DataFrame, names: Mapping[str, str]) -> list[PairedRow]:
    """Every configuration that has a pair, in the order of `names`; those without a name come last.

    The level of all rows together is 1 - 0.05 / m for m rows with an interval (C. E. Bonferroni): studies that
    differ in nothing then differ in some row with a probability of 0.05 at most.
    """
    groups = {str(name): group for name, group in pairs.groupby("recipe", sort=False)}
    ordered = [*(name for name in names if name in groups), *(name for name in groups if name not in names)]
    rows = [_paired_row(names.get(name, ""), groups[name], CONFIDENCE) for name in ordered]
    intervals = sum(row.difference.half_width is not None for row in rows)
    confidence = 1 - (1 - CONFIDENCE) / max(1, intervals)
    return [_paired_row(row.name, groups[name], confidence) for name, row in zip(ordered, rows, strict=True)]


def _paired_row(name: str, pairs: pd.DataFrame, confidence: float) -> PairedRow:
    if not name:  # no row asks for it: the settings that are not the template's
        config: RunConfig = pairs["config_first"].iloc[0]
        changed = config.model_dump(exclude=set(SAME_RESULT_SETTINGS), exclude_defaults=True)
        name = as_typed(changed) or "the template's settings"
    first_diverged, second_diverged = (pairs[f"state_{side}"] == "diverged" for side in ("first", "second"))
    finished = pairs[~first_diverged & ~second_diverged].set_index("seed")
    first, second = finished["val_accuracy_first"], finished["val_accuracy_second"]
    return PairedRow(
        name=name,
        first=summarize(first),
        second=summarize(second),
        difference=paired_difference(first, second),
        joint=paired_difference(first, second, confidence),
        diverged=(int(first_diverged.sum()), int(second_diverged.sum())),
        one_diverged=int((first_diverged != second_diverged).sum()),
    )


def verdict_line(rows: Sequence[PairedRow]) -> str:
    """`The two studies agree: 12 of 12 rows differ by less than 0.01, none significantly.`"""
    differing, agreeing, inconclusive = (
        [row for row in rows if row.verdict == verdict] for verdict in ("differs", "agrees", "inconclusive")
    )
    total = f"of {len(rows)} {'row' if len(rows) == 1 else 'rows'}"
    others = f"; {_count(inconclusive, 'is', 'are')} inconclusive" if inconclusive else ""
    if differing:
        row = max(differing, key=lambda row: (row.joint.is_significant, abs(row.difference.mean or 0)))
        size = _shown(row.difference.mean, row.difference.half_width, "+")
        reason = size if row.joint.is_significant else "it diverges in one of them alone"
        most = f"{'most in ' if len(differing) > 1 else ''}{row.name} ({reason})"
        agree = f"; {_count(agreeing, 'agrees', 'agree')}" if agreeing else ""
        return f"The two studies differ in {len(differing)} {total}, {most}{agree}{others}."
    if not agreeing:
        pairs = max(row.difference.n for row in rows)
        few = f"a row needs {MIN_RUNS} pairs of finished runs, the most here is {pairs}"
        return f"Nothing can be decided: {few if pairs < MIN_RUNS else 'no row agrees or differs clearly'}."
    finished = [abs(row.difference.mean or 0) for row in agreeing if row.difference.n]
    diverging = [row for row in agreeing if not row.difference.n]
    diverge = f"{_count(diverging, 'diverges', 'diverge')} in both"
    if not finished:
        return f"The two studies agree in {len(agreeing)} {total}: {diverge}{others}."
    below = f"less than {next(step for step in STEPS if max(finished) < step):g}"
    if inconclusive:
        return f"The two studies agree in {len(agreeing)} {total} (differences of {below}){others}."
    differ = f"{'differs' if len(rows) == 1 else 'differ'} by {below}, none significantly"
    return f"The two studies agree: {len(finished)} {total} {differ}{f'; {diverge}' if diverging else ''}."


def _count(rows: Sequence[PairedRow], singular: str, plural: str) -> str:
    return f"{len(rows)} {singular if len(rows) == 1 else plural}"


def caution_lines(first: StudyFrames, second: StudyFrames) -> list[str]:
    """What a reader has to know of the studies before comparing them, and of which one."""
    owners: dict[str, list[str]] = {}
    for name, study in (("first", first), ("second", second)):
        for caution in cautions(study):
            owners.setdefault(caution.picture, []).append(name)
    return [
        f"caution: {'both studies' if len(names) == 2 else names[0]}: {printable(text)}"
        for text, names in owners.items()
    ]


def _shown(mean: float | None, plus_minus: float | None, sign: str = "") -> str:
    """`0.4200 ± 0.0163`; with sign `+`, `+0.0020 ± 0.0060`"""
    if mean is None:
        return NOTHING
    return f"{mean:{sign}.4f}" + ("" if plus_minus is None else f" ± {plus_minus:.4f}")


def rows_table(rows: Sequence[PairedRow]) -> str:
    """The rows as a Markdown table; columns that would say nothing are left out."""
    lines = pd.DataFrame(
        {
            "row": printable(row.name).replace("|", "\\|"),
            "pairs": str(row.difference.n),
            "diverged": f"{row.diverged[0]} + {row.diverged[1]}",
            "first": _shown(row.first.mean, row.first.std),
            "second": _shown(row.second.mean, row.second.std),
            "difference": _shown(row.difference.mean, row.difference.half_width, "+"),
            "p": NOTHING if row.difference.p is None else f"{row.difference.p:.3f}",
            "verdict": row.verdict,
        }
        for row in rows
    )
    lines = lines.drop(columns=_empty_columns(rows))
    align = ["left" if column in ("row", "verdict") else "right" for column in lines]
    return str(lines.to_markdown(index=False, tablefmt="github", disable_numparse=True, colalign=align))


def _empty_columns(rows: Sequence[PairedRow]) -> list[str]:
    """The columns that say nothing of these rows."""
    has_content = {
        "diverged": any(sum(row.diverged) for row in rows),
        "p": any(row.difference.p is not None for row in rows),
    }
    return [name for name in has_content if not has_content[name]]


def footnote(rows: Sequence[PairedRow]) -> str:
    """What the columns mean, in plain text, a line each."""
    empty = _empty_columns(rows)
    return "\n".join(text for name, text in COLUMNS.items() if name not in empty)
