"""Kubeflow: compile the pipelines with a cluster's profile; submit, monitor and schedule runs."""
