"""Tables as CSV: the page's digits, nothing that a spreadsheet runs; only a report's own files are removed."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.render.blocks import Column, Interval, Spread, Table, shown
from caltech_exp.reporting.render.files import neutral, to_csv, to_frame, without_formulas, write_files
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config

HOSTILE = '=HYPERLINK("x"), a "b" & 50 % $c_d$ #{e} ~^\\ <f> | g'
COLUMNS = (
    Column("learning rate", "text"),
    Column("measured", "spread"),
    Column("± of it", "difference", "difference"),
    Column("hours", "amount"),
    Column("n", "count", is_detail=True),
)
TABLE = Table(
    "a_b",
    "50 % & more",
    COLUMNS,
    (
        (HOSTILE, Spread(0.123456789, 0.01), Interval(-0.0144, 0.025), 12345.6, 1234),
        ("-1", "diverged", None, 0.01234, 3),
        ("two", Spread(0.3, 0.0715, bounds=(0.2, 0.4)), Interval(0.1, None, "n = 2: too few"), 999.7, 2),
        ("one", Spread(0.3), Interval(-0.0001), 1.5, 1),
    ),
)
CONFIG = row_config("scratch.lr", "1e-2")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def study(folder: SampleStudy) -> StudyFrames:
    """A finished, a diverged and a failed run."""
    folder.start()
    folder.add(make_result(CONFIG, 0, 0.3123456789), make_diverged(CONFIG, 1))
    folder.fail(f"{CONFIG.id}-s2", "=evil error")
    return read_study(folder.path)


def test_csv_has_a_column_per_number_rounded_as_on_the_page() -> None:
    assert to_csv(to_frame(replace(TABLE, rows=TABLE.rows[1:]))).splitlines() == [
        "learning rate,measured,measured std,difference,difference 95 % half width,hours,n",
        "'-1,,,,,0.0123,3",
        "two,0.300,0.071,0.100,,1000,2",
        "one,0.300,,0.000,,1.50,1",
    ]


def test_csv_runs_nothing_and_reads_back() -> None:
    frame = pd.read_csv(io.StringIO(to_csv(to_frame(TABLE))))
    assert frame["learning rate"].tolist() == [f"'{HOSTILE}", "'-1", "two", "one"]
    assert frame.iloc[0, 1:].tolist() == [0.123, 0.01, -0.014, 0.025, 12346, 1234]


@given(st.floats(-1, 1), st.sampled_from(["accuracy", "signed", "amount", "whole"]))
def test_csv_numbers_are_the_pages(value: float, kind: str) -> None:
    column = Column("x", kind)  # type: ignore[arg-type]
    (cell,) = to_frame(Table("x", "", (column,), ((value,),)))["x"]
    assert float(cell) == float(shown(column, value).replace("−", "-").replace(",", ""))


def test_csv_keeps_columns_of_one_heading() -> None:
    table = Table("x", "", (Column("measured", "text"), Column("measured", "spread")), (("a", Spread(0.5, 0.1)),))
    assert to_csv(to_frame(table)) == "measured,measured,measured std\na,0.500,0.100\n"


SIGNS = "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"


@pytest.mark.parametrize("start", ["", "\t", "\r", "\ufeff", " ", '"', "1e-3;", "a; ", 'a;"', ";;", "a,b;\n"])
@pytest.mark.parametrize("sign", SIGNS)
def test_formulas_are_neutralised(sign: str, start: str) -> None:
    text = f"{start}{sign}cmd|' /C calc'!A0"
    for cell in (
        (to_csv(pd.DataFrame({"n": [1], "b": [neutral(text)]})).splitlines()[1]).replace(",", ";").split(";")
    ):
        for stripped in (cell.strip(), cell.strip('" ')):
            assert not stripped.startswith(tuple(SIGNS))
    assert neutral(neutral(text)) == neutral(text)


@pytest.mark.parametrize("text", ["scratch.lr=5e-2", "none, -1", "a; b", "two - one; 3", "", "'=1", "1;'=2"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert neutral(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (1.5, "1.50"),
        (0.12, "0.120"),
        (100.2, "100"),
        (12.34, "12.3"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
    ],
)
def test_amounts_keep_three_digits(value: float, text: str) -> None:
    assert shown(Column("hours", "amount"), value) == text


def test_runs_and_epochs_keep_every_digit(study: StudyFrames, tmp_path: Path) -> None:
    write_files(tmp_path / "out", [], study)
    runs = pd.read_csv(tmp_path / "out" / "runs.csv", dtype="string").set_index("run_id")
    epochs = pd.read_csv(tmp_path / "out" / "epochs.csv")
    assert list(runs.reset_index().columns) == list(study.runs.columns)
    values = dict(runs.loc[f"{CONFIG.id}-s0", ["lr", "rows", "val_accuracy"]])
    assert values == {"lr": "0.01", "rows": "scratch.lr=1e-2", "val_accuracy": "0.3123456789"}
    assert str(runs.loc[f"{CONFIG.id}-s2", "detail"]).startswith("'=evil error")
    pd.testing.assert_frame_equal(epochs.astype(study.epochs.dtypes), study.epochs)


def test_frames_without_formulas_are_equal_otherwise(study: StudyFrames) -> None:
    safe = without_formulas(study.runs)
    assert (safe.dtypes == study.runs.dtypes).all()
    pd.testing.assert_frame_equal(safe.drop(columns="detail"), study.runs.drop(columns="detail"))
    assert "'=evil error" in set(safe["detail"].dropna().str.slice(stop=12))


def test_files_that_would_not_change_are_not_touched(study: StudyFrames, tmp_path: Path) -> None:
    def inodes() -> dict[Path, int]:
        return {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}

    write_files(tmp_path, [TABLE], study)
    before = inodes()
    write_files(tmp_path, [TABLE], study)
    assert inodes() == before
    write_files(tmp_path, [replace(TABLE, best=(1,))], study)
    assert {path.name for path, inode in inodes().items() if before[path] != inode} == {"a_b.tex"}


def test_only_what_an_earlier_report_wrote_is_removed(study: StudyFrames, tmp_path: Path) -> None:
    def written(*names: str) -> set[str]:
        write_files(tmp_path, [replace(TABLE, name=name) for name in names], study)
        return names_in(tmp_path / "tables")

    assert written("a", "b", "c") == {f"{name}.{kind}" for name in "abc" for kind in ("csv", "tex")}
    tables = tmp_path / "tables"
    for name in ("mine.tex", "mine.csv", "lone.csv"):
        (tables / name).write_text("kept")
    (tables / "a.tex").write_text("the reader's own by now")
    (tables / "folder.tex").mkdir()
    own = {"mine.tex", "mine.csv", "lone.csv", "a.tex", "a.csv", "folder.tex"}
    assert written("b") == {"b.csv", "b.tex"} | own


@pytest.mark.parametrize("names", [("tex",), ("csv", "tex")])
def test_a_report_that_was_cut_short_leaves_nothing_behind(
    names: Sequence[str], study: StudyFrames, tmp_path: Path
) -> None:
    write_files(tmp_path, [TABLE], study)
    for kind in {"csv", "tex"} - set(names):
        (tmp_path / "tables" / f"a_b.{kind}").unlink()
    write_files(tmp_path, [], study)
    assert names_in(tmp_path / "tables") == set()


def test_page_csv_and_latex_round_alike(simulated_report: Path) -> None:
    page = (simulated_report / "report.md").read_text(encoding="utf-8").replace("*", "")
    checked = 0
    for path in (simulated_report / "tables").glob("*.csv"):
        if "." not in path.stem:  # not a table of the catalog
            continue
        latex = path.with_suffix(".tex").read_text(encoding="utf-8").replace(r"\mathbf{", "").replace("}", "")
        for line in pd.read_csv(path, dtype="string").to_dict("records"):
            if not pd.isna(line["measured"]):
                assert f"{line['measured']} ± {line['measured std']}" in page
                assert rf"{line['measured']} \pm {line['measured std']}" in latex
                checked += 1
            if "difference" in line and not pd.isna(line["difference"]):
                sign = "" if line["difference"] == "0.000" or line["difference"].startswith("-") else "+"
                difference = f"{sign}{line['difference']} ± {line['difference 95 % half width']}"
                assert difference.replace("-", "−") in page
                assert f"${difference.replace('±', chr(92) + 'pm')}$" in latex
    assert checked == 44


def test_a_table_without_rows_has_its_headings(study: StudyFrames, tmp_path: Path) -> None:
    write_files(tmp_path, [replace(TABLE, rows=())], study)
    heading = "learning rate,measured,measured std,difference,difference 95 % half width,hours,n\n"
    assert (tmp_path / "tables" / "a_b.csv").read_text() == heading
