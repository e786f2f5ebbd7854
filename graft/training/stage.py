"""What is trained together, for how long, and how fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage: train the head and `groups`, with everything else frozen."""

    groups: tuple[str, ...]
    """Consecutive groups of the backbone, usually including its last."""
    epochs: int
    lr: float
    """Peak learning rate of the head and the top group."""

    @property
    def name(self) -> str:
        """The lowest group that is trained."""
        return self.groups[0]
