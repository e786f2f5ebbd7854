"""The pipeline's steps, one folder each: the work in `step.py`, its Kubeflow component in `component.py`."""
