"""jobs/prepare.py where there is no data set yet: the archive, the split files and the weights from a server."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from caltech_exp import download
from caltech_exp.sources import IMAGENET
from caltech_exp.splits import IMAGES, read_data_set
from jobs.needed import FETCHED_ARCHIVE
from jobs.preparation import Wanted, missing_items
from jobs.prepare import main
from tests.archives import image_files, tar_of, zip_of
from tests.bad_inputs import snapshot
from tests.conftest import CHECKOUT, NO_NETWORK, Command, Disk
from tests.file_server import FileServer, serving
from tests.jobs.published import CLASSES, EACH, Published, publish, small_data_set
from tests.jobs.test_submit import one_line_error
from tests.jobs.testbed import until


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as files:
        yield files


@pytest.fixture
def published(server: FileServer, caltech101: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A small Caltech-101 and weights on a server of this machine, in place of the published ones."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0, 0.0))
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    return publish(server, caltech101, tmp_path, monkeypatch)


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def states(self) -> list[str]:
        """Of the items, in the table's order."""
        rows = self.out[self.out.rindex("\n----") :].splitlines()[2:]
        words = ("there", "fetched", "made", "missing", "to fetch", "to make")
        return [next(word for word in words if f"  {word}  " in row) for row in rows if "  " in row]


Here = Callable[..., Done]


