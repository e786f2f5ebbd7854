"""The pages of models that answer with masks and objects: evaluation, review of the data, and what they show.

Start with `mask_report` and `object_report`, which the step `evaluate` calls; `pixel_report` is what they share. Pages
and charts look as those of `reports`, whose stylesheet and drawings they use.
"""
