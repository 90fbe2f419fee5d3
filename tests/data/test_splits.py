"""The data folder: what is read, and which errors name what."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from caltech_exp.cli import UserError
from caltech_exp.data.splits import IMAGES, ORIENTATION, DataSet, Sample, check_images, evenly, read_data_set


@pytest.fixture
def folder(stand_in: Path, tmp_path: Path) -> Path:
    """A copy of the stand-in that a test may damage."""
    return Path(shutil.copytree(stand_in, tmp_path / "data"))


def test_real_splits_have_the_sizes_in_the_report(caltech101: Path) -> None:
    data = read_data_set(caltech101)
    assert (len(data.train_val), len(data.test)) == (5784, 2893)
    assert (len(data.train), len(data.val)) == (2892, 2892)
    assert len(data.classes) == 101
    assert {sample.label for sample in data.train_val} == set(range(101))
    assert not data.stand_in


def test_labels_number_the_sorted_classes(caltech101: Path) -> None:
    data = read_data_set(caltech101)
    folders = sorted(path.name for path in (caltech101 / IMAGES).iterdir() if path.name != "BACKGROUND_Google")
    assert list(data.classes) == folders


def test_train_and_validation_are_even_and_odd_positions(stand_in: Path) -> None:
    data = read_data_set(stand_in)
    lines = [line for line in (stand_in / "train.txt").read_text().split() if "BACKGROUND" not in line]
    assert [sample.path for sample in data.train] == lines[::2]
    assert [sample.path for sample in data.val] == lines[1::2]


def test_stand_in_is_marked_and_decodes(stand_in: Path) -> None:
    data = read_data_set(stand_in)
    assert data.stand_in
    assert len(data.classes) == 101
    check_images(data)


def test_fingerprint_depends_on_splits_and_images(folder: Path) -> None:
    before = read_data_set(folder).fingerprint
    assert read_data_set(folder).fingerprint == before
    image = next((folder / IMAGES / "ant").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    assert read_data_set(folder).fingerprint != before


@pytest.mark.parametrize(("most", "labels"), [(0, list(range(10))), (5, [0, 2, 4, 6, 8]), (20, list(range(10)))])
def test_evenly_spaces_the_samples(most: int, labels: list[int]) -> None:
    samples = tuple(Sample(f"c/{i}.jpg", i, i) for i in range(10))
    assert [sample.label for sample in evenly(samples, most)] == labels


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def append(text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / "train.txt").open("a") as file:
            file.write(text)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, r"data folder .* does not exist; set data=DIR or CALTECH101_ROOT"),
        (lambda f: shutil.rmtree(f / IMAGES), r"has no folder 101_ObjectCategories"),
        (lambda f: (f / "test.txt").unlink(), r"split file .*test.txt does not exist"),
        (lambda f: (f / "train.txt").write_text("\n"), r"split file .*train.txt names no images"),
        (lambda f: (f / "train.txt").write_bytes(b"\xff\xfe"), r"split file .*train.txt cannot be read"),
        (
            lambda f: make_pipe(f / "test.txt"),
            r"test.txt cannot be read \(it is a pipe or a device, not a file\); put",
        ),
        (append("ant/image_9999.jpg\n"), r"train.txt line \d+ names ant/image_9999.jpg, which is not in"),
        (append("../secret/image.jpg\n"), r"train.txt line \d+: '../secret/image.jpg' is not of the form"),
        (append("../image.jpg\n"), r"train.txt line \d+: '../image.jpg' is not of the form"),
        (append("/etc/passwd\n"), r"train.txt line \d+: '/etc/passwd' is not of the form"),
        (append("ant/../secret.jpg\n"), r"train.txt line \d+: 'ant/../secret.jpg' is not of the form"),
        (append("ant//image_0001.jpg\n"), r"train.txt line \d+: 'ant//image_0001.jpg' is not of the form"),
        (append("ant/..\\secret.jpg\n"), r"train.txt line \d+: .* is not of the form"),
        (append("ant/\0.jpg\n"), r"train.txt line \d+: .* is not of the form"),
        (
            append("ant/image_0001.jpg\n"),
            r"train.txt line \d+ repeats ant/image_0001.jpg of line \d+; remove one of them",
        ),
        (append("ant/\x1b[2J\u2028x.jpg\n"), r"names ant/\\x1b\[2J\\u2028x.jpg, which is not in"),
        (append("ant/" + "x" * 10**6 + "\n"), r"names ant/x{96}…, which is not in"),
        (append("x" * 300 + "/image.jpg\n"), r"names x{100}…, which is not in"),
    ],
)
def test_broken_data_folder_is_reported(folder: Path, change: Callable[[Path], object], message: str) -> None:
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_data_set(folder)
    assert "\n" not in str(caught.value)


def test_data_folder_not_in_utf_8_is_refused(folder: Path) -> None:
    renamed = folder.rename(folder.parent / os.fsdecode(b"data\xff"))
    with pytest.raises(UserError, match=r"data\\udcff is not UTF-8; rename it"):
        read_data_set(renamed)
    (folder.parent / "link").symlink_to(renamed)
    with pytest.raises(UserError, match="is not UTF-8"):
        read_data_set(folder.parent / "link")


def test_data_folder_that_links_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"data folder .*loop cannot be read \(its links form a loop\)"):
        read_data_set(tmp_path / "loop")


def lead_out(folder: Path, path: str) -> None:
    """Put a link in the place of a file or folder, to its copy outside of the data folder."""
    outside = folder.parent / "outside"
    (folder / IMAGES / path).rename(outside)
    (folder / IMAGES / path).symlink_to(outside)


@pytest.mark.parametrize("path", ["ant", "ant/image_0001.jpg"])
def test_links_out_of_the_data_folder_are_refused(folder: Path, path: str) -> None:
    lead_out(folder, path)
    with pytest.raises(
        UserError, match=r"names ant/image_0001.jpg, which leads out of the data folder to /.*outside"
    ):
        read_data_set(folder)


def test_links_within_the_data_folder_are_followed(folder: Path) -> None:
    before = read_data_set(folder)
    (folder / "elsewhere").mkdir()
    for path in ("ant", "bass/image_0001.jpg"):
        there = folder / "elsewhere" / Path(path).name
        (folder / IMAGES / path).rename(there)
        (folder / IMAGES / path).symlink_to(there)
    assert read_data_set(folder) == before


def test_image_folder_may_be_a_link_to_another_disk(folder: Path) -> None:
    before = read_data_set(folder)
    lead_out(folder, "")
    assert read_data_set(folder) == before


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path.name)])
def test_image_that_is_not_a_file_is_refused(folder: Path, make: Callable[[Path], object]) -> None:
    image = folder / IMAGES / "ant" / "image_0001.jpg"
    image.unlink()
    make(image)
    with pytest.raises(UserError, match=r"names ant/image_0001.jpg, which is not (a file|in)"):
        read_data_set(folder)


@pytest.mark.parametrize(
    "change", [lambda t: "\ufeff" + t, lambda t: t.replace("\n", "\r\n"), lambda t: t.rstrip()]
)
def test_line_ends_and_byte_order_marks_change_nothing(folder: Path, change: Callable[[str], str]) -> None:
    before = read_data_set(folder)
    for name in ("train.txt", "test.txt"):
        (folder / name).write_text(change((folder / name).read_text()), encoding="utf-8", newline="")
    assert read_data_set(folder) == before


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_damaged_image_is_named_with_its_line(folder: Path, content: bytes | None) -> None:
    data = read_data_set(folder)
    victim = data.train_val[17]
    path = folder / IMAGES / victim.path
    path.write_bytes(path.read_bytes()[:600] if content is None else content)
    with pytest.raises(UserError, match=re.escape(f"{victim.path} (train.txt line {victim.line})")):
        check_images(read_data_set(folder))


def replaced(folder: Path, image: Image.Image, kind: str = "PNG", **options: object) -> tuple[DataSet, str]:
    """The data set with this image in place of one of its own, and where it is named."""
    sample = read_data_set(folder).test[17]
    image.save(folder / IMAGES / sample.path, kind, **options)
    return read_data_set(folder), f"{sample.path} (test.txt line {sample.line})"


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP"])
def test_image_with_a_side_below_eight_pixels_is_taken(folder: Path, kind: str) -> None:
    data, _ = replaced(folder, Image.new("RGB", (300, 7)), kind)
    assert check_images(data) == []


UPSIDE_DOWN = Image.Exif()
UPSIDE_DOWN[ORIENTATION] = 3


def frames(count: int) -> dict[str, object]:
    return {"save_all": True, "append_images": [Image.new("RGB", (9, 9), (n, 0, 0)) for n in range(1, count)]}


@pytest.mark.parametrize(
    ("image", "kind", "options", "problem"),
    [
        (Image.new("L", (9000, 9000)), "PNG", {}, "is larger than 67,108,864 pixels"),
        (Image.new("1", (20_000, 20_000)), "PNG", {}, "is larger than 67,108,864 pixels"),
        (Image.new("L", (5, 501)), "JPEG", {}, "has 5 x 501 pixels, one side more than 100 times the other"),
        (Image.new("RGB", (9, 9)), "GIF", frames(3), "has several frames, and training would take the first"),
        (Image.new("I;16", (9, 9)), "PNG", {}, "has more than 8 bits per channel"),
        (Image.new("F", (9, 9)), "TIFF", {}, "has more than 8 bits per channel"),
        (Image.new("RGBA", (9, 9), (1, 2, 3, 0)), "PNG", {}, "has transparent pixels"),
        (Image.new("RGB", (9, 9)), "JPEG", {"exif": UPSIDE_DOWN}, "is turned by its EXIF data only"),
    ],
)
def test_image_that_training_would_change_is_refused(
    folder: Path, image: Image.Image, kind: str, options: dict[str, object], problem: str
) -> None:
    data, place = replaced(folder, image, kind, **options)
    with pytest.raises(UserError) as caught:
        check_images(data)
    assert f"{place} {problem}" in str(caught.value)
    assert str(caught.value).endswith("; replace the image or remove the line")


def test_opaque_alpha_channel_is_taken(folder: Path) -> None:
    data, _ = replaced(folder, Image.new("RGBA", (9, 9), (1, 2, 3, 255)))
    assert check_images(data) == []


def test_any_exception_of_pillow_names_the_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(_image: Image.Image, _mode: str, _size: object) -> None:
        raise ZeroDivisionError

    data = read_data_set(folder)
    monkeypatch.setattr(JpegImageFile, "draft", divide)
    with pytest.raises(UserError, match=r"damaged image .*\(train.txt line 1\): ZeroDivisionError; unpack it"):
        check_images(data)


def test_image_in_both_splits_is_refused_with_its_lines(folder: Path) -> None:
    sample = read_data_set(folder).train[3]
    with (folder / "test.txt").open("a") as file:
        file.write(f"{sample.path}\n")
    line = len((folder / "test.txt").read_text().splitlines())
    with pytest.raises(UserError) as caught:
        read_data_set(folder)
    assert (
        f"test.txt line {line} names {sample.path}, as train.txt line {sample.line} does: an image that is "
        "trained on cannot test; remove one of the lines"
    ) in str(caught.value)


def test_copies_under_another_name_are_told_with_their_lines(folder: Path) -> None:
    data = read_data_set(folder)
    for first, second in zip(data.train[:2], data.test[:2], strict=True):
        shutil.copyfile(data.image_path(first), data.image_path(second))
    (line,) = check_images(read_data_set(folder))
    train, test = data.train[0].line, data.test[0].line
    assert f"under two names: train.txt line {train} and test.txt line {test} (and 1 more); " in line
