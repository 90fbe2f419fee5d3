"""A data set of five classes, drawn: the example of docs/studies.md for a data set of one's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Draw = Callable[[ImageDraw.ImageDraw, int, int, int], None]

SHAPES: dict[str, Draw] = {
    "circle": lambda draw, x, y, r: draw.ellipse((x - r, y - r, x + r, y + r), fill="white"),
    "cross": lambda draw, x, y, r: draw.line(
        (x - r, y - r, x + r, y + r, x, y, x - r, y + r, x + r, y - r), "white", 6
    ),
    "line": lambda draw, x, y, r: draw.line((x - r, y, x + r, y), "white", 6),
    "ring": lambda draw, x, y, r: draw.ellipse((x - r, y - r, x + r, y + r), outline="white", width=6),
    "square": lambda draw, x, y, r: draw.rectangle((x - r, y - r, x + r, y + r), fill="white"),
}  # fmt: skip


def write_shapes(folder: Path, images: int = 20) -> Path:
    """Write as many images of each shape, 96 x 80 pixels on noise, and return the folder."""
    for label, (name, draw) in enumerate(SHAPES.items()):
        (folder / name).mkdir(parents=True)
        for number in range(1, images + 1):
            random = np.random.default_rng([label, number])
            image = Image.fromarray(random.integers(0, 120, (80, 96, 3), dtype=np.uint8))
            draw(ImageDraw.Draw(image), *random.integers((30, 30, 12), (66, 50, 28)).tolist())
            image.save(folder / name / f"{number:02d}.png")
    return folder
