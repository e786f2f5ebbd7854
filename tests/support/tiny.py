"""A dataset, a model and its evaluation that are made in a second."""

import io
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from graft.backbones.backbone import build_backbone
from graft.backbones.incremental import extract_into
from graft.data.dataset import ImageDataset, write_dataset
from graft.evaluation.assessment import Sampling, SplitPredictions, assess
from graft.evaluation.held_out_table import prediction_table, write_predictions
from graft.evaluation.schema import write_evaluation
from graft.heads.linear_probe import Linear
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec, TapScore
from graft.models.classifier import Classifier, Head
from graft.models.fit_head import refit_head
from graft.params.extract_features import ExtractFeaturesParams
from tests.support.pictures import picture

CLASSES = ("ant", "bee", "cat")
PER_SPLIT = {"train": 20, "val": 4, "test": 20}


def small_dataset(folder: Path, classes: tuple[str, ...] = CLASSES, val: int = PER_SPLIT["val"]) -> ImageDataset:
    """A dataset of striped pictures of two or three classes, with so many validation images of each."""
    rows, contents = [], []
    for label, name in enumerate(classes):
        for split, count in (PER_SPLIT | {"val": val}).items():
            for _ in range(count):
                content = io.BytesIO()
                picture(label, len(rows)).save(content, "PNG")
                contents.append(content.getvalue())
                number = len(rows)
                identity = sha256(contents[-1]).hexdigest()
                rows.append({"id": identity, "path": f"{number}.png", "label": name, "split": split})
    table = pd.DataFrame(rows).assign(domain="", format="PNG", mode="RGB", width=24, height=24)
    table["group"], table["bytes"] = table["id"], [len(content) for content in contents]
    return write_dataset(folder, table, contents, classes)


def bundle_of(dataset: ImageDataset, shuffled: float = 0.0) -> ModelBundle:
    """A nearest-mean classifier on the features of an untrained backbone, some of its training labels shuffled."""
    backbone = build_backbone("mobilenet_v3_small", "none", image_size=32).truncated("features.1")
    transform, train = backbone.spec.transform, dataset.indices("train")
    pixels = torch.stack([transform.pixels(dataset.image(int(row))) for row in train])
    with torch.no_grad():
        features = backbone(transform.normalise(pixels))
    targets = torch.from_numpy(dataset.targets()[train])
    wrong = np.random.default_rng(0).random(len(targets)) < shuffled
    targets[wrong] = (targets[wrong] + 1) % len(dataset.classes)
    mean, scale = features.mean(0), features.std(0) + 1e-6
    means = torch.stack(
        [((features - mean) / scale)[targets == label].mean(0) for label in range(len(dataset.classes))]
    )
    weight = (means / scale).double().numpy()
    bias = (-(means**2).sum(1) / 2).double().numpy() - weight @ mean.double().numpy()
    fitted = Linear(weight, bias, mean=mean.double().numpy(), scale=scale.double().numpy())
    head = Head.of(fitted, (backbone.spec.depth,))
    spec = BundleSpec(
        labels=dataset.classes,
        backbone=backbone.spec,
        source_groups=backbone.spec.groups,
        head=head.spec,
        dataset_digest=dataset.spec.digest,
        l2=1.0,
        temperature=1.5,
    )
    return ModelBundle(spec, Classifier(backbone, head).eval())


def evaluated(dataset: ImageDataset, bundle: ModelBundle, folder: Path) -> Path:
    rows = np.flatnonzero(dataset.table["split"].isin(["val", "test"]).to_numpy())
    reader = dataset.reader()
    probabilities = bundle.probabilities(bundle.logits(reader[int(row)] for row in rows))
    of = {}
    for split in ("val", "test"):
        mine = dataset.table["split"].to_numpy()[rows] == split
        found = probabilities[mine]
        of[split] = SplitPredictions(dataset.targets()[rows][mine], found, found, rows[mine])
    evaluation = assess(
        of["test"],
        of["val"],
        dataset.targets()[dataset.indices("train")],
        task=dataset.task,
        dataset_digest=dataset.spec.digest,
        sampling=Sampling(bootstrap=100),
    )
    folder.mkdir(parents=True)
    write_evaluation(folder, evaluation)
    both = {"": probabilities, "head_": probabilities}
    write_predictions(folder, prediction_table(dataset.table.iloc[rows], dataset.task, both))
    return folder


def tuning_inputs(folder: Path, val: int = PER_SPLIT["val"]) -> Path:
    """Write the inputs of step fine_tune, and `params.yaml` with which it keeps what it trains."""
    dataset = small_dataset(folder / "dataset", val=val)
    bundle = bundle_of(dataset)
    extract_into(folder / "features", dataset, ExtractFeaturesParams(workers=1), own=bundle.backbone)
    # A penalty that leaves the head something to learn.
    bundle = replace(bundle, spec=bundle.spec.model_copy(update={"l2": 10.0}))
    rows, reader = dataset.indices("train"), dataset.reader()
    _, features = bundle.logits_and_features(reader[int(row)] for row in rows)
    head = refit_head(bundle, features, dataset.targets()[rows], weighted=False)
    curve = tuple(
        TapScore(tap=tap, accuracy=0.5, low=0.4, high=0.6, log_loss=1.0, l2=1.0) for tap in bundle.backbone.spec.groups
    )
    spec = bundle.spec.model_copy(update={"curve": curve, "temperature": 1.0})
    ModelBundle(spec, Classifier(bundle.backbone, head).eval()).save(folder / "head")
    params = {"strategy": "upper", "depth": "features.1", "epochs": 2, "batch_size": 7, "lr": 1e-3, "folds": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump({"fine_tune": params | {"refit": True}}))
    return folder
