"""A model's metadata: how it was chosen, and how it was trained."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from graft.backbones.backbone import BackboneSpec
from graft.backbones.pretrained_classifier import ZeroShot
from graft.heads.protocols import Kind
from graft.models.classifier import HeadSpec
from graft.stats.temperature_scaling import Temperature
from graft.tasks.kinds import check_labels, with_task
from graft.tasks.task import Task


class _Score(BaseModel):
    """The result of cross-validation on the training images, at the best penalty."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    low: float
    high: float
    log_loss: float
    l2: float


class TapScore(_Score):
    """One point of the reuse-depth curve: a linear probe after one group."""

    tap: str
    behind: float = 0.0
    """How far its log loss lies above that of the best group, image by image."""
    error: float = 0.0
    """Standard error of `behind`, over groups of images."""


class HeadScore(_Score):
    """One kind of head on the chosen features."""

    kind: Kind


class StageRecord(BaseModel):
    """The result of one stage of fine-tuning, and whether it was kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    groups: tuple[str, ...]
    """Groups of the backbone that were trained in this stage."""
    epochs: int
    planned_epochs: int = 0
    """Length of the schedule, of which `epochs` were run."""
    trial: bool = False
    """Whether only a short training was run, which showed no way to a clear gain."""
    evidence: Literal["cross_validation", "validation"]
    """What it was judged on: all training images, each predicted by a model that had not seen it, or the validation
    images."""
    start_accuracy: float
    start_loss: float
    """Accuracy and log loss on those images before the stage, the loss at a temperature of its own."""
    train_loss: tuple[float, ...]
    """Per epoch."""
    held_out_loss: tuple[float, ...]
    """Log loss on the images it was judged on, each at a temperature of its own, after evenly spaced epochs; the last
    one too (in older bundles, after every epoch)."""
    share: float = 1.0
    """Where the weights lie between the stage's start (0) and its end (1), see WiSE-FT."""
    accuracy: float
    log_loss: float
    """Accuracy and log loss after the stage, the loss at a temperature of its own."""
    gain: float = 0.0
    """Decrease of the log loss."""
    error: float = 0.0
    """Its standard error, over groups of images."""
    kept: bool
    reason: str
    best_epoch: int
    """The epoch whose weights were taken: the last; in older bundles the one with the lowest loss."""
    seconds: float


Method = Literal["both", "standardise", "batchnorm", "coral", "label_propagation"]
"""How a model was adapted to another domain, see `graft.adapt`."""


class GuardResult(BaseModel):
    """One condition of adaptation, with what was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["images", "shift", "class_gap", "agreement_gain", "check"]
    value: float | None
    """What was measured; None if it could not be."""
    limit: float
    passed: bool
    sentence: str


class Adaptation(BaseModel):
    """How a model was adapted to another domain, of which no label is known, and why it was or was not kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The model it was adapted from."""
    domain: str
    images: int
    """Images of the domain that it was adapted to."""
    method: Method
    shift: tuple[float, float, float] | None
    """AUROC of a classifier that tells the domain's images from the training images, with its interval."""
    shares_before: tuple[float, ...]
    """Of the classes, among the training images."""
    shares: tuple[float, ...] = ()
    """Estimated for the domain; empty if nothing was tried."""
    agreement_before: float | None = None
    """Share of images on which two views of the unadapted model agree."""
    agreement: float | None = None
    """After adaptation: an estimate of the accuracy there."""
    guards: tuple[GuardResult, ...]
    kept: bool = False
    why: str


class BundleSpec(BaseModel):
    """All metadata of a model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[2] = 2
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """In the order of the outputs."""
    task: SerializeAsAny[Task]
    """What was learnt; bundles older than tasks have one of `labels` per image."""
    backbone: BackboneSpec
    source_groups: tuple[str, ...]
    """All groups of the backbone before it was cut at the reuse depth."""
    head: HeadSpec
    dataset_digest: str
    l2: Annotated[float, Field(ge=0.0)]
    """Penalty of the head."""
    weighted: bool | None = None
    """Whether the head was fitted with label weights (`train_head.class_weight`); fine-tuning and refits follow it.
    None in older bundles, which do not say: fine-tuning then decides by the imbalance of the training images."""
    prior_share: float = 0.0
    """How far the head was corrected for label weights, from 0 to 1, see `heads.prior_correction`."""
    curve: tuple[TapScore, ...] = ()
    """Reuse depth: the probe after every group."""
    reuse_reason: str = ""
    """Why this depth and this kind of head were chosen."""
    heads: tuple[HeadScore, ...] = ()
    """The kinds of head that were compared, if there were several."""
    source_labels: Mapping[str, tuple[str, ...]] = {}
    """Labels of the source classifier by class, for the classes that it knows."""
    zero_shot: tuple[ZeroShot, ...] = ()
    """How well it distinguishes these classes."""
    started_from_source: bool = False
    """Whether the head was pulled to the source classifier's rows for these labels."""
    stages: tuple[StageRecord, ...] = ()
    """Fine-tuning, in order; empty for frozen features and a new head."""
    untried: str = ""
    """Why fine-tuning tried no stage, or not all of them; empty if nothing was left out."""
    trained_groups: tuple[str, ...] = ()
    """Groups whose weights differ from the pretrained ones."""
    temperature: Temperature = 1.0
    """Divides the logits (Guo et al. 2017), fitted on images the model had not seen."""
    refit: bool = False
    """Whether head and kept stages were retrained on training and validation images after all choices were made."""
    adaptation: Adaptation | None = None
    """How it was adapted to another domain; None for a model as it was trained."""
    further_tasks: tuple[SerializeAsAny[Task], ...] = Field((), exclude_if=lambda tasks: not tasks)
    """Other tasks that heads on the same backbone have learnt; the records of these heads are in `heads/`."""

    @property
    def two_views(self) -> bool:
        """Whether it looks at an image under two sets of BatchNorm statistics, see `two_views`."""
        return self.adaptation is not None and self.adaptation.method == "both"

    @model_validator(mode="before")
    @classmethod
    def _with_task(cls, content: Any) -> Any:
        return with_task(content, "labels")

    @model_validator(mode="after")
    def _labels_of_task(self) -> "BundleSpec":
        check_labels(self.labels, self.task)
        return self
