"""A task that is not Graft's own: two independent yes/no questions, read from columns of their names."""

from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit, xlogy

from graft.stats.metrics import mean_by_resample
from graft.tasks.kinds import register
from graft.tasks.task import Answers, Task


@register
class TwoFlags(Task):
    """Targets are float32 (n, 2), outputs sigmoids."""

    kind: Literal["two_flags"] = "two_flags"
    exclusive: ClassVar[bool] = False
    head_kinds: ClassVar[tuple[str, ...]] = ("linear",)
    headline: ClassVar[str] = "accuracy"
    sections: ClassVar[tuple[Any, ...]] = ("numbers", "mistakes", "curves")

    @property
    def answer_names(self) -> tuple[str, ...]:
        chosen = (
            [name for name, on in zip(self.labels, flags, strict=True) if on] for flags in product((0, 1), repeat=2)
        )
        return tuple("+".join(names) or "neither" for names in chosen)

    def targets(self, table: pd.DataFrame) -> Any:
        return (table[list(self.labels)] == "yes").to_numpy(np.float32)

    def strata(self, targets: Any) -> Any:
        return targets.astype(np.int64) @ np.array([2, 1])

    def names(self, targets: Any) -> list[str]:
        return [self.answer_names[index] for index in self.strata(targets)]

    def objective(self, logits: Any, targets: Any, weight: Any) -> Any:
        probabilities = expit(logits)
        slope = (probabilities - targets) * weight[:, None].astype(np.float32)
        return float(weight @ self.log_losses(probabilities, targets)), slope

    def prior_logits(self, targets: Any, weight: Any) -> Any:
        return logit(np.clip(weight @ targets / weight.sum(), 0.01, 0.99))

    def loss(self, logits: Any, targets: Any, *, reduction: str = "mean", **options: Any) -> Any:
        from torch.nn.functional import binary_cross_entropy_with_logits

        found = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        return found.mean() if reduction == "mean" else found.sum()

    def probabilities(self, logits: Any, temperature: float = 1.0) -> Any:
        return expit(np.asarray(logits, np.float64) / temperature)

    def logits(self, probabilities: Any) -> Any:
        return logit(np.clip(probabilities, 1e-12, 1 - 1e-12))

    def log_losses(self, probabilities: Any, targets: Any) -> Any:
        sure = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-12)
        return -(xlogy(targets, sure) + xlogy(1 - targets, 1 - sure)).sum(1)

    def correct(self, probabilities: Any, targets: Any) -> Any:
        return ((probabilities > 0.5) == (targets > 0.5)).all(1)

    def answers(self, probabilities: Any, rule: Any = None) -> Answers:
        return Answers(self.strata(probabilities > 0.5), np.maximum(probabilities, 1 - probabilities).prod(1))

    def metrics(self, positive: int = 1) -> Any:
        return {
            "accuracy": lambda targets, found, weights: mean_by_resample(self.correct(found, targets), weights),
            "log_loss": lambda targets, found, weights: mean_by_resample(self.log_losses(found, targets), weights),
        }

    def baseline(self, train_targets: Any, images: int) -> Any:
        return np.tile(train_targets.mean(0, dtype=np.float64), (images, 1))
