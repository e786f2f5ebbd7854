"""Metrics, intervals, comparisons, calibration, conformal sets, out-of-distribution scores and drift: NumPy alone.

Every function takes arrays and knows neither files nor models. Start with `metrics` and `confidence_intervals`.
"""
