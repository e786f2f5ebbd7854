from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from graft.core.errors import RegistryError
from graft.serving.kserve import dns_label, inference_service, storage_uri
from graft.serving.registered_version import Version
from graft.serving.registry import Registry
from pipelines.cli import app

NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
LABELS = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9._-]{0,63}$"}}
QUANTITIES = {"type": "object", "additionalProperties": {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Mi|Gi)?$"}}


def closed(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or [], "additionalProperties": False}


# The fields of the custom resource `inferenceservices.serving.kserve.io`, v1beta1, that are used here.
SCHEMA = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "serving.kserve.io/v1beta1"},
    kind={"const": "InferenceService"},
    metadata=closed(
        ["name"],
        name=NAME,
        namespace=NAME,
        labels=LABELS,
        annotations={"type": "object", "additionalProperties": {"type": "string"}},
    ),
    spec=closed(
        ["predictor"],
        predictor=closed(
            ["model"],
            minReplicas={"type": "integer", "minimum": 0},
            maxReplicas={"type": "integer", "minimum": 1},
            serviceAccountName=NAME,
            model=closed(
                ["modelFormat"],
                modelFormat=closed(["name"], name={"type": "string"}, version={"type": "string"}),
                protocolVersion={"enum": ["v1", "v2", "grpc-v1", "grpc-v2"]},
                storageUri={"type": "string", "format": "uri"},
                resources=closed(requests=QUANTITIES, limits=QUANTITIES),
            ),
        ),
    ),
)


def test_the_manifest_is_an_inference_service() -> None:
    version = Version("Team Insects", 7, ("champion",), {"weights.digest": "ab", "git.revision": "cd"})
    manifest = inference_service(
        version, "s3://models/7", namespace="team-a", service_account="reader", min_replicas=0, cpu="500m"
    )
    jsonschema.validate(manifest, SCHEMA)
    assert manifest["metadata"]["name"] == "team-insects"
    assert manifest["metadata"]["annotations"] == {"graft/weights": "ab", "graft/revision": "cd"}
    model = manifest["spec"]["predictor"]["model"]
    assert (model["modelFormat"]["name"], model["protocolVersion"]) == ("mlflow", "v2")


@pytest.mark.parametrize(
    ("name", "label"),
    [("graft", "graft"), ("Ants & Bees", "ants-bees"), ("3d", "graft-3d"), ("ä", "graft"), ("x" * 9, "x" * 9)],
)
def test_names_become_dns_labels(name: str, label: str) -> None:
    assert dns_label(name) == label
    jsonschema.validate(label, NAME)


def test_files_on_this_machine_are_refused_as_storage(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    registry = Registry.open("insects")
    version = registry.promote(registry.register(folder, {}).number)
    with pytest.raises(RegistryError, match=r"the files of models:/insects/1 are at .*graft kserve --storage s3://"):
        storage_uri(registry, version)
    out = tmp_path / "kserve.yaml"
    arguments = ["kserve", "--name", "insects", "--storage", "s3://bucket/insects", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    jsonschema.validate(yaml.safe_load(out.read_text()), SCHEMA)
    assert "&id" not in out.read_text()
