"""Claims of a study file: what they compare, and that every mistake in one is named."""

import re
from math import inf

import pytest

from caltech_exp.catalog import THE_REPORT, Catalog, Comparison, read_catalog, row_key
from caltech_exp.cli import UserError

KEYS = {row_key(s.name, t.name, row.label) for s, t in THE_REPORT.tables for row in t.rows}
FIXED = {
    ("transfer.template=template", "scratch.template=template"),
    ("scratch.step_size=50", "scratch.template=template"),
    ("transfer.freezing=fully connected", "transfer.step_size=30"),
    ("transfer.freezing=convolutional", "transfer.step_size=30"),
    ("augmentation.augment=crop, horizontal flip, grayscale", "augmentation.augment=none"),
    ("augmentation.augment=perspective, rotation, vertical flip", "augmentation.augment=none"),
    ("augmentation.augment=all but the vertical flip", "augmentation.augment=none"),
    ("transfer.batch_size=64", "transfer.batch_size=256"),
    ("transfer.batch_size=1024", "transfer.batch_size=256"),
    ("resnet.scratch=5e-2", "scratch.step_size=50"),
    ("resnet.transfer=5e-2", "transfer.step_size=30"),
    ("resnet.transfer=5e-2", "resnet.scratch=5e-2"),
}
"""Row and baseline of the comparisons that were fixed before anything was measured."""
SWEEP = "sections: {a: {tables: {b: {sweep: {lr: [1, 2, 3]}}, c: {sweep: {epochs: [4, 5]}}}}}"


def read(*claims: str) -> Catalog:
    return read_catalog(
        f"{SWEEP}\nclaims: [{', '.join(f'{{claim: x, {claim}}}' for claim in claims)}]", "m", "m.yaml"
    )


def pairs(catalog: Catalog) -> list[tuple[str, str]]:
    return [(pair.row, pair.baseline) for claim in catalog.claims for pair in claim.comparisons]


def test_report_claims_hold_every_comparison_fixed_in_advance() -> None:
    assert set(pairs(THE_REPORT)) >= FIXED


def test_report_claims_name_rows_of_the_report() -> None:
    assert {key for pair in pairs(THE_REPORT) for key in pair} <= KEYS
    assert [claim.diverging for claim in THE_REPORT.claims if claim.diverging] == ["transfer.diverging=LR = 5e-2"]


def test_report_claims_are_in_the_order_of_its_sections() -> None:
    numbers = {table.number for _, table in THE_REPORT.tables} | {s.number for s in THE_REPORT.sections}
    stated = [claim.stated_in for claim in THE_REPORT.claims]
    assert set(stated) <= numbers
    assert stated == sorted(stated)


def test_report_has_five_findings_with_a_subject() -> None:
    findings = {claim.finding: claim.subject for claim in THE_REPORT.findings}
    assert set(findings) == {"pretraining", "network", "freezing", "augmentation", "batch size"}
    assert all(findings.values())


def test_report_values_do_not_contradict_its_claims() -> None:
    reported = {
        row_key(s.name, t.name, row.label): row.reported.mean
        for s, t in THE_REPORT.tables
        for row in t.rows
        if row.reported
    }
    contradicted = [
        claim.text
        for claim in THE_REPORT.claims
        for c in claim.comparisons
        if c.row != c.baseline and c.row in reported and c.baseline in reported
        if not claim.expected[0] <= round(reported[c.row] - reported[c.baseline], 6) <= claim.expected[1]
    ]
    assert contradicted == []


