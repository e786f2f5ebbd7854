"""A registered model as a KServe `InferenceService`: Open Inference Protocol (V2) through KServe's MLflow runtime."""

import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlparse

from graft.core.errors import RegistryError
from graft.serving.registered_version import Version
from graft.serving.registry import Registry

REACHABLE = frozenset({"s3", "gs", "hdfs", "webhdfs", "http", "https", "pvc", "oci", "hf"})
"""URI schemes that KServe can download from. (It recognises Azure storage by its host instead.)"""


def storage_uri(registry: Registry, version: Version) -> str:
    """Return the URI of a version's files.

    Raises:
        RegistryError: if they are on one machine, where a cluster cannot read them.
    """
    uri = registry.client.get_model_version_download_uri(version.name, str(version.number))
    if urlparse(uri).scheme not in REACHABLE:
        raise RegistryError(
            f"the files of {version.uri} are at {uri}, where a cluster cannot fetch them: use an MLflow server "
            "that keeps artifacts in object storage, or give the URI of a copy: graft kserve --storage s3://..."
        )
    return uri


def inference_service(
    version: Version,
    storage: str,
    *,
    namespace: str | None = None,
    service_account: str | None = None,
    min_replicas: int = 1,
    max_replicas: int = 3,
    cpu: str = "1",
    memory: str = "2Gi",
) -> dict[str, Any]:
    """Return the manifest of a service for one version.

    Args:
        version: what to serve; named in labels and annotations.
        storage: URI of the MLflow model's folder.
        namespace: of the service; None: the current one of `kubectl`.
        service_account: whose credentials are used to fetch the files; None: the namespace's default.
        min_replicas: smallest number of replicas; 0: the service may scale to zero.
        max_replicas: largest number of replicas.
        cpu: of each replica.
        memory: of each replica.
    """
    metadata: dict[str, Any] = {
        "name": dns_label(version.name),
        "labels": {
            "app.kubernetes.io/name": dns_label(version.name),
            "app.kubernetes.io/version": str(version.number),
            "app.kubernetes.io/managed-by": "graft",
        },
        "annotations": {
            f"graft/{name}": version.tags[tag]
            for name, tag in (("weights", "weights.digest"), ("data", "data.digest"), ("revision", "git.revision"))
            if tag in version.tags
        },
    }
    resources = {"cpu": cpu, "memory": memory}
    predictor: dict[str, Any] = {
        "minReplicas": min_replicas,
        "maxReplicas": max_replicas,
        "model": {
            "modelFormat": {"name": "mlflow"},
            "protocolVersion": "v2",
            "storageUri": storage,
            # Two separate dicts: YAML would write the second use of one dict as a reference.
            "resources": {"requests": resources, "limits": dict(resources)},
        },
    }
    if namespace:
        metadata["namespace"] = namespace
    if service_account:
        predictor["serviceAccountName"] = service_account
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def dns_label(name: str) -> str:
    """Return a registered name as a Kubernetes name: lower case letters, digits and hyphens, starting with a letter."""
    label = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(name).name.lower()).strip("-")
    if not label or not label[0].isalpha():
        label = f"graft-{label}"
    return label[:50].strip("-")
