"""The numbers of the report's augmentations (section 3, Figures 17 to 19)."""

SIDE = 224
"""Height and width in pixels of the networks' input."""
HORIZONTAL_FLIP_P = 0.5
VERTICAL_FLIP_P = 0.5
GRAYSCALE_P = 0.1
PERSPECTIVE_P = 0.5
DISTORTION = 0.5
"""RandomPerspective's distortion_scale: each corner moves inwards by at most this share of half a side."""
DEGREES = 30.0
"""RandomRotation turns by at most this angle either way."""
