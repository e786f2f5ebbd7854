"""The scores of a model of masks."""

from graft.dense.pixel_scores import Part, PixelEvaluation, Score


class ClassScores(Part):
    """One class."""

    label: str
    photos: int
    """Test photos that show it."""
    iou: Score
    """Mean over the photos where it is in the truth or in the answer."""
    dice: Score
    pooled_iou: float | None
    """Of all test photos taken as one."""

    @property
    def judged(self) -> Score:
        """What must not fall below the floor of a class."""
        return self.iou


class LearningPoint(Part):
    """What a decoder learns from fewer masks."""

    photos: int
    mean_iou: Score


class MaskEvaluation(PixelEvaluation):
    """The content of `scores.json` of task segment."""

    headline: str = "mean_iou"
    """Mean over photos of the mean over the objects' classes that truth or answer has."""
    paired: str = "mean_iou"
    per_class: tuple[ClassScores, ...]
    learning: tuple[LearningPoint, ...] = ()
    predicted_iou_rank: float | None = None
    """Spearman's correlation of a photo's predicted IoU with the true one."""
    kept_iou: float | None = None
    """Mean IoU of the nine tenths of the photos with the highest predicted IoU."""
