"""Where the numbers come from, what is mixed, what is damaged, how many runs there are."""

import pytest

from caltech_exp.config import RunConfig
from caltech_exp.reporting.counts import count_line
from caltech_exp.study.results import Device
from tests.reporting.conftest import CODE, Page, SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")


def provenance(text: str) -> str:
    return text.partition("## Provenance")[2]


def test_one_origin(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG, seed) for seed in range(3)))
    text = provenance(page(folder))
    assert "- Results counted: 3\n" in text
    assert "- Wall time of all runs together: 1.5 h\n" in text
    assert "- Code: 0.1.0 (aaaaaaaaaaaa)\n" in text
    assert "- Device: H200 (cuda)\n" in text
    assert "mixed" not in text
    assert "Submissions" not in text  # without their manifests, as where a study was published


def test_initial_weights_are_named_by_their_hash(folder: SampleStudy, page: Page) -> None:
    folder.start()
    imagenet = row_config("transfer.lr", "1e-3")
    digests = ("a" * 64, "a" * 64, None)  # the last of an earlier version
    folder.add(*(make_result(imagenet, seed, weights_sha256=digest) for seed, digest in enumerate(digests)))
    text = page(folder)
    assert f"- Initial weights of AlexNet, imagenet: SHA-256 {'a' * 64}\n" in provenance(text)
    assert "mixed" not in text
    folder.add(make_result(imagenet, 2, weights_sha256="b" * 64))
    text = page(folder)
    assert f"AlexNet, imagenet: **mixed:** SHA-256 {'a' * 64} (2 runs), SHA-256 {'b' * 64} (1 run)" in provenance(
        text
    )
    assert "mixed initial weights" in text.partition("## Provenance")[0]


def test_submissions_are_counted(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.submit("not a run id")
    assert "- Submissions: 1\n" in provenance(page(folder))


def test_mixed_code_and_devices_are_marked(folder: SampleStudy, page: Page) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40, "dirty": True})
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1), make_result(CONFIG, 2, code=other))
    folder.add(make_result(RunConfig(), 0, device=Device(type="cpu", name="a|b `c` <d>")))
    text = provenance(page(folder))
    dirty = "0.1.0 (bbbbbbbbbbbb, uncommitted changes) (1 run)"
    assert f"- Code: **mixed:** 0.1.0 (aaaaaaaaaaaa) (3 runs), {dirty}" in text
    assert r"a\|b \`c\` \<d\> (cpu) (1 run)" in text


def test_a_run_that_two_versions_trained_is_mixed_with_those_of_one(folder: SampleStudy, page: Page) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40})
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1, earlier_code=(other,)))
    text = page(folder)
    assert "mixed code versions" in text
    folder.add(make_result(CONFIG, 0, earlier_code=(other,)))
    assert "mixed code versions" in page(folder)  # though both went the same way
    assert (
        "- Code: **mixed:** 0.1.0 (aaaaaaaaaaaa) (1 run), 0.1.0 (bbbbbbbbbbbb), 0.1.0 (aaaaaaaaaaaa) (1 run)"
        in text
    )


def test_damaged_manifests_and_strays_are_named(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.submit("not a run id")
    broken = folder.path / "submissions" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("")
    stray = make_result(CONFIG.but(lr=0.123), 0)
    folder.add(stray)
    text = provenance(page(folder))
    assert f"- `{broken / 'manifest.json'}`: the file is empty" in text
    assert f"- `{stray.run_id}` finished" in text


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_folder_gives_a_report_of_what_is_missing(folder: SampleStudy, page: Page, exists: bool) -> None:
    if exists:
        folder.path.mkdir()
    text = page(folder)
    assert ("does not exist" in text) != exists
    assert (
        f"There are no results yet. To get them all: `python jobs/submit.py section=all runs={folder.path}`"
        in text
    )
    assert "0 of 120 runs finished; 120 not submitted." in text
    assert text.count("no results yet.**") == 15


def test_counts_by_state(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1), make_diverged(CONFIG, 2))
    assert count_line(folder.collect()) == "2 of 120 runs finished; 1 diverged, 117 not submitted"


def test_missing_seeds_are_counted_as_not_submitted(folder: SampleStudy, page: Page) -> None:
    folder.start()
    folder.submit(seeds=(0, 1))
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 5))
    text = page(folder)
    assert "2 of 81 runs finished; 79 not submitted." in text
    cells = [line.replace(" ", "") for line in text.splitlines()]
    assert "|1.Trainingfromscratch|2|0|0|25|27|" in cells
    assert "|notsubmitted|79|" in cells


def test_the_default_folder_is_left_out_of_commands(
    folder: SampleStudy, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path.parent)
    assert "`python jobs/submit.py section=all`" in page(folder)
