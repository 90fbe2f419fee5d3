"""jobs/prepare.py where there is no data set yet: the archive, the split files and the weights from a server."""

import hashlib
import shutil
from pathlib import Path

import pytest

from caltech_exp.data.download import IMAGENET
from caltech_exp.data.splits import IMAGES, read_data_set
from caltech_exp.submission.assets import FETCHED_ARCHIVE
from tests.tools.archives import image_files, tar_of, zip_of
from tests.tools.bad_inputs import snapshot
from tests.tools.published import CLASSES, EACH, Here, Published
from tests.tools.shapes import SHAPES, write_shapes


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
    published.server.requests.clear()
    again = here()
    assert (again.status, again.err) == (0, "")
    assert again.states == ["present"] * 9
    assert published.server.requests == []
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
    assert published.server.requests == []
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
    assert "give the hash of your archive with archive_hash=" in done.err
    assert not (place / "data" / IMAGES).exists()
    assert (place / "data" / "train.txt").is_file()

    done = here(f"archive={archive}", f"archive_hash=sha256:{hashlib.sha256(other).hexdigest()}", "weights=none")
    assert done.status == 2
    assert f"archive {archive} has no ant/image_0002.jpg, which {place}/data/train.txt line 2 names" in done.err
    assert not (place / "data" / IMAGES).exists()


def test_a_dry_run_writes_and_asks_nothing(here: Here, place: Path, published: Published) -> None:
    done = here("dry_run=true")
    assert done.status == 0
    assert done.states == ["to fetch"] * 5 + ["to make"]
    assert f"from {published.server.url}/records/caltech-101.zip" in done.out
    assert published.server.requests == []
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


def test_own_data_is_packed_and_nothing_is_downloaded_into_it(
    here: Here, place: Path, published: Published
) -> None:
    data = write_shapes(place / "data", 4)
    for name, numbers in (("train.txt", (1, 2)), ("test.txt", (3, 4))):
        (data / name).write_text("".join(f"{shape}/{number:02d}.png\n" for shape in SHAPES for number in numbers))
    before = snapshot(data)
    done = here("weights=none")
    assert (done.status, done.err, done.states) == (0, "", ["made"] * 4)
    assert snapshot(data) == before
    assert published.server.requests == []
