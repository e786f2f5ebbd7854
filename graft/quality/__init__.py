"""Problems of the images and their labels: findings, near-duplicates, domain shift, shortcuts, label errors.

Start with `findings` (the kinds and their remedies), then `validation` (from a folder to a verdict) and
`feature_checks` (problems that only features show). Great Expectations is imported only in `expectations`. Pages about
the findings belong in `reports`.
"""
