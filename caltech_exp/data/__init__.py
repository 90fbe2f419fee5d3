"""Caltech-101: split files, images decoded once, and where to download them."""
