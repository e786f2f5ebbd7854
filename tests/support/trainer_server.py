"""A test server with the part of the Kubernetes API that Graft needs; it runs a TrainJob like Kubeflow Trainer.

It serves HTTPS on loopback with a self-signed certificate and a service account, as a pod sees it. A body that is not
valid in the published API of Kubeflow Trainer (`kubeflow_trainer_api`) is rejected (400, recorded in `faults`). Each
node is a process on this machine, with torchrun's variables set as by Trainer's torch plugin.
"""

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

TOKEN, NAMESPACE = "secret-token", "team"
JOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/"
TIME = "2026-01-01T00:00:00Z"


@dataclass
class Cluster:
    """The state of the server."""

    account: Path
    port: int = 0
    master_port: str = ""
    values: dict[tuple[str, str], str] = field(default_factory=dict)
    """Values of config maps and secrets by name and key."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables in the nodes' image."""
    runs_jobs: bool = True
    away: int = 0
    """Number of upcoming requests that are answered with 503."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Every job that was created, as submitted."""
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Every InferenceService that was applied."""
    printed: list[str] = field(default_factory=list)
    """The output of each node."""
    faults: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    _nodes: dict[str, list["subprocess.Popen[str]"]] = field(default_factory=dict)
    _threads: list[threading.Thread] = field(default_factory=list)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status code and content of the response to a request."""
        if self.away:
            self.away -= 1
            return 503, {"message": "the API is away"}
        if method == "PATCH":
            place, _, query = path.partition("?")
            if not place.startswith(SERVICES) or query != "fieldManager=graft&force=true":
                return 404, {"message": f"{path} not found"}
            self.services[place.removeprefix(SERVICES)] = body
            return 200, body
        name = path.removeprefix(JOBS).strip("/")
        if not path.startswith(JOBS) or (name and name not in self.jobs):
            return 404, {"message": f"{path} not found"}
        if method == "POST":
            if unknown := unknown_to_the_api(body):
                self.faults.append(unknown)
                return 400, {"message": unknown}
            self.seen.append(body)
            self.jobs[body["metadata"]["name"]] = body | {"status": {}}
            if self.runs_jobs:
                self._start(body)
            return 201, body
        if method == "DELETE":
            self.deleted.append(name)
            for node in self._nodes.get(name, []):
                node.kill()
            return 200, self.jobs.pop(name)
        return 200, self.jobs[name]

    def finish(self, name: str, kind: str, reason: str, message: str) -> None:
        """Set the final condition of a job."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": TIME}
        if name in self.jobs:
            self.jobs[name]["status"] = {"conditions": [condition]}

    def _start(self, job: dict[str, Any]) -> None:
        trainer, name = job["spec"]["trainer"], job["metadata"]["name"]
        for rank in range(trainer["numNodes"]):
            torchrun = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(rank),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": self.master_port,
            }
            command = [sys.executable, *trainer["command"][1:], *trainer["args"]]
            variables = {one["name"]: self._value(one) for one in trainer["env"]}
            self._nodes.setdefault(name, []).append(
                subprocess.Popen(
                    command,
                    env=self.environment | variables | torchrun,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        thread = threading.Thread(target=self._wait, args=(name,))
        self._threads.append(thread)
        thread.start()

    def _value(self, variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        (source,) = variable["valueFrom"].values()
        return self.values[source["name"], source["key"]]

    def _wait(self, name: str) -> None:
        nodes = self._nodes[name]
        readers = [threading.Thread(target=lambda node=node: self.printed.append(node.stdout.read())) for node in nodes]
        for reader in readers:
            reader.start()
        codes = [node.wait() for node in nodes]
        for reader, node in zip(readers, nodes, strict=True):
            reader.join()
            node.stdout.close()  # type: ignore[union-attr]
        if any(codes):
            self.finish(name, "Failed", "FailedJobs", f"nodes ended with {codes}")
        else:
            self.finish(name, "Complete", "AllJobsCompleted", "jobset completed successfully")


def unknown_to_the_api(job: Any) -> str | None:
    """Return why a TrainJob is not valid in the published models (unknown field or wrong type); None if it is valid."""
    try:
        known = TrainerV1alpha1TrainJob.from_dict(json.loads(json.dumps(job)))
    except ValueError as error:
        return " ".join(str(error).split())
    assert known is not None
    return _lost(job, json.loads(json.dumps(known.to_dict())), "TrainJob")


def _lost(given: Any, kept: Any, where: str) -> str | None:
    """Return the first part of `given` that is not in `kept`: the models drop unknown fields."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                return f"{where} has no field {key}"
            if found := _lost(value, kept[key], f"{where}.{key}"):
                return found
        return None
    if isinstance(given, list):
        if not isinstance(kept, list) or len(given) != len(kept):
            return f"{where}: {given!r} is not {kept!r}"
        pairs = enumerate(zip(given, kept, strict=True))
        return next((found for at, (a, b) in pairs if (found := _lost(a, b, f"{where}[{at}]"))), None)
    return None if given == kept else f"{where}: {given!r} is not {kept!r}"


@contextmanager
def serving(folder: Path) -> Iterator[Cluster]:
    """Serve on a free port of the loopback address, with a service account in `folder`."""
    cluster = Cluster(folder / "account", environment=dict(os.environ))
    cluster.account.mkdir(parents=True)
    (cluster.account / "token").write_text(f"{TOKEN}\n")
    (cluster.account / "namespace").write_text(NAMESPACE)
    key = _certificate(cluster.account / "ca.crt", folder)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.reply(401, {"message": "Unauthorized"})
            else:
                self.reply(*cluster.answer(self.command, self.path, body))

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 (the base class's names)

        def reply(self, code: int, content: Any) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ssl.SSLError):  # a client that does not trust the certificate
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cluster.account / "ca.crt", key)
    # The TLS handshake runs in the connection's own thread, so that a broken connection does not block others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    cluster.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield cluster
    finally:
        for nodes in cluster._nodes.values():
            for node in nodes:
                node.kill()
        for waiting in cluster._threads:
            waiting.join()
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate(file: Path, folder: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1; return the file of its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key = folder / "key.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(encoding, form, serialization.NoEncryption()))
    return key
