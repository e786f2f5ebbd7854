"""Fit the head that adaptation starts its second view from, under statistics re-estimated on some training images."""

from dataclasses import replace

import numpy as np
import torch

from graft.backbones.bn_folding import for_inference
from graft.backbones.extraction import pixel_loader
from graft.data.dataset import ImageDataset
from graft.heads.class_moments import ClassMoments
from graft.heads.feature_sample import SAMPLE_IMAGES, sample_rows
from graft.models.batch_norm import NORM_BATCH, estimate_norms
from graft.models.bundle import ModelBundle
from graft.models.classifier import Classifier
from graft.models.fit_head import refit_head
from graft.models.renormed_head import RenormedHead
from graft.models.two_views import has_batch_norm, with_norms

BATCH = 16
FEWEST = 10
"""Images of a class, on average over the sample: from fewer, the model's own head is the better start."""
ENOUGH, ENOUGH_OF_A_CLASS = 96, 26
"""Images that suffice for the statistics, and images of a class, on average, for the head: all of them pass through
the network twice in every training, adapted or not."""


def with_renormed_head(bundle: ModelBundle, dataset: ImageDataset, seed: int = 0) -> ModelBundle:
    """Return a model that can start its second view of a domain from a head of its own.

    Models that adaptation cannot use, or of backbones without BatchNorm, are returned unchanged. At most
    `SAMPLE_IMAGES` images are read, each of another group, and fewer if there are few classes.

    Args:
        bundle: a trained model that knows its class moments.
        dataset: what it was trained on.
        seed: of the order in which the statistics are estimated.
    """
    head = bundle.classifier.head
    if bundle.further or bundle.moments is None or not isinstance(head.linear, torch.nn.Linear):
        return bundle
    train = dataset.labelled("train")
    targets = dataset.targets()[train]
    order = np.argsort(targets, kind="stable")  # so that the sample has every class in its share
    most = min(SAMPLE_IMAGES, max(ENOUGH, ENOUGH_OF_A_CLASS * bundle.task.outputs))
    chosen = order[sample_rows(dataset.table["group"].to_numpy()[train[order]], most)]
    if not has_batch_norm(bundle.backbone) or len(chosen) < FEWEST * bundle.task.outputs:
        return bundle
    load, transform = pixel_loader(bundle.transform, dataset), bundle.transform
    pixels = torch.stack([load(int(row)) for row in train[chosen]])
    shuffled = torch.from_numpy(np.random.default_rng(seed).permutation(len(pixels)))
    parts = shuffled.tensor_split(max(1, round(len(pixels) / NORM_BATCH)))
    norms = estimate_norms(bundle.backbone, (transform.normalise(pixels[part]) for part in parts))
    renormed = Classifier(with_norms(bundle.backbone, norms), head).eval()
    network = for_inference(renormed, transform.normalise(pixels[:1]), lambda module, batch: module.features(batch))
    with torch.inference_mode():
        batches = (transform.normalise(pixels[at : at + BATCH]) for at in range(0, len(pixels), BATCH))
        features = torch.cat([network.features(x.contiguous(memory_format=torch.channels_last)) for x in batches])
    learnt, seen = targets[chosen], features.numpy()
    fitted = refit_head(bundle, seen, learnt, weighted=bool(bundle.spec.weighted)).eval()
    return replace(bundle, renormed=RenormedHead(fitted, ClassMoments.of(seen, learnt, bundle.task.outputs)))
