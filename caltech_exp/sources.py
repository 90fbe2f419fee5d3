"""Where everything comes from that is not part of this suite: URLs, sizes and hashes, each with its origin."""

from dataclasses import dataclass

from caltech_exp.digests import Digest


@dataclass(frozen=True)
class Source:
    """A file of somebody else's: its name, where it is published, its size in bytes and its hash.

    The size is what to expect on the disk and on the network; only the hash decides.
    """

    name: str
    url: str
    size: int
    digest: Digest


ARCHIVE = Source(
    "caltech-101.zip",
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    137_400_000,
    Digest("md5", "3138e1922a9193bfa496528edbbc45d0"),
)
"""Caltech-101 as CaltechDATA publishes it (record mzrjq-6wc02, doi 10.22002/D1.20086).

URL and MD5 are also those of torchvision.datasets.Caltech101, which a test compares; the record gives the size to
0.1 MB. It holds INNER_ARCHIVE and the annotations.
"""

INNER_ARCHIVE = Source(
    "101_ObjectCategories.tar.gz",
    ARCHIVE.url,
    131_740_031,
    Digest("md5", "b224c7392d521a49829488ab0f1120d9"),
)
"""The images alone, as the data set was published before 2022.

MD5 from the torchvision of that time; size as fastai's list of data sets gives it.
"""

_COURSE = "https://raw.githubusercontent.com/MachineLearning2020/Homework2-Caltech101"
_COURSE_COMMIT = "cb7946ed907cfc19c9b1daf5bb2a0aefcbd8abb3"

SPLITS = (
    Source(
        "train.txt",
        f"{_COURSE}/{_COURSE_COMMIT}/train.txt",
        148_985,
        Digest("sha256", "897b435d740faa7ae7595816d00c6cb1621120e0e15759658ea716234519cf09"),
    ),
    Source(
        "test.txt",
        f"{_COURSE}/{_COURSE_COMMIT}/test.txt",
        74_524,
        Digest("sha256", "16b3dc245b7ac34c87cca678f81bf24126aa5a67c2ab0045899f8a6282949cb1"),
    ),
)
"""The course's split files, from its public repository at a fixed commit; hashes of the files the report used."""

IMAGENET = {
    "alexnet": Source(
        "alexnet-owt-7be5be79.pth",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        244_408_911,
        Digest("sha256", "7be5be79"),
    ),
    "resnet18": Source(
        "resnet18-f37072fd.pth",
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        46_830_571,
        Digest("sha256", "f37072fd"),
    ),
}
"""torchvision's IMAGENET1K_V1 weights by network.

URLs as in its enums, which a test compares; the hash is the part of the SHA-256 that the name ends in, all that
torchvision gives.
"""
