"""The graph inside a compiled pipeline."""

from typing import Any

from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

STEPS = "comp-exit-handler-1"
"""The component with all tasks that come before the last one of a run on a cluster."""


def steps_of(spec: PipelineSpec) -> Any:
    """Return the tasks by name, of a pipeline that was compiled with a profile or without one."""
    handled = spec.components[STEPS].dag if STEPS in spec.components else spec.root.dag
    return handled.tasks
