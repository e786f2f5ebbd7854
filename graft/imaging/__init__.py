"""From the bytes of an image file to the pixels that a network sees.

Start with `decode` (any supported file to upright RGB), then `transform` (crop, resize and normalisation, which belong
to the weights) and `augmentation`. Checks for problems in the images are not here but in `quality`.
"""
