"""What a pipeline step is, which parameters it takes, and its record in MLflow.

Start with `step`, which turns a plain function into a pipeline step, then `params`, the sections of params.yaml as
types. MLflow is imported here and in `serving`, nowhere else. What a step does is not here: see `components/`.
"""
