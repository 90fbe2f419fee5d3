"""What is measured: template loop and fast engine on the same images, in turns."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from caltech_exp.benchmark.records import Kind
from caltech_exp.config import RunConfig, choices

MODELS = choices("model")
PARTS = ("phases", "epoch", "frozen", "growth", "augment", "losses")
AUGMENTATIONS = tuple(name for name in choices("augment") if name != "none")
SHARES = (2, 4)
"""Growth is measured at a half and a quarter of the images, beside all of them."""


@dataclass(frozen=True)
class Planned:
    """One measurement; the two engines' of the same name are compared."""

    name: str
    kind: Kind
    config: RunConfig


def plan(
    models: Collection[str], parts: Collection[str], settings: Mapping[str, int | float | str], images: int
) -> Iterator[Planned]:
    """The measurements of the chosen parts, in order.

    settings  run settings that hold for all
    images    the size of the training set, for the growth
    """
    for model in models:
        fast = RunConfig().but(model=model, **settings)
        if "phases" in parts:
            yield from _both(f"{model} phases", "phases", fast)
        if "epoch" in parts:
            yield from _both(f"{model} epoch", "epochs", fast)
        if "frozen" in parts:
            yield from _both(f"{model} frozen epoch", "epochs", fast.but(freeze="conv"))
        if "losses" in parts:
            yield from _both(f"{model} losses", "losses", fast.but(precision="fp32"))
        if "growth" in parts:
            for share in (1, *SHARES):
                yield Planned(f"{model} epoch of 1/{share}", "epochs", fast.but(max_images=images // share))
    if "augment" in parts:
        for augment in AUGMENTATIONS:
            yield from _both(f"augment {augment}", "augment", RunConfig().but(augment=augment, **settings))


def _both(name: str, kind: Kind, fast: RunConfig) -> Iterator[Planned]:
    for config in (fast.but(engine="reference"), fast):
        yield Planned(name, kind, config)
