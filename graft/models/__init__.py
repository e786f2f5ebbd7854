"""A trained model as one artifact: backbone, head, labels, transform, temperature and thresholds.

Start with `bundle`; `bundle_spec` says what its record holds, `fit_head` makes the first one, `export` writes it for
other runtimes.
"""
