"""Adapted models as versions in the registry: challengers with the tags `domain` and `adapted.from`."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from graft.backbones.weights import tensors_digest
from graft.data.dataset import ImageDataset
from graft.data.target_rows import read_targets
from graft.models.bundle import ModelBundle
from graft.models.domains import adapted_models
from graft.models.export import pixel_network
from graft.serving.challenger import Decision, Provenance, SmokeTest, enter_registry
from graft.serving.packaging import pack
from graft.serving.registered_version import Version
from graft.serving.registry import Registry
from graft.serving.server import ServingSpec
from graft.serving.training_images import TrainingImages

SMOKE_IMAGES = 8


def register_adapted(
    name: str,
    bundle: ModelBundle,
    folder: Path,
    contents: Sequence[bytes],
    seen: TrainingImages | None,
    source: str,
    provenance: Provenance,
) -> Version:
    """Register an adapted model as a challenger for its domain.

    Args:
        name: of the registered model.
        bundle: the adapted model.
        folder: its files.
        contents: some images of the domain, to check it with.
        seen: what the model was trained on.
        source: address of the model that it was adapted from.
        provenance: the run that registers it.
    """
    record = bundle.spec.adaptation
    assert record is not None
    spec = ServingSpec(
        labels=bundle.spec.labels, task=bundle.task, transform=bundle.transform, temperature=bundle.spec.temperature
    )
    with tempfile.TemporaryDirectory() as work:
        packed, evidence = Path(work) / "model", []
        if seen is not None:
            evidence.append(seen.write(Path(work)))
        example, metadata = min(contents, key=len), {"domain": record.domain}
        code = pack(pixel_network(bundle.classifier), spec, folder, packed, example, evidence, metadata)
        tags: Mapping[str, str] = {
            "domain": record.domain,
            "adapted.from": source,
            "adapted.method": record.method,
            "adapted.images": str(record.images),
            "weights.digest": tensors_digest(bundle.module().state_dict()),
            "code.digest": code.digest,
            "backbone": bundle.spec.backbone.architecture,
            "classes": str(len(bundle.spec.labels)),
        }
        return enter_registry(
            Registry.open(name),
            packed,
            tags,
            f"Adapted to {record.domain} from {source}",
            SmokeTest(contents, bundle.probabilities(bundle.logits(contents))),
            lambda version, milliseconds: Decision("adapted", (record.why,)),
            provenance,
        ).version


def register_domains(
    name: str, model: Path, images: ImageDataset, source: str, provenance: Provenance
) -> list[Version]:
    """Register each adapted model beside another as a challenger for its domain.

    Args:
        name: of the registered model.
        model: folder of the model that they were adapted from.
        images: the dataset that it was trained on.
        source: its address in the registry.
        provenance: the run that registers them.
    """
    found = []
    for folder in adapted_models(model).values():
        bundle = ModelBundle.load(folder)
        record = bundle.spec.adaptation
        assert record is not None
        (domain,) = read_targets(images.path, record.domain)
        some = [domain.images.image(row) for row in domain.rows[:SMOKE_IMAGES]]
        seen = TrainingImages.of(images)
        found.append(register_adapted(name, bundle, folder, some, seen, source, provenance))
    return found