def test_report_text_holds_what_the_claims_say(report_text: str) -> None:
    sections = [re.escape(claim.stated_in) for claim in THE_REPORT.claims]
    assert all(re.search(rf"^{number}\. ", report_text, re.MULTILINE) for number in sections)
    for words in (
        "makes the loss diverge",
        "no accuracy improvement or notable behavior changes",
        "almost 10 points in percentage",
        "significant degradation in the quality",
        "degraded the accuracy",
        "accuracy is slightly worse",
        "does not change much from the 20th epoch to the 30th",
    ):
        assert words in report_text


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("row: a.b=1, against: a.b=2, direction: higher", [("1", "2")]),
        ("row: a.b=1, against: [a.b=2, a.b=3, a.b=2], direction: lower", [("1", "2"), ("1", "3")]),
        ("row: a.b=2, against: a.b, direction: higher", [("2", "1"), ("2", "3")]),
        ("row: a.b, against: a.b=2, direction: higher", [("1", "2"), ("3", "2")]),
        ("rows: a.b, direction: similar, margin: 0.01", [("1", "2"), ("1", "3"), ("2", "3")]),
        ("row: a.b=3, against: test accuracy, direction: similar, margin: 0.01", [("3", "3")]),
        ("row: a.b=3, direction: diverges", []),
    ],
)
def test_claim_compares_the_rows_it_names(claim: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(read(claim)) == [(f"a.b={row}", f"a.b={baseline}") for row, baseline in expected]


def test_claim_compares_a_row_with_itself() -> None:
    catalog = read(
        "row: a.b=1, against: test accuracy, direction: similar, margin: 0.02",
        "row: a.b=1, against: epoch 29, direction: higher",
    )
    assert catalog.comparisons("") == (
        Comparison("a.b=1", "a.b=1", is_test=True),
        Comparison("a.b=1", "a.b=1", epoch=29),
    )


def test_comparison_of_two_claims_counts_once() -> None:
    one, more = "row: a.b=1, against: a.b=2, direction: higher", "row: a.b=1, against: a.b, direction: higher"
    assert len(read(one, more).comparisons("")) == 2


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ("direction: higher", (0, inf)),
        ("direction: lower", (-inf, 0)),
        ("direction: similar, margin: 0.02", (-0.02, 0.02)),
        ("direction: not higher, margin: 0.01", (-inf, 0.01)),
        ("direction: higher, size: 0.5, margin: 0.25", (0.25, 0.75)),
        ("direction: lower, size: 0.5, margin: 0.25", (-0.75, -0.25)),
    ],
)
def test_claim_expects_differences_in_a_range(claim: str, expected: tuple[float, float]) -> None:
    assert read(f"row: a.b=1, against: a.b=2, {claim}").claims[0].expected == expected


PAIR = "row: a.b=1, against: a.b=2, direction: higher"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (["row: a.b=1, against: a.b=4, direction: higher"], "claim 'x': unknown row of a.b '4'; known: 1, 2, 3"),
        (["row: a.d=1, against: a.b, direction: higher"], "claim 'x': unknown table 'a.d'; did you mean"),
        (["rows: a.d, direction: similar, margin: 0.1"], "claim 'x': unknown table 'a.d'"),
        (["row: a.b=1, against: a.b=1, direction: higher"], "a row is compared with itself; name another row"),
        (["row: a.b, direction: diverges"], "a.b is a table; name one of its rows, as in a.b=1"),
        (["row: a.b=9, direction: diverges"], "unknown row of a.b '9'"),
        (
            ["row: a.c=4, against: epoch 4, direction: higher"],
            "a.c=4 trains for 4 epochs; compare it with an earlier",
        ),
        (["row: a.b=1, direction: higher"], "give row and against, or rows: section.table"),
        (["row: a.b=1, against: a.b, rows: a.b, direction: higher"], "give row and against, or rows"),
        (["row: a.b=1, against: a.b, direction: diverges"], "a claim that a row diverges takes row alone"),
        (["row: a.b=1, direction: diverges, finding: f"], "a finding compares rows; leave finding out"),
        (["rows: a.b, direction: higher"], "rows among each other are similar"),
        (["rows: a.b, direction: similar"], "as in margin: 0.01"),
        ([f"{PAIR}, size: 0.1"], "size needs a margin"),
        (["row: a.b=1, against: a.b, direction: hihger"], "claims.0: direction=hihger: input should be 'higher'"),
        ([f"{PAIR}, finding: f", f"{PAIR}, finding: f"], "two findings have the same name"),
        ([f"{PAIR}, finding: f{number}" for number in range(6)], "6 findings are too many; name up to 5"),
    ],
)
def test_mistake_in_a_claim_is_named_by_its_place(claims: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read(*claims)
    assert str(caught.value).startswith("m.yaml: claim")


def test_claim_makes_at_most_100_comparisons() -> None:
    values = ", ".join(map(str, range(1, 10_001)))
    text = f"sections: {{a: {{tables: {{b: {{sweep: {{epochs: [{values}]}}}}}}}}}}\nclaims: [{{claim: x, %s}}]"
    with pytest.raises(UserError, match="more than 100 comparisons; name fewer rows"):
        read_catalog(text % "rows: a.b, direction: similar, margin: 0.1", "m", "m.yaml")


def test_architectures_name_networks_of_the_study() -> None:
    text = f"networks: {{tiny: n.py:f}}\narchitectures: {{tiny: {{title: Tiny, parameters: 1_000}}}}\n{SWEEP}"
    (tiny,) = read_catalog(text, "m", "m.yaml", {"tiny": "/n.py:f"}).architectures
    assert (tiny.name, tiny.title, tiny.parameters) == ("/n.py:f", "Tiny", 1000)
    with pytest.raises(UserError, match=r"m.yaml: architectures: unknown network 'tinny'; did you mean 'tiny'\?"):
        read_catalog(text.replace("architectures: {tiny", "architectures: {tinny"), "m", "m.yaml")
