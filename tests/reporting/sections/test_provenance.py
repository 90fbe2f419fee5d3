"""Where the numbers come from, what is mixed, what is damaged, how many runs there are."""

from collections.abc import Sequence
from typing import Any

from caltech_exp.config import RunConfig, run_id
from caltech_exp.reporting.frames import read_study
from caltech_exp.reporting.render.blocks import Block, Listing, Prose, Table
from caltech_exp.reporting.sections.provenance import provenance_blocks
from caltech_exp.study.folder import StudyFolder
from caltech_exp.study.results import RESULT, Device
from caltech_exp.study.study import StudyFile
from tests.reporting.conftest import CODE, SampleStudy, make_diverged, make_result, row_config

CONFIG = row_config("scratch.lr", "1e-2")


def blocks(folder: SampleStudy) -> list[Block]:
    return provenance_blocks(read_study(folder.path))


def items(folder: SampleStudy, head: str = "") -> Sequence[str]:
    """The list under that line; the facts without one."""
    return next((b.items for b in blocks(folder) if isinstance(b, Listing) and b.head.startswith(head)), ())


def states(folder: SampleStudy) -> dict[Any, Any]:
    table = next(block for block in blocks(folder) if isinstance(block, Table))
    return {row[0]: row[1] for row in table.rows}


def test_runs_of_one_origin_are_not_mixed(folder: SampleStudy) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG, seed) for seed in range(3)))
    facts = items(folder)
    expected = {
        "Results: 3",
        "Total wall time: 1.5 h",
        "Code: 0.1.0 (aaaaaaaaaaaa)",
        "Device: H200 (cuda)",
        "Host: gpu1",
        "Libraries: torch 2.8",
        "Settings: no overrides",
        "First run started: 2026-01-01T00:00:00Z",
    }
    assert expected <= set(facts)
    assert not any(
        "mixed" in fact or "Submissions" in fact for fact in facts
    )  # a published study has no manifests


def test_a_study_file_says_where_its_weights_are_from(folder: SampleStudy) -> None:
    text = "provenance: >\n  CNTK, by way\n  of *ONNX*.\nsections: {a: {tables: {b: {rows: {c: {}}}}}}"
    folder.start()
    record = StudyFolder(folder.path).require_study()
    file = StudyFile(name="mine", text=text)
    StudyFolder(folder.path).write_study(record.model_copy(update={"file": file}))
    folder.add(make_result(RunConfig(), 0))
    assert r"Where the weights are from: CNTK, by way of \*ONNX\*." in items(folder)


def test_initial_weights_are_named_by_their_hash(folder: SampleStudy) -> None:
    folder.start()
    imagenet = row_config("transfer.lr", "1e-3")
    folder.add(make_result(imagenet, 0, weights_sha256="a" * 64))
    assert f"Initial weights of AlexNet, imagenet: SHA-256 {'a' * 64}" in items(folder)
    digests = ("a" * 64, "a" * 64, None)  # the last of an earlier version
    folder.add(make_result(imagenet, 0, weights_sha256="a" * 64 + "+" + "b" * 64))
    both = f"Initial weights of AlexNet, imagenet: SHA-256 {'a' * 64} and {'b' * 64}"
    assert both in items(folder)  # of a single run too
    folder.add(*(make_result(imagenet, seed, weights_sha256=digest) for seed, digest in enumerate(digests)))
    assert f"Initial weights of AlexNet, imagenet: SHA-256 {'a' * 64}" in items(folder)
    folder.add(make_result(imagenet, 2, weights_sha256="b" * 64))
    assert (
        f"Initial weights of AlexNet, imagenet: **mixed:** SHA-256 {'a' * 64} (2 runs), SHA-256 {'b' * 64} (1 run)"
    ) in items(folder)


def test_submissions_are_counted(folder: SampleStudy) -> None:
    folder.start()
    folder.submit("not a run id")
    assert "Submissions: 1" in items(folder)


