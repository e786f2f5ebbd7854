"""The pipeline's steps: one folder each, `step.py` the work and `component.py` its Kubeflow face."""
