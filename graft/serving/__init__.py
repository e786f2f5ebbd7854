"""From an evaluated model to one that answers: registry, promotion, packaging, server.

Start with `registration` (register, check, compare, promote), then `packaging` and `server`. Only this wing and `runs`
import MLflow. Training and evaluation are finished before a model gets here.
"""
