"""python jobs/prepare.py: have everything there that runs need: data set, weights, decoded images.

It is for the login node, which has a network. Without it the first run decodes the images, under a lock, while the
others wait. `--help` lists the options.
"""

import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from tabulate import tabulate

from caltech_exp.cli import EXIT_USER_ERROR, read_options, run_command_line, usage
from caltech_exp.data.download import IMAGENET, Origin, parse_digest, read_origin
from caltech_exp.executors.slurm_queries import default_profile
from caltech_exp.profiles.paths import packs_folder, use_torch_home
from caltech_exp.profiles.profile import Profile, load_profile, take_profile_words
from caltech_exp.submission.assets import Item, Wanted, look, prepare
from caltech_exp.submission.preflight import data_folder


class PrepareOptions(BaseModel):
    """What `jobs/prepare.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(
        "", description="the Caltech-101 folder, made if need be; left out: $CALTECH101_ROOT or the profile's"
    )
    archive: str = Field(
        "", description="caltech-101.zip or its 101_ObjectCategories.tar.gz: path or URL; left out: CaltechDATA's"
    )
    archive_hash: str = Field("", description="sha256:... or md5:... of an archive that is not the published one")
    splits: str = Field(
        "", description="folder or base URL of train.txt and test.txt; left out: the course's repository"
    )
    weights: Literal["all", "none", "alexnet", "resnet18"] = Field(
        "all", description="whose ImageNet weights: all, none, alexnet or resnet18"
    )
    weights_from: str = Field(
        "", description="folder or base URL of torchvision's weight files; left out: torchvision's server"
    )
    packs: str = Field("", description="folder of decoded images; left out: the profile's, or the user's cache")
    max_images: int = Field(
        0, ge=0, description="images of each of training, validation and test set to decode; 0 for all"
    )
    profile: str = Field("", description="name in slurm/profiles or path; left out: Slurm, or this machine")
    dry_run: bool = Field(False, description="show what is there and what would be done; write nothing")


USAGE = usage(
    "python jobs/prepare.py [option=value ...]\n\n"
    "Fetches the data set, its split files and the ImageNet weights, and decodes the images once for all runs.\n"
    "What is there is verified and left as it is; given again, the command goes on with what is missing.",
    PrepareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Have everything there and list it; 2 if anything is missing. Raises UserError for a mistake in the words."""
    profile_words, words = take_profile_words(argv)
    options = read_options(PrepareOptions, words)
    profile = load_profile(options.profile or default_profile(), profile_words)
    use_torch_home(profile)
    wanted = read_wanted(options, profile)
    items = look(wanted) if options.dry_run else prepare(wanted)
    print(_table(items))
    missing = [item.name for item in items if item.state == "missing"]
    if missing:
        print(f"\nmissing: {', '.join(missing)}; the same command goes on with what is missing", flush=True)
    for problem in dict.fromkeys(item.problem for item in items if item.problem):
        print(f"error: {problem}", file=sys.stderr)
    return EXIT_USER_ERROR if missing else 0


def read_wanted(options: PrepareOptions, profile: Profile) -> Wanted:
    """What the options and the profile ask for. Raises UserError for a path, URL or hash that cannot be."""
    return Wanted(
        data=data_folder(options.data, profile),
        packs=packs_folder(options.packs, profile),
        max_images=options.max_images,
        networks={"all": tuple(IMAGENET), "none": ()}.get(options.weights, (options.weights,)),
        archive=_origin(options.archive, "archive"),
        archive_digest=parse_digest(options.archive_hash, "archive_hash") if options.archive_hash else None,
        splits=_origin(options.splits, "splits"),
        weights=_origin(options.weights_from, "weights_from"),
    )


def _origin(text: str, key: str) -> Origin | None:
    return read_origin(text, key) if text else None


def _table(items: Sequence[Item]) -> str:
    rows = [
        (
            item.name,
            item.state,
            item.where,
            "" if item.size is None else f"{item.size / 1e6:,.1f} MB",
            item.digest or f"from {item.source}",
        )
        for item in items
    ]
    return tabulate(rows, headers=("item", "state", "where", "size", "hash"), disable_numparse=True)


if __name__ == "__main__":
    run_command_line(main, USAGE)
