"""The sources of downloads agree with what their publishers say."""

import inspect
from pathlib import Path

from torchvision.datasets import Caltech101

from caltech_exp.data.download import ARCHIVE, SPLITS, file_digest


def test_archive_is_that_of_torchvision() -> None:
    code = inspect.getsource(Caltech101.download)
    assert f'"{ARCHIVE.url}"' in code
    assert f'md5="{ARCHIVE.digest.digits}"' in code


def test_split_files_are_those_of_the_report(caltech101: Path) -> None:
    for source in SPLITS:
        path = caltech101 / source.name
        assert path.stat().st_size == source.size
        assert file_digest(path, "sha256") == source.digest
