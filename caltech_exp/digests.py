"""Hashes that files are known by: SHA-256, or MD5 where their publisher gives no better."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caltech_exp.errors import UserError, shown

_HEX_DIGITS = {"sha256": 64, "md5": 32}


@dataclass(frozen=True)
class Digest:
    """A hash in hexadecimal digits; of a file whose whole hash is not known, the first digits."""

    algorithm: Literal["sha256", "md5"]
    digits: str

    def fits(self, found: "Digest") -> bool:
        """Whether a file of the hash `found` is the one meant."""
        return found.algorithm == self.algorithm and found.digits.startswith(self.digits)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"


def file_digest(path: Path, algorithm: Literal["sha256", "md5"]) -> Digest:
    """The whole hash of a file. Raises OSError."""
    with path.open("rb") as file:
        # Clusters in FIPS mode have MD5 only for what is not about security.
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return Digest(algorithm, found.hexdigest())


def parse_digest(text: str, key: str) -> Digest:
    """`sha256:<64 hex digits>` or `md5:<32>`, given as `key=text`. Raises UserError for anything else."""
    match = re.fullmatch(r"(sha256|md5):([0-9a-f]+)", text.strip().lower())
    if match and len(match[2]) == _HEX_DIGITS[match[1]]:
        return Digest("sha256" if match[1] == "sha256" else "md5", match[2])
    raise UserError(
        f"{key}={shown(text)}: give sha256: and 64 hexadecimal digits, as sha256sum prints, or md5: and 32"
    )
