"""The step `register_model`: a new version in the registry, and the champion if it passes the gate."""

import sys

from graft.params.register_model import RegisterModelParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step
from graft.tasks.pixels import pixel_task


@step
def register_model(
    dataset: In, model: In, evaluation: In, registration: Out, params: RegisterModelParams, log: Log
) -> Metrics:
    """Register the model and promote it if it is good enough."""
    # late: a wrong parameter should fail before the slow import of torch and MLflow
    if pixel_task(model) is not None:
        from graft.pixel_serving.pixel_registration import register_pixels

        return register_pixels(dataset, model, evaluation, registration, params, log)

    from graft.core.atomic import write_json, write_text
    from graft.data.dataset import ImageDataset
    from graft.data.source import registered_name
    from graft.models.bundle import ModelBundle
    from graft.reports.registry_decision import with_champion, with_decision, with_served_answers
    from graft.revision.adapted_versions import register_domains
    from graft.runs import tracking
    from graft.serving.challenger import Provenance
    from graft.serving.descriptions import model_description, run_description, run_name
    from graft.serving.evidence import Evidence
    from graft.serving.registration import register, summary
    from graft.serving.registry import Registry

    images = ImageDataset.read(dataset)
    evidence = Evidence.read(evaluation, images)
    record = tracking.current()
    registry = Registry.open(registered_name(params.name, images.spec.name), record.tracking_uri if record else None)
    found = register(
        registry,
        ModelBundle.load(model),
        model,
        evidence,
        params,
        tags=tracking.provenance(),
        run_id=record.run_id if record else None,
        experiment=record.experiment_id if record else None,
    )
    adapted = register_domains(
        registry.name,
        model,
        evidence.dataset,
        found.version.uri,
        Provenance(record.run_id if record else None, record.experiment_id if record else None),
    )
    result = summary(found)
    result["tracking_uri"] = registry.tracking_uri
    result["run_id"] = record.pipeline_run_id if record else None
    registration.mkdir(parents=True)
    write_json(registration / "registration.json", result)
    page, title = evaluation / "report.html", f"{result['name']} version {result['version']}"
    if page.is_file():
        decided = with_decision(
            page.read_text("utf-8"),
            title,
            promoted=found.promoted,
            reasons=found.reasons,
            run_id=record.pipeline_run_id if record else None,
        )
        if params.decision == "threshold":
            decided = with_served_answers(decided, found.judged, found.version.tags["decision"])
        if found.champion and found.against_champion:
            champion = found.champion
            decided = with_champion(decided, champion.version, found.against_champion, champion.left_out)
        write_text(registration / "report.html", decided)
    for version in adapted:
        print(f"register_model: {version.uri}, a challenger for the domain {version.tags['domain']}", file=sys.stderr)
    log.artifact(registration)
    for file in (registration / "report.html", evaluation / "card.md"):
        if file.is_file():
            log.artifact(file, shared=True)
    data = images.spec.name
    registry.describe(model_description(registry.name, data, images.classes))
    log.describe(
        run_name(data, found.version.tags["backbone"], found.judged),
        run_description(data, found.judged, found.version, found.reasons),
    )
    log.tag("model", found.version.uri)
    log.summary({"register_model.milliseconds": found.milliseconds})
    tracking.finish_pipeline()
    names = ("name", "version", "alias", "promoted", "reasons", "left_out", "tracking_uri", "run_id")
    return {name: result[name] for name in names}


if __name__ == "__main__":
    register_model.main()
