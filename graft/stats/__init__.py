"""Metrics, intervals, comparisons, calibration, conformal sets, out-of-distribution scores and drift, in NumPy.

Functions here take arrays, never images or models; those belong in later wings. Start with `metrics` and
`confidence_intervals`.
"""
