"""What is learnt on frozen features: linear probes, other kinds of head, how deep to reuse, which backbone.

Start with `linear_probe`, then `families` (the list of kinds) and `depth_selection`. Everything here is NumPy and SciPy
on feature matrices; the torch modules that compute a head are in `models.classifier`.
"""
