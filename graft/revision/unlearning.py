"""Make a model that never saw some images, and register it as a challenger with the proof."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from graft.backbones.incremental import extract_into
from graft.backbones.weights import tensors_digest
from graft.continual.forget import EXACT, Forgotten, check_unlearnable, forget_images
from graft.continual.state import ContinualState, LabelledFeatures
from graft.core.atomic import replacing, write_json
from graft.data.dataset import ImageDataset
from graft.models.bundle import ModelBundle
from graft.models.export import pixel_network
from graft.params.extract_features import ExtractFeaturesParams
from graft.revision.image_list import write_listed_images
from graft.serving.challenger import Decision, Provenance, SmokeTest, enter_registry
from graft.serving.loading import FetchedModel, fetch_model
from graft.serving.packaging import pack
from graft.serving.registered_version import Version
from graft.serving.registry import Registry
from graft.serving.server import ServingSpec
from graft.serving.training_images import TrainingImages

MODEL, PROOF = "model", "proof.json"
SMOKE_IMAGES = 4


def forget_listed_images(
    address: str,
    file: Path,
    folder: Path,
    out: Path,
    provenance: Provenance = Provenance(),  # noqa: B008 (immutable)
) -> dict[str, Any]:
    """Take the images that a list names out of a model, and write the model and the proof into `out`.

    The result of a registered model becomes a challenger of the same name, whose evidence is the proof.

    Args:
        address: of the model: a bundle's folder, `models:/name@champion` or `models:/name/3`.
        file: CSV with a column `id` (sha256 of each image's bytes) or `path`.
        folder: where these images are.
        out: created if missing.
        provenance: the run that registers it.

    Returns:
        The proof: how many images left, and how exactly.

    Raises:
        GraftError: if the images are not there or were never learnt, or the model cannot forget them.
    """
    with tempfile.TemporaryDirectory(prefix="graft-forget-") as name:
        work = Path(name)
        (work / "model").mkdir()
        base = fetch_model(address, work / "model")
        bundle, state = base.load(), ContinualState.load(base.bundle)
        check_unlearnable(bundle)
        images = write_listed_images(file, folder, work / "images", bundle.transform.channels)
        store = extract_into(work / "features", images, ExtractFeaturesParams(), own=bundle.backbone).store
        found = forget_images(bundle, state, LabelledFeatures.of_store(store, bundle.spec.head.taps))
        with replacing(out / MODEL) as staged:
            found.bundle.save(staged)
            found.state.save(staged)
        proof = _proof(base, found)
        if base.name is not None:
            version = _register(Registry.open(base.name), base, found, images, out / MODEL, work, proof, provenance)
            proof["version"] = version.uri
    write_json(out / PROOF, proof)
    return proof


def _proof(base: FetchedModel, found: Forgotten) -> dict[str, Any]:
    """Return what shows that the images left; it does not name them."""
    return {
        "source": base.address,
        "learnt": found.learnt,
        "examined": found.examined,
        "error": found.error,
        "allowed": EXACT,
        "adaptable": found.bundle.moments is not None and found.bundle.sample is not None,
        "version": None,
    }


def _register(
    registry: Registry,
    base: FetchedModel,
    found: Forgotten,
    images: ImageDataset,
    folder: Path,
    work: Path,
    proof: dict[str, Any],
    provenance: Provenance,
) -> Version:
    bundle, reader = found.bundle, images.reader()
    smoke = [reader[row] for row in range(min(len(images), SMOKE_IMAGES))]
    spec = ServingSpec(
        labels=bundle.spec.labels, task=bundle.task, transform=bundle.transform, temperature=bundle.spec.temperature
    )
    evidence = [work / PROOF]
    write_json(work / PROOF, proof)
    seen = TrainingImages.read(base.evidence) if base.evidence else None
    if seen is not None:
        ids = images.table["id"]
        evidence.append(seen.without(pd.DataFrame({"id": ids, "group": ids})).write(work))
    code = pack(pixel_network(bundle.classifier), spec, folder, work / "packed", _example(bundle), evidence)
    removed = f"{found.learnt:,} images taken out of the memory, {found.examined:,} out of the exam"
    reason = f"{removed}; added again they give the memory of before to {found.error:.1e}"
    tags = {
        "forgot.images": str(found.learnt),
        "forgot.error": f"{found.error:.1e}",
        "forgot.from": base.address,
        "weights.digest": tensors_digest(bundle.module().state_dict()),
        "code.digest": code.digest,
        "backbone": bundle.spec.backbone.architecture,
        "classes": str(len(bundle.spec.labels)),
    }
    return enter_registry(
        registry,
        work / "packed",
        tags,
        removed,
        SmokeTest(smoke, bundle.probabilities(bundle.logits(smoke))),
        lambda version, milliseconds: Decision("forgot", (reason,)),
        provenance,
    ).version


def _example(bundle: ModelBundle) -> bytes:
    """Return a black image that the model can read: the example that a version carries must be none to forget."""
    content, (channels, side, _) = io.BytesIO(), bundle.transform.shape
    bands = [Image.fromarray(np.zeros((side, side), np.uint8))] * channels
    if channels in (1, 3):
        bands[0].save(content, "PNG")
    else:
        bands[0].save(content, "TIFF", save_all=True, append_images=bands[1:])
    return content.getvalue()
