"""Pipeline steps, and their runs in MLflow.

Start with `step`, which turns a plain function into a pipeline step, then `run_log`, what a step tells MLflow. MLflow
is imported only here and in `serving`. The steps themselves are not here but in `components/`.
"""
