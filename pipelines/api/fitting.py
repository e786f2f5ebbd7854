"""`graft.fit`: the training pipeline from Python."""

from collections.abc import Mapping
from pathlib import Path

from pipelines.api.keywords import Given, asked_params
from pipelines.api.progress import Report, default_report, following
from pipelines.api.result import Result


def fit(
    data: str | Path | None = None,
    *,
    budget: str | None = None,
    preset: str | None = None,
    out: str | Path = "outputs",
    params: str | Path | None = None,
    force: bool = False,
    progress: Report | None = None,
    get_data: Given = None,
    validate_data: Given = None,
    extract_features: Given = None,
    train_head: Given = None,
    review_features: Given = None,
    fine_tune: Given = None,
    evaluate: Given = None,
    register_model: Given = None,
) -> Result:
    """Run the whole pipeline, as `graft run` does: check the images, train, test and register a model.

    Interrupted or failed, the same call goes on where it ended: a step whose code, parameters and inputs have not
    changed since an earlier run is not run again, and fine-tuning continues from its last checkpoint.

    Args:
        data: folder of labelled images, CSV manifest or archive; None: what the file of parameters names.
        budget: most time for the run, such as `90s`, `5m` or `1h`; the result says what was left out for it.
        preset: `quick`, `balanced` (the defaults) or `best`, see `graft.params.run_settings`.
        out: folder for report, model and numbers; only a successful run replaces earlier results.
        params: file of parameters; None: `params.yaml` in the working folder if there is one, else the defaults.
        force: run the steps that have not changed, too.
        progress: called with each line of the run; None: a bar in a notebook, lines elsewhere.
        get_data: fields of this section of the parameters, over those of the file; so are all that follow.
        validate_data: as in `{"on_bad_image": "drop"}`.
        extract_features: as in `{"backbone": "resnet50"}`.
        train_head: as in `{"head": "linear"}`.
        review_features: as in `{"reference": "outputs/features"}`.
        fine_tune: as in `{"enabled": False}`.
        evaluate: as in `{"bootstrap": 200}`.
        register_model: as in `{"name": "cats-and-dogs"}`.

    Returns:
        The results: `report`, `metrics`, `figures` and `model`.

    Raises:
        ParamsError: for an unknown name or a wrong value, before anything runs.
        GraftError: with the one-line cause of the step that failed.

    >>> result = graft.fit("photos", preset="quick", train_head={"reuse_depth": "last"})
    >>> result.metrics["accuracy"]
    1.0
    >>> result.model.predict("a.jpg")["label"].tolist()
    ['cat']
    """
    sections: Mapping[str, Given] = {
        "get_data": get_data,
        "validate_data": validate_data,
        "extract_features": extract_features,
        "train_head": train_head,
        "review_features": review_features,
        "fine_tune": fine_tune,
        "evaluate": evaluate,
        "register_model": register_model,
    }
    asked, settings = asked_params(sections, {"budget": budget, "preset": preset}, data, params)
    # late: a wrong parameter should fail before the slow import of kfp
    from pipelines.local.execution import execute
    from pipelines.local.progress import PlainLines

    out = Path(out)
    execute(asked, out, force=force, settings=settings, shown=PlainLines(following(progress or default_report())))
    return Result.read(out)
