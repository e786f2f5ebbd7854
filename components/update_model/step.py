"""The step `update_model`: new images join what a model has learnt, and everything learnt so far is examined."""

import sys
import tempfile
from pathlib import Path

from graft.params.extract_features import ExtractFeaturesParams
from graft.params.update_model import UpdateModelParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def update_model(dataset: In, model: Out, examination: Out, params: UpdateModelParams, log: Log) -> Metrics:
    """Add the images to the model with its own backbone, and examine it on old and new test images."""
    # late: a wrong parameter should fail before the slow import of torch and MLflow
    from graft.backbones.feature_store import FeatureStore
    from graft.backbones.incremental import extract_into
    from graft.continual.state import ContinualState, LabelledFeatures
    from graft.continual.update import check_model
    from graft.continual.update import update_model as learn
    from graft.data.dataset import ImageDataset
    from graft.models.bundle import ModelBundle
    from graft.revision.examination import check_images, examine
    from graft.serving.loading import fetch_model

    images = ImageDataset.read(dataset)
    with tempfile.TemporaryDirectory(prefix="graft-update-") as name:
        work = Path(name)
        (work / "model").mkdir()
        base = fetch_model(params.model, work / "model")
        bundle, state = ModelBundle.load(base.bundle), ContinualState.load(base.bundle)
        check_model(bundle, state)
        check_images(bundle, images)
        store = extract_into(work / "features", images, ExtractFeaturesParams(), own=bundle.backbone).store
        data = LabelledFeatures.of_store(store, bundle.spec.head.taps)
        earlier = [FeatureStore.read(Path(folder)) for folder in params.features]
        found = learn(bundle, state, data, images.spec.digest, params, earlier)
        found.bundle.save(model)
        found.state.save(model)
        numbers = examine(examination, base, found, images, params)
    log.artifact(examination)
    log.params({"decided": {"method": found.chosen.method, "penalty": found.chosen.penalty}})
    for name, value in numbers["continual"].items():
        if isinstance(value, dict) and value["value"] is not None:
            log.metric(f"continual.{name}", value["value"])
    print(f"update_model: {numbers['headline']}", file=sys.stderr, flush=True)
    return numbers


if __name__ == "__main__":
    update_model.main()
