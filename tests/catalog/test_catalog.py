"""The catalog against the report's own text, and the numbers that follow from it."""

import re
from collections import Counter
from dataclasses import astuple

import pytest
import torch
import torchvision

from caltech_exp.catalog import TEMPLATE, THE_REPORT, Architecture, row_key, split_row_key
from caltech_exp.cli import UserError
from caltech_exp.config import NUM_CLASSES
from caltech_exp.study.plan import expand
from caltech_exp.study.study import StudySettings

TABLES = THE_REPORT.select()


def test_report_has_40_configurations_and_120_runs() -> None:
    runs = expand(TABLES, (0, 1, 2), StudySettings())
    assert len({run.config.id for run in runs}) == 40
    assert len({run.id for run in runs}) == len(runs) == 120


def test_report_rows_that_share_a_run() -> None:
    shared = [set(run.rows) for run in expand(TABLES, (0,), StudySettings()) if len(run.rows) > 1]
    assert shared == [
        {"scratch.template=template", "scratch.lr=1e-3"},
        {"scratch.lr=5e-2", "scratch.epochs=30"},
        {"scratch.epochs=60", "scratch.step_size=20"},
        {"transfer.lr=1e-2", "transfer.step_size=50"},
        {"transfer.step_size=30", "transfer.batch_size=256"},
    ]


def test_report_sections_are_in_order() -> None:
    assert [section.name for section in THE_REPORT.sections] == [
        "data",
        "scratch",
        "transfer",
        "augmentation",
        "resnet",
    ]


def test_report_has_figures_1_to_20_once() -> None:
    numbers = [figure.number for section in THE_REPORT.sections for figure in section.dataset_figures]
    for _, table in TABLES:
        numbers += [figure.number for figure in table.figures]
        numbers += [table.settings_figure] if table.settings_figure else []
    assert Counter(numbers) == Counter(range(1, 21))


def test_report_figures_draw_a_row_of_their_table() -> None:
    for _, table in TABLES:
        for figure in table.figures:
            assert table.row(figure.row).config is not None


def test_template_is_figure_4() -> None:
    assert TEMPLATE.model_dump() == {
        "model": "alexnet", "weights": "none", "freeze": "none", "augment": "none", "lr": 1e-3, "momentum": 0.9,
        "weight_decay": 5e-5, "batch_size": 256, "epochs": 30, "step_size": 20, "gamma": 0.1, "max_images": 0,
        "max_per_class": 0, "sampling": "shuffle",
        "last_batch": "drop", "resize": 256, "normalization": "weights",
        "optimizer": "sgd", "schedule": "step", "warmup_epochs": 0, "label_smoothing": 0.0,
        "frozen_batchnorm": "train",
        "workers": 4, "engine": "fast", "precision": "bf16", "classes": 102, "data_set": "",
    }  # fmt: skip


def test_report_has_one_row_that_diverges() -> None:
    assert [(s.name, t.name, r.label) for s, t in TABLES for r in t.rows if r.diverges] == [
        ("transfer", "diverging", "LR = 5e-2")
    ]


@pytest.mark.parametrize("architecture", THE_REPORT.architectures, ids=lambda architecture: architecture.name)
def test_report_parameters_are_those_of_torchvisions_networks(architecture: Architecture) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, architecture.name)(num_classes=NUM_CLASSES)
    assert sum(parameter.numel() for parameter in network.parameters()) == architecture.parameters


def test_select_keeps_the_reports_order() -> None:
    names = [f"{s.name}.{t.name}" for s, t in THE_REPORT.select([], ["transfer.lr", "scratch.lr"])]
    assert names == ["scratch.lr", "transfer.lr"]


def test_select_takes_a_row_by_its_label() -> None:
    chosen = THE_REPORT.select([], ["scratch.lr=5e-2", "scratch.epochs", "scratch.lr=1e-3"])
    assert [(t.name, [row.label for row in t.rows]) for _, t in chosen] == [
        ("lr", ["1e-3", "5e-2"]),
        ("epochs", ["20", "30", "40", "50", "60"]),
    ]


@pytest.mark.parametrize(
    ("sections", "tables", "same"),
    [
        ([], ["1.1"], ["scratch.lr"]),
        ([], ["2.1"], ["transfer.diverging", "transfer.template", "transfer.lr"]),
        ([], ["2.1=0.001"], ["transfer.lr=1e-3"]),
        ([], ["scratch.lr=0.05", "scratch.epochs=6e1"], ["scratch.lr=5e-2", "scratch.epochs=60"]),
        (["1"], ["1.3"], ["scratch.step_size"]),
    ],
)
def test_select_takes_the_reports_numbers_and_rows_by_value(
    sections: list[str], tables: list[str], same: list[str]
) -> None:
    assert THE_REPORT.select(sections, tables) == THE_REPORT.select([], same)


def test_a_section_by_its_number_is_the_section() -> None:
    by_name, by_number = (THE_REPORT.restrict([name]) for name in ("scratch", "1"))
    assert by_number.sections == by_name.sections
    assert THE_REPORT.select(["1", "all"]) == THE_REPORT.select()


