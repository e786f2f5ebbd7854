"""The task that ends every run on a cluster, whether its other tasks succeeded or not (KFP's exit handler)."""

from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus, component

from components.image import image


@component(base_image=image("report_run"), packages_to_install=[], install_kfp_package=False)
def report_run(report: Output[Markdown], status: PipelineTaskFinalStatus) -> None:
    """Say how the run ended and why; a run in MLflow that nobody ended, because its pod was lost, is ended."""
    from pathlib import Path

    from graft.runs.pipeline_runs import pipeline_key
    from graft.runs.run_outcome import close_run

    page = close_run(pipeline_key() or "", status.state, status.error_message or "")
    print(page, end="")
    Path(report.path).write_text(page, encoding="utf-8")
