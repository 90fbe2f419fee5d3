"""A generated stand-in for Caltech-101 and for the ImageNet weights, so that everything runs without them.

    python -m caltech_exp.standin FOLDER            data set into FOLDER
    python -m caltech_exp.standin FOLDER weights    and untrained weights into FOLDER/weights

Neither is what it stands in for: pictures are coloured noise around one pattern per class, weights are random.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from caltech_exp.cli import UserError, run_command_line
from caltech_exp.data.splits import BACKGROUND, IMAGES, STAND_IN_MARK
from caltech_exp.files import user_path

CLASSES = (
    "Faces", "Faces_easy", "Leopards", "Motorbikes", "accordion", "airplanes", "anchor", "ant", "barrel", "bass",
    "beaver", "binocular", "bonsai", "brain", "brontosaurus", "buddha", "butterfly", "camera", "cannon",
    "car_side", "ceiling_fan", "cellphone", "chair", "chandelier", "cougar_body", "cougar_face", "crab",
    "crayfish", "crocodile", "crocodile_head", "cup", "dalmatian", "dollar_bill", "dolphin", "dragonfly",
    "electric_guitar", "elephant", "emu", "euphonium", "ewer", "ferry", "flamingo", "flamingo_head", "garfield",
    "gerenuk", "gramophone", "grand_piano", "hawksbill", "headphone", "hedgehog", "helicopter", "ibis",
    "inline_skate", "joshua_tree", "kangaroo", "ketch", "lamp", "laptop", "llama", "lobster", "lotus", "mandolin",
    "mayfly", "menorah", "metronome", "minaret", "nautilus", "octopus", "okapi", "pagoda", "panda", "pigeon",
    "pizza", "platypus", "pyramid", "revolver", "rhino", "rooster", "saxophone", "schooner", "scissors",
    "scorpion", "sea_horse", "snoopy", "soccer_ball", "stapler", "starfish", "stegosaurus", "stop_sign",
    "strawberry", "sunflower", "tick", "trilobite", "umbrella", "watch", "water_lilly", "wheelchair", "wild_cat",
    "windsor_chair", "wrench", "yin_yang",
)  # fmt: skip
"""The 101 categories of Caltech-101, in label order."""

COMMON = {"airplanes": 30, "Motorbikes": 30, "Faces": 18, "Faces_easy": 18}
"""Images of the largest classes; every other class gets 4. As unbalanced as the original, in miniature."""
IMAGES_OF_OTHERS = 4


def write_stand_in(folder: Path) -> None:
    """Write images and split files in the layout of Caltech-101 into `folder`, always the same.

    The mark that says what it is comes first, the split files last: an interrupted folder is never taken
    for a whole one, and is written again.
    """
    if (folder / STAND_IN_MARK).exists() and (folder / "test.txt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAND_IN_MARK).write_text("Generated images in the layout of Caltech-101; not Caltech-101.\n")
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for label, name in enumerate((*CLASSES, BACKGROUND)):
        (folder / IMAGES / name).mkdir(parents=True, exist_ok=True)
        pattern = _pattern(label)
        for number in range(1, COMMON.get(name, IMAGES_OF_OTHERS) + 1):
            path = f"{name}/image_{number:04d}.jpg"
            random = np.random.default_rng([label, number])
            _picture(pattern, random).save(folder / IMAGES / path, quality=85)
            splits["test" if number % 3 == 0 else "train"].append(path)
    for split, paths in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))


def _pattern(label: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A coarse colour pattern of a class: 6 x 9 x 3 from 0 to 255."""
    return np.random.default_rng(label).uniform(0, 255, (6, 9, 3))


def _picture(
    pattern: np.ndarray[tuple[int, ...], np.dtype[np.float64]], random: np.random.Generator
) -> Image.Image:
    """The pattern with noise, about 300 x 200 pixels as the original's average."""
    noisy = np.clip(pattern + random.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)
    size = (int(random.integers(260, 341)), int(random.integers(180, 241)))
    return Image.fromarray(noisy).resize(size, Image.Resampling.BICUBIC)


def write_stand_in_weights(folder: Path) -> None:
    """Write alexnet.pth and resnet18.pth, untrained, 1000-way, as torchvision's weight files are laid out."""
    import torch

    from caltech_exp.models.networks import NETWORKS

    folder.mkdir(parents=True, exist_ok=True)
    for name, network in NETWORKS.items():
        path = folder / f"{name}.pth"
        if path.exists():
            continue
        torch.manual_seed(0)
        temporary = path.with_suffix(".tmp")
        torch.save(network.build().state_dict(), temporary)
        temporary.replace(path)


def main(argv: Sequence[str]) -> int:
    """Write what is missing. Raises UserError for other words, or for a folder that cannot be written."""
    if len(argv) not in (1, 2) or list(argv[1:]) not in ([], ["weights"]):
        raise UserError("python -m caltech_exp.standin takes FOLDER or FOLDER weights; give one of them")
    folder = user_path(argv[0], "FOLDER")
    try:
        write_stand_in(folder)
        print(f"stand-in data set: {folder}")
        if argv[1:]:
            write_stand_in_weights(folder / "weights")
            print(f"stand-in weights: {folder / 'weights'}")
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); name another folder"
        ) from None
    return 0


if __name__ == "__main__":
    run_command_line(main, __doc__ or "")
