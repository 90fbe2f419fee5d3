"""Study files: what they ask is understood, and every mistake is named by its place."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.catalog import THE_REPORT, Catalog, Reported, read_catalog, row_key
from caltech_exp.cli import UserError
from caltech_exp.config import RunConfig
from tests.tools.bad_inputs import Reader, damaged_text, generated

CHECKOUT = Path(__file__).resolve().parents[2]
REPORT = CHECKOUT / "caltech_exp" / "catalog" / "report.yaml"
TABLE = "sections: {a: {tables: {b: %s}}}"


def read(text: str) -> Catalog:
    return read_catalog(text, "mine", "mine.yaml")


def test_examples_of_the_docs_are_studies() -> None:
    text = (CHECKOUT / "docs" / "studies.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 2
    for study in examples:
        assert read(study).tables


def test_report_is_a_study_file_like_any_other() -> None:
    again = read_catalog(REPORT.read_text(), THE_REPORT.name, "again.yaml")
    assert again == THE_REPORT
    assert THE_REPORT.is_report
    assert not read(REPORT.read_text()).is_report


def test_settings_are_inherited_and_labels_kept_as_typed() -> None:
    study = read("""
title: Mine
seeds: 0,5
settings: {epochs: 7, batch_size: 64}
sections:
  first:
    settings: {batch_size: 32, momentum: 0.5}
    tables:
      lr: {settings: {momentum: 0.25}, sweep: lr, rows: {1e-3: 0.1 ± 0.02, 5e-2: , 010: {epochs: 9}}}
""")
    ((section, table),) = study.tables
    assert (study.title, study.seeds, section.title, table.title, table.heading) == (
        "Mine",
        (0, 5),
        "First",
        "LR",
        "LR",
    )
    base = RunConfig(epochs=7, batch_size=32, momentum=0.25)
    assert [(row.label, row.config, row.reported) for row in table.rows] == [
        ("1e-3", base.but(lr=1e-3), Reported(0.1, 0.02)),
        ("5e-2", base.but(lr=5e-2), None),
        ("010", base.but(lr=10.0, epochs=9), None),
    ]


def test_sweep_of_two_settings_is_every_pair() -> None:
    study = read(TABLE % "{sweep: {augment: [none, crop], lr: [1e-3, 1e-2]}}")
    ((_, table),) = study.tables
    assert table.heading == "Augment, LR"
    assert [(row.label, row.config.augment, row.config.lr) for row in table.rows] == [
        ("none, 1e-3", "none", 1e-3),
        ("none, 1e-2", "none", 1e-2),
        ("crop, 1e-3", "crop", 1e-3),
        ("crop, 1e-2", "crop", 1e-2),
    ]


def sweep(settings: int, values: int) -> str:
    """A table that sweeps several settings."""
    names = [*RunConfig.model_fields, *(f"more{number}" for number in range(settings))]
    swept = ", ".join(f"{name}: [{'1, ' * values}]" for name in names[:settings])
    return f"{{sweep: {{{swept}}}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE % sweep(6, 30), "mine.yaml: section a, table b: 729,000,000 rows up to here are more than 10,000"),
        (
            (TABLE % "{sweep: {epochs: [1, 2, 3]}}, c: SWEEP").replace("SWEEP", sweep(2, 100)),
            "mine.yaml: section a, table c: 10,003 rows up to here are more than 10,000; sweep fewer values",
        ),
        (TABLE % sweep(1000, 9), "1,000,000,000,000,000 rows up to here are more than 10,000"),
        (
            "seeds: 100000\nsections: {a: {tables: {b: {sweep: {lr: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}}}}}",
            "mine.yaml: section a, table b: more than 1,000,000 runs up to here; use fewer seeds",
        ),
        (TABLE % "{sweep: lr, rows: {1: %s x}}" % ("±" * 90_000), "a reported value is mean ± std"),
    ],
    ids=["a product", "two tables", "a long number", "seeds", "a long value"],
)
def test_a_file_that_asks_for_too_much_is_refused_before_it_is_expanded(text: str, message: str) -> None:
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read(text)
    assert message in str(caught.value)
    assert time.process_time() - start < 10  # seconds, on a busy machine


@pytest.mark.parametrize("outer", ["", "engine: fast", "engine: reference"])
def test_precision_holds_for_every_swept_engine(outer: str) -> None:
    settings = f"{{precision: fp32, {outer}}}"
    ((_, swept),) = read(TABLE % f"{{settings: {settings}, sweep: {{engine: [fast, reference]}}}}").tables
    assert [(row.config.engine, row.config.precision) for row in swept.rows] == [
        ("fast", "fp32"),
        ("reference", "fp32"),
    ]


def test_figures_get_free_numbers() -> None:
    study = read("""
