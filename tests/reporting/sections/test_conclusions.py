"""The claims with what was measured, and the networks beside each other."""

import pytest

from caltech_exp.catalog import THE_REPORT
from caltech_exp.reporting.claims import judge_claims
from caltech_exp.reporting.frames import StudyFrames, read_study
from caltech_exp.reporting.plots.figure_cache import FigureCache
from caltech_exp.reporting.render.blocks import Block, Interval, Prose, Table, Value
from caltech_exp.reporting.render.markdown import to_markdown
from caltech_exp.reporting.sections.conclusions import (
    claims_table,
    conclusion_blocks,
    network_table,
    verdict_sentence,
)
from caltech_exp.study.study import StudySettings
from tests.reporting.conftest import SampleStudy, make_diverged, make_result, row_config
from tests.reporting.test_claims import DIVERGED, OwnStudy

CLAIM_64 = "At the same learning rate and epochs, a batch of 64 is worse than one of 256"


def add(folder: SampleStudy, table: str, label: str, *values: float) -> None:
    config = folder.settings.apply(row_config(table, label))
    folder.add(*(make_result(config, seed, value) for seed, value in enumerate(values)))


def frames(folder: SampleStudy) -> StudyFrames:
    folder.start()
    return read_study(folder.path)


def conclusions(folder: SampleStudy) -> list[Block]:
    out = folder.path.parent / "report"
    (out / "figures").mkdir(parents=True, exist_ok=True)
    return conclusion_blocks(frames(folder), FigureCache(out / "figures", out / "index.json"))


def line(table: Table, first: str) -> dict[str, Value]:
    """The row whose first cell is this, by heading."""
    headings = [column.file_heading or column.heading for column in table.columns]
    row = next(row for row in table.rows if row[0] == first)
    return dict(zip(headings, row, strict=True))


def claim(folder: SampleStudy, text: str = CLAIM_64) -> dict[str, Value]:
    study = frames(folder)
    return line(claims_table(study, judge_claims(study)), text)


def test_conclusions_before_any_result_are_nothing(folder: SampleStudy) -> None:
    assert conclusions(folder) == []


def test_claims_on_other_weights_have_a_table_of_their_own(folder: SampleStudy) -> None:
    weights = {"resnet18": f"/weights/resnet18.pth@sha256:{'a' * 64}"}
    sample = SampleStudy(folder.path, StudySettings(imagenet_weights=weights))
    text = "Pretraining raises ResNet-18 too"
    add(sample, "resnet.scratch", "5e-2", 0.62, 0.63, 0.61)
    add(sample, "resnet.transfer", "5e-2", 0.93, 0.935, 0.925)
    assert claim(sample, text)["verdict"] == "no data"  # among the claims on torchvision's weights
    tables = {block.name: block for block in conclusions(sample) if isinstance(block, Table)}
    assert list(tables) == ["networks", "claims-other-weights"]
    assert line(tables["claims-other-weights"], text)["verdict"] == "supported"
    names = [row[0] for row in tables["networks"].rows]
    assert names == ["ResNet-18 from scratch", "ResNet-18 with other ImageNet weights"]


def test_conclusions_without_data_on_claims_are_the_networks(folder: SampleStudy) -> None:
    add(folder, "transfer.batch_size", "512", 0.85, 0.86)
    table, note = conclusions(folder)
    assert isinstance(table, Table)
    assert isinstance(note, Prose)
    assert (table.name, note.is_quiet) == ("networks", True)


def test_claims_table_lists_every_claim_of_the_report(folder: SampleStudy) -> None:
    study = frames(folder)
    table = claims_table(study, judge_claims(study))
    assert [str(row[0]).partition(" (decided by ")[0] for row in table.rows] == [c.text for c in THE_REPORT.claims]
    assert {row[3] for row in table.rows} == {"no data"}
    assert [column.heading for column in table.columns if not column.is_detail] == [
        "claim",
        "stated in",
        "measured difference",
        "verdict",
    ]


def test_claim_shows_the_paired_difference(folder: SampleStudy) -> None:
    add(folder, "transfer.batch_size", "256", 0.857, 0.858, 0.859)
    add(folder, "transfer.batch_size", "64", 0.830, 0.831, 0.833)
    found = claim(folder)
    difference = found["difference"]
    assert isinstance(difference, Interval)
    assert difference.value == pytest.approx(-0.08 / 3)
    assert (found["stated in"], found["verdict"], found["n"], found["p"]) == ("2.3", "supported", 3, None)
    assert (found["row"], found["compared with"]) == ("transfer.batch_size=64", "transfer.batch_size=256")


