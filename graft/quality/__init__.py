"""What is wrong with the images and their labels: findings, near-duplicates, shift, shortcuts, label errors.

Start with `findings` (the kinds and their remedies), then `validation` (from a folder to a verdict) and
`feature_checks` (what only features show). Great Expectations is imported in `expectations` alone.
"""
