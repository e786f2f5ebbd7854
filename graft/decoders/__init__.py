"""A class for every pixel: multi-scale maps of a frozen backbone, and the decoder that learns from them in seconds.

Start with `dense_maps` (what is cached), then `decoder` (what is learnt) and `fit` (how), `stages` for what is trained
below it, and `mask_bundle`, the model as one artifact. `assessment` says how good it is.
"""
