"""The report's augmentations for whole batches on the device, with the pixels of torchvision's on PIL images."""
