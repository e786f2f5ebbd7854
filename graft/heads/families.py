"""The kinds of head, and how each is fitted: the one list that all other code uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from graft.core.row_blocks import Rows
from graft.heads.cosine import fit_cosine
from graft.heads.lbfgs import single_threaded_blas
from graft.heads.linear_probe import PENALTIES, Linear, fit_path
from graft.heads.mlp import MLP_PENALTIES, Mlp, fit_mlp
from graft.heads.prior_correction import prior_shift
from graft.heads.protocols import Fit, FittedHead, Floats, Kind, TrainingSet
from graft.tasks.task import Targets, Task

PULLS = (10.0, 1.0, *PENALTIES)
"""Penalties of a head that is pulled to given rows: the rows may be so good that the images should hardly move them."""


@dataclass(frozen=True)
class Family:
    """How one kind of head is fitted."""

    fit: Fit
    penalties: tuple[float, ...]
    """The penalties to cross-validate, strongest first."""
    weighs: bool = True
    """Whether labels are weighted on request. It takes a bias to correct for that, and a cosine head has none; nor does
    a frequent class have longer weights there."""

    def fit_at(
        self,
        penalty: float,
        features: npt.NDArray[np.floating] | Rows,
        targets: Targets,
        task: Task,
        widths: Sequence[int],
        *,
        weighted: bool = False,
        prior_share: float = 0.0,
    ) -> FittedHead:
        """Fit one head along the path of stronger penalties: warm starts make the last fit short.

        Args:
            penalty: of its weights.
            features: (n, D), those of its taps concatenated.
            targets: of the images.
            task: what is learnt.
            widths: number of features of each tap.
            weighted: whether every label counts the same.
            prior_share: how far weights are corrected for afterwards, see `prior_correction`.
        """
        path = [*self.stronger_than(penalty), penalty]
        weighted = weighted and self.weighs
        weight = task.image_weights(targets, task.label_weights(targets)) if weighted else None
        with single_threaded_blas():
            *_, fitted = self.fit(TrainingSet(features, targets, task, weight, widths), path)
        return shifted(fitted, prior_shift(prior_share, targets, task)) if weighted else fitted

    def stronger_than(self, penalty: float) -> list[float]:
        """Return the penalties of the path that are stronger than this one."""
        return [other for other in self.penalties if other > penalty]


FAMILIES: Mapping[Kind, Family] = {
    "linear": Family(fit_path, PENALTIES),
    "mlp": Family(fit_mlp, MLP_PENALTIES),
    "cosine": Family(fit_cosine, PENALTIES[1:], weighs=False),
}


def shifted(head: FittedHead, logits: Floats) -> FittedHead:
    """Return the head with these added to its logits, (outputs,); one without a bias as it is."""
    return replace(head, bias=head.bias + logits) if isinstance(head, Linear | Mlp) else head


def family(kind: Kind, start: Linear | None = None) -> Family:
    """Return how a kind of head is fitted; with `start`, a linear head that is pulled to its rows."""
    return FAMILIES[kind] if start is None else Family(partial(fit_path, start=start), PULLS)
