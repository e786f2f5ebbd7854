"""What is learnt on frozen features: linear probes, other kinds of head, how deep to reuse, which backbone.

Start with `depth_selection`: it compares groups by `ridge` probes and fits a head on the chosen ones (`linear_probe`,
`cross_validation`); `families` lists the kinds. Everything here is NumPy and SciPy on feature matrices; the
torch modules that compute a head are in `models.classifier`.
"""
