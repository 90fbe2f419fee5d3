"""python jobs/prepare.py: decode the data set once, on the login node, for every later run.

Without it the first run does the same, under a lock, while the others wait. `--help` lists the options.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # this checkout, whichever one is installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic import BaseModel, ConfigDict, Field
from tabulate import tabulate

from caltech_exp.arguments import read_options, run_command_line, usage
from jobs.cluster import default_profile
from jobs.preflight import check_splits, find_data
from jobs.profiles import load_profile, packs_folder


class PrepareOptions(BaseModel):
    """What `jobs/prepare.py` takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field("", description="the Caltech-101 folder; left out: $CALTECH101_ROOT or the profile's")
    profile: str = Field("", description="name in slurm/profiles or path; left out: Slurm, or this machine")
    packs: str = Field("", description="folder of decoded images; left out: the profile's, or the user's cache")
    max_images: int = Field(0, ge=0, description="images of each of training, validation and test set; 0 for all")


USAGE = usage(
    "python jobs/prepare.py [option=value ...]\n\n"
    "Decodes and resizes the images of each split into one file that all runs map; what is there is verified.",
    PrepareOptions,
)


def main(argv: Sequence[str]) -> int:
    """Make what is missing and list what is there. Raises UserError for anything the user can mend."""
    options = read_options(PrepareOptions, argv)
    profile = load_profile(options.profile or default_profile())
    data = find_data(options.data, profile)
    check_splits(data)
    folder = packs_folder(options.packs, profile)
    # Packs need torchvision's transforms, which take seconds to import: mistakes are told before.
    from caltech_exp.pack_index import ALL_PACKS, split_contents
    from caltech_exp.packs import shared_pack

    rows = []
    for split, layout in ALL_PACKS:
        pack = shared_pack(folder, split_contents(data, split, options.max_images, layout))
        rows.append((split, layout, f"{len(pack.heights):,}", f"{pack.pixels.numel() / 1e6:,.0f} MB", pack.path))
    print(tabulate(rows, headers=("split", "layout", "images", "size", "file"), disable_numparse=True))
    return 0


if __name__ == "__main__":
    run_command_line(main, USAGE)