def test_p_is_listed_from_six_seeds_on(folder: SampleStudy) -> None:
    values = (0.857, 0.858, 0.859, 0.856, 0.858, 0.857)
    add(folder, "transfer.batch_size", "256", *values)
    add(folder, "transfer.batch_size", "64", *(value - 0.02 - 0.001 * seed for seed, value in enumerate(values)))
    assert claim(folder)["p"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(
    ("values", "cell", "verdict"),
    [
        ((), "not measured", "no data"),
        ((0.83,), Interval(-0.02, None, "n = 1: too few"), "inconclusive"),
        ((0.83, 0.03, 0.83), Interval(-0.86 / 3, None, "n = 3: interval beyond ±1"), "inconclusive"),
        ((0.83, 0.83, 0.83), Interval(-0.02, None, "no spread to judge by"), "inconclusive"),
        ((0.8496, 0.8496, 0.84961), "−0.0004 ± 0.0000", "supported"),
        ((DIVERGED, DIVERGED, 0.83), "2 of 3 runs diverged (batch size 64)", "inconclusive"),
        ((DIVERGED, DIVERGED, DIVERGED), "3 of 3 runs diverged (batch size 64)", "supported"),
    ],
)
def test_claim_says_why_there_is_no_interval(
    folder: SampleStudy, values: tuple[float, ...], cell: Value, verdict: str
) -> None:
    add(folder, "transfer.batch_size", "256", 0.85, 0.85, 0.85)
    config = row_config("transfer.batch_size", "64")
    for seed, value in enumerate(values):
        folder.add(make_diverged(config, seed) if value != value else make_result(config, seed, value))
    found = claim(folder)
    assert found["verdict"] == verdict
    if isinstance(cell, Interval):
        assert isinstance(found["difference"], Interval)
        assert found["difference"].value == pytest.approx(cell.value)
        assert (found["difference"].half_width, found["difference"].reason) == (None, cell.reason)
    else:
        assert found["difference"] == cell


def test_rows_that_overrides_make_one_run_are_no_comparison(folder: SampleStudy) -> None:
    folder = SampleStudy(folder.path, StudySettings(overrides={"batch_size": 8}))
    add(folder, "transfer.batch_size", "64", 0.83, 0.84)
    assert claim(folder)["verdict"] == "no data"
    assert "claims can be" not in to_markdown(conclusions(folder))


def test_claim_of_several_comparisons_names_the_one_that_decides(folder: SampleStudy) -> None:
    for label, values in {
        "1e-3": (0.09, 0.09, 0.091),
        "5e-2": (0.44, 0.45, 0.46),
        "6e-2": (0.3, 0.45, 0.2),
    }.items():
        add(folder, "scratch.lr", label, *values)
    found = claim(folder, "From scratch, 5e-2 is the best learning rate (decided by 6e-2)")
    assert found["verdict"] == "inconclusive"


def test_claim_of_divergence_says_how_many_runs_diverged(folder: SampleStudy) -> None:
    config = row_config("transfer.diverging", "LR = 5e-2")
    folder.add(*(make_diverged(config, seed) for seed in range(3)))
    found = claim(folder, "Pretrained, the best settings from scratch make the loss diverge")
    assert (found["difference"], found["verdict"]) == ("3 of 3 runs diverged", "supported")
    assert found["row"] == "transfer.diverging=LR = 5e-2"


def test_verdicts_are_counted_in_a_sentence(tmp_path_factory: pytest.TempPathFactory) -> None:
    pair = "row: a.b=1, against: a.b=2, direction:"
    sentences = []
    for number in range(1, 5):
        claims = [
            f"{pair} higher",
            f"{pair} lower",
            f"{pair} not higher, margin: 0.9",
            "row: a.b=3, direction: diverges",
        ]
        study = OwnStudy(tmp_path_factory.mktemp("study") / "runs", *claims[:number])
        study.add("1", 0.5, 0.51, 0.52)
        study.add("2", 0.4, 0.41, 0.43)
        sentences.append(verdict_sentence(study.judge()))
    assert sentences == [
        "The only claim is supported.",
        "Of 2 claims 1 is supported and 1 is contradicted.",
        "Of 3 claims 2 are supported and 1 is contradicted.",
        "Of 4 claims 2 are supported, 1 is contradicted and 1 has no data.",
    ]


def test_networks_show_parameters_accuracy_and_cost(folder: SampleStudy) -> None:
    add(folder, "resnet.transfer", "5e-2", 0.93, 0.94, 0.935)
    found = line(network_table(frames(folder)), "ResNet-18 pretrained")
    assert (found["parameters"], found["minutes per run"]) == (11_228_838, 30)
    assert (found["best row"], found["n"], found["kWh per run"]) == ("learning rate 5e-2", 3, None)


def test_networks_show_the_best_row_of_each(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.3)
    add(folder, "scratch.step_size", "50", 0.5)
    add(folder, "resnet.transfer", "5e-2", 0.9)
    folder.add(make_diverged(row_config("transfer.diverging", "LR = 5e-2"), 0))
    table = network_table(frames(folder))
    assert {row[0]: key for row, key in zip(table.rows, table.keys, strict=True)} == {
        "AlexNet from scratch": "scratch.step_size=50",
        "ResNet-18 pretrained": "resnet.transfer=5e-2",
    }


def test_energy_is_that_of_the_runs_that_count_it(folder: SampleStudy) -> None:
    config = row_config("resnet.transfer", "5e-2")
    folder.add(make_result(config, 0, 0.9, energy_joules=3.6e6), make_result(config, 1, 0.9))
    assert line(network_table(frames(folder)), "ResNet-18 pretrained")["kWh per run"] == 1.0


def test_remark_on_a_network_stands_below_where_it_was_trained(folder: SampleStudy) -> None:
    add(folder, "scratch.lr", "1e-2", 0.3)
    assert "has a fifth of them" not in to_markdown(conclusions(folder))
    add(folder, "resnet.transfer", "5e-2", 0.9)
    assert to_markdown(conclusions(folder)).count("has a fifth of them") == 1
