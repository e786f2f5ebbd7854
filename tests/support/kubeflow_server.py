"""A test server that implements Kubeflow Pipelines' v2beta1 API over HTTP, for the real client.

It keeps all objects in memory, and rejects (400, recorded in `faults`) any request body that is not valid in the
published API: every body is checked field by field against the models of `kfp_server_api`, and every pipeline against
the protocol buffers of the IR.
"""

import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

TIME = "2026-01-01T00:00:00Z"


@dataclass
class Kubeflow:
    """The state of the server."""

    token: str | None = None
    url: str = ""
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Return the answer to a request.

        Raises:
            KeyError: if the object does not exist.
            ValueError: if the body is not valid in the API.
        """
        match (method, path.strip("/").split("/")[1:]):
            case ("GET", ["v2beta1", "healthz"]):
                return {"multi_user": False}
            case ("GET", ["v2beta1", "experiments"]):
                return {"experiments": list(self._page(self.experiments, query))}
            case ("POST", ["v2beta1", "experiments"]):
                return self._add(self.experiments, "experiment", checked(body, "V2beta1Experiment"))
            case ("GET", ["v2beta1", "experiments", identity]):
                return self.experiments[identity]
            case ("POST", ["v2beta1", "runs"]):
                run = checked(body, "V2beta1Run") | {"state": "PENDING"}
                check_pipeline(run["pipeline_spec"])
                return self._add(self.runs, "run", run)
            case ("GET", ["v2beta1", "runs"]):
                return _paged("runs", self.runs, query)
            case ("POST", ["v2beta1", "runs", what]) if what.endswith(":terminate"):
                self.runs[what.removesuffix(":terminate")]["state"] = "CANCELING"
                return {}
            case ("GET", ["v2beta1", "runs", identity]):
                return self.runs[identity]
            case ("POST", ["v2beta1", "recurringruns"]):
                schedule = checked(body, "V2beta1RecurringRun")
                check_pipeline(schedule["pipeline_spec"])
                return self._add(self.schedules, "recurring_run", schedule)
            case ("GET", ["v2beta1", "recurringruns"]):
                return _paged("recurringRuns", self.schedules, query)
            case ("DELETE", ["v2beta1", "recurringruns", identity]):
                del self.schedules[identity]
                return {}
            case ("GET", ["v1alpha1", "runs", run, "nodes", pod, "log"]):
                return self.logs[run, pod]
        raise KeyError(path)

    def _add(self, things: dict[str, dict[str, Any]], kind: str, content: dict[str, Any]) -> dict[str, Any]:
        identity = f"{kind}-{next(self._numbers)}"
        things[identity] = content | {f"{kind}_id": identity, "created_at": TIME}
        return things[identity]

    def _page(self, things: dict[str, dict[str, Any]], query: dict[str, str]) -> Iterator[dict[str, Any]]:
        predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
        for thing in things.values():
            if all(thing.get("display_name") == one.get("string_value", one.get("stringValue")) for one in predicates):
                yield thing


def _paged(kind: str, things: dict[str, dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    mine = [thing for thing in things.values() if thing["experiment_id"] == query["experiment_id"]]
    size, start = int(query.get("page_size", 10)), int(query.get("page_token") or 0)
    rest = start + size < len(mine)
    return {kind: mine[start : start + size], "next_page_token": str(start + size) if rest else ""}


def checked(body: Any, model: str) -> dict[str, Any]:
    """Return `body` if it is valid for the API's model of that name.

    Raises:
        ValueError: with the field that is unknown or of another type.
    """
    kind = getattr(kfp_server_api, model)
    names = {json_name: name for name, json_name in kind.attribute_map.items()}
    for key, value in body.items():
        if key not in names:
            raise ValueError(f"{model} has no field {key}")
        wanted = kind.openapi_types[names[key]]
        if inner := getattr(kfp_server_api, wanted, None):
            if inner.openapi_types:
                checked(value, wanted)
            elif value not in inner.allowable_values:
                raise ValueError(f"{model}.{key}: {value!r} is none of {inner.allowable_values}")
        elif wanted == "str" and not isinstance(value, str | int):  # JSON writes 64-bit numbers as text
            raise ValueError(f"{model}.{key}: {value!r} is no text")
        elif wanted == "bool" and not isinstance(value, bool):
            raise ValueError(f"{model}.{key}: {value!r} is no truth value")
    return dict(body)


def check_pipeline(document: dict[str, Any]) -> None:
    """Parse a submitted pipeline; unknown fields are errors."""
    document = dict(document)
    platform = document.pop("platform_spec", None)
    json_format.ParseDict(document.get("pipeline_spec", document), PipelineSpec())
    if platform:
        json_format.ParseDict(platform, PlatformSpec())


@contextmanager
def serving(token: str | None = None) -> Iterator[Kubeflow]:
    """Serve on a free port of the loopback address."""
    kubeflow = Kubeflow(token=token)

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            kubeflow.tokens.append(self.headers.get("authorization"))
            if kubeflow.token and self.headers.get("authorization") != f"Bearer {kubeflow.token}":
                self.reply(401, {"error_message": "who are you?"})
                return
            try:
                path = re.sub("^/pipeline", "", urllib.parse.unquote(address.path))
                self.reply(200, kubeflow.answer(self.command, path, query, body))
            except KeyError as error:
                self.reply(404, {"error_message": f"{error} not found"})
            except (ValueError, json_format.ParseError) as error:
                kubeflow.faults.append(str(error))
                self.reply(400, {"error_message": str(error)})

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 (the base class's names)

        def reply(self, code: int, content: Any) -> None:
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kubeflow.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield kubeflow
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
