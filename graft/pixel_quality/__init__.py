"""From a folder of photos with masks or objects to a verdict: the photos' inventory, and what is wrong beside them.

Start with `validators` (which code checks which task), then `mask_validation` and `object_validation`.
"""
