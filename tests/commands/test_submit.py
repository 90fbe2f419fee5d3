"""jobs/submit.py as a user runs it, on this machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caltech_exp.data.splits import IMAGES
from caltech_exp.machine import local_gpus
from tests.conftest import CHECKOUT, SMALL, Command, manifests


def one_line_error(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2, done
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("section=trasnfer", "unknown section 'trasnfer'; did you mean 'transfer'?"),
        ("table=scratch.rl", "unknown table 'scratch.rl'; did you mean 'scratch.lr'?"),
        ("section=all lrr=1", "unknown key 'lrr'; did you mean 'lr'?"),
        ("section=all profile=testbd", "unknown profile 'testbd'; did you mean 'testbed'?"),
        ("section=all seeds=0", "seeds=0: seeds takes a number of seeds"),
        ("section=all lr=abc", "lr=abc: input should be a number"),
        ("section=all lr=-1", "lr=-1: input should be greater than 0"),
        ("section=all weights=imagnet", "did you mean 'imagenet'?"),
        ("section=scratch", "no data set: set data=DIR or CALTECH101_ROOT"),
        ("section=scratch data=/nowhere", "data folder /nowhere does not exist"),
        ("section=scratch data=STAND_IN batch_size=100000", "larger than the training set of"),
        ("section=scratch data=STAND_IN batch_size=100000", "or last_batch=keep"),
        (
            "table=resnet.scratch data=STAND_IN frozen_batchnorm=eval",
            "frozen_batchnorm=eval has no effect with freeze=none: it needs frozen layers with batch "
            "normalisation; set model=resnet18 freeze=conv, or leave it out",
        ),
        (
            "table=scratch.lr data=STAND_IN freeze=conv frozen_batchnorm=eval",
            "frozen_batchnorm=eval has no effect with model=alexnet: it needs frozen layers",
        ),
        ("section=scratch resize=-1", "resize=-1: input should be greater than or equal to 0"),
        ("section=scratch last_batch=kept", "last_batch=kept: there is no such value; did you mean 'keep'?"),
        ("section=scratch data=STAND_IN", "batch_size=256 of a row of the report is larger"),
    ],
)
def test_bad_input(words: str, message: str, submit: Command, stand_in: Path, untouched: Path) -> None:
    given = [word.replace("STAND_IN", str(stand_in)) for word in words.split()]
    profile = [] if "profile=" in words else ["profile=local"]
    one_line_error(submit(*given, *profile, f"runs={untouched}"), message)


def test_a_damaged_image_is_named_and_nothing_is_queued(
    submit: Command, stand_in: Path, untouched: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(stand_in, tmp_path / "data"))
    lines = (data / "test.txt").read_text().split()
    image = data / IMAGES / lines[40]
    image.write_bytes(image.read_bytes()[:500])
    words = ("section=scratch", *SMALL, "profile=local", f"data={data}", f"runs={untouched}")
    done = submit(*words)
    assert done.returncode == 2
    assert f"damaged image {image} (test.txt line 41)" in done.stderr
    dry = submit(*words, "dry_run=true")  # decodes no image
    to_do = f"Still to do: submit reads all 484 images of {data} and names a damaged one."
    assert (dry.returncode, dry.stdout.splitlines()[-1]) == (0, to_do)


@pytest.mark.parametrize("which", ["no state dict", "another network's"])
def test_weights_that_do_not_fit(
    which: str, submit: Command, stand_in: Path, stand_in_weights: Path, untouched: Path, tmp_path: Path
) -> None:
    file = tmp_path / "net.pth"
    file.write_text("no weights")
    weights = file if which == "no state dict" else stand_in_weights / "resnet18.pth"
    done = submit(
        "table=scratch.lr", *SMALL, f"weights={weights}", "profile=demo", f"data={stand_in}", f"runs={untouched}"
    )
    one_line_error(done, f"weights {weights}")


def test_more_classes_than_the_networks_have_outputs(
    submit: Command, stand_in: Path, untouched: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(stand_in, tmp_path / "data"))
    for name in ("one_more", "and_another"):
        shutil.copytree(data / IMAGES / "ant", data / IMAGES / name)
        with (data / "train.txt").open("a") as file:
            file.write(f"{name}/image_0001.jpg\n")
    done = submit("table=scratch.lr", *SMALL, "profile=demo", f"data={data}", f"runs={untouched}")
    one_line_error(done, "train.txt names 103 classes and the networks have 102 outputs")


@pytest.mark.parametrize(
    "word", ["runs=~nosuchuser/x", "data=~nosuchuser/x", "runs=" + "x" * 300, "data=" + "x" * 300]
)
def test_paths_that_cannot_be(word: str, submit: Command) -> None:
    one_line_error(submit("section=scratch", "profile=demo", word), "; name another path")


def test_results_on_other_data_do_not_count(
    submit: Command, small: tuple[str, ...], trained: Path, stand_in: Path, tmp_path: Path
) -> None:
    runs = trained
    words = [word for word in small if not word.startswith("data=")]
    given = (*words, "seeds=1", "profile=demo", f"runs={runs}", "wait=true")
    (result,) = runs.glob("*/result.json")
    before = result.read_text()
    shutil.rmtree(runs / "submissions")
    (runs / "study.json").unlink()
    other = Path(shutil.copytree(stand_in, tmp_path / "data"))
    train = (other / "train.txt").read_text().splitlines()
    (other / "train.txt").write_text("\n".join(train[2:]) + "\n")
    done = submit(*given, f"data={other}")
    assert done.returncode == 0, done.stderr
    assert "queued resnet.runs: 1 task" in done.stdout
    assert result.read_text() != before


def test_imagenet_weights_that_cannot_be_had(submit: Command, stand_in: Path, untouched: Path) -> None:
    done = submit("table=transfer.lr", *SMALL, "profile=local", f"data={stand_in}", f"runs={untouched}")
    one_line_error(
        done, "weights=imagenet: alexnet-owt-7be5be79.pth cannot be downloaded from https://download.pytorch.org/"
    )
    assert "on a machine with a network and put it into the offline cache" in done.stderr


def test_a_gpu_this_machine_does_not_have(
    submit: Command, small: tuple[str, ...], untouched: Path, tmp_path: Path
) -> None:
    if local_gpus():
        pytest.skip("this machine has a GPU")
    profile = tmp_path / "gpu.yaml"
    profile.write_text("executor: local\ndevice: cuda\n")
    done = submit(*small, f"profile={profile}", f"runs={untouched}")
    one_line_error(done, "the profile asks for a GPU and this machine has none")


@pytest.mark.parametrize(("visible", "device"), [("GPU-of-no-machine", "cuda"), ("", "cpu")])
def test_auto_is_decided_at_submission_and_a_gpu_that_cannot_be_used_is_told(
    visible: str, device: str, submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    if Path("/proc/driver/nvidia/gpus").is_dir() and not local_gpus():
        pytest.skip("this machine's driver has no GPU")
    runs = tmp_path / "runs"
    words = (*small, "seeds=1", "profile=local", f"runs={runs}", "wait=true")
    done = submit(*words, CUDA_VISIBLE_DEVICES=visible)
    (manifest,) = manifests(runs)
    assert manifest["profile"]["device"] == device  # type: ignore[index]
    if device == "cpu":
        assert done.returncode == 0, done.stderr
        (result,) = runs.glob("*/result.json")
        assert json.loads(result.read_text())["device"]["type"] == "cpu"
    else:
        assert done.returncode == 2
        (failure,) = runs.glob("*/failure.json")
        assert "asked for a GPU and finds none" in json.loads(failure.read_text())["error"]


@pytest.mark.parametrize("blocked", ["file", "below a file"])
def test_a_runs_folder_that_cannot_be(
    blocked: str, submit: Command, small: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    runs = file if blocked == "file" else file / "runs"
    done = submit(*small, "profile=demo", f"runs={runs}")
    assert done.returncode == 2
    assert f"{runs}" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_text() == "mine"


@pytest.mark.parametrize("key", ["runs", "packs", "out"])
@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_a_folder_that_is_a_link_to_nowhere_is_told(
    key: str, dry_run: str, submit: Command, small: tuple[str, ...], untouched: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to("gone")
    words = [f"runs={untouched}"] if key != "runs" else []
    done = submit(*small, "profile=demo", "aggregate=true", f"dry_run={dry_run}", *words, f"{key}={link}/mine")
    assert done.returncode == 2
    problem = f"{key}={link}/mine: {link} is a link to gone, which does not exist; make that folder or name"
    assert (done.stdout + done.stderr).count(problem) == 1


TWICE = """
import os, runpy, sys
create = os.open
os.open = lambda path, flags, *rest, **more: create(path, flags & ~os.O_EXCL, *rest, **more)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a script of Python where the file system creates files that are there."""


def test_a_file_system_that_creates_a_file_twice_is_refused(small: tuple[str, ...], untouched: Path) -> None:
    script = str(CHECKOUT / "jobs" / "submit.py")
    command = [sys.executable, "-c", TWICE, script, *small, "profile=demo", f"runs={untouched}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    one_line_error(done, f"runs folder {untouched}: its file system creates a file a second time")


def test_dry_run_lists_the_whole_report_and_what_prevents_it_and_writes_nothing(
    submit: Command, untouched: Path
) -> None:
    done = submit("section=all", "dry_run=true", "profile=local", f"runs={untouched}")
    assert done.returncode == 2
    assert sum(" pending " in line for line in done.stdout.splitlines()) == 120
    assert "120 runs of 40 configurations: 120 pending" in done.stdout
    assert "transfer.lr=1e-2, transfer.step_size=50" in done.stdout
    assert "would queue transfer.runs: 48 tasks, 48 runs, profile local" in done.stdout
    assert done.stdout.startswith("cannot be submitted yet: no data set")


def test_dry_run_says_first_what_submit_would_refuse_and_at_the_end_what_it_would_fetch(
    submit: Command, stand_in: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    words = ("section=transfer", *SMALL, "profile=demo", f"data={stand_in}", "dry_run=true")
    done = submit(*words, TORCH_HOME=str(tmp_path / "torch"))
    assert (done.returncode, done.stderr, "cannot be" in done.stdout) == (0, "", False)
    fetch, images = done.stdout.splitlines()[-2:]
    assert fetch.startswith(
        f"Still to do: alexnet-owt-7be5be79.pth is missing from {cache}. It will be downloaded"
    )
    assert images == f"Still to do: submit reads all 484 images of {stand_in} and names a damaged one."
    cache.mkdir(parents=True)
    (cache / "alexnet-owt-7be5be79.pth").write_bytes(b"half")
    (tmp_path / "file").write_text("mine")
    done = submit(*words, f"runs={tmp_path / 'file' / 'runs'}", TORCH_HOME=str(tmp_path / "torch"))
    assert (done.returncode, done.stderr) == (2, "")
    folder, weights = done.stdout.splitlines()[:2]
    assert folder.endswith(
        f"runs={tmp_path / 'file' / 'runs'}: {tmp_path / 'file'} is a file; give another folder"
    )
    assert weights.startswith("cannot be submitted yet: weights=imagenet: ")
    assert "alexnet-owt-7be5be79.pth does not have the hash in its name" in weights


def test_dry_run_collects_all_problems(submit: Command, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "submissions" / "20260101T000000-abcd"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    (tmp_path / "file").write_text("mine")
    words = ("table=scratch.lr", "aggregate=true", f"out={tmp_path / 'file'}", f"runs={tmp_path / 'runs'}")
    done = submit(*words, "dry_run=true", "profile=local")
    assert (done.returncode, done.stderr) == (2, "")
    start = "cannot be submitted yet: "
    report, data, manifest = [line for line in done.stdout.splitlines() if line.startswith(start)]
    assert f"{tmp_path / 'file'} is a file; give another folder" in report
    assert data.startswith(f"{start}no data set: ")
    assert "manifest.json is damaged" in manifest


def test_section_data_has_nothing_to_run(submit: Command, untouched: Path) -> None:
    done = submit("section=data", "profile=local", f"runs={untouched}")
    assert done.returncode == 0
    assert "python reports/aggregate.py" in done.stdout


def test_a_study_on_this_machine(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    runs = tmp_path / "my 'odd'; \"stüdy\" $HOME %j"
    words = (*small, "seeds=2", "profile=demo", f"runs={runs}")

    done = submit(*words, "wait=true")
    assert done.returncode == 0, done.stderr
    assert "queued resnet." in done.stdout
    results = list(runs.glob("*/result.json"))
    assert len(results) == 2
    (manifest,) = manifests(runs)
    assert [task["runs"][0] for task in manifest["tasks"]] == [  # type: ignore[attr-defined]
        f"{results[0].parent.name.partition('-')[0]}-s{seed}" for seed in (0, 1)
    ]

    before = {path: path.stat().st_mtime_ns for path in results}
    again = submit(*words, "wait=true")
    assert again.returncode == 0
    assert "nothing to submit: all 2 runs are finished" in again.stdout
    assert len(manifests(runs)) == 1
    assert {path: path.stat().st_mtime_ns for path in results} == before

    other = submit(*small, "lr=0.5", "profile=demo", f"runs={runs}")
    one_line_error(other, "was started without lr; this command says lr=0.5; use another runs= folder")

    # The folder remembers settings, profile and data.
    table, runs_word = words[0], words[-1]
    more = submit(table, "seeds=3", runs_word, "profile.max_parallel=1", "wait=true", CALTECH101_ROOT=None)
    assert more.returncode == 0, more.stderr
    assert "3 runs of 1 configuration: 2 finished, 1 pending" in more.stdout
    assert "1 task, 1 run, profile demo with profile.max_parallel=1" in more.stdout
    retry = submit(table, runs_word, "retry=failed")
    assert (retry.returncode, retry.stderr) == (0, "")
    assert "nothing to submit: all 3 runs are finished" in retry.stdout


def test_a_damaged_manifest_is_not_submitted_past(submit: Command, small: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "submissions" / "20260101T000000-abcd"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schema_version": 1, "id"')
    done = submit(*small, "profile=demo", f"runs={tmp_path / 'runs'}")
    one_line_error(done, "manifest.json is damaged (it is not whole JSON")
    assert f"which jobs it submitted is unknown, so remove {folder} once none is queued" in done.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["submissions"]


def test_what_a_newer_version_wrote_is_not_submitted_over(
    submit: Command, small: tuple[str, ...], trained: Path
) -> None:
    runs = trained
    words = (*small, "seeds=1", "profile=demo", f"runs={runs}", "wait=true")
    (result,), (manifest,) = runs.glob("*/result.json"), runs.glob("submissions/*/manifest.json")
    study = runs / "study.json"
    for path, state in ((result, "1 newer"), (manifest, ""), (study, "")):
        before = path.read_text()
        path.write_text(before.replace('"schema_version": 1', '"schema_version": 2', 1))
        changed, done = path.read_bytes(), submit(*words)
        if state:
            assert (done.returncode, "nothing to submit" in done.stdout, state in done.stdout) == (1, True, True)
            assert " newer: result.json: made by a newer version of caltech_exp (schema 2); " in done.stderr
            assert "1 left as they are: result.json: made by a newer version of caltech_exp" in done.stdout
        else:
            one_line_error(
                done, f"{path} was made by a newer version of caltech_exp (schema 2); this version reads 1;"
            )
        assert path.read_bytes() == changed
        path.write_text(before)
    assert len(list(runs.glob("submissions/2*"))) == 1


def test_one_run_that_fails_does_not_take_the_others_along(
    submit: Command, small: tuple[str, ...], trained: Path
) -> None:
    runs = trained
    (done_run,) = runs.glob("*/result.json")
    # A folder where the next run's result should go: writing it fails, as on a broken disk.
    (runs / done_run.parent.name.replace("-s0", "-s1") / "result.json").mkdir(parents=True)
    words = (*small, "seeds=3", "runs_per_task=3", "profile=demo", f"runs={runs}")
    second = submit(*words, "wait=true")
    assert second.returncode == 1
    assert f"{done_run.parent.name.replace('-s0', '-s1')} failed: " in second.stderr.replace("damaged", "failed")
    assert (runs / done_run.parent.name.replace("-s0", "-s2") / "result.json").is_file()


def test_data_changed_after_submission_is_refused(
    submit: Command, small: tuple[str, ...], trained: Path, stand_in: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(stand_in, tmp_path / "data"))
    words = [word for word in small if not word.startswith("data=")]
    train = (data / "train.txt").read_text().splitlines()
    (data / "train.txt").write_text("\n".join(train[2:]) + "\n")
    done = submit(*words, "seeds=2", "profile=demo", f"data={data}", f"runs={trained}")
    one_line_error(done, "holds a study of the generated stand-in")


@pytest.mark.parametrize(("when", "status"), [("1..2", 0), ("3..5", 0), ("4+1", 2)])
def test_a_folder_that_the_file_server_loses_is_looked_up_again_or_named(
    when: str, status: int, strace: str, stand_in: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    faults = ["-f", "-qq", "-o", "/dev/null", "-P", str(runs), "-e", f"inject=%file:error=ESTALE:when={when}"]
    words = ["section=resnet", "weights=none", *SMALL, "profile=local", f"data={stand_in}", f"runs={runs}"]
    command = [sys.executable, str(CHECKOUT / "jobs" / "submit.py"), *words, "dry_run=true"]
    done = subprocess.run([strace, *faults, *command], capture_output=True, text=True, timeout=300, check=False)
    if status:
        one_line_error(done, f"{runs}: the file server cannot find it right now (Stale file handle); run the")
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_that_the_file_server_loses_is_no_reason_for_another_folder(
    strace: str, stand_in: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    lock = runs / "submissions" / ".lock"
    faults = ["-f", "-qq", "-o", "/dev/null", "-P", str(lock), "-e", "inject=openat:error=ESTALE"]
    words = ["table=resnet.batch_256", "weights=none", *SMALL, "profile=local", f"data={stand_in}", f"runs={runs}"]
    command = [sys.executable, str(CHECKOUT / "jobs" / "submit.py"), *words]
    done = subprocess.run([strace, *faults, *command], capture_output=True, text=True, timeout=300, check=False)
    one_line_error(done, f"{lock}: the file server cannot find it right now (Stale file handle); run the command")
