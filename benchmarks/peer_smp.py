"""segmentation_models_pytorch on a frozen encoder, run with a Python that has it.

python -m benchmarks.peer_smp ARCHITECTURE DATASET WORK

Photos lie in the same squares as Graft's, the encoder is timm's tf_efficientnet_lite0 with the same weights. The
decoder learns as the library's examples do (Adam, soft Dice, a cosine schedule; cross-entropy helps it here), with
mirrored photos.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from benchmarks.pixel_answers import Cost, tell, write_logits
from graft.backbones.weights import create, find_architecture
from graft.imaging.letterbox import fitted, letterbox, letterbox_mask
from graft.masks.dataset import MaskDataset
from graft.tasks.pixels import IGNORED

ENCODER, BATCH, EPOCHS, RATE = "tf_efficientnet_lite0", 8, 4, 1e-3


def main(architecture: str, dataset: Path, work: Path) -> None:
    """Learn from the training photos, and answer for the test photos."""
    torch.manual_seed(0)
    data = MaskDataset.read(dataset, "segment")
    transform, classes = find_architecture(ENCODER).transform, len(data.task.labels)
    cost = Cost()
    model = smp.create_model(architecture, f"tu-{ENCODER}", encoder_weights=None, classes=classes)
    weights, own = create(ENCODER, "default")[0].state_dict(), model.encoder.model.state_dict()
    model.encoder.model.load_state_dict({name: weights[name] for name in own})
    model.freeze_encoder()
    before = copy.deepcopy(model.encoder.state_dict())
    train = data.rows("train")
    pixels = torch.stack([letterbox(data.photos[int(row)], transform)[0] for row in train])
    sizes = data.table[["height", "width"]].to_numpy()[train]
    boxes = [fitted(int(height), int(width), transform.size) for height, width in sizes]
    masks = torch.from_numpy(
        np.stack(
            [
                letterbox_mask(data.mask(int(row)), box, transform.size, IGNORED)
                for row, box in zip(train, boxes, strict=True)
            ]
        ).astype(np.int64)
    )
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)
    optimiser = torch.optim.Adam((part for part in model.parameters() if part.requires_grad), lr=RATE)
    steps = -(-len(train) // BATCH) * EPOCHS
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(train)).split(BATCH):
            flip = bool(torch.rand(()) < 0.5)
            photos, truth = (part[batch].flip(-1) if flip else part[batch] for part in (pixels, masks))
            logits = model(transform.normalise(photos))
            loss = dice(logits, truth) + F.cross_entropy(logits, truth, ignore_index=IGNORED)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    moved = [name for name, tensor in model.encoder.state_dict().items() if not torch.equal(tensor, before[name])]
    decoder = sum(part.numel() for part in model.parameters() if part.requires_grad)
    name = f"{architecture} of segmentation_models_pytorch {smp.__version__}, frozen encoder, {EPOCHS} epochs"
    learnt = cost.row(name, work, parameters=decoder, frozen=not moved)
    model.eval()
    answers = []
    for row in data.rows("test"):
        square, _ = letterbox(data.photos[int(row)], transform)
        with torch.inference_mode():
            answers.append(model(transform.normalise(square[None]))[0])
    tell([{**learnt, "answers": str(write_logits(work / f"smp-{architecture}.npy", answers))}])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
