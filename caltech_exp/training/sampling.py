"""Which training images an epoch shows: all of them shuffled, or every class alike.

The report names an unbalanced data set as a danger (Introduction) and under-sampling the largest classes as a way
out. Both engines take their order from here, so that seed for seed they see the same images.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch.utils.data import RandomSampler, Sampler, WeightedRandomSampler

from caltech_exp.config import RunConfig
from caltech_exp.data.splits import Sample, evenly


def training_indices(samples: Sequence[Sample], config: RunConfig) -> list[int]:
    """Places in `samples` of the images that train: at most max_per_class of a class, evenly spaced, in order."""
    if config.max_per_class == 0:
        return list(range(len(samples)))
    by_class: dict[int, list[int]] = {}
    for place, sample in enumerate(samples):
        by_class.setdefault(sample.label, []).append(place)
    return sorted(place for places in by_class.values() for place in evenly(tuple(places), config.max_per_class))


def training_sampler(labels: Sequence[int], config: RunConfig) -> Sampler[int]:
    """Draws one epoch's order over images of these labels, from torch's global generator.

    shuffle   every image once
    balanced  as many draws with replacement, each class as likely as any other and so each of its images
    """
    if config.sampling == "shuffle":
        return RandomSampler(labels)
    counts = Counter(labels)
    weights = torch.tensor([1 / counts[label] for label in labels], dtype=torch.float64)
    return WeightedRandomSampler(weights.tolist(), num_samples=len(labels), replacement=True)
