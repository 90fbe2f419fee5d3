"""A data set of the user's own: folders of classes with split files, or split at random."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.data.splits import IMAGES, LEAST_IMAGES, DataSet, Split, check_images, is_own, read_data_set
from tests.tools.shapes import SHAPES, write_shapes

THIRD = Split(test=0.3)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("own") / "shapes", 10)


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(shapes, tmp_path / "data"))


def paths(data: DataSet) -> list[list[str]]:
    return [[sample.path for sample in split] for split in (data.train, data.val, data.test)]


def write_lists(folder: Path) -> None:
    """Split files: of each class the first seven images for training and validation, three for the test."""
    for name, numbers in (("train.txt", range(1, 8)), ("test.txt", range(8, 11))):
        lines = [f"{shape}/{number:02d}.png\n" for shape in SHAPES for number in numbers]
        (folder / name).write_text("".join(lines))


def test_random_split_holds_every_class_in_every_part(shapes: Path) -> None:
    data = read_data_set(shapes, THIRD)
    assert data.classes == tuple(sorted(SHAPES))
    assert (len(data.train_val), len(data.test)) == (35, 15)
    for part in (data.train, data.val, data.test):
        assert {sample.label for sample in part} == set(range(5))
    assert len({path for part in paths(data) for path in part}) == 50
    assert check_images(data) == []


def test_random_split_depends_on_the_seed_and_the_names_alone(shapes: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(shapes) for path in shapes.rglob("*.png"))
    for name in reversed(names):  # another order of the directory, another place
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shapes / name, tmp_path / "b" / name)
    here, there = (read_data_set(root, THIRD) for root in (shapes, tmp_path / "b"))
    assert paths(here) == paths(there)
    assert here.fingerprint == there.fingerprint
    other = read_data_set(shapes, Split(test=0.3, seed=1))
    assert paths(other) != paths(here)
    assert other.fingerprint != here.fingerprint


def test_one_more_image_moves_few_others(folder: Path) -> None:
    before = {sample.path for sample in read_data_set(folder, THIRD).test}
    shutil.copy(folder / "ring" / "01.png", folder / "ring" / "99.png")
    after = {sample.path for sample in read_data_set(folder, THIRD).test}
    assert len(before ^ after) <= 2


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_extreme_shares_leave_every_part_an_image_of_each_class(shapes: Path, share: float) -> None:
    data = read_data_set(shapes, Split(test=share))
    for part in (data.train, data.val, data.test):
        assert {sample.label for sample in part} == set(range(5))


def test_files_that_are_no_images_are_left_out_of_a_random_split(folder: Path) -> None:
    before = read_data_set(folder, THIRD)
    for name in ("ring/.DS_Store", "ring/._01.png", "ring/Thumbs.db", "README.md", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    assert read_data_set(folder, THIRD) == before


def test_split_files_beside_the_classes_are_read(folder: Path) -> None:
    write_lists(folder)
    data = read_data_set(folder)
    assert data.is_own
    assert data.classes == tuple(sorted(SHAPES))
    assert (len(data.train), len(data.val), len(data.test)) == (18, 17, 15)
    assert data.settings == {"classes": 5, "data_set": data.fingerprint}


def test_caltech_101_is_not_ones_own(stand_in: Path, shapes: Path, tmp_path: Path) -> None:
    data = read_data_set(stand_in)
    assert not data.is_own
    assert data.settings == {}
    assert not is_own(stand_in, None)
    assert not is_own(tmp_path, None)  # empty: to be prepared
    assert is_own(shapes, THIRD)


def test_images_of_caltech_101_split_at_random_are_another_data_set(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / IMAGES).symlink_to(stand_in / IMAGES)
    data = read_data_set(tmp_path, THIRD)
    assert data.is_own
    assert len(data.classes) == 101  # without the background
    assert data.settings["classes"] == 101


def without_folder(folder: Path) -> None:
    write_lists(folder)
    shutil.rmtree(folder / "ring")


def without_image(folder: Path) -> None:
    write_lists(folder)
    (folder / "ring" / "03.png").unlink()


def without_test_list(folder: Path) -> None:
    write_lists(folder)
    (folder / "test.txt").unlink()


def in_both_splits(folder: Path) -> None:
    write_lists(folder)
    (folder / "test.txt").write_text("line/01.png\n")


def one_class(folder: Path) -> None:
    write_lists(folder)
    for name in ("train.txt", "test.txt"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(line for line in lines if line.startswith("ring")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_folder, r"train\.txt line 22 names ring/01\.png, whose class has no folder in .*make the folder"),
        (without_image, r"train\.txt line 24 names ring/03\.png, which is not in .*; add the image or correct"),
        (without_test_list, r"test\.txt does not exist; write a line class/image\.jpg into it for each image"),
        (in_both_splits, r"test\.txt line 1 names line/01\.png, as train\.txt line 15 does: .*remove one"),
        (one_class, r"has images of one class, and training needs two; give each"),
    ],
)
def test_mistakes_in_split_files_are_named(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder)
    with pytest.raises(UserError, match=message):
        read_data_set(folder)


def few_images(folder: Path) -> None:
    for number in range(LEAST_IMAGES, 11):
        (folder / "line" / f"{number:02d}.png").unlink()


def one_folder(folder: Path) -> None:
    for name in list(SHAPES)[1:]:
        shutil.rmtree(folder / name)


def no_folder(folder: Path) -> None:
    for name in SHAPES:
        shutil.rmtree(folder / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (few_images, r"class .*/line has 2 images, and a random split takes 3 of each; add some or move"),
        (one_folder, r"has images of one class, and training needs two"),
        (no_folder, r"has images of no class, and training needs two"),
        (write_lists, r"split=0\.3: .*/train\.txt exists; leave split= out, or move the file away"),
        (lambda folder: (folder / "ring" / "\udcff.png").write_bytes(b""), r"/ring: a name is not UTF-8; rename"),
    ],
)
def test_mistakes_of_a_random_split_are_named(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder)
    with pytest.raises(UserError, match=message):
        read_data_set(folder, THIRD)


def test_folder_without_lists_and_split_is_told_what_it_needs(shapes: Path) -> None:
    with pytest.raises(UserError, match=r"A data set of your own has train\.txt and test\.txt, or split=0\.3"):
        read_data_set(shapes)


def test_damaged_image_of_a_random_split_is_named_without_a_line(folder: Path) -> None:
    (folder / "ring" / "05.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"damaged image .*/ring/05\.png: .*; restore it$"):
        check_images(read_data_set(folder, THIRD))
