"""Caltech-101 as a torch data set over one of the course's split files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import VisionDataset

from caltech_exp.splits import IMAGES, DataSet, Sample, damaged_image


class Caltech(VisionDataset):  # type: ignore[misc]
    """(transformed image, label) for each sample of a split; images are decoded anew at every access.

    Written after the course template's dataset class (report, Data preparation). Raises UserError that names
    the image, its split file and line if one cannot be decoded.
    """

    def __init__(
        self,
        data: DataSet,
        split: str,
        samples: tuple[Sample, ...],
        transform: Callable[[Image.Image], Any],
    ) -> None:
        super().__init__(str(data.root), transform=transform)
        self.data = data
        self.split = split
        self.samples = samples

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self.samples[index]
        image = self.load(sample)
        return self.transform(image), sample.label

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, sample: Sample) -> Image.Image:
        """The decoded image, RGB."""
        try:
            with (Path(self.root) / IMAGES / sample.path).open("rb") as file, Image.open(file) as image:
                return image.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise damaged_image(self.data, sample, self.split, error) from None