@pytest.fixture
def here(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Run prepare.py in this process on what is published, into `data`, `packs` and `torch` of `place`."""
    assert published.server.asked == []
    place = tmp_path / "my 'odd'; \"plåce\" $HOME %j"
    monkeypatch.setenv("TORCH_HOME", str(place / "torch"))

    def run(*words: str) -> Done:
        given = ("profile=local", f"data={place / 'data'}", f"packs={place / 'packs'}", *words)
        last = {word.partition("=")[0]: word for word in given}
        capsys.readouterr()
        status = main(list(last.values()))
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where `here` prepares."""
    return tmp_path / "my 'odd'; \"plåce\" $HOME %j"


def test_everything_is_fetched_and_made_and_the_second_time_nothing_is_done(
    here: Here, place: Path, published: Published
) -> None:
    done = here()
    assert (done.status, done.err) == (0, "")
    assert done.states == ["fetched"] * 5 + ["made"] * 4
    data = read_data_set(place / "data")
    assert data.classes == CLASSES
    assert len(data.train_val) + len(data.test) == len(CLASSES) * EACH
    assert sorted(path.name for path in (place / "data").iterdir()) == [
        f".{IMAGES}.lock", IMAGES, "test.txt", "train.txt",
    ]  # fmt: skip
    assert len(published.paths) == 5
    for source in IMAGENET.values():
        assert (place / "torch" / "hub" / "checkpoints" / source.name).read_bytes() == (
            published.folder / source.name
        ).read_bytes()

    before = snapshot(place)
    published.server.asked.clear()
    again = here()
    assert (again.status, again.err) == (0, "")
    assert again.states == ["there"] * 9
    assert published.server.asked == []
    assert snapshot(place) == before
    row = next(line for line in again.out.splitlines() if line.startswith("train.txt"))
    assert str(place / "data" / "train.txt") in row
    assert hashlib.sha256((place / "data" / "train.txt").read_bytes()).hexdigest()[:16] in row
    assert "(the course's)" in row


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_everything_may_lie_on_this_machine(kind: str, here: Here, place: Path, published: Published) -> None:
    archive = published.folder / ("caltech-101.zip" if kind == "zip" else "my archive")
    if kind == "tar":
        archive.write_bytes(published.tar)
    folder = published.folder
    done = here(f"archive={archive}", f"splits={folder}", f"weights_from={folder}")
    assert done.status == 0, done.err
    assert published.server.asked == []
    assert archive.is_file()
    assert read_data_set(place / "data").classes == CLASSES


def test_everything_may_come_from_a_mirror(here: Here, published: Published) -> None:
    files = published.server.files
    for name in ("train.txt", "test.txt"):
        files[f"/mirror/{name}"] = files.pop(f"/course/{name}")
    for source in IMAGENET.values():
        files[f"/mirror/{source.name}"] = files.pop(f"/models/{source.name}")
    files["/mirror/a%20b.tgz"] = published.tar
    del files["/records/caltech-101.zip"]
    mirror = f"{published.server.url}/mirror"
    done = here(f"archive={mirror}/a b.tgz", f"splits={mirror}/", f"weights_from={mirror}")
    assert done.status == 0, done.err
    assert {path.rpartition("/")[0] for path in published.paths} == {"/mirror"}


def test_an_archive_put_into_the_data_folder_is_used_and_stays(
    here: Here, place: Path, published: Published
) -> None:
    (place / "data").mkdir(parents=True)
    shutil.copy(published.folder / "caltech-101.zip", place / "data")
    assert here().status == 0
    assert "/records/caltech-101.zip" not in published.paths
    assert (place / "data" / "caltech-101.zip").is_file()


def test_an_archive_fetched_by_a_command_that_was_killed_then_is_used_and_goes(
    here: Here, place: Path, published: Published
) -> None:
    (place / "data").mkdir(parents=True)
    shutil.copy(published.folder / "caltech-101.zip", place / "data" / FETCHED_ARCHIVE)
    assert here().status == 0
    assert "/records/caltech-101.zip" not in published.paths
    assert not (place / "data" / FETCHED_ARCHIVE).exists()


def test_another_archive_is_refused_and_with_its_hash_taken(here: Here, place: Path, published: Published) -> None:
    other = zip_of(tar_of({**image_files(place / "none"), f"{IMAGES}/ant/image_0001.jpg": b"no picture"}))
    archive = published.folder / "other.zip"
    archive.write_bytes(other)
    done = here(f"archive={archive}", "weights=none")
    assert done.status == 2
    assert f"{archive} is another file: its hash is md5:{hashlib.md5(other).hexdigest()}, not md5:" in done.err
    assert "say archive_hash= if another archive is meant" in done.err
    assert not (place / "data" / IMAGES).exists()
    assert (place / "data" / "train.txt").is_file()

    done = here(f"archive={archive}", f"archive_hash=sha256:{hashlib.sha256(other).hexdigest()}", "weights=none")
    assert done.status == 2
    assert f"archive {archive} has no ant/image_0002.jpg, which {place}/data/train.txt line 2 names" in done.err
    assert not (place / "data" / IMAGES).exists()


def test_a_wrong_file_from_the_server_is_removed(here: Here, place: Path, published: Published) -> None:
    published.server.files["/records/caltech-101.zip"] = b"<html>please log in</html>"
    done = here("weights=none")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "error: caltech-101.archive cannot be fetched from http://127.0.0.1:" in done.err
    assert "26 bytes came that are another file: its hash is md5:" in done.err
    assert f"put it into {place}/data and give the same command again" in done.err
    assert sorted(path.name for path in (place / "data").iterdir()) == ["test.txt", "train.txt"]


@pytest.mark.parametrize("lost", ["/course/test.txt", "/records/caltech-101.zip", "/models/"])
def test_what_can_be_had_is_had_and_the_rest_later(
    lost: str, here: Here, place: Path, published: Published
) -> None:
    files = published.server.files
    kept = {path: files.pop(path) for path in list(files) if path.startswith(lost)}
    done = here()
    assert done.status == 2
    assert "the same command goes on with what is missing" in done.out
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
    assert all(line.startswith("error: ") and "cannot be fetched from https://" in line for line in lines)
    assert f"put the course's train.txt into {tmp_path / 'data'}, or say splits=" in lines[0]
    assert f"put it into {tmp_path / 'data'} and give the same command again; archive= takes it" in lines[2]
    assert f"put it into the offline cache {tmp_path / 'no-torch-home' / 'hub' / 'checkpoints'}" in lines[3]
    assert "missing: train.txt, test.txt, images, weights of alexnet, weights of resnet18, packs;" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_killed_command_goes_on_where_it_was(
    prepare: Command, server: FileServer, caltech101: Path, tmp_path: Path
) -> None:
    data = small_data_set(caltech101, tmp_path / "data")
    images = image_files(data)
    shutil.rmtree(data / IMAGES)
    content = zip_of(tar_of(images))
    server.files["/a.zip"] = content
    server.hold.clear()
    words = (
        "profile=local", f"data={data}", "weights=none", f"packs={tmp_path / 'packs'}",
        f"archive={server.url}/a.zip", f"archive_hash=sha256:{hashlib.sha256(content).hexdigest()}",
    )  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "jobs/prepare.py"), *words], env={**os.environ, **NO_NETWORK}
    )
    part = data / f"{FETCHED_ARCHIVE}.part"
    until(lambda: part.exists() and part.stat().st_size == len(content) // 2, 60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.hold.set()
    done = prepare(*words)
    assert done.returncode == 0, done.stderr
    assert [asked.range for asked in server.asked] == [None, f"bytes={len(content) // 2}-"]
    assert image_files(data) == images


def test_two_commands_at_once_fetch_everything_once(server: FileServer, caltech101: Path, tmp_path: Path) -> None:
    data = small_data_set(caltech101, tmp_path / "data")
    images = image_files(data)
    shutil.rmtree(data / IMAGES)
    content = zip_of(tar_of(images))
    server.files["/a.zip"] = content
    server.hold.clear()
    words = (
        "profile=local", f"data={data}", "weights=none", f"packs={tmp_path / 'packs'}",
        f"archive={server.url}/a.zip", f"archive_hash=sha256:{hashlib.sha256(content).hexdigest()}",
    )  # fmt: skip
    command = [sys.executable, str(CHECKOUT / "jobs/prepare.py"), *words]
    both = [
        subprocess.Popen(command, env={**os.environ, **NO_NETWORK}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    until(lambda: bool(server.asked), 60)
    time.sleep(1)
    server.hold.set()
    output = "".join(child.communicate(timeout=120)[0] for child in both)
    assert [child.returncode for child in both] == [0, 0]
    assert len(server.asked) == 1
    assert output.count("another process is fetching it; waiting") == 1
    assert output.count("packed ") == 4
    assert image_files(data) == images


def test_what_is_missing_is_told_by_names_alone(here: Here, place: Path) -> None:
    wanted = Wanted(place / "data", place / "packs")
    names = ["train.txt", "test.txt", "images", "weights of alexnet", "weights of resnet18", "packs"]
    assert [item.name for item in missing_items(wanted)] == names
    assert here().status == 0
    assert missing_items(wanted) == []
    path = place / "torch" / "hub" / "checkpoints" / IMAGENET["alexnet"].name
    path.unlink()
    for file in (place / "packs").glob("resized-*.u8"):
        file.unlink()
    assert [(item.name, item.state) for item in missing_items(wanted)] == [
        ("weights of alexnet", "to fetch"),
        ("pack: 6 images of train (resized)", "to make"),
    ]
    assert [item.name for item in missing_items(replace(wanted, networks=()))] == [
        "pack: 6 images of train (resized)"
    ]


def test_images_of_which_some_are_missing_are_left_alone(here: Here, place: Path, published: Published) -> None:
    assert here("weights=none").status == 0
    gone = place / "data" / IMAGES / "bass" / "image_0002.jpg"
    gone.unlink()
    before = snapshot(place / "data")
    published.server.asked.clear()
    done = here("weights=none")
    assert done.status == 2
    assert "train.txt line 6 names bass/image_0002.jpg, which is not in" in done.err
    assert f"if {place}/data/{IMAGES} is moved away, the same command unpacks it anew" in done.err
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
        == f"error: {path} does not have the hash its name gives (damaged?); delete it and fetch it again\n"
    )
    path.unlink()
    done = here()
    assert done.states == ["there"] * 3 + ["fetched"] + ["there"] * 5


def test_a_dry_run_writes_and_asks_nothing(here: Here, place: Path, published: Published) -> None:
    done = here("dry_run=true")
    assert done.status == 0
    assert done.states == ["to fetch"] * 5 + ["to make"]
    assert f"from {published.server.url}/records/caltech-101.zip" in done.out
    assert published.server.asked == []
    assert not place.exists()


def test_split_files_of_ones_own_stay(here: Here, place: Path) -> None:
    (place / "data").mkdir(parents=True)
    (place / "data" / "train.txt").write_text("ant/image_0001.jpg\nant/image_0002.jpg\n")
    done = here("weights=none")
    assert done.status == 2  # the published test.txt names classes that this one does not
    assert "class 'bass' has no image in train.txt" in done.err
    (place / "data" / "test.txt").write_text("ant/image_0003.jpg\n")
    done = here("weights=none")
    assert done.status == 0, done.err
    assert "(the course's)" not in done.out
    assert (place / "data" / "train.txt").read_text() == "ant/image_0001.jpg\nant/image_0002.jpg\n"


def test_one_networks_weights_into_the_profiles_cache(here: Here, place: Path, tmp_path: Path) -> None:
    profile = tmp_path / "mine.yaml"
    profile.write_text(f"executor: local\ntorch_home: {tmp_path}/theirs\n")
    assert here("weights=resnet18", f"profile={profile}").status == 0
    (file,) = (tmp_path / "theirs" / "hub" / "checkpoints").iterdir()
    assert file.name == IMAGENET["resnet18"].name
    assert not (place / "torch").exists()


def test_a_data_set_on_a_disk_that_may_only_be_read_is_fine(
    here: Here, caltech101: Path, small_disk: Disk
) -> None:
    data = small_data_set(caltech101, small_disk.path / "data")
    small_disk.change("ro")
    done = here(f"data={data}")
    assert done.status == 0, done.err
    assert done.states == ["there"] * 3 + ["fetched"] * 2 + ["made"] * 4


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
    assert [asked.range for asked in server.asked] == [None, "bytes=50000000-"]
    assert read_data_set(data).fingerprint == read_data_set(caltech101).fingerprint
    assert image_files(data) == image_files(caltech101)
    server.asked.clear()
    start = time.perf_counter()
    assert prepare(*words).returncode == 0
    record_property("seconds_again", round(time.perf_counter() - start, 1))
    assert server.asked == []


def test_paths_that_cannot_be(prepare: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = prepare("profile=local", "weights=none", f"data={tmp_path / 'file'}", f"splits={tmp_path}")
    assert done.returncode == 2
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert (tmp_path / "file").read_text() == "mine"
    one_line_error(prepare("profile=local", "data=~nobody_of_this_name/x"), "; name another path")
