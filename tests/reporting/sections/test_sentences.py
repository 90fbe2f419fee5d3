"""The sentence under a table says what its numbers carry, nothing that they contradict, and nothing twice."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from caltech_exp.catalog import THE_REPORT, Catalog, read_catalog
from caltech_exp.reporting.comparison import TableRow
from caltech_exp.reporting.render.blocks import accuracy
from caltech_exp.reporting.sections.sentences import best_rows, stable_rows, table_sentence

Values = Sequence[float | None]
"""Final accuracies by seed: of seeds 0, 1, ... or None for a run that diverged."""


def make_rows(
    catalog: Catalog, key: str, values: Mapping[str, Values], *, is_comparable: bool = True
) -> list[TableRow]:
    """The rows of a table with these accuracies; rows that are not named have no run."""
    ((section, table),) = catalog.select(tables=[key])
    rows = []
    for row in table.rows:
        own = values.get(row.label, ())
        runs = pd.DataFrame(
            {
                "seed": range(len(own)),
                "state": ["diverged" if value is None else "finished" for value in own],
                "val_accuracy": pd.array(own, dtype="Float64").astype("float64"),
            }
        )
        rows.append(TableRow(section, table, row, row.config, runs, is_comparable, is_comparable))
    return rows


def sentence(rows: Sequence[TableRow]) -> str:
    return table_sentence(rows[0].table, rows)


def lr_sentence(is_comparable: bool = True, /, **values: Values) -> str:
    """Of the table scratch.lr, with rows `lr5e_2=...`."""
    labels = {name.removeprefix("lr").replace("_", "-"): own for name, own in values.items()}
    return sentence(make_rows(THE_REPORT, "scratch.lr", labels, is_comparable=is_comparable))


def own_sentence(table: str, **values: Values) -> str:
    catalog = read_catalog(f"sections: {{a: {{tables: {{b: {table}}}}}}}", "mine", "mine.yaml")
    return sentence(make_rows(catalog, "a.b", values))


def test_table_without_results_has_no_sentence() -> None:
    assert lr_sentence() == ""


def test_single_row_with_results_is_no_best() -> None:
    assert lr_sentence(lr5e_2=(0.44, 0.45, 0.46)) == ""


def test_significant_lead_is_given_with_its_interval() -> None:
    text = lr_sentence(lr1e_2=(0.29, 0.30, 0.31), lr5e_2=(0.44, 0.451, 0.459))
    half_width = stats.t.ppf(0.975, 2) * pd.Series([0.15, 0.151, 0.149]).std() / 3**0.5
    assert text == (
        f"`5e-2` is best; its lead of 0.150 over `1e-2` is significant (95 % interval ±{half_width:.3f})."
    )


def test_lead_that_is_not_significant_is_given_with_its_interval() -> None:
    text = lr_sentence(lr6e_2=(0.30, 0.40, 0.401), lr5e_2=(0.46, 0.455, 0.465))
    half_width = stats.t.ppf(0.975, 2) * pd.Series([0.16, 0.055, 0.064]).std() / 3**0.5
    assert text == (
        f"`5e-2` is best; its lead of 0.093 over `6e-2` is not significant (95 % interval ±{half_width:.3f})."
    )


def test_one_open_lead_is_given_as_if_there_were_no_other_rows() -> None:
    rows: dict[str, Values] = {"lr5e_2": (0.46, 0.455, 0.465), "lr6e_2": (0.30, 0.40, 0.401)}
    assert lr_sentence(**rows, lr1e_2=(0.11, 0.10, 0.11), lr1e_3=(0.09, 0.09, 0.09)) == lr_sentence(**rows)


def test_leads_that_are_not_significant_are_listed() -> None:
    text = lr_sentence(lr5e_2=(0.46, 0.45, 0.47), lr6e_2=(0.30, 0.50, 0.40), lr1e_1=(0.10, 0.40, 0.70))
    assert text.startswith("`5e-2` is best; its leads over `6e-2` (0.060 ± ")
    assert text.endswith(") are not significant.")
    assert " and `1e-1` (0.060 ± " in text


def test_many_leads_that_are_not_significant_are_counted() -> None:
    values: dict[str, Values] = {f"r{n}": (0.1 * n, 0.5, 0.9 - 0.12 * n) for n in range(1, 6)}
    table = f"{{rows: {{{', '.join(f'r{n}: {{lr: {n}}}' for n in range(1, 7))}}}}}"
    text = own_sentence(table, **values)
    assert re.fullmatch(r"`r1` is best; none of its 4 leads is significant \(the closest is `r2`, .*\)\.", text)
    text = own_sentence(table, **values, r6=(0.01, 0.01, 0.01))
    assert "none of its 5 leads" in text


def test_leads_that_are_all_significant_name_the_closest_row() -> None:
    text = lr_sentence(lr5e_2=(0.45, 0.451, 0.452), lr6e_2=(0.43, 0.4311, 0.432), lr1e_2=(0.3, 0.3011, 0.302))
    assert text.startswith(
        "`5e-2` is best; its leads over all other rows are significant (the closest is `6e-2`, "
    )


def test_interval_has_decimals_enough_to_tell_it_from_the_lead() -> None:
    text = lr_sentence(lr5e_2=(0.304, 0.3056, 0.3035), lr6e_2=(0.300, 0.300, 0.300))
    lead, half_width = map(float, re.findall(r"lead of ([\d.]+) .*±([\d.]+)\)", text)[0])
    assert ("not significant" in text) == (lead <= half_width)
    assert lead != half_width


def test_reports_best_row_is_named_where_it_is_another() -> None:
    text = lr_sentence(lr1e_2=(0.5, 0.51, 0.52), lr5e_2=(0.44, 0.451, 0.459))
    assert text.startswith("`1e-2` is best here, `5e-2` in the report; its lead of ")


def test_reports_best_row_is_not_named_where_it_is_not_comparable_or_has_no_mean() -> None:
    assert "report" not in lr_sentence(False, lr1e_2=(0.5, 0.51, 0.52), lr5e_2=(0.44, 0.451, 0.459))
    assert "report" not in lr_sentence(lr1e_2=(0.5, 0.51, 0.52), lr1e_3=(0.09, 0.09, 0.091))
    assert "report" not in lr_sentence(lr1e_2=(0.5, 0.5, 0.6), lr1e_3=(0.1, 0.1, 0.2), lr5e_2=(0.4, 0.4, None))


def test_sweep_in_which_nothing_stands_out_says_so() -> None:
    values: dict[str, Values] = {
        "20": (0.857, 0.858, 0.8575),
        "30": (0.858, 0.8575, 0.857),
        "40": (0.8573, 0.8583, 0.8575),
        "50": (0.8574, 0.8571, 0.8569),
    }
    rows = make_rows(THE_REPORT, "transfer.step_size", values)
    assert sentence(rows) == "No step size stands out (0.857 to 0.858), as reported."
    rows = make_rows(THE_REPORT, "transfer.step_size", values, is_comparable=False)
    assert sentence(rows) == "No step size stands out (0.857 to 0.858)."
    del values["50"]
    rows = make_rows(THE_REPORT, "transfer.step_size", values)
    assert sentence(rows) == "Of `20`, `30` and `40` none stands out (0.857 to 0.858), as reported."


def test_tiny_lead_stands_out_only_where_the_row_is_significantly_best() -> None:
    best, behind = (0.857, 0.858, 0.8574), (0.8555, 0.8565, 0.85589)
    assert "; its lead of 0.002 over `1e-2` is significant" in lr_sentence(lr1e_3=best, lr1e_2=behind)
    text = lr_sentence(lr1e_3=best, lr1e_2=behind, lr5e_2=(0.8578, 0.857, 0.8574))
    assert text == "Of `1e-3`, `1e-2` and `5e-2` none stands out (0.856 to 0.857)."


def test_what_stands_out_in_the_report_is_not_as_reported() -> None:
    text = lr_sentence(lr1e_3=(0.3, 0.31, 0.305), lr1e_2=(0.301, 0.309, 0.306), lr5e_2=(0.302, 0.308, 0.304))
    assert text == "Of `1e-3`, `1e-2` and `5e-2` none stands out (all 0.305)."


def test_rows_that_are_no_values_are_called_rows() -> None:
    rows = {"none": (0.8, 0.81, 0.805), "all but the vertical flip": (0.801, 0.809, 0.806)}
    assert sentence(make_rows(THE_REPORT, "augmentation.augment", rows)).startswith(
        "Of `none` and `all but the vertical flip` none stands out"
    )
    two = own_sentence("{rows: {a: {lr: 1}, b: {lr: 2}}}", a=(0.8, 0.81, 0.805), b=(0.801, 0.809, 0.806))
    assert two.startswith("No row stands out (")
    lr = own_sentence("{sweep: {lr: [1, 2]}}", **{"1": (0.8, 0.81, 0.805), "2": (0.801, 0.809, 0.806)})
    assert lr.startswith("No LR stands out (")


def test_rows_that_show_the_same_mean_are_best_together() -> None:
    text = lr_sentence(
        lr1e_3=(0.4502, 0.4602, 0.4402),
        lr5e_2=(0.44, 0.46, 0.45),
        lr6e_2=(0.30, 0.30, 0.32),
        lr1e_2=(0.2, 0.9, 0.1),
    )
    assert text.startswith("`1e-3` and `5e-2` are best; their lead")


@pytest.mark.parametrize("n", [1, 2])
def test_few_seeds_judge_no_lead(n: int) -> None:
    text = lr_sentence(lr5e_2=(0.44, 0.46)[:n], lr1e_2=(0.30, 0.31, 0.305))
    assert text == "`5e-2` is best; the shared seeds are too few to judge its lead."


def test_rows_with_few_shared_seeds_are_named() -> None:
    text = lr_sentence(lr5e_2=(0.44, 0.46, 0.45), lr6e_2=(0.3, 0.4, 0.35), lr1e_2=(0.30, 0.31))
    assert text.endswith("; the shared seeds are too few to judge its lead over `1e-2`.")


def test_lead_that_vanishes_on_the_shared_seeds_is_said() -> None:
    text = lr_sentence(lr5e_2=(0.40, 0.41, 0.42, 0.6, 0.6, 0.6), lr6e_2=(0.45, 0.44, 0.46))
    assert text == "`5e-2` is best; the shared seeds do not suffice to judge its lead."


def test_lead_that_is_the_same_for_every_seed_is_not_judged() -> None:
    text = lr_sentence(lr1e_2=(0.3, 0.3, 0.3), lr5e_2=(0.4, 0.4, 0.4))
    assert text == "`5e-2` is best; the shared seeds do not suffice to judge its lead."


def test_rows_with_diverged_runs_are_not_ranked() -> None:
    text = lr_sentence(lr5e_2=(0.44, 0.451, 0.459), lr1e_2=(0.30, 0.31, 0.305), lr1e_3=(0.9, 0.9, None))
    assert text.startswith("`5e-2` is best; its lead of 0.145 over `1e-2` is significant")
    assert lr_sentence(lr5e_2=(0.44, 0.45, 0.46), lr1e_3=(0.6, 0.6, None)) == ""


def test_single_run_beside_what_the_reports_text_gives() -> None:
    rows = make_rows(THE_REPORT, "scratch.template", {"template": (0.09, 0.10)})
    assert sentence(rows) == "The report's text gives 0.09 for this run."
    rows = make_rows(THE_REPORT, "scratch.template", {"template": (0.09,)}, is_comparable=False)
    assert sentence(rows) == ""
    assert sentence(make_rows(THE_REPORT, "transfer.diverging", {"LR = 5e-2": (None, None)})) == ""


def test_labels_are_quoted() -> None:
    text = own_sentence("{rows: {'**a**': {lr: 1}, 'b|`c`': {lr: 2}}}", **{"**a**": (0.5,), "b|`c`": (0.4,)})
    assert text.startswith("`**a**` is best")


accuracies = st.sampled_from([0.3, 0.3004, 0.30049, 0.301, 0.45, 0.4502, 0.46, 0.9]) | st.floats(0, 1)
row_values = st.lists(accuracies | st.none(), max_size=6) | st.lists(accuracies, min_size=3, max_size=6)
LABELS = ("1e-3", "1e-2", "5e-2", "6e-2", "1e-1")


@settings(deadline=None)
@given(st.lists(row_values, min_size=5, max_size=5), st.booleans())
def test_sentence_never_contradicts_its_table(values: list[list[float | None]], is_comparable: bool) -> None:
    rows = make_rows(THE_REPORT, "scratch.lr", dict(zip(LABELS, values, strict=True)), is_comparable=is_comparable)
    text = sentence(rows)
    stable = {row.label: row for row in stable_rows(rows)}
    means = {label: accuracy(row.measured.mean or 0.0) for label, row in stable.items()}
    if not text:
        assert len(stable) < 2 or len(set(means.values())) == 1
        return
    assert text.count(". ") == 0
    assert text.endswith(".")
    assert not any(word in text for word in ("nan", "None", "-0.000", "inf"))
    assert set(re.findall("`([^`]+)`", text)) <= set(LABELS)
    if "stands out" in text:
        _check_flat(text, stable, means)
    else:
        _check_best(text, rows, stable, means)


def _check_flat(text: str, stable: Mapping[str, TableRow], means: Mapping[str, str]) -> None:
    lowest, highest = min(means.values()), max(means.values())
    assert f"(all {highest})" in text or f"({lowest} to {highest})" in text
    assert float(highest) - float(lowest) <= 0.1
    assert all(len(row.accuracies) >= 3 for row in stable.values())
    best = max(stable.values(), key=lambda row: row.measured.mean or 0.0)
    judged = {label: _is_significant(best, row) for label, row in stable.items() if row is not best}
    assert not all(judged.values())
    significant = [float(means[label]) for label in judged if judged[label]]
    assert all(float(highest) - mean <= 0.005 for mean in significant)


def _check_best(
    text: str, rows: Sequence[TableRow], stable: Mapping[str, TableRow], means: Mapping[str, str]
) -> None:
    subject, _, clauses = text.partition("; ")
    best = [row.label for row in best_rows(rows)]
    assert best == [label for label in means if means[label] == max(means.values())]
    assert re.findall("`([^`]+)`", subject.partition(" best")[0]) == best
    if "in the report" in subject:
        (reported,) = re.findall("here, `([^`]+)` in the report", subject)
        assert reported == "5e-2"
        assert reported not in best
    first = max((stable[label] for label in best), key=lambda row: row.measured.mean or 0.0)
    others = [row for label, row in stable.items() if label not in best]
    judged = {row.label: _is_significant(first, row) for row in others}
    if "over all other rows are significant" in clauses or " is significant" in clauses.replace("leads is", ""):
        assert all(judged.values())
    elif named := re.search("lead of [^`]+ over `([^`]+)` is not significant", clauses):
        assert judged[named[1]] is False
        assert "shared seeds" in clauses or all(
            judged[row.label] for row in others if f"`{row.label}`" not in clauses
        )
    for label, lead, half_width in re.findall(r"`([^`]+)` \(([\d.]+) ± ([\d.]+)\)", clauses):
        assert judged[label] is False
        assert float(lead) <= float(half_width)


def _is_significant(best: TableRow, other: TableRow) -> bool | None:
    """By scipy's paired test; None where it has nothing to go by."""
    pairs = pd.concat([best.accuracies, other.accuracies], axis=1, join="inner")
    differences = pairs.iloc[:, 0] - pairs.iloc[:, 1]
    if len(differences) < 3 or differences.std() < 1e-9:
        return None
    p = float(stats.ttest_rel(pairs.iloc[:, 0], pairs.iloc[:, 1]).pvalue)
    return p < 0.05 and differences.mean() > 0
