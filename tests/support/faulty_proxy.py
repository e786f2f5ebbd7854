"""A proxy in front of a real server, on loopback: from a chosen request on it is slow, refuses, fails or hangs up."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import requests

Fault = Literal["slow", "500", "401", "gone"]
OF_ONE_CONNECTION = ("connection", "keep-alive", "transfer-encoding", "content-encoding", "content-length", "host")


class FaultyProxy(ThreadingHTTPServer):
    """Passes requests on, until it is told otherwise."""

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = server
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.requests = 0
        self._lock = threading.Lock()
        self.passes_all()

    def passes_all(self) -> None:
        """End the fault, and count requests from zero."""
        self.requests, self._from, self._fault, self._seconds = 0, None, "gone", 0.0

    def fails(self, after: int, fault: Fault, seconds: float = 10.0) -> None:
        """Begin the fault after so many requests; `slow` is one request that is answered after `seconds`."""
        self.requests, self._from, self._fault, self._seconds = 0, after, fault, seconds

    def next_fault(self) -> str:
        """Count a request; return what becomes of it, empty if it is passed on."""
        with self._lock:
            number, self.requests = self.requests, self.requests + 1
        if self._from is None or number < self._from:
            return ""
        if self._fault == "slow":
            if number == self._from:
                time.sleep(self._seconds)
            return ""
        return self._fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault()
        if fault == "gone":
            self.close_connection = True
            return
        if fault:
            self._answer(int(fault), {"Content-Type": "application/json"}, b'{"error_code": "X", "message": "no"}')
            return
        passed = {name: value for name, value in self.headers.items() if name.lower() not in OF_ONE_CONNECTION}
        found = requests.request(
            self.command,
            self.server.behind + self.path,
            data=content,
            headers=passed,
            timeout=60,
            allow_redirects=False,
        )
        self._answer(found.status_code, dict(found.headers), found.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def faulty_proxy(server: str) -> Iterator[FaultyProxy]:
    """Run a proxy in front of `server`, an address like http://127.0.0.1:5000."""
    proxy = FaultyProxy(server)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
