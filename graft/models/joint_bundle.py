"""The bundles of several tasks as one with a joint task, for as long as their backbone is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier
from graft.models.fit_head import refit_head
from graft.models.task_heads import TaskHeads, head_columns, with_all_heads
from graft.models.validation_logits import ValidationLogits
from graft.stats.abstention import Abstention
from graft.stats.feature_columns import columns_of
from graft.tasks.joint import Joint
from graft.tasks.task import Targets


@dataclass(frozen=True)
class JointBundle(ModelBundle):
    """A classifier whose head is that of all tasks."""

    of_tasks: tuple[ModelBundle, ...] = ()
    """The bundles that it was made of, with what training does not change."""

    @classmethod
    def of(cls, bundle: ModelBundle) -> "JointBundle":
        """Join the tasks of a bundle.

        Raises:
            ParamsError: for a kind of task that cannot be trained together with others.
        """
        bundles = bundle.by_task
        joint = Joint.of(tuple(one.task.question for one in bundles), tuple(bool(one.spec.weighted) for one in bundles))
        classifier = with_all_heads([one.classifier for one in bundles])
        groups = bundle.spec.backbone.groups
        # Training starts at the deepest of the groups that serve the tasks best: the upper ones are the first to give.
        deepest = max(bundles, key=lambda one: _best_place(one, groups))
        spec = bundle.spec.model_copy(
            update={
                "task": joint,
                "labels": joint.labels,
                "head": classifier.head.spec,
                "weighted": any(joint.weighted),
                "curve": deepest.spec.curve,
                "further_tasks": (),
                "temperature": 1.0,
            }
        )
        return cls(spec, classifier, of_tasks=bundles)

    @property
    def prior_shares(self) -> tuple[float, ...]:
        """How far the head of each task was corrected for label weights."""
        return tuple(one.spec.prior_share for one in self.of_tasks)

    def with_heads_fitted(self, features: npt.NDArray[np.float32], targets: Targets) -> TaskHeads:
        """Return the heads fitted again, each to its own labelled images, with their own penalties.

        Args:
            features: that any of them reads, (n, D).
            targets: of the joint task.
        """
        spec, columns = head_columns(self.spec.backbone, [one.spec.head for one in self.of_tasks])
        parts = zip(self.of_tasks, self.task.separate(targets), columns, strict=True)
        heads = [
            refit_head(one, columns_of(features[part.rows], own), part.targets, weighted=bool(one.spec.weighted))
            for one, part, own in parts
        ]
        return TaskHeads(spec, heads, columns)

    def with_abstentions(self, abstentions: Sequence[Abstention | None]) -> "JointBundle":
        """Return the bundle with other rules for when each task abstains."""
        pairs = zip(self.of_tasks, abstentions, strict=True)
        return replace(self, of_tasks=tuple(replace(one, abstention=abstention) for one, abstention in pairs))

    def separated(self, val_targets: Targets | None = None) -> list[ModelBundle]:
        """Return the bundle of every task, as it is now.

        Args:
            val_targets: of the joint task on the images of `validation`, if there are such logits.
        """
        task, spec = self.task, self.spec
        assert isinstance(task, Joint)
        found = []
        for place, (one, part) in enumerate(zip(self.of_tasks, task.parts, strict=True)):
            update = {
                "backbone": spec.backbone,
                "stages": spec.stages,
                "untried": spec.untried,
                "trained_groups": spec.trained_groups,
                "refit": spec.refit,
            }
            if task.temperatures:
                update |= {"task": part, "temperature": task.temperatures[place]}
            classifier = Classifier(self.backbone, self.classifier.head.heads[place]).eval()
            validation = self._validation(place, val_targets)
            same = not (spec.trained_groups or spec.refit)
            found.append(
                replace(
                    one,
                    spec=one.spec.model_copy(update=update),
                    classifier=classifier,
                    validation=validation,
                    further=(),
                    moments=one.moments if same else None,
                    sample=one.sample if same else None,
                )
            )
        return found

    def _validation(self, place: int, targets: Targets | None) -> ValidationLogits | None:
        if self.validation is None or targets is None:
            return None
        part = self.task.separate(targets)[place]
        return ValidationLogits(self.validation.ids[part.rows], self.validation.logits[part.rows][:, part.outputs])


def _best_place(bundle: ModelBundle, groups: Sequence[str]) -> int:
    curve = {point.tap: point.log_loss for point in bundle.spec.curve if point.tap in groups}
    return groups.index(min(curve, key=curve.__getitem__)) if curve else len(groups) - 1
