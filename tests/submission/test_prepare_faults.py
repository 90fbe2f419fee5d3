"""jobs/prepare.py where something goes wrong: lost connections and processes, wrong files, half a data set."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.data.download import IMAGENET
from caltech_exp.data.splits import IMAGES, read_data_set
from caltech_exp.submission.assets import FETCHED_ARCHIVE
from tests.commands.test_submit import one_line_error
from tests.conftest import CHECKOUT, NO_NETWORK, Command, Disk
from tests.tools.archives import image_files, tar_of, zip_of
from tests.tools.bad_inputs import snapshot
from tests.tools.file_server import FileServer
from tests.tools.published import Here, Published, small_data_set
from tests.tools.testbed import until


def test_a_wrong_file_from_the_server_is_removed(here: Here, place: Path, published: Published) -> None:
    published.server.files["/records/caltech-101.zip"] = b"<html>please log in</html>"
    done = here("weights=none")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "error: caltech-101.archive cannot be downloaded from http://127.0.0.1:" in done.err
    assert "the 26 bytes received are another file: its hash is md5:" in done.err
    assert f"put it into {place}/data and run the same command again" in done.err
    assert sorted(path.name for path in (place / "data").iterdir()) == ["test.txt", "train.txt"]


@pytest.mark.parametrize("lost", ["/course/test.txt", "/records/caltech-101.zip", "/models/"])
def test_what_can_be_had_is_had_and_the_rest_later(
    lost: str, here: Here, place: Path, published: Published
) -> None:
    files = published.server.files
    kept = {path: files.pop(path) for path in list(files) if path.startswith(lost)}
    done = here()
    assert done.status == 2
    assert "run the same command again to fetch the rest" in done.out
    assert done.err.count("\n") == len(kept)
    assert all("the server answers 404 Not Found" in line for line in done.err.splitlines())
    packs = ["made"] * 4 if lost == "/models/" else ["missing"]
    names = ["/course/train.txt", "/course/test.txt", "/records/caltech-101.zip", "/models/alex", "/models/resnet"]
    assert done.states == ["missing" if name.startswith(lost) else "fetched" for name in names] + packs

    before = {path: state for path, state in snapshot(place).items() if Path(path).is_file()}
    files.update(kept)
    again = here()
    assert again.status == 0, again.err
    assert before.items() <= snapshot(place).items()


def test_without_a_network_each_thing_is_told_in_a_line_and_nothing_is_written(
    prepare: Command, tmp_path: Path
) -> None:
    done = prepare("profile=local", f"data={tmp_path / 'data'}", f"packs={tmp_path / 'packs'}")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("error: ") and "cannot be downloaded from https://" in line for line in lines)
    assert f"put the course's train.txt into {tmp_path / 'data'}, or give another source with splits=" in lines[0]
    assert (
        f"put it into {tmp_path / 'data'} and run the same command again, or give another source with archive="
        in lines[2]
    )
    assert f"put it into the offline cache {tmp_path / 'no-torch-home' / 'hub' / 'checkpoints'}" in lines[3]
    assert "missing: train.txt, test.txt, images, weights of alexnet, weights of resnet18, packs;" in done.stdout
    assert list(tmp_path.iterdir()) == []


def held_archive(
    server: FileServer, caltech101: Path, folder: Path
) -> tuple[Path, dict[str, bytes], tuple[str, ...]]:
    """A data folder without its images, what they were, and the words to fetch them from a server that waits."""
    data = small_data_set(caltech101, folder / "data")
    images = image_files(data)
    shutil.rmtree(data / IMAGES)
    content = zip_of(tar_of(images))
    server.files["/a.zip"] = content
    server.hold.clear()
    words = (
        "profile=local", f"data={data}", "weights=none", f"packs={folder / 'packs'}",
        f"archive={server.url}/a.zip", f"archive_hash=sha256:{hashlib.sha256(content).hexdigest()}",
    )  # fmt: skip
    return data, images, words


def test_a_killed_command_goes_on_where_it_was(
    prepare: Command, server: FileServer, caltech101: Path, tmp_path: Path
) -> None:
    data, images, words = held_archive(server, caltech101, tmp_path)
    half = len(server.files["/a.zip"]) // 2
    child = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "jobs/prepare.py"), *words], env={**os.environ, **NO_NETWORK}
    )
    part = data / f"{FETCHED_ARCHIVE}.part"
    until(lambda: part.exists() and part.stat().st_size == half, 60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.hold.set()
    done = prepare(*words)
    assert done.returncode == 0, done.stderr
    assert [request.range for request in server.requests] == [None, f"bytes={half}-"]
    assert image_files(data) == images


def test_two_commands_at_once_fetch_everything_once(server: FileServer, caltech101: Path, tmp_path: Path) -> None:
    data, images, words = held_archive(server, caltech101, tmp_path)
    command = [sys.executable, str(CHECKOUT / "jobs/prepare.py"), *words]
    both = [
        subprocess.Popen(command, env={**os.environ, **NO_NETWORK}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    until(lambda: bool(server.requests), 60)
    time.sleep(1)
    server.hold.set()
    output = "".join(child.communicate(timeout=120)[0] for child in both)
    assert [child.returncode for child in both] == [0, 0]
    assert len(server.requests) == 1
    assert output.count("another process is downloading it; waiting") == 1
    assert output.count("packed ") == 4
    assert image_files(data) == images


def test_images_of_which_some_are_missing_are_left_alone(here: Here, place: Path, published: Published) -> None:
    assert here("weights=none").status == 0
    gone = place / "data" / IMAGES / "bass" / "image_0002.jpg"
    gone.unlink()
    before = snapshot(place / "data")
    published.server.requests.clear()
    done = here("weights=none")
    assert done.status == 2
    assert "train.txt line 6 names bass/image_0002.jpg, which is not in" in done.err
    assert (
        f"if {place}/data/{IMAGES} is incomplete, move it away and run the same command to unpack it again"
        in done.err
    )
    assert snapshot(place / "data") == before
    (place / "data" / IMAGES).rename(place / "away")
    assert here("weights=none").status == 0
    assert gone.is_file()


def test_damaged_weights_are_left_and_told(here: Here, place: Path) -> None:
    assert here().status == 0
    path = place / "torch" / "hub" / "checkpoints" / IMAGENET["alexnet"].name
    path.write_bytes(b"damaged")
    done = here()
    assert done.status == 2
    assert (
        done.err
        == f"error: {path} does not have the hash in its name, so it may be damaged; delete it and download it "
        "again\n"
    )
    path.unlink()
    done = here()
    assert done.states == ["present"] * 3 + ["fetched"] + ["present"] * 5


def test_a_data_set_on_a_disk_that_may_only_be_read_is_fine(
    here: Here, caltech101: Path, small_disk: Disk
) -> None:
    data = small_data_set(caltech101, small_disk.path / "data")
    small_disk.change("ro")
    done = here(f"data={data}")
    assert done.status == 0, done.err
    assert done.states == ["present"] * 3 + ["fetched"] * 2 + ["made"] * 4


def test_the_whole_data_set(
    prepare: Command, server: FileServer, caltech101: Path, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    content = zip_of(tar_of(image_files(caltech101)))
    server.files["/caltech-101.zip"] = content
    server.breaks = [50_000_000]
    data = tmp_path / "data"
    words = (
        "profile=local", f"data={data}", "weights=none", f"packs={tmp_path / 'packs'}", "max_images=8",
        f"splits={caltech101}", f"archive={server.url}/caltech-101.zip",
        f"archive_hash=md5:{hashlib.md5(content).hexdigest()}",
    )  # fmt: skip
    start = time.perf_counter()
    done = prepare(*words)
    record_property("seconds", round(time.perf_counter() - start, 1))
    assert done.returncode == 0, done.stderr
    assert [request.range for request in server.requests] == [None, "bytes=50000000-"]
    assert read_data_set(data).fingerprint == read_data_set(caltech101).fingerprint
    assert image_files(data) == image_files(caltech101)
    server.requests.clear()
    start = time.perf_counter()
    assert prepare(*words).returncode == 0
    record_property("seconds_again", round(time.perf_counter() - start, 1))
    assert server.requests == []


def test_paths_that_cannot_be(prepare: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = prepare("profile=local", "weights=none", f"data={tmp_path / 'file'}", f"splits={tmp_path}")
    assert done.returncode == 2
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert (tmp_path / "file").read_text() == "mine"
    one_line_error(prepare("profile=local", "data=~nobody_of_this_name/x"), "; name another path")
