"""From a tested model to one that answers: registry, promotion gate, packaging, server, batch prediction, drift.

Start with `registration` (register, check, judge, promote), then `packaging` and `server`. MLflow is imported here and
in `runs`.
"""
