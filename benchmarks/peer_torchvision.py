"""torchvision's Mask R-CNN and its reference loop: `python -m benchmarks.peer_torchvision DATASET WORK SCHEDULE`.

The loop is that of torchvision (`references/detection/engine.py` cannot be imported): batches of two, SGD of 0.005 with
momentum, a warm-up over the first epoch, mirrored photos. The rate falls as in its tutorial for fine-tuning a detector
(a tenth every three epochs), or as in its reference script (a tenth after 16 and 22 of 26 epochs, here of fifteen). The
model has torchvision's own heads and pyramid (256 channels), on timm's tf_efficientnet_lite0 with the same frozen
weights and the same short side as Graft's.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from benchmarks.pixel_answers import Cost, tell, write_objects
from graft.backbones.weights import create, find_architecture
from graft.detectors.photo_maps import SHORT_SIDE
from graft.imaging.transform import decode
from graft.objects.instance import Instance
from graft.objects.object_dataset import ObjectDataset
from graft.objects.run_length import encode

BACKBONE, WIDTH, BATCH, EPOCHS = "tf_efficientnet_lite0", 256, 2, 15
TOLD = (5, 10, EPOCHS)
"""Epochs after which it answers."""
FALLS = {"tutorial": (3, 6, 9, 12), "reference": (9, 13)}
"""Epochs after which each schedule divides the rate by ten."""


class Pyramid(nn.Module):
    """A frozen timm network under torchvision's feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = WIDTH
        self.body = timm.create_model(BACKBONE, features_only=True, out_indices=(1, 2, 3, 4))
        weights = create(BACKBONE, "default")[0].state_dict()
        self.body.load_state_dict({name: weights[name] for name in self.body.state_dict()})
        self.body.requires_grad_(False)
        self.fpn = FeaturePyramidNetwork(self.body.feature_info.channels(), WIDTH, extra_blocks=LastLevelMaxPool())

    def train(self, mode: bool = True) -> "Pyramid":
        """Keep the statistics of BatchNorm, as torchvision's frozen BatchNorm does."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the pyramid's maps."""
        return self.fpn(OrderedDict((str(at), one) for at, one in enumerate(self.body(pixels))))


def target_of(objects: tuple[Instance, ...], *, mirrored: bool) -> dict[str, torch.Tensor]:
    """Return the objects of a photo as torchvision takes them."""
    masks = np.stack([one.code.mask() for one in objects])
    masks = np.ascontiguousarray(masks[:, :, ::-1] if mirrored else masks)
    boxes = torchvision.ops.masks_to_boxes(torch.from_numpy(masks))
    boxes[:, 2:] += 1
    labels = torch.tensor([one.label + 1 for one in objects])
    return {"boxes": boxes, "labels": labels, "masks": torch.from_numpy(masks.astype(np.uint8))}


def main(dataset: Path, work: Path, schedule_of: str) -> None:
    """Learn from the training photos, and answer for the test photos after some of the epochs."""
    torch.manual_seed(0)
    data, transform = ObjectDataset.open(dataset), find_architecture(BACKBONE).transform
    cost = Cost()
    anchors = AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5)
    model = MaskRCNN(
        Pyramid(),
        len(data.task.labels) + 1,
        min_size=SHORT_SIDE,
        image_mean=list(transform.mean),
        image_std=list(transform.std),
        rpn_anchor_generator=anchors,
    )
    learnt = [part for part in model.parameters() if part.requires_grad]
    optimiser = torch.optim.SGD(learnt, lr=0.005, momentum=0.9, weight_decay=0.0005)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, FALLS[schedule_of], 0.1)
    train, found, spent = data.rows("train"), [], 0.0
    photos = {row: decode(data.photos[row]).float() / 255 for row in train.tolist()}
    for epoch in range(EPOCHS):
        model.train()
        batches = torch.randperm(len(train)).split(BATCH)
        warm = torch.optim.lr_scheduler.LinearLR(optimiser, 0.001, total_iters=len(batches) - 1) if not epoch else None
        for batch in batches:
            pixels, targets = [], []
            for row in train[batch.numpy()].tolist():
                mirrored = bool(torch.rand(()) < 0.5)
                pixels.append(photos[row].flip(-1) if mirrored else photos[row])
                targets.append(target_of(data.objects(row), mirrored=mirrored))
            loss = torch.stack(list(model(pixels, targets).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if warm:
                warm.step()
        schedule.step()
        if epoch + 1 in TOLD:
            told = f"torchvision {torchvision.__version__.split('+')[0]}, {schedule_of}, epoch {epoch + 1}"
            one = cost.row(told, work, parameters=sum(part.numel() for part in learnt), frozen=True)
            one["seconds"] -= spent
            before = Cost()
            seen = (answer(model, data, row) for row in data.rows("test").tolist())
            answers = write_objects(work / f"torchvision-{schedule_of}-{epoch + 1}.json", seen)
            spent += before.row("", work)["seconds"]
            found.append({**one, "answers": str(answers)})
    tell(found)


def answer(model: MaskRCNN, data: ObjectDataset, row: int) -> list[Instance]:
    """Return the objects that it sees in a photo."""
    model.eval()
    with torch.inference_mode():
        (seen,) = model([decode(data.photos[row]).float() / 255])
    found = []
    for box, label, score, mask in zip(seen["boxes"], seen["labels"], seen["scores"], seen["masks"][:, 0], strict=True):
        left, top, right, bottom = box.tolist()
        inside = (mask > 0.5).numpy()
        if inside.any():
            found.append(
                Instance(
                    int(label) - 1,
                    encode(inside, 0, inside.shape[1]),
                    (left, top, right - left, bottom - top),
                    float(score),
                )
            )
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
