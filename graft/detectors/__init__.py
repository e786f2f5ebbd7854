"""Objects with a mask each: Mask R-CNN of torchvision on the maps of any of our backbones.

Start with `detector` (the network), then `photo_maps` (what is cached of the frozen backbone), `fit` (how the heads
learn), `stages` for what is trained below them, and `detector_bundle`, the model as one artifact. `assessment` says
how good it is.
"""
