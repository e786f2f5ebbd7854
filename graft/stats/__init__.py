"""Metrics, intervals, comparisons, calibration, conformal sets, out-of-distribution scores and drift: NumPy alone.

Functions take arrays, not files or models. Start with `metrics` and `confidence_intervals`.
"""