def test_mixed_code_libraries_and_devices_are_marked(folder: SampleStudy) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40, "dirty": True})
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1), make_result(CONFIG, 2, code=other))
    device = Device(type="cpu", name="a|b `c` <d>")
    libraries = {"torch": "2.9", "submitit": "not installed"}
    folder.add(make_result(RunConfig(), 0, device=device, host="gpu2", libraries=libraries))
    facts = items(folder)
    dirty = "0.1.0 (bbbbbbbbbbbb, uncommitted changes) (1 run)"
    assert f"Code: **mixed:** 0.1.0 (aaaaaaaaaaaa) (3 runs), {dirty}" in facts
    assert r"Device: **mixed:** H200 (cuda) (3 runs), a\|b \`c\` \<d\> (cpu) (1 run)" in facts
    assert "torch: **mixed:** 2.8 (3 runs), 2.9 (1 run)" in facts
    assert "Libraries: submitit not installed" in facts
    assert "Host: gpu1 (3 runs), gpu2 (1 run)" in facts  # any node will do


def test_run_of_two_code_versions_is_mixed_with_runs_of_one(folder: SampleStudy) -> None:
    folder.start()
    other = CODE.model_copy(update={"commit": "b" * 40})
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1, earlier_code=(other,)))
    assert (
        "Code: **mixed:** 0.1.0 (aaaaaaaaaaaa) (1 run), 0.1.0 (bbbbbbbbbbbb); 0.1.0 (aaaaaaaaaaaa) (1 run)"
    ) in items(folder)


def test_damaged_and_newer_files_and_unrequested_runs_are_named(folder: SampleStudy) -> None:
    folder.start()
    folder.submit("not a run id")
    broken = folder.path / "submissions" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("")
    texts = {0: "{", 1: '{"schema_version": 2}'}
    for seed, text in texts.items():
        (folder.path / run_id(CONFIG, seed)).mkdir()
        (folder.path / run_id(CONFIG, seed) / RESULT).write_text(text)
    unrequested = make_result(CONFIG.but(lr=0.123), 0)
    folder.add(unrequested)
    assert items(folder, "Records of the study") == (f"{broken / 'manifest.json'}: the file is empty",)
    (damaged,) = items(folder, "Damaged results")
    assert damaged.startswith(f"`{run_id(CONFIG, 0)}`: ")
    (newer,) = items(folder, "Results of a newer version")
    assert newer.startswith(f"`{run_id(CONFIG, 1)}`: ")
    assert "newer version" in newer
    assert items(folder, "Runs in the folder") == (f"`{unrequested.run_id}`: finished",)


def test_long_lists_end_with_the_number_of_the_rest(folder: SampleStudy) -> None:
    folder.start()
    folder.add(*(make_result(CONFIG.but(lr=0.123), seed) for seed in range(23)))
    listed = items(folder, "Runs in the folder")
    assert (len(listed), listed[-1]) == (21, "and 3 more")


def test_runs_are_counted_by_state(folder: SampleStudy) -> None:
    folder.start()
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 1), make_diverged(CONFIG, 2))
    assert states(folder) == {"finished": 2, "diverged": 1, "not submitted": 117, "all": 120}


def test_missing_seeds_count_as_not_submitted(folder: SampleStudy) -> None:
    folder.start()
    folder.submit(run_id(CONFIG, 0), seeds=(0, 1))
    folder.add(make_result(CONFIG, 0), make_result(CONFIG, 5))
    assert states(folder) == {"finished": 2, "not submitted": 1 + 39 * 3, "all": 3 + 39 * 3}


def test_queued_runs_name_the_command_that_asks_the_queue(folder: SampleStudy) -> None:
    folder.start()
    folder.submit(run_id(CONFIG, 0))
    assert states(folder)["queued"] == 1
    command = f"`python jobs/status.py runs={folder.path}`"
    assert any(isinstance(block, Prose) and command in block.text for block in blocks(folder))


def test_results_without_a_study_record_say_so(folder: SampleStudy) -> None:
    folder.add(make_result(CONFIG, 0))
    assert f"Study: `{folder.path}`, which has no study.json" in items(folder)
