"""From an evaluated model to predictions in production: registry, promotion, packaging, server, batches, drift.

Start with `registration` (register, check, compare, promote), then `packaging` and `server`. Only this wing and `runs`
import MLflow. Training and evaluation are finished before a model gets here.
"""
