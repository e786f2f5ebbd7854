"""Avalanche's replay, LwF and EWC on stored features, run with a Python that has Avalanche.

python -m benchmarks.peer_avalanche FEATURES.npz METHOD=STRENGTH...

FEATURES.npz holds `train` (n, D) and `test` (m, D), already standardised, with `train_target`, `train_part`,
`test_target`. Prints one line of JSON: for each method the answers to all test images after each experience, seconds
and bytes kept.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import EWC, LwF, Replay

EPOCHS, BATCH, RATE, TEMPERATURE = 20, 32, 1e-3, 2.0


def main(file: str, asked: Sequence[str]) -> None:
    """Learn one experience after another by each method."""
    torch.set_num_threads(1)
    data = np.load(file)
    print(
        json.dumps([learn(data, name, float(strength)) for name, _, strength in (one.partition("=") for one in asked)])
    )


def learn(data: Mapping[str, Any], method: str, strength: float) -> dict[str, Any]:
    """Learn by one method."""
    torch.manual_seed(0)
    train, test = torch.from_numpy(data["train"]), torch.from_numpy(data["test"])
    targets, parts = torch.from_numpy(data["train_target"]), data["train_part"]
    classes = int(max(targets.max(), data["test_target"].max())) + 1
    layer = torch.nn.Linear(train.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)
    made: dict[str, Any] = {
        "model": layer,
        "optimizer": torch.optim.Adam(layer.parameters(), lr=RATE),
        "criterion": torch.nn.CrossEntropyLoss(),
        "train_mb_size": BATCH,
        "train_epochs": EPOCHS,
        "evaluator": EvaluationPlugin(),
    }
    strategy = {
        "replay": lambda: Replay(mem_size=int(strength), **made),
        "lwf": lambda: LwF(alpha=strength, temperature=TEMPERATURE, **made),
        "ewc": lambda: EWC(ewc_lambda=strength, **made),
    }[method]()
    streams = [
        (train[torch.from_numpy(parts == part)], targets[torch.from_numpy(parts == part)])
        for part in range(int(parts.max()) + 1)
    ]
    benchmark = tensors_benchmark(streams, streams, task_labels=[0] * len(streams), complete_test_set_only=False)
    answers, known, start = [], set[int](), time.process_time()
    for experience in benchmark.train_stream:
        strategy.train(experience, num_workers=0)
        known |= set(streams[len(answers)][1].tolist())
        seen = sorted(known)
        with torch.inference_mode():
            answers.append(np.array(seen)[layer(test)[:, seen].argmax(1).numpy()].tolist())
    weights = 4 * sum(parameter.numel() for parameter in layer.parameters())
    kept = {
        "replay": int(strength) * train.shape[1] * 4,
        "lwf": weights,  # the model before
        "ewc": 2 * weights * len(streams),  # importance and weights of every experience
    }
    seconds = time.process_time() - start
    return {"method": method, "strength": strength, "answers": answers, "seconds": seconds, "bytes": kept[method]}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
