"""The graph of the training pipeline. `dvc.yaml` contains the same graph; a test compares them."""

from typing import Any

from kfp import dsl

from components.adapt.component import adapt as adapt_step
from components.evaluate.component import evaluate as evaluate_step
from components.extract_features.component import extract_features as extract_features_step
from components.extract_features.component import extract_shard as extract_shard_step
from components.fine_tune.component import fine_tune as fine_tune_step
from components.get_data.component import get_data as get_data_step
from components.register_model.component import register_model as register_model_step
from components.review_features.component import review_features as review_features_step
from components.train_head.component import train_head as train_head_step
from components.validate_data.component import validate_data as validate_data_step


def pipeline(shards: int = 1) -> Any:
    """Return the pipeline; with several shards, as many workers share the images in extract_features."""

    @dsl.pipeline(name="graft-training")
    def training(
        get_data: dict,
        validate_data: dict,
        extract_features: dict,
        train_head: dict,
        review_features: dict,
        fine_tune: dict,
        adapt: dict,
        evaluate: dict,
        register_model: dict,
    ) -> None:
        """From a folder of labelled images to a registered classifier; one parameter per section of params.yaml."""
        raw = get_data_step(params=get_data).outputs["raw"]
        dataset = validate_data_step(params=validate_data, raw=raw).outputs["dataset"]
        features = extract(extract_features, dataset, shards)
        head = train_head_step(params=train_head, features=features).outputs["head"]
        review_features_step(params=review_features, dataset=dataset, features=features, head=head)
        tuned = fine_tune_step(params=fine_tune, dataset=dataset, head=head).outputs["tuned"]
        model = adapt_step(params=adapt, dataset=dataset, tuned=tuned).outputs["model"]
        evaluation = evaluate_step(params=evaluate, dataset=dataset, features=features, head=head, model=model).outputs[
            "evaluation"
        ]
        register_model_step(params=register_model, dataset=dataset, model=model, evaluation=evaluation)

    return training


def extract(params: Any, dataset: Any, shards: int) -> Any:
    """Return the features of a dataset, extracted by one task, or by one task per shard and a last one that joins."""
    if shards == 1:
        return extract_features_step(params=params, dataset=dataset).outputs["features"]
    with dsl.ParallelFor(list(range(shards))) as shard:
        part = extract_shard_step(params=params, dataset=dataset, shard=shard, shards=shards).outputs["part"]
    return extract_features_step(params=params, dataset=dataset, parts=dsl.Collected(part)).outputs["features"]


training = pipeline()
