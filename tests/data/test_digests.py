"""Hashes given on a command line, and hashes of files."""

import hashlib
from pathlib import Path

import pytest

from caltech_exp.cli import UserError
from caltech_exp.data.download import Digest, file_digest, parse_digest


@pytest.mark.parametrize("text", ["abc", "sha256:12", "sha1:" + "0" * 40, "md5:" + "g" * 32, "md5:" + "0" * 64])
def test_malformed_hash_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="give sha256: and 64 hexadecimal digits, as sha256sum prints, or md5:"):
        parse_digest(text, "archive_hash")


def test_hash_may_be_upper_case() -> None:
    assert parse_digest(" MD5:" + "AB" * 16, "archive_hash") == Digest("md5", "ab" * 16)


def test_digest_of_few_digits_matches_their_hash(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    found = file_digest(tmp_path / "file", "sha256")
    assert found.digits == hashlib.sha256(b"content").hexdigest()
    assert Digest("sha256", found.digits[:8]).matches(found)
    assert not Digest("sha256", "0" * 8).matches(found)
    assert not Digest("md5", found.digits[:8]).matches(found)
