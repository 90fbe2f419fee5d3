"""What is measured: template loop and fast engine on the same images, in turns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from caltech_exp.config import RunConfig

MODELS = ("alexnet", "resnet18")
AUGMENTATIONS = ("crop", "perspective", "combined")
SHARES = (2, 4)
"""Growth is measured at a half and a quarter of the images, beside all of them."""


@dataclass(frozen=True)
class Planned:
    """One measurement; the two engines' of the same name are compared."""

    name: str
    kind: Literal["epochs", "phases", "augment"]
    config: RunConfig


def plan(models: tuple[str, ...], settings: Mapping[str, int], images: int) -> Iterator[Planned]:
    """Every measurement, in order. `settings` hold for all; `images` is the size of the training set."""
    for model in models:
        fast = RunConfig().but(model=model, **settings)
        yield from _both(f"{model} phases", "phases", fast)
        yield from _both(f"{model} epoch", "epochs", fast)
        yield from _both(f"{model} frozen epoch", "epochs", fast.but(freeze="conv"))
        for share in SHARES:
            yield Planned(f"{model} epoch of 1/{share}", "epochs", fast.but(max_images=images // share))
    for augment in AUGMENTATIONS:
        yield from _both(f"augment {augment}", "augment", RunConfig().but(augment=augment, **settings))


def _both(name: str, kind: Literal["epochs", "phases", "augment"], fast: RunConfig) -> Iterator[Planned]:
    for config in (fast.but(engine="reference"), fast):
        yield Planned(name, kind, config)
