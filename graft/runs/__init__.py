"""Pipeline steps, their parameters, and their runs in MLflow.

Start with `step`, which turns a plain function into a pipeline step, then `params`, the sections of params.yaml as
types. MLflow is imported only here and in `serving`. The steps themselves are not here but in `components/`.
"""
