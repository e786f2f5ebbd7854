"""How good a model is on images it has not seen: metrics with intervals, baselines, slices, costs, explanations.

Start with `evaluate` and `schema` (scores.json as types). The statistical methods belong in `stats`, the pages in
`reports`.
"""
