"""The report's augmentations for whole batches of uint8 images on the device.

Same distributions and same pixels as torchvision's transforms on PIL images. parameters.py has the numbers,
draws.py samples; crop.py, flip.py, grayscale.py, perspective.py and rotation.py are the operations, pipeline.py is
their order.
"""
