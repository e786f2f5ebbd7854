"""Kubeflow: compiling the pipelines, a cluster's profile, submitting, watching and scheduling runs."""
