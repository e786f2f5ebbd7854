"""fastai on the same images and weights; runs with a Python that has fastai, and prints one line of JSON.

python -m benchmarks.peer_fastai FOLDER ARCHITECTURE freeze|EPOCHS
"""

import json
import sys
import time

from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    set_seed,
    vision_learner,
)

from graft.backbones.weights import create, find_architecture


class TrainingTime(Callback):
    """Records the seconds that each epoch spends on training images, without validation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train(self) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def after_train(self) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.start)


def main(folder: str, name: str, mode: str) -> None:
    """Train as in fastai's quick start, and print seconds and accuracy on the folder `val`."""
    set_seed(0)
    transform = find_architecture(name).transform
    batch_transforms = [*aug_transforms(), Normalize.from_stats(transform.mean, transform.std, cuda=False)]
    data = ImageDataLoaders.from_folder(
        folder, train="train", valid="val", item_tfms=Resize(transform.size), batch_tfms=batch_transforms
    )
    learner = vision_learner(data, name, pretrained=False, normalize=False, metrics=accuracy)
    weights = "default" if name.startswith("tf_") else "none"
    state = create(name, weights)[0].state_dict()
    body = learner.model[0].model
    missing, _ = body.load_state_dict(state, strict=False)
    assert not missing
    clock = TrainingTime()
    start = time.perf_counter()
    with learner.no_bar(), learner.no_logging():
        if mode == "freeze":
            learner.freeze()
            learner.fit_one_cycle(2, cbs=clock)
        else:
            learner.fine_tune(int(mode), cbs=clock)
    seconds = time.perf_counter() - start
    print(
        json.dumps(
            {
                "seconds": seconds,
                "accuracy": float(learner.recorder.values[-1][-1]),
                "train_ms_per_image": [1000 * value / len(data.train_ds) for value in clock.seconds],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
