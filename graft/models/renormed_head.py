"""The head of a model's second view at home: fitted to features under BatchNorm statistics of the training images' own.

A pretrained network keeps the BatchNorm statistics of the images that its weights come from. Under statistics of new
images its features differ from those that the model's head was fitted to, whether these images are a domain's or the
training images themselves. So adaptation, which estimates them anew for a domain, starts there from a head that was
fitted to features seen in the same way.
"""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch

from graft.backbones.from_tensors import artifact_tensors, from_tensors
from graft.core.errors import ModelError
from graft.heads.class_moments import ClassMoments
from graft.models.classifier import Head, HeadSpec

FOLDER, HEAD_FILE = "renormed", "head.safetensors"


@dataclass(frozen=True)
class RenormedHead:
    """A head, and what it was fitted to."""

    head: Head
    """Of the same kind and for the same groups as the model's; its logits need the model's temperature."""
    moments: ClassMoments
    """Of the features under re-estimated statistics."""

    def save(self, folder: Path) -> None:
        """Write `renormed/` into the folder of a bundle, which exists."""
        place = folder / FOLDER
        place.mkdir()
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.head.state_dict().items()}
        (place / HEAD_FILE).write_bytes(safetensors.torch.save(tensors))
        self.moments.save(place)

    @classmethod
    def load(cls, folder: Path, spec: HeadSpec, outputs: int) -> "RenormedHead | None":
        """Read what `save` wrote; None if a bundle has none.

        Args:
            folder: of the bundle.
            spec: of its head.
            outputs: number of classes.

        Raises:
            ModelError: if a file cannot be read or is of another head.
        """
        place = folder / FOLDER
        if not place.is_dir():
            return None
        moments = ClassMoments.load(place, (outputs, spec.features))
        if moments is None:
            raise ModelError(f"{place}: has no moments; train the model again")
        try:
            head = from_tensors(lambda: Head(spec, outputs), artifact_tensors(place / HEAD_FILE))
        except (KeyError, RuntimeError, ValueError) as error:
            raise ModelError(f"{place}: the tensors do not belong to the model ({str(error)[:200]})") from error
        return cls(head.eval(), moments)
