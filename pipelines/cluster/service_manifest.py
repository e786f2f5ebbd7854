"""The service of a new champion on the cluster that trained it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.kubernetes import ACCOUNT, CustomObjects
from graft.core.atomic import read_json, write_text
from graft.core.errors import GraftError
from graft.serving.kserve import inference_service, storage_uri
from graft.serving.registry import Registry
from pipelines.cluster.profile import Serve

API_VERSION, PLURAL = "serving.kserve.io/v1beta1", "inferenceservices"


def serve(registration: Path, out: Path, settings: Mapping[str, Any], account: Path = ACCOUNT) -> None:
    """Write the manifest of the service for a registered version, and apply it if the settings say so.

    Args:
        registration: output of step register_model.
        out: the YAML file to write.
        settings: the profile's `serve`, as plain values.
        account: the pod's service account.

    Raises:
        SystemExit: with one line, if a cluster cannot read the version's files or refuses the service.
    """
    import yaml

    asked = Serve.model_validate(settings)
    try:
        found = read_json(registration / "registration.json")
        registry = Registry.open(found["name"])
        version = registry.version(int(found["version"]))
        chosen = asked.model_dump(exclude={"apply"}, exclude_none=True)
        manifest = inference_service(version, storage_uri(registry, version), **chosen)
        write_text(out, yaml.safe_dump(manifest, sort_keys=False))
        if asked.apply:
            CustomObjects(API_VERSION, PLURAL, account, namespace=asked.namespace).apply(manifest)
    except GraftError as error:
        raise SystemExit(f"serve_champion: {error}") from error
    done = "applied" if asked.apply else "written"
    print(f"serve_champion: {version.uri} as InferenceService {manifest['metadata']['name']}, {done}")
