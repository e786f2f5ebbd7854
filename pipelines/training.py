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
        source: str = "",
        backbone: str = "",
        budget: str = "",
        model_name: str = "",
    ) -> None:
        """From a folder of labelled images to a registered classifier; one parameter per section of params.yaml.

        The last four replace a field of a section, so that a person can start a run without writing JSON.

        Args:
            get_data: where the images come from.
            validate_data: how the folder is read, what images must satisfy, and how they are split.
            extract_features: the backbone, its weights and its input size.
            train_head: the new output layer on frozen features.
            review_features: what features flag for a person to review.
            fine_tune: which part of the backbone is trained further, and how.
            adapt: how the model is adapted to domains without labels.
            evaluate: how the model is measured.
            register_model: the name in the registry, and what a model must achieve to become champion.
            source: images as the cluster sees them: a mounted folder or manifest; empty: get_data.source.
            backbone: an architecture by name, or auto; empty: extract_features.backbone.
            budget: most time for fine-tuning, such as 30m, or none; empty: fine_tune.budget.
            model_name: name in the registry; empty: register_model.name.
        """
        raw = get_data_step(params=get_data, source=source).outputs["raw"]
        dataset = validate_data_step(params=validate_data, raw=raw).outputs["dataset"]
        features = extract(extract_features, dataset, shards, backbone)
        head = train_head_step(params=train_head, features=features).outputs["head"]
        review_features_step(params=review_features, dataset=dataset, features=features, head=head)
        tuned = fine_tune_step(params=fine_tune, budget=budget, dataset=dataset, features=features, head=head).outputs[
            "tuned"
        ]
        model = adapt_step(params=adapt, dataset=dataset, tuned=tuned).outputs["model"]
        evaluation = evaluate_step(params=evaluate, dataset=dataset, features=features, head=head, model=model).outputs[
            "evaluation"
        ]
        register_model_step(params=register_model, name=model_name, dataset=dataset, model=model, evaluation=evaluation)

    return training


def extract(params: Any, dataset: Any, shards: int, backbone: Any = "") -> Any:
    """Return the features of a dataset, extracted by one task, or by one task per shard and a last one that joins."""
    if shards == 1:
        return extract_features_step(params=params, backbone=backbone, dataset=dataset).outputs["features"]
    with dsl.ParallelFor(list(range(shards))) as shard:
        part = extract_shard_step(
            params=params, backbone=backbone, dataset=dataset, shard=shard, shards=shards
        ).outputs["part"]
    parts = dsl.Collected(part)
    return extract_features_step(params=params, backbone=backbone, dataset=dataset, parts=parts).outputs["features"]


training = pipeline()
