"""Masks of images: how they are stored on disk, read, kept in the dataset, drawn and scored. NumPy and Pillow alone.

Start with `pairing` (which mask belongs to which photo) and `mask_file` (from the bytes of a mask to class indices),
then `dataset`, the artifact that every later step reads, and `scores`, what an answer is worth.
"""
