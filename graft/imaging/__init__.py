"""From the bytes of an image file to the pixels that a network sees.

Start with `decode` (any file to upright RGB), then `transform` (crop, resize and normalisation that belong to the
weights) and `augmentation`. What is odd about an image is judged in `quality`.
"""
