"""The scores of a model of objects."""

from graft.dense.pixel_scores import Part, PixelEvaluation, Score


class KindScores(Part):
    """One kind of object."""

    label: str
    photos: int
    """Test photos that show it."""
    objects: int
    ap: Score
    """Of its masks, over overlaps of 0.5 to 0.95."""
    ap50: Score
    found: int
    missed: int
    spurious: int
    """At the chosen score and an overlap of 0.5."""

    @property
    def judged(self) -> Score:
        """What must not fall below the floor of a class."""
        return self.ap50


class DetectorPoint(Part):
    """What a detector learns from fewer photos."""

    photos: int
    ap50: Score


class InstanceEvaluation(PixelEvaluation):
    """The content of `scores.json` of task instances."""

    headline: str = "mask_ap"
    paired: str = "photo_f1"
    """F1 of a photo's objects at the chosen score and an overlap of 0.5."""
    per_class: tuple[KindScores, ...]
    score: float
    """The chosen score."""
    found: int
    missed: int
    spurious: int
    learning: tuple[DetectorPoint, ...] = ()
