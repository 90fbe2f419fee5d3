"""python jobs/prepare.py: fetch what runs need (data set, ImageNet weights) and decode the images for all runs.

Run it on the login node, which has a network. Without it the first run decodes the images, under a lock, while the
others wait.
"""

import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from tabulate import tabulate

from caltech_exp.cli import EXIT_USER_ERROR, Options, read_options
from caltech_exp.data.download import IMAGENET, Origin, parse_digest, read_origin
from caltech_exp.data.splits import SplitSeed, TestShare, make_split
from caltech_exp.executors.slurm_queries import default_profile
from caltech_exp.profiles.paths import data_folder, packs_folder, use_torch_home
from caltech_exp.profiles.profile import Profile, load_profile, take_profile_words
from caltech_exp.submission.assets import AssetSpec, AssetStatus, check_assets, prepare
from caltech_exp.usage import usage


class PrepareOptions(Options):
    data: str = Field(
        "",
        description="the Caltech-101 folder, made if missing, or one of your own (docs/studies.md); default: "
        "$CALTECH101_ROOT, otherwise the profile's",
    )
    split: TestShare = None
    split_seed: SplitSeed = 0
    archive: str = Field(
        "",
        description="path or URL of caltech-101.zip or its 101_ObjectCategories.tar.gz; default: one in the data "
        "folder, otherwise CaltechDATA's",
    )
    archive_hash: str = Field("", description="sha256:... or md5:... of an archive that is not the published one")
    splits: str = Field(
        "", description="folder or base URL of train.txt and test.txt; default: the course's repository"
    )
    weights: Literal["all", "none", "alexnet", "resnet18"] = Field(
        "all", description="which ImageNet weights to fetch: all, none, alexnet or resnet18"
    )
    weights_from: str = Field(
        "", description="folder or base URL of torchvision's weight files; default: torchvision's server"
    )
    packs: str = Field(
        "", description="folder of decoded images; default: the profile's, otherwise the user's cache"
    )
    max_images: int = Field(
        0,
        ge=0,
        description="decode only this many images of each of the training, validation and test sets; 0: all",
    )
    profile: str = Field(
        "", description="name in slurm/profiles, or a path; default: slurm where sbatch exists, otherwise local"
    )
    dry_run: bool = Field(False, description="show what is present and what is missing; write nothing")


USAGE = usage(
    "python jobs/prepare.py [option=value ...]\n\n"
    "Fetches the data set, its split files and the ImageNet weights, and decodes the images once for all runs.\n"
    "What is present is verified and left alone. Run the same command again to continue after an interruption.\n\n"
    "  python jobs/prepare.py data=/path/to/caltech101",
    PrepareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Prepare everything and list it; returns 2 if anything is missing."""
    profile_words, words = take_profile_words(argv)
    options = read_options(PrepareOptions, words)
    profile = load_profile(options.profile or default_profile(), profile_words)
    use_torch_home(profile)
    spec = read_spec(options, profile)
    assets = check_assets(spec) if options.dry_run else prepare(spec)
    print(_table(assets))
    missing = [asset.name for asset in assets if asset.state == "missing"]
    if missing:
        print(f"\nmissing: {', '.join(missing)}; run the same command again to fetch the rest", flush=True)
    for problem in dict.fromkeys(asset.problem for asset in assets if asset.problem):
        print(f"error: {problem}", file=sys.stderr)
    return EXIT_USER_ERROR if missing else 0


def read_spec(options: PrepareOptions, profile: Profile) -> AssetSpec:
    """The assets that the options and the profile ask for."""
    return AssetSpec(
        data=data_folder(options.data, profile),
        packs=packs_folder(options.packs, profile),
        split=make_split(options.split, options.split_seed),
        max_images=options.max_images,
        networks={"all": tuple(IMAGENET), "none": ()}.get(options.weights, (options.weights,)),
        archive=_origin(options.archive, "archive"),
        archive_digest=parse_digest(options.archive_hash, "archive_hash") if options.archive_hash else None,
        splits=_origin(options.splits, "splits"),
        weights=_origin(options.weights_from, "weights_from"),
    )


def _origin(text: str, key: str) -> Origin | None:
    return read_origin(text, key) if text else None


def _table(assets: Sequence[AssetStatus]) -> str:
    rows = [
        (
            asset.name,
            asset.state,
            asset.path,
            "" if asset.size is None else f"{asset.size / 1e6:,.1f} MB",
            asset.digest or f"from {asset.source}",
        )
        for asset in assets
    ]
    return tabulate(rows, headers=("item", "state", "path", "size", "hash"), disable_numparse=True)
