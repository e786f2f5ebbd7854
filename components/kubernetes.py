"""The part of the Kubernetes API that a pod needs for objects of a custom kind: create, apply, get, delete.

It uses plain HTTP with the pod's service account, so that the images need no Kubernetes client.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from graft.core.errors import GraftError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's service account: `token`, `namespace`, `ca.crt`."""
TIMEOUT_SECONDS = 20
FIELD_MANAGER = "graft"
"""Who owns the fields of an applied object."""


class UnavailableError(GraftError):
    """The API does not answer, or asks to retry later."""


class MissingError(GraftError):
    """The object does not exist."""


class CustomObjects:
    """The objects of one custom kind in a namespace."""

    def __init__(self, api_version: str, plural: str, account: Path = ACCOUNT, *, namespace: str | None = None) -> None:
        """Find the API.

        Args:
            api_version: group and version of the kind.
            plural: its name in addresses.
            account: the pod's service account.
            namespace: of the objects; None: the pod's.

        Raises:
            GraftError: outside a pod, or if the pod has no service account.
        """
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
        if not host or not (account / "token").is_file():
            raise GraftError(
                f"no Kubernetes here (KUBERNETES_SERVICE_HOST={host or ''}, {account / 'token'}): objects on a cluster "
                "are made by a pod with a service account"
            )
        self.namespace = namespace or (account / "namespace").read_text(encoding="utf-8").strip()
        self._url = f"https://{f'[{host}]' if ':' in host else host}:{port}/apis/{api_version}"
        self._url += f"/namespaces/{self.namespace}/{plural}"
        self._account = account

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Create an object; if one of its name exists, an earlier call that was cut off created it."""
        self._call("POST", "", manifest, accepted=(409,))

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Create an object or change it to what the manifest says (server-side apply); fields of others stay."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        self._call("PATCH", f"/{manifest['metadata']['name']}{query}", manifest, content="application/apply-patch+yaml")

    def get(self, name: str) -> dict[str, Any]:
        """Return an object."""
        return self._call("GET", f"/{name}")

    def delete(self, name: str) -> None:
        """Delete an object and what it owns, if it exists."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self._call("DELETE", f"/{name}", options, accepted=(404,))

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        accepted: tuple[int, ...] = (),
        content: str = "application/json",
    ) -> dict[str, Any]:
        # Kubernetes rotates the token.
        token = (self._account / "token").read_text(encoding="utf-8").strip()
        try:
            answer = requests.request(
                method,
                self._url + path,
                data=None if body is None else json.dumps(body),  # which is YAML, too
                headers={"Authorization": f"Bearer {token}", "Content-Type": content},
                verify=str(self._account / "ca.crt"),
                timeout=TIMEOUT_SECONDS,
            )
        except requests.RequestException as error:
            raise UnavailableError(f"Kubernetes does not answer at {self._url} ({type(error).__name__})") from error
        if answer.ok or answer.status_code in accepted:
            found: dict[str, Any] = answer.json() if answer.ok else {}
            return found
        line = f"Kubernetes refused {method} {self._url}{path} ({answer.status_code} {_message(answer)})"
        if answer.status_code >= 500 or answer.status_code == 429:
            raise UnavailableError(line)
        if answer.status_code == 404:
            raise MissingError(line)
        raise GraftError(line)


def _message(answer: requests.Response) -> str:
    try:
        text = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = answer.text
    return " ".join(text.split())[:300]
