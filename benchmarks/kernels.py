"""Decoding and the forward pass separately: compared with the usual code, and with the limit of the processor."""

import io
from pathlib import Path

import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.data import dataset_of
from benchmarks.measure import Result, Spread, at_least, in_turn, ratio
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.extraction import Forward, fastest_batch_size, pixel_loader, run_batches, worker_count
from graft.backbones.flops import count_operations
from graft.backbones.runtimes import make_forward

IMAGES = 64
BATCH = 8


def decode(work: Path, rounds: int) -> list[Result]:
    """From the bytes of a file to the input pixels of the network, on one thread."""
    torch.set_num_threads(1)
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    transform = build_backbone("tf_efficientnet_lite0", "none").spec.transform
    contents = [dataset.image(row) for row in range(0, len(dataset), len(dataset) // IMAGES)]
    usual = v2.Compose(
        [
            v2.Resize(round(transform.size / transform.crop_fraction), interpolation=v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(transform.size),
            v2.PILToTensor(),
        ]
    )
    seconds = in_turn(
        {
            "Pillow": lambda: [usual(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents],
            "Graft": lambda: [transform.pixels(content) for content in contents],
        },
        rounds,
        "cpu",
    )
    each = Spread.of([value / len(contents) * 1000 for value in seconds["Graft"]])
    return [
        at_least("decode, crop, resize: Pillow transforms / Graft", ratio(seconds["Pillow"], seconds["Graft"]), 1.6),
        Result("decode, crop, resize", each, "CPU ms/image"),
    ]


def forward(work: Path, rounds: int) -> list[Result]:
    """All taps of the frozen backbone on one thread: eager torch compared with folded, OpenVINO, ONNX Runtime."""
    del work
    torch.set_num_threads(1)
    results = []
    for architecture, goal in (("tf_efficientnet_lite0", 2.0), ("resnet18", 1.4), ("mobilenet_v3_small", None)):
        backbone = build_backbone(architecture, "default" if architecture.startswith("tf_") else "none")
        size = backbone.spec.transform.size
        pixels = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
        candidates = {"eager": _eager(backbone), "folded": make_forward(backbone)}
        candidates["OpenVINO"] = make_forward(backbone, "openvino")
        candidates["ONNX Runtime"] = make_forward(backbone, "onnxruntime")
        calls = {name: lambda call=call, x=pixels: call(x) for name, call in candidates.items()}
        seconds = in_turn(calls, 2 * rounds, "cpu")
        each = ", ".join(f"{name} {Spread.of(s).median / BATCH * 1000:.1f}" for name, s in seconds.items())
        for name in ("folded", "OpenVINO", "ONNX Runtime"):
            what = f"{architecture} forward: eager / {name}"
            gain = ratio(seconds["eager"], seconds[name])
            note = f"CPU ms/image: {each}" if name == "folded" else ""
            reached = goal if name == "folded" else None
            results.append(at_least(what, gain, reached, note=note) if reached else Result(what, gain, "x", note=note))
    return results


def extraction(work: Path, rounds: int) -> list[Result]:
    """The whole extraction on all cores: compared with the sum of its parts, and with the limit of the processor."""
    dataset = dataset_of("hymenoptera", work / "hymenoptera")
    backbone = build_backbone("tf_efficientnet_lite0")
    workers = worker_count("auto")
    rows = list(range(len(dataset)))
    pixels = pixel_loader(backbone.spec.transform, dataset)
    decoded = [pixels(row) for row in rows]
    results = []
    limit = 1000 * workers / _floor_ms(backbone, [dataset.image(row) for row in rows])
    for backend in ("torch", "openvino"):
        forward = make_forward(backbone, backend, workers)  # type: ignore[arg-type]
        batch = fastest_batch_size(forward, pixels, rows)
        seconds = in_turn(
            {
                "decode": lambda batch=batch: _drain(lambda x: x[0], pixels, rows, batch, workers),
                "forward": lambda f=forward, batch=batch: _drain(f, decoded.__getitem__, rows, batch, workers),
                "together": lambda f=forward, batch=batch: _drain(f, pixels, rows, batch, workers),
            },
            rounds,
        )
        parts = [a + b for a, b in zip(seconds["decode"], seconds["forward"], strict=True)]
        rate = Spread.of([len(rows) / value for value in seconds["together"]])
        results.append(
            at_least(f"extraction ({backend}): its parts added up / together", ratio(parts, seconds["together"]), 0.9)
        )
        results.append(
            Result(f"extraction ({backend})", rate, "images/s", note=f"batches of {batch}, {workers} threads")
        )
    share = Spread(*(value / limit for value in (rate.median, rate.low, rate.high)))
    note = f"limit {limit:.0f} images/s: matrix products at the measured peak, and JPEG decoding, nothing else"
    return [*results, at_least("extraction (openvino) / physical limit", share, 0.5, note=note)]


def _drain(forward: Forward, pixels: object, rows: list[int], batch: int, workers: int) -> None:
    for _ in run_batches(forward, pixels, rows, batch_size=batch, workers=workers):  # type: ignore[arg-type]
        pass


def _eager(backbone: Backbone) -> Forward:
    """The usual careful code: eval mode, no gradients."""

    def call(pixels: torch.Tensor) -> object:
        with torch.no_grad():
            return [tap.numpy() for tap in backbone.taps(backbone.spec.transform.normalise(pixels))]

    return call  # type: ignore[return-value]


def _floor_ms(backbone: Backbone, contents: list[bytes]) -> float:
    """Minimum milliseconds of one core per image: its multiplications at the peak rate, plus decoding."""
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    jpegs = [content for content in contents if content[:2] == b"\xff\xd8"]
    seconds = in_turn(
        {"product": lambda: a @ b, "decode": lambda: [simplejpeg.decode_jpeg(content) for content in jpegs[:IMAGES]]},
        rounds=9,
        clock="cpu",
    )
    torch.set_num_threads(worker_count("auto"))
    rate = 2 * 1024**3 / min(seconds["product"])
    return 1000 * (sum(count_operations(backbone)) / rate + min(seconds["decode"]) / IMAGES)
