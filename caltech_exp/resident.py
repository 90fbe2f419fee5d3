"""The images of a split where training reads them: on the GPU, or mapped from the pack on a CPU."""

from dataclasses import dataclass
from functools import lru_cache

import torch

from caltech_exp.augment.crop import Packed
from caltech_exp.augment.parameters import SIDE
from caltech_exp.augment.pipeline import crops_at_random, distort, random_crop
from caltech_exp.hardware import send
from caltech_exp.pack import Pack
from caltech_exp.pack_index import Contents, Layout
from caltech_exp.packs import PackPlace, open_pack
from caltech_exp.splits import Sample


@dataclass(frozen=True, eq=False)
class Images:
    """A split's images and labels.

    samples which they are
    packed  their pixels on the device, sizes on the CPU; on a CPU the pixels are the mapped file itself
    labels  int64 [images] on the device
    """

    pack: Pack
    samples: tuple[Sample, ...]
    packed: Packed
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor, augment: str = "none") -> torch.Tensor:
        """The chosen images (int64 [n], on the CPU), augmented, as uint8 [n, 224, 224, 3] on the device."""
        # The pages of the batch before: they are read again from the page cache when they are needed.
        self.pack.release()
        crops = random_crop(self.packed, index) if crops_at_random(augment) else self._centers(index)
        return distort(augment, crops)

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        """The labels of the chosen images (int64 [n], on the CPU), on the device."""
        return self.labels[send(index, self.labels.device)]

    def _centers(self, index: torch.Tensor) -> torch.Tensor:
        images = self.packed.pixels.view(len(self), SIDE * SIDE * 3)
        return images.index_select(0, send(index, images.device)).view(-1, SIDE, SIDE, 3)


def training_layout(augment: str) -> Layout:
    """Random crops need more than the middle of an image."""
    return "resized" if crops_at_random(augment) else "center"


@lru_cache(maxsize=8)
def resident_images(place: PackPlace, contents: Contents, device: torch.device) -> Images:
    """A split's images, verified and brought to the device once per process.

    Raises UserError if the pack cannot be made.
    """
    pack, samples = open_pack(place, contents), contents.samples
    labels = torch.tensor([sample.label for sample in samples])
    packed = Packed(pack.pixels.to(device), pack.offsets, pack.heights, pack.widths)
    if device.type != "cpu":
        pack.release()
    return Images(pack, samples, packed, send(labels, device))
