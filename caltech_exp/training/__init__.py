"""One run: the loop, the two engines, checkpoints, the device."""
