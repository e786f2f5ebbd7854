"""python -m benchmarks.gpu: the path on an NVIDIA GPU, compared with the usual loop and, if it is installed, with DALI.

Needs torch, torchvision, timm and what `graft.backbones` and `graft.finetune` import: numpy, scipy, pandas, pyarrow,
pillow, simplejpeg, safetensors, pydantic, pyyaml, tqdm and threadpoolctl. Takes less than six minutes on one GPU.
Without a GPU the same code runs on the CPU with few images, to see that it works; those numbers mean nothing.
"""

import argparse
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.measure import Result, Spread, at_least
from benchmarks.staged import epochs
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.extraction import pixel_loader, run_batches, worker_count
from graft.backbones.runtimes import make_forward, start_runtime
from graft.data.dataset import ImageDataset, write_dataset

BATCH = 64
SHAPE = (375, 500)


class _Files(Dataset[tuple[torch.Tensor, int]]):
    """Photos as the usual code reads them."""

    def __init__(self, dataset: ImageDataset, size: int) -> None:
        self.contents = [dataset.image(row) for row in range(len(dataset))]
        self.transform = v2.Compose(
            [
                v2.Resize(round(size / 0.875), interpolation=v2.InterpolationMode.BICUBIC),
                v2.CenterCrop(size),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(io.BytesIO(self.contents[index])).convert("RGB")), index


def measure(work: Path, images: int, rounds: int) -> Iterator[Result]:
    """Yield the results: extraction, its parity, and an epoch of a stage."""
    dataset = _photos(work / "dataset", images)
    for architecture in ("tf_efficientnet_lite0", "resnet50"):
        backbone = build_backbone(architecture, "none")
        runtime = start_runtime(backbone, "cuda" if torch.cuda.is_available() else "torch", worker_count("auto"))
        pixels, rows = pixel_loader(backbone.spec.transform, dataset), list(range(images))

        def ours(runtime: object = runtime, pixels: object = pixels, rows: list[int] = rows) -> None:
            batches = run_batches(runtime.forward, pixels, rows, batch_size=BATCH, workers=worker_count("auto"))
            assert sum(len(batch) for batch, _ in batches) == images

        candidates: dict[str, Callable[[], None]] = {
            "graft": ours,
            "loop": lambda backbone=backbone: _usual_loop(backbone, dataset),
        }
        if find_spec("nvidia") and find_spec("nvidia.dali"):
            candidates["DALI"] = lambda backbone=backbone: _dali(backbone, dataset)
        rates = {name: _rates(call, images, rounds) for name, call in candidates.items()}
        for name, rate in rates.items():
            yield Result(f"{architecture}, {name} ({runtime.backend})", Spread.of(rate), "images/s")
        for name in rates.keys() - {"graft"}:
            share = [a / b for a, b in zip(rates["graft"], rates[name], strict=True)]
            yield at_least(f"{architecture}: graft / {name}", Spread.of(share), 1.0)
        sample = torch.stack([pixels(row) for row in rows[:8]])
        expected, found = make_forward(backbone)(sample), runtime.forward(sample)
        error = float(np.abs(found - expected).max() / expected.std())
        yield Result(f"{architecture}: largest difference from the CPU", Spread.of([error]), "standard deviations")
    backbone = build_backbone("tf_efficientnet_lite0", "none")
    calls, _ = epochs(dataset, backbone, "blocks.4", min(images, 192))
    calls["cached"]()
    for name, call in calls.items():
        yield Result(f"epoch above blocks.4, {name}", Spread.of(_rates(call, min(images, 192), rounds)), "images/s")


def _rates(call: Callable[[], object], images: int, rounds: int) -> list[float]:
    call()  # warms up
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        found.append(images / (time.perf_counter() - start))
    return found


def _usual_loop(backbone: Backbone, dataset: ImageDataset) -> None:
    """The usual careful code: eval mode, no gradients, float16, channels_last, pinned memory, worker processes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = backbone.to(device, memory_format=torch.channels_last)
    loader = DataLoader(
        _Files(dataset, backbone.spec.transform.size),
        batch_size=BATCH,
        num_workers=os.cpu_count() or 1,
        pin_memory=device.type == "cuda",
    )
    with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        for batch, _ in loader:
            batch = batch.to(device, non_blocking=True, memory_format=torch.channels_last)
            torch.cat([tap.float() for tap in model.taps(batch)], dim=1).cpu()
    backbone.to("cpu")


def _dali(backbone: Backbone, dataset: ImageDataset) -> None:
    """The same network behind NVIDIA's decoder on the GPU."""
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    contents = [np.frombuffer(dataset.image(row), np.uint8) for row in range(len(dataset))]
    size = backbone.spec.transform.size

    @pipeline_def(batch_size=BATCH, num_threads=os.cpu_count() or 1, device_id=0)
    def pipeline() -> object:
        files = fn.external_source(source=_batches(contents), batch=True, dtype=types.UINT8)
        images = fn.decoders.image(files, device="mixed")
        images = fn.resize(images, resize_shorter=round(size / 0.875), interp_type=types.INTERP_CUBIC)
        return fn.crop_mirror_normalize(
            images,
            crop=(size, size),
            dtype=types.FLOAT16,
            mean=[255 * value for value in (0.485, 0.456, 0.406)],
            std=[255 * value for value in (0.229, 0.224, 0.225)],
        )

    model = backbone.to("cuda", memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        for batch in DALIGenericIterator([pipeline()], ["images"]):
            images = batch[0]["images"].contiguous(memory_format=torch.channels_last)
            torch.cat([tap.float() for tap in model.taps(images)], dim=1).cpu()
    backbone.to("cpu")


def _batches(contents: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(contents), BATCH):
        yield contents[start : start + BATCH]


def _photos(folder: Path, images: int) -> ImageDataset:
    """Write JPEGs with the detail of photos: noise of several scales."""
    rows, contents = [], []
    for number in range(images):
        random = np.random.default_rng(number)
        coarse = np.kron(random.uniform(0, 200, (25, 25, 3)), np.ones((15, 20, 1)))
        pixels = (coarse + random.normal(30, 12, (*SHAPE, 3))).clip(0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG", quality=90)
        contents.append(content.getvalue())
        rows.append(
            {"id": hashlib.sha256(contents[-1]).hexdigest(), "path": f"{number}.jpg", "label": "ab"[number % 2]}
        )
    table = pd.DataFrame(rows).assign(split="train", domain="", format="JPEG", mode="RGB")
    table["group"], table["bytes"] = table["id"], [len(content) for content in contents]
    table["width"], table["height"] = SHAPE[1], SHAPE[0]
    return write_dataset(folder, table, contents, ("a", "b"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--images", type=int, help="number of photos (4,096; 64 without a GPU)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    print(torch.cuda.get_device_name() if gpu else "no GPU: a trial on the CPU; its numbers mean nothing", flush=True)
    with tempfile.TemporaryDirectory(prefix="graft-gpu-") as folder:
        os.environ["GRAFT_CACHE"] = f"{folder}/cache"
        for result in measure(Path(folder), options.images or (4096 if gpu else 64), options.rounds):
            value = result.value
            print(f"{result.what}: {value.median:.3g} ({value.low:.3g} to {value.high:.3g}) {result.unit}", flush=True)


if __name__ == "__main__":
    main()
