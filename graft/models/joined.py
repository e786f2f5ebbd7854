"""The bundles of several tasks as one."""

from collections.abc import Sequence
from dataclasses import replace

from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier


def together(bundles: Sequence[ModelBundle]) -> ModelBundle:
    """Return the bundles of several tasks as one, its backbone cut at the deepest group that any of them reads.

    Args:
        bundles: one for each task, the first one first; their backbones are the same but for the depth.
    """
    deepest = max(bundles, key=lambda bundle: len(bundle.spec.backbone.groups)).backbone
    first, *further = (
        replace(
            bundle,
            spec=bundle.spec.model_copy(update={"backbone": deepest.spec, "further_tasks": ()}),
            classifier=Classifier(deepest, bundle.classifier.head).eval(),
            further=(),
        )
        for bundle in bundles
    )
    tasks = tuple(bundle.task.question for bundle in further)
    return replace(first, spec=first.spec.model_copy(update={"further_tasks": tasks}), further=tuple(further))
