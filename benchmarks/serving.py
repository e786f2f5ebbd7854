"""The served model compared with plain torch: the overhead between image bytes and prediction."""

import base64
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests
import torch
from PIL import Image

from benchmarks.data import ROOT
from benchmarks.measure import Result, Spread, at_most, in_turn, ratio
from graft.backbones.backbone import build_backbone
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head, HeadSpec
from graft.models.export import pixel_network
from graft.serving.packaging import NETWORK, PackedPredictor, pack
from graft.serving.server import Classifier as Served
from graft.serving.server import ServingSpec

BACKBONE = "tf_efficientnet_lite0"
LABELS = ("ant", "bee", "cat", "dog")
SIDE = 500
CALLS = 10
CLIENTS = (1, 8)


def serving(folder: Path, rounds: int) -> list[Result]:
    """One image from bytes to prediction, in process and over HTTP, compared with the bare forward pass."""
    bundle = _bundle()
    bundle.save(folder / "bundle")
    image = _jpeg()
    spec = ServingSpec(labels=LABELS, transform=bundle.transform)
    pack(pixel_network(bundle.classifier), spec, folder / "bundle", folder / "model", image)
    served, predictor = Served.load(folder / "model" / "artifacts" / NETWORK), PackedPredictor(folder / "model")
    pixels = bundle.transform.pixels(image)[None]
    normalised = bundle.transform.normalise(pixels)
    network = bundle.module()

    def bare() -> None:
        with torch.inference_mode():
            network(normalised)

    seconds = in_turn(
        {
            "plain": _repeated(bare),
            "served": _repeated(lambda: served.predict([image])),
            "pyfunc": _repeated(lambda: predictor.predict([image])),
        },
        rounds,
    )
    milliseconds = {name: Spread.of([1000 * value / CALLS for value in values]) for name, values in seconds.items()}
    told = ", ".join(f"{name} {value.median:.1f}" for name, value in milliseconds.items())
    results = [
        at_most(
            f"{BACKBONE}: bytes to answer / bare forward", ratio(seconds["served"], seconds["plain"]), 2, "x", told
        ),
        at_most(f"{BACKBONE}: via MLflow / bare forward", ratio(seconds["pyfunc"], seconds["plain"]), 2, "x"),
    ]
    with _server(folder / "model") as url:
        for clients in CLIENTS:
            results += _over_http(url, image, bare, clients, rounds)
    return results


def _over_http(url: str, image: bytes, bare: Callable[[], None], clients: int, rounds: int) -> list[Result]:
    """Concurrent clients that send one image after the other, compared with as many threads that call the network."""
    body = {"dataframe_records": [{"image": base64.b64encode(image).decode()}]}
    latencies: list[float] = []

    def ask(_: int) -> None:
        with requests.Session() as session:
            for _ in range(CALLS):
                start = time.perf_counter()
                session.post(url, json=body, timeout=60).raise_for_status()
                latencies.append(1000 * (time.perf_counter() - start))

    with ThreadPoolExecutor(clients) as pool:
        seconds = in_turn(
            {
                "plain": lambda: list(pool.map(lambda _: _repeated(bare)(), range(clients))),
                "http": lambda: list(pool.map(ask, range(clients))),
            },
            rounds,
        )
    asked = clients * CALLS
    rates = {name: Spread.of([asked / value for value in values]) for name, values in seconds.items()}
    who = f"HTTP, {clients} client{'s' if clients > 1 else ''}"
    told = ", ".join(f"{name} {value.median:.1f} images/s" for name, value in rates.items())
    compared = ratio(seconds["http"], seconds["plain"])
    return [
        at_most(f"{who} / bare forward", compared, 2, "x", told),
        Result(f"{who}: latency", Spread.of(latencies[asked:]), "ms"),  # the first round warms up
    ]


@contextmanager
def _server(model: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        str(model),
        "--env-manager",
        "local",
        "-p",
        port,
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(300):
            try:
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                    break
            except requests.ConnectionError:
                time.sleep(1)
        else:
            raise SystemExit("benchmarks: the server did not start")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _repeated(call: Callable[[], object]) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(CALLS):
            call()

    return repeat


def _bundle() -> ModelBundle:
    backbone = build_backbone(BACKBONE)
    head = Head(HeadSpec(taps=(backbone.spec.depth,), features=backbone.spec.widths[-1]), len(LABELS))
    spec = BundleSpec(
        labels=LABELS,
        backbone=backbone.spec,
        source_groups=backbone.spec.groups,
        head=head.spec,
        dataset_digest="0" * 64,
        l2=1.0,
    )
    return ModelBundle(spec, Classifier(backbone, head).eval())


def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.effect_mandelbrot((SIDE, SIDE), (-2, -1.5, 1, 1.5), 60).convert("RGB").save(content, "JPEG")
    return content.getvalue()