sections:
  a:
    tables:
      few: {sweep: {lr: [1, 2]}}
      chosen: {sweep: {epochs: [1, 2]}, figures: [{row: 2, number: 4, caption: mine}]}
      many: {sweep: {batch_size: [1, 2, 3, 4, 5, 6, 7]}}
""")
    figures = {table.name: [(f.number, f.row, f.caption) for f in table.figures] for _, table in study.tables}
    assert figures == {"few": [(5, "1", "1"), (6, "2", "2")], "chosen": [(4, "2", "mine")], "many": []}


def test_the_innermost_seeds_count() -> None:
    study = read("""
seeds: 2
sections:
  first:
    tables:
      plain: {sweep: {lr: [1]}}
      own: {seeds: "1,4", sweep: lr, rows: {1: , 2: {seeds: 10, reported: 0.1 ± 0.02}}}
  second:
    seeds: 4
    tables:
      plain: {sweep: {lr: [1]}}
      own: {seeds: 5, rows: {x: {lr: 1}, y: {lr: 2, seeds: "7,"}}}
""")
    seeds = {row_key(s.name, t.name, row.label): row.seeds for s, t in study.tables for row in t.rows}
    assert seeds == {
        "first.plain=1": (0, 1),
        "first.own=1": (1, 4),
        "first.own=2": tuple(range(10)),
        "second.plain=1": (0, 1, 2, 3),
        "second.own=x": (0, 1, 2, 3, 4),
        "second.own=y": (7,),
    }
    assert study.seeds == (0, 1)
    assert {row.seeds for _, table in THE_REPORT.tables for row in table.rows} == {(0, 1, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml has no sections; write `sections:` with tables below"),
        ("a: [", "mine.yaml is not YAML: "),
        ("sections: {a: &x 1, b: *x}", "aliases are not supported; write the value out"),
        ("sections: !!map {}", "tags are not supported"),
        ("sections: {a: 1, a: 2}", "a name appears twice"),
        ("[" * 500, "it is nested more than 20 levels deep; write it flat"),
        ("[" * 3000, "mine.yaml is not YAML: "),  # who refuses it first depends on the version of libyaml
        ("x" * 100_001, "mine.yaml is longer than 100,000 characters"),
        ("title: x", "mine.yaml: sections is missing; add it"),
        ("sections: {}", "mine.yaml: sections: "),
        ("sectoins: {}", "mine.yaml: unknown entry 'sectoins'; did you mean 'sections'?"),
        ("sections: {a: {}}", "mine.yaml: sections: a: a section has tables; give it one"),
        ("sections: {A: {tables: {}}}", "mine.yaml: sections: A=A: "),
        ("sections: {all: {tables: {b: {sweep: {lr: [1]}}}}}", "give the section another name"),
        ("sections: {a: {tabels: {}}}", "mine.yaml: sections.a: unknown entry 'tabels'; did you mean 'tables'?"),
        (TABLE % "{rowz: {}}", "mine.yaml: sections.a.tables.b: unknown entry 'rowz'; did you mean 'rows'?"),
        (TABLE % "{}", "a table has rows or a sweep; give one"),
        (TABLE % "{sweep: {lr: []}}", "sweep takes a setting and its values"),
        (TABLE % "{sweep: {lr: [1]}, rows: {x: {}}}", "leave rows out, or sweep one setting"),
        (TABLE % "{sweep: {epohcs: [1]}}", "table b, row 1: unknown setting 'epohcs'; did you mean 'epochs'?"),
        (TABLE % "{sweep: lr, rows: {high: }}", "mine.yaml: section a, table b, row high: lr=high: "),
        (TABLE % "{rows: {x: {lr: -1}}}", "row x: lr=-1: input should be greater than 0 (initial learning rate"),
        (TABLE % "{rows: {x: {reported: 0.5}}}", "a reported value is mean ± std, both from 0 to 1"),
        (TABLE % "{rows: {x: {reported: 44.6 ± 1.6}}}", "a reported value is mean ± std, both from 0 to 1"),
        (TABLE % "{rows: {x: {}, y: {}}}", "rows 'x' and 'y' are the same run; keep one of them"),
        (TABLE % "{rows: {x: {}}, figures: [{row: z}]}", "figures: unknown row 'z'; known: x"),
        (TABLE % "{rows: {x: }, figures: [{row: x, number: 3}, {row: x, number: 3}]}", "there are two figures 3"),
        (TABLE % "{settings: {colour: red}, rows: {x: {}}}", "section a, table b: unknown setting 'colour'"),
        (TABLE % "{rows: {x: {model: alexnte}}}", "there is no such network; did you mean 'alexnet'?"),
        ("networks: {tiny: n.py:f}\n" + TABLE % "{rows: {x: {model: tinny}}}", "unknown network 'tinny'"),
        ("claims: [{clam: x}]\n" + TABLE % "{rows: {x: {}}}", "unknown entry 'clam'; did you mean 'claim'?"),
        ("architectures: {alexnet: {titel: x}}\n" + TABLE % "{rows: {x: {}}}", "did you mean 'title'?"),
        ("architectures: {a: {title: x, parameters: 0}}\n" + TABLE % "{rows: {x: {}}}", "parameters=0: input"),
        (f"seeds: many\n{TABLE % '{rows: {x: {}}}'}", "mine.yaml: seeds=many: seeds takes a number of seeds"),
        ("sections: {a: {seeds: 0, tables: {b: {sweep: {lr: [1]}}}}}", "sections.a: seeds=0: seeds takes"),
        (TABLE % "{seeds: '1,1', sweep: {lr: [1]}}", "sections.a.tables.b: seeds=1,1: a seed appears twice"),
        (TABLE % "{seeds: [1, 2], sweep: {lr: [1]}}", "sections.a.tables.b: seeds: seeds takes a number of seeds"),
        (TABLE % "{seed: 3, sweep: {lr: [1]}}", "a.tables.b: unknown entry 'seed'; did you mean 'seeds'?"),
        (TABLE % "{rows: {x: {seeds: x}}}", "mine.yaml: section a, table b, row x: seeds=x: seeds takes a number"),
        (TABLE % "{rows: {x: {seed: 3}}}", "table b, row x: unknown setting 'seed'; did you mean 'seeds'?"),
    ],
)  # fmt: skip
def test_mistake_is_named_by_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    assert message in str(caught.value)


def test_any_text_is_understood_or_refused(tmp_path: Path) -> None:
    """300 study files: the report's, damaged, and texts of any kind."""
    reader = Reader(tmp_path)
    small = TABLE % "{sweep: {lr: [1e-3], augment: [crop]}, figures: [{row: 1e-3, number: 2}], title: 'é'}"
    texts = damaged_text(st.sampled_from([small, REPORT.read_text()[:2500]]))

    @generated(300)
    @given(texts | st.text())
    @example("\ud800")
    @example("a: \x00")
    @example("? [a]\n: 1")
    @example(TABLE % "{rows: {x: {lr: [1]}}}")
    @example(TABLE % "{rows: {x: {lr: {}}}}")
    @example(TABLE % "{rows: {x: [1]}}")
    @example(TABLE % "{rows: [1]}")
    @example(TABLE % "1")
    @example("sections: 1")
    def parse(text: str) -> None:
        reader.read(lambda: read(text))

    parse()
    assert reader.refused >= 150
