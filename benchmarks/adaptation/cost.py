"""Time, memory and latency of adapting a real model to images of 224 pixels, on one thread.

python -m benchmarks.adaptation.cost IMAGES [METHOD] adapts to so many images, and prints one line of JSON.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from benchmarks.adaptation.domains import BACKBONE, PENALTY, SourceView, fit, pacs, pacs_folder
from benchmarks.data import ROOT
from benchmarks.measure import in_turn, ratio
from graft.adapt.adaptation import adapt
from graft.adapt.target_images import TargetImages
from graft.backbones.backbone import build_backbone
from graft.data.safe_paths import read_bytes
from graft.heads.class_moments import ClassMoments
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head
from graft.models.export import pixel_network
from graft.models.fit_head import with_feature_statistics
from graft.models.renormed_head import RenormedHead
from graft.params.adapt import AdaptParams

FEW, MANY = 280, 840
SOURCE = "cartoon"
IMAGES_TIMED, ROUNDS = 6, 20


class Cost(NamedTuple):
    """What adapting costs."""

    seconds: float
    """CPU seconds for `FEW` images."""
    few: float
    """Peak memory of the process in MB, for `FEW` images."""
    many: float
    """For `MANY`."""
    latency: dict[str, float]
    """How many times as long as before an answer takes, by method."""


def measure_cost() -> Cost:
    """Adapt in processes of their own."""
    few, many = _alone(FEW, "both"), _alone(MANY, "both")
    latency = {"both": few["latency"], "standardise": _alone(FEW, "standardise")["latency"]}
    return Cost(few["seconds"], few["megabytes"], many["megabytes"], latency)


def _alone(images: int, method: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.adaptation.cost", str(images), method]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks.adaptation.cost failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def source_model() -> ModelBundle:
    """Return a model of one domain, with all that training keeps."""
    source = pacs()[SOURCE].source
    backbone = build_backbone(BACKBONE)
    head = _head(source.plain, backbone.spec.depth)
    spec = BundleSpec(
        labels=source.plain.task.labels, task=source.plain.task, backbone=backbone.spec,
        source_groups=backbone.spec.groups, head=head.spec, dataset_digest="", l2=PENALTY,
    )  # fmt: skip
    bundle = ModelBundle(spec, Classifier(backbone, head).eval())
    features, targets = source.plain.features, source.plain.targets
    bundle = with_feature_statistics(bundle, features, targets, targets.astype(str))
    sample = source.normed.sample
    moments = ClassMoments.of(sample.features, sample.targets, source.plain.task.outputs)
    return replace(bundle, renormed=RenormedHead(_head(sample, backbone.spec.depth), moments))


def _head(view: SourceView, tap: str) -> Head:
    return Head.of(fit(view.features, view.targets, view.task), (tap,)).eval()


def main(images: int, method: str) -> None:
    """Adapt to the images of the other domains, and tell what it cost."""
    torch.set_num_threads(1)
    bundle, folder = source_model(), pacs_folder()
    files = [
        str(file.relative_to(folder))
        for domain in ("sketch", "photo", "art_painting")
        for file in sorted((folder / domain).glob("*/*"))
    ]
    chosen = TargetImages.of(folder, files[:images])
    began = time.process_time()
    found = adapt(bundle, chosen, AdaptParams.model_validate({"method": method}), "cartoons", "others")
    seconds = time.process_time() - began
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": megabytes, "latency": _latency(bundle, found.bundle, chosen)}))


def _latency(before: ModelBundle, after: ModelBundle, images: TargetImages) -> float:
    """Return how many times as long an answer takes, in CPU time, measured in turn."""
    contents = [read_bytes(images.folder / file) for file in images.at_most(IMAGES_TIMED).files]

    def answering(bundle: ModelBundle) -> Callable[[], object]:
        network = pixel_network(bundle.classifier)
        return lambda: [network(bundle.transform.pixels(content)[None]) for content in contents]

    candidates = {"before": answering(before), "after": answering(after)}
    with torch.inference_mode():
        seconds = in_turn(candidates, ROUNDS, "cpu")
    return ratio(seconds["after"], seconds["before"]).median


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
