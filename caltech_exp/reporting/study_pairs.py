"""Two studies of the same runs, paired by settings, seed and data set: do they agree?

Engine, precision and workers may differ within a pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from caltech_exp.catalog import row_key
from caltech_exp.cli import UserError
from caltech_exp.config import SAME_RESULT_SETTINGS, RunConfig
from caltech_exp.reporting.comparison import MAX_HALF_WIDTH, Verdict
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
    def diverges_in_one(self) -> bool:
        """Whether all runs of one study diverge, and none of the other."""
        return (
            not self.first.n and self.one_diverged >= MIN_RUNS and sorted(self.diverged) == [0, self.one_diverged]
        )

    @property
    def verdict(self) -> Verdict:
        """A row that differs by its own interval, but not at the level of all rows, is inconclusive."""
        difference, half_width = self.difference, self.difference.half_width
        if self.joint.is_significant or self.diverges_in_one:
            return "differs"
        if self.one_diverged:
            return "inconclusive"
        if difference.n == 0:
            return "agrees"  # every run diverged, in both studies
        if difference.n < MIN_RUNS:
            return "inconclusive"
        if half_width is None:  # all pairs differ alike
            return "agrees" if difference.minimum == difference.maximum == 0 else "inconclusive"
        return "agrees" if abs(difference.mean or 0) <= half_width < MAX_HALF_WIDTH else "inconclusive"


def pair_runs(first: StudyFrames, second: StudyFrames) -> pd.DataFrame:
    """One line a pair of runs with results: `recipe`, `seed`, `data`, `state_first`, `state_second` and so on.

    Raises UserError if a study has two runs for one pair.
    """
    keys = ["recipe", "seed", "data"]
    pairs = _results(first).merge(_results(second), on=keys, suffixes=("_first", "_second"))
    for side in ("first", "second"):
        for _, versions in pairs.drop_duplicates([*keys, f"run_id_{side}"]).groupby(keys, sort=False):
            if len(versions) > 1:
                runs = zip(versions[f"run_id_{side}"], versions[f"config_{side}"], strict=True)
                names = join_words([f"{run} ({_engine(config)})" for run, config in runs])
                raise UserError(
                    f"{side}= holds {len(versions)} versions of one run, {names}; give a folder with one of them: "
                    "copy each version to a folder of its own, or submit each engine= and precision= to its own "
                    "runs="
                )
    return pairs


def _results(study: StudyFrames) -> pd.DataFrame:
    """The runs with a result, with their `config` and `recipe`."""
    runs = study.runs[study.runs["state"].isin(["finished", "diverged"])]
    configs = {
        line["config_id"]: RunConfig.model_validate({name: line[name] for name in RunConfig.model_fields})
        for line in runs.drop_duplicates("config_id").to_dict("records")
    }
    recipes = {config_id: recipe(config) for config_id, config in configs.items()}
    return runs.assign(config=runs["config_id"].map(configs), recipe=runs["config_id"].map(recipes))


def recipe(config: RunConfig) -> str:
    """The id that a configuration shares with those of another engine, precision or number of workers."""
    return RunConfig.model_validate(config.model_dump(exclude=set(SAME_RESULT_SETTINGS))).id


def _engine(config: RunConfig) -> str:
    return " ".join(f"{name}={getattr(config, name)}" for name in SAME_RESULT_SETTINGS)


def row_names(studies: Iterable[StudyFrames]) -> dict[str, str]:
    """Recipe -> the rows that ask for it, in the order of the first study's tables, then of the second's."""
    names: dict[str, str] = {}
    for study in studies:
        keys: dict[str, list[str]] = {}
        for section, table in study.catalog.tables:
            for row in table.rows:
                key = row_key(section.name, table.name, row.label)
                keys.setdefault(recipe(study.settings.apply(row.config)), []).append(key)
        names |= {name: "; ".join(own) for name, own in keys.items() if name not in names}
    return names


def compare_pairs(pairs: pd.DataFrame, names: Mapping[str, str]) -> list[PairedRow]:
    """Every configuration that has a pair, in the order of `names`; those without a name come last.

    The level of all rows together is 1 - 0.05 / m for m rows with an interval (C. E. Bonferroni): studies that
    differ in nothing then differ in some row with a probability of 0.05 at most.
    """
    order = {name: place for place, name in enumerate(names)}
    groups = {str(name): group for name, group in pairs.groupby("recipe", sort=False)}
    ordered = sorted(groups, key=lambda name: order.get(name, len(order)))
    intervals = sum(_paired_row("", groups[name]).difference.half_width is not None for name in ordered)
    confidence = 1 - (1 - CONFIDENCE) / max(1, intervals)
    return [
        _paired_row(names.get(name) or _changed(groups[name]["config_first"].iloc[0]), groups[name], confidence)
        for name in ordered
    ]


def _changed(config: RunConfig) -> str:
    """The settings that are not the template's."""
    template = RunConfig().model_dump(exclude=set(SAME_RESULT_SETTINGS))
    changed = {name: getattr(config, name) for name in template if getattr(config, name) != template[name]}
    return as_typed(changed) or "the template's settings"


