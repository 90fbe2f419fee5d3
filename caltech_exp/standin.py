"""Generated stand-ins for Caltech-101 and the ImageNet weights, so that everything runs without downloads.

    python -m caltech_exp.standin FOLDER            write a data set to FOLDER
    python -m caltech_exp.standin FOLDER weights    and untrained weights to FOLDER/weights

The images are noise around one colour pattern per class; the weights are random.
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
"""The categories of Caltech-101, in label order."""

LARGE_CLASSES = {"airplanes": 30, "Motorbikes": 30, "Faces": 18, "Faces_easy": 18}  # unbalanced, as the original
IMAGES_OF_OTHERS = 4


def write_stand_in(folder: Path) -> None:
    """Write the same images and split files, in the layout of Caltech-101, to `folder`."""
    # The mark comes first and the split files last, so that an interrupted folder is written again.
    if (folder / STAND_IN_MARK).exists() and (folder / "test.txt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAND_IN_MARK).write_text("Generated images in the layout of Caltech-101; not Caltech-101.\n")
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for label, name in enumerate((*CLASSES, BACKGROUND)):
        (folder / IMAGES / name).mkdir(parents=True, exist_ok=True)
        pattern = _pattern(label)
        for number in range(1, LARGE_CLASSES.get(name, IMAGES_OF_OTHERS) + 1):
            path = f"{name}/image_{number:04d}.jpg"
            random = np.random.default_rng([label, number])
            _picture(pattern, random).save(folder / IMAGES / path, quality=85)
            splits["test" if number % 3 == 0 else "train"].append(path)
    for split, paths in splits.items():
        (folder / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))


def _pattern(label: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The coarse colour pattern of a class: 6 x 9 x 3, from 0 to 255."""
    return np.random.default_rng(label).uniform(0, 255, (6, 9, 3))


def _picture(
    pattern: np.ndarray[tuple[int, ...], np.dtype[np.float64]], random: np.random.Generator
) -> Image.Image:
    """The pattern with noise, about 300 x 200 pixels, the original's average."""
    noisy = np.clip(pattern + random.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)
    size = (int(random.integers(260, 341)), int(random.integers(180, 241)))
    return Image.fromarray(noisy).resize(size, Image.Resampling.BICUBIC)


def write_stand_in_weights(folder: Path) -> None:
    """Write untrained alexnet.pth and resnet18.pth with 1000 classes, in the format of torchvision's files."""
    import torch

    from caltech_exp.models.networks import NETWORKS

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README").write_text("Untrained weights in place of ImageNet's, made by caltech_exp.standin.\n")
    for name, network in NETWORKS.items():
        path = folder / f"{name}.pth"
        if path.exists():
            continue
        torch.manual_seed(0)
        temporary = path.with_suffix(".tmp")  # torch writes this name into the file: its hash depends on it
        torch.save(network.build().state_dict(), temporary)
        temporary.replace(path)


def main(argv: Sequence[str]) -> int:
    """Write the data set, and the weights if asked for, unless they exist."""
    if len(argv) not in (1, 2) or list(argv[1:]) not in ([], ["weights"]):
        raise UserError("python -m caltech_exp.standin takes FOLDER or FOLDER weights; give one of these")
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
