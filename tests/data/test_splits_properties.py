"""Split files: whatever they contain, samples are images inside the data folder."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from caltech_exp.data.splits import IMAGES, DataSet, read_data_set
from tests.tools.bad_inputs import TEXTS, Reader, damaged_bytes, damaged_text, generated

NAMES = ("ant/1.jpg", "ant/2.jpg", "bee/ü 1.jpg", "bee/2.jpg", "BACKGROUND_Google/1.jpg")
TEMPTATIONS = (
    "../secret.jpg", "ant/../../../secret.jpg", "ant/link.jpg", "link/secret.jpg", "ant/loop.jpg", "ant/inner",
    "ant/inner/1.jpg", "ant", "ant/", "/ant/1.jpg", "./1.jpg", "ant/.", "ant//1.jpg", "ant/fifo", "ANT/1.jpg",
    "ant\\1.jpg", "ant/missing.jpg", "BACKGROUND_Google/../../secret.jpg",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of four images with links, a pipe and a folder among them, and a secret beside it."""
    folder = tmp_path / "data"
    for name in NAMES:
        (folder / IMAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / IMAGES / name).write_bytes(b"image")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    ants = folder / IMAGES / "ant"
    (ants / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (ants / "loop.jpg").symlink_to("loop.jpg")
    (ants / "good.jpg").symlink_to("1.jpg")
    (ants / "inner").mkdir()
    (folder / IMAGES / "link").symlink_to(tmp_path)
    return folder


def stays_inside(data: DataSet) -> bool:
    """Whether every sample is a file in the image folder, named once in its split, with its class's label."""
    home = (data.root / IMAGES).resolve()
    for samples in (data.train_val, data.test):
        assert len({sample.path for sample in samples}) == len(samples)
        for sample in samples:
            file = (home / sample.path).resolve()
            assert file.is_relative_to(home)
            assert file.is_file()
            assert data.classes[sample.label] == sample.path.split("/")[0]
    return True


def test_any_split_file_is_read_or_refused(folder: Path) -> None:
    """600 pairs of split files: damaged lines, damaged bytes and lines of any text among sound ones."""
    reader = Reader(folder.parent)
    words = st.sampled_from(NAMES + TEMPTATIONS) | damaged_text(st.sampled_from(NAMES)) | st.sampled_from(TEXTS)
    lines = st.permutations([*NAMES, "ant/good.jpg"]) | st.lists(words | st.text(max_size=20), max_size=5)
    texts = st.builds(lambda lines, end: end.join(lines), lines, st.sampled_from(("\n", "\r\n", "\r", "\n\n")))
    sound = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))

    @generated(600)
    @given(sound | damaged_bytes(sound), sound)
    @example(b"ant/link.jpg\n", b"ant/1.jpg\n")
    @example(b"link/secret.jpg\n", b"ant/1.jpg\n")
    @example(b"ant/1.jpg\nant/1.jpg\n", b"ant/1.jpg\n")
    @example(b"ant/1.jpg\n" + b"x" * 10**6 + b"/1.jpg\n", b"ant/1.jpg\n")
    def split_files(train: bytes, test: bytes) -> None:
        (folder / "train.txt").write_bytes(train)
        (folder / "test.txt").write_bytes(test)
        data = reader.read(lambda: read_data_set(folder))
        assert data is None or stays_inside(data)

    split_files()
    assert reader.refused >= 400