def _paired_row(name: str, pairs: pd.DataFrame, confidence: float = CONFIDENCE) -> PairedRow:
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
        reason = (
            _shown(row.difference.mean, row.difference.half_width, "+")
            if row.joint.is_significant
            else "it diverges in one of them alone"
        )
        most = f"{'most in ' if len(differing) > 1 else ''}{row.name} ({reason})"
        agree = f"; {_count(agreeing, 'agrees', 'agree')}" if agreeing else ""
        return f"The two studies differ in {len(differing)} {total}, {most}{agree}{others}."
    if agreeing:
        finished = [row for row in agreeing if row.difference.n]
        diverging = [row for row in agreeing if not row.difference.n]
        diverge = f"{_count(diverging, 'diverges', 'diverge')} in both"
        if not finished:
            return f"The two studies agree in {len(agreeing)} {total}: {diverge}{others}."
        largest = max(abs(row.difference.mean or 0) for row in finished)
        below = f"less than {next(step for step in STEPS if largest < step):g}"
        if inconclusive:
            return f"The two studies agree in {len(agreeing)} {total} (differences of {below}){others}."
        others = f"; {diverge}" if diverging else ""
        differ = "differs" if len(rows) == 1 else "differ"
        return f"The two studies agree: {len(finished)} {total} {differ} by {below}, none significantly{others}."
    pairs = max(row.difference.n for row in rows)
    if pairs < MIN_RUNS:
        return f"Nothing can be decided: a row needs {MIN_RUNS} pairs of finished runs, the most here is {pairs}."
    return "Nothing can be decided: no row agrees or differs clearly."


def _count(rows: Sequence[PairedRow], singular: str, plural: str) -> str:
    return f"{len(rows)} {singular if len(rows) == 1 else plural}"


def caution_lines(first: StudyFrames, second: StudyFrames) -> list[str]:
    """What a reader has to know of the studies before comparing them, and of which one."""
    texts = [[caution.picture for caution in cautions(study)] for study in (first, second)]
    lines = []
    for text in dict.fromkeys([*texts[0], *texts[1]]):
        owners = [name for name, own in zip(("first", "second"), texts, strict=True) if text in own]
        owner = "both studies" if len(owners) == 2 else owners[0]
        lines.append(f"caution: {owner}: {printable(text)}")
    return lines


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
    lines = lines.drop(columns={"diverged", "p"} - _extra_columns(rows))
    align = ["left" if column in ("row", "verdict") else "right" for column in lines]
    return str(lines.to_markdown(index=False, tablefmt="github", disable_numparse=True, colalign=align))


def _extra_columns(rows: Sequence[PairedRow]) -> set[str]:
    """The columns of this table that not every table has."""
    columns = {"diverged"} if any(sum(row.diverged) for row in rows) else set()
    return columns | ({"p"} if any(row.difference.p is not None for row in rows) else set())


def footnote(rows: Sequence[PairedRow]) -> str:
    """What the columns mean, in plain text, a line each."""
    lines = [
        "pairs: both runs finished.",
        "first, second: mean validation accuracy after the last epoch ± population standard deviation.",
        "difference: second - first ± half its 95 % interval.",
        "verdict: a row differs if zero lies outside its interval at the level of all rows together (Bonferroni);",
        f"  it agrees if zero lies inside its 95 % interval and that is narrower than ±{MAX_HALF_WIDTH:g}.",
    ]
    columns = _extra_columns(rows)
    if "diverged" in columns:
        lines.insert(1, "diverged: runs of first + of second; their pairs do not count elsewhere.")
    if "p" in columns:
        lines.append(
            f"p: two-sided sign-flip test from {MIN_PAIRS_FOR_P} pairs on, exact up to n = {MAX_EXACT}, "
            f"above that from {FLIPS:,} random flips, (1 + as extreme) / (1 + {FLIPS:,})."
        )
    return "\n".join(lines)
