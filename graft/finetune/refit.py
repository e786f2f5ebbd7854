"""Small data uses it all: once everything is chosen, the model is trained again with the validation images.

What was chosen stays: the groups the head reads, its penalty, the stages that were kept and for how many epochs, the
temperature. Nothing is judged by the validation images any more, for the model has now seen them: what the model
before said of them is kept beside it, for whoever needs honest answers there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from graft.finetune.checkpoints import Checkpoints
from graft.finetune.cross_fitting import train_through
from graft.finetune.stage_inputs import Direct, Pictures, inputs
from graft.finetune.stage_plan import Stage
from graft.finetune.trainer import Images, Ints, Labelled, Settings, read_features
from graft.finetune.wise_ft import blended
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import StageRecord
from graft.models.classifier import Classifier
from graft.models.fit_head import refit_head


@dataclass(frozen=True)
class Split:
    """One split's images: as they are, and in augmented views."""

    plain: Pictures
    augmented: Pictures


class Joined:
    """Two sets of images as one, the second behind the first."""

    def __init__(self, first: Images, n: int, second: Images) -> None:
        self.parts = (first, second)
        self.n = n
        self.after = first.after

    def batch(self, positions: Ints, view: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the inputs of some images, in the order of `positions`."""
        behind = positions >= self.n
        order = np.concatenate([np.flatnonzero(~behind), np.flatnonzero(behind)])
        back = torch.from_numpy(np.argsort(order))
        chosen = [positions[~behind], positions[behind] - self.n]
        found = [part.batch(rows, view) for part, rows in zip(self.parts, chosen, strict=True) if len(rows)]
        activation = torch.cat([values for values, _ in found])[back]
        below = [torch.cat(taps)[back] for taps in zip(*(taps for _, taps in found), strict=True)]
        return activation, below


def refit(
    bundle: ModelBundle,
    stages: Sequence[tuple[Stage, StageRecord]],
    train: Split,
    val: Split,
    settings: Settings,
    checkpoints: Checkpoints,
    say: Callable[[str], None],
) -> Classifier:
    """Return the head fitted and the kept stages run again on training and validation images together.

    Args:
        bundle: the head on frozen features.
        stages: the plan's, and what became of each.
        train, val: the images.
        settings: what all stages have in common.
        checkpoints: where a call that was cut off is taken up.
        say: is told of every epoch.
    """
    first = stages[0][0] if stages else head_alone(bundle.classifier)
    plain = _joined(bundle.classifier, first, train.plain, val.plain, 1)
    features = read_features(bundle.classifier, plain)
    head = refit_head(bundle, features, plain.targets, weighted=settings.class_weight is not None)
    best = Classifier(bundle.backbone, head).eval()
    for number, (stage, record) in enumerate(stages):
        if not record.kept:
            continue
        images = _joined(best, stage, train.augmented, val.augmented, settings.views)

        def told(epoch: int, loss: float, name: str = stage.name, epochs: int = record.best_epoch) -> None:
            say(f"refit with validation images, stage {name}: epoch {epoch}/{epochs}, loss {loss:.3f}")

        end = train_through(best, stage, images, settings, record.best_epoch, told, checkpoints.one(f"{number}-refit"))
        best = blended(best, end, stage, record.share) if record.share < 1 else end
    return best


def head_alone(classifier: Classifier) -> Stage:
    """Return a stage of which only the inputs are wanted: those of the backbone's last group."""
    return Stage((classifier.backbone.spec.groups[-1],), epochs=0, lr=0.0)


def _joined(best: Classifier, stage: Stage, train: Pictures, val: Pictures, views: int) -> Labelled:
    first, second = inputs(best, stage, train, views), inputs(best, stage, val, views)
    if first.images.after != second.images.after:  # there was room to cache only one of them
        first, second = (Labelled.all(Direct(pictures), pictures.targets) for pictures in (train, val))
    targets = np.concatenate([first.targets, second.targets])
    return Labelled.all(Joined(first.images, len(first), second.images), targets)