@pytest.mark.parametrize(
    ("sections", "tables", "message"),
    [
        ([], ["scratch.lr=5e-3"], "unknown row of scratch.lr '5e-3'; did you mean '5e-2'?"),
        (["trasnfer"], [], "unknown section 'trasnfer'; did you mean 'transfer'?"),
        ([], ["scratch.lrr"], "unknown table 'scratch.lrr'; did you mean 'scratch.lr'?"),
        (["resnet"], ["scratch.lr"], "table 'scratch.lr' is not in section resnet"),
    ],
)
def test_select_names_what_is_wrong(sections: list[str], tables: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        THE_REPORT.select(sections, tables)


@pytest.mark.parametrize(("sections", "tables"), [((), ()), (("all",), ()), (("all", "scratch"), ())])
def test_restrict_to_everything_is_the_catalog_itself(sections: tuple[str, ...], tables: tuple[str, ...]) -> None:
    assert THE_REPORT.restrict(sections, tables) is THE_REPORT


def test_restrict_to_sections_keeps_them_as_they_are() -> None:
    catalog = THE_REPORT.restrict(["transfer", "data"])
    assert catalog.sections == tuple(s for s in THE_REPORT.sections if s.name in ("data", "transfer"))
    assert (catalog.name, catalog.is_report, catalog.selection) == ("report", True, "section=transfer,data")


def test_restrict_to_rows_keeps_their_figures_alone() -> None:
    catalog = THE_REPORT.restrict(["scratch", "data"], ["scratch.lr=5e-2", "scratch.lr=1e-3"])
    (section,) = catalog.sections
    (table,) = section.tables
    assert table.labels == ("1e-3", "5e-2")
    assert table.is_part
    assert [figure.row for figure in table.figures] == ["5e-2"]
    assert THE_REPORT.restrict([], ["scratch.lr=1e-3"]).sections[0].tables[0].figures == ()
    assert catalog.selection == "section=scratch,data table=scratch.lr=5e-2,scratch.lr=1e-3"


def test_restrict_names_what_is_wrong_as_select_does() -> None:
    with pytest.raises(UserError, match="unknown section 'trasnfer'; did you mean 'transfer'"):
        THE_REPORT.restrict(["trasnfer"])


def reported_tables(text: str) -> list[list[tuple[str, float, float]]]:
    """Every table of the report's text in order: [(label, mu, sigma)]."""
    row = re.compile(r"^(\S+)\t\$\\mu = ([\d.]+), \\sigma = ([\d.]+)\$$")
    tables: list[list[tuple[str, float, float]]] = []
    for line in text.splitlines():
        if line.endswith("\tValidation Accuracy"):
            tables.append([])
        elif match := row.match(line):
            tables[-1].append((match[1], float(match[2]), float(match[3])))
    return tables


def test_reported_values_are_the_reports(report_text: str) -> None:
    found = reported_tables(report_text)
    assert sum(map(len, found)) == 33
    ours = [
        [(row.label, row.reported.mean, row.reported.std) for row in table.rows if row.reported]
        for _, table in TABLES
    ]
    assert [rows for rows in ours if rows] == found


def test_captions_with_settings_are_the_reports(report_text: str) -> None:
    text = report_text.replace("$", "")
    for _, table in TABLES:
        for figure in table.figures:
            match = re.search(rf"^Figure {figure.number} (.*)$", text, re.MULTILINE)
            assert match is not None, figure
            settings = re.search(r"LR = .*", match[1])
            if settings:
                assert settings[0] in figure.caption, figure


def test_captions_settings_are_the_rows(report_text: str) -> None:
    names = {"LR": "lr", "BATCH_SIZE": "batch_size", "NUM_EPOCHS": "epochs", "STEP_SIZE": "step_size"}
    text = report_text.replace("$", "")
    checked = 0
    for _, table in TABLES:
        for figure in table.figures:
            caption = re.search(rf"^Figure {figure.number} (.*)$", text, re.MULTILINE)
            assert caption is not None
            for name, value in re.findall(r"(LR|BATCH_SIZE|NUM_EPOCHS|STEP_SIZE) = ([\de.-]+)", caption[1]):
                assert getattr(table.row(figure.row).config, names[name]) == float(value), figure
                checked += 1
    assert checked == 4 * 11


def test_quoted_values_are_in_the_reports_text(report_text: str) -> None:
    for _, table in TABLES:
        for figure in table.figures:
            quoted = figure.quoted
            for value in astuple(quoted) if quoted else ():
                assert value is None or re.search(rf"\b{value:g}0?\b", report_text), (figure, value)


@pytest.mark.parametrize("row", ["5e-2", "a.b=c, d", ""])
def test_row_key_is_split_into_table_and_row(row: str) -> None:
    key = row_key("scratch", "lr", row)
    assert key == f"scratch.lr={row}"
    assert split_row_key(key) == ("scratch.lr", row)
    assert split_row_key("scratch.lr") == ("scratch.lr", None)
