"""The step `register_update`: a new version in the registry, and the champion if nothing was shown to be lost."""

from graft.params.register_model import RegisterModelParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def register_update(
    dataset: In, model: In, examination: In, registration: Out, params: RegisterModelParams, log: Log
) -> Metrics:
    """Register the updated model, and promote it if the guard permits it."""
    # late: a wrong parameter should fail before the slow import of torch and MLflow
    from graft.core.atomic import write_json, write_text
    from graft.data.dataset import ImageDataset
    from graft.data.source import registered_name
    from graft.models.bundle import ModelBundle
    from graft.reports.registry_decision import with_decision
    from graft.revision.examination import PAGE, read_examination
    from graft.revision.update_registration import register_updated
    from graft.runs import tracking
    from graft.serving.registry import Registry

    examined, record = read_examination(examination), tracking.current()
    images = ImageDataset.read(dataset)
    name = examined["base"]["name"] or registered_name(params.name, images.spec.name)
    registry = Registry.open(name, record.tracking_uri if record else None)
    found = register_updated(
        registry,
        ModelBundle.load(model),
        model,
        examination,
        images,
        params,
        tags=tracking.provenance(),
        run_id=record.run_id if record else None,
        experiment=record.experiment_id if record else None,
    )
    registration.mkdir(parents=True)
    write_json(registration / "registration.json", found)
    page = (examination / PAGE).read_text("utf-8")
    title = f"{found['name']} version {found['version']}"
    decided = with_decision(page, title, promoted=found["promoted"], reasons=found["reasons"])
    write_text(registration / PAGE, decided)
    log.artifact(registration)
    log.tag("model", found["uri"])
    tracking.finish_pipeline()
    return found


if __name__ == "__main__":
    register_update.main()
