"""What every request passes, whichever application answers it: an id, the token, the limits, and the counts."""

import hmac
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, urlsplit

from graft.web.settings import Settings
from graft.web.traffic import Traffic

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = frozenset({"/", "/docs", "/ping", "/health", "/version"})
"""Paths that need no token: they tell nothing of the model but that it runs."""
REQUEST_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
"""Ids of callers that are taken over; any other is replaced."""


class Access:
    """An ASGI middleware around the whole server."""

    def __init__(self, app: ASGI, settings: Settings, traffic: Traffic, name: str, version: int) -> None:
        self._app = app
        self._settings = settings
        self._traffic = traffic
        self._model = [(b"x-model-name", quote(name).encode()), (b"x-model-version", str(version).encode())]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 401 without the token, 403 from another site, 413 if it is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, path = time.perf_counter(), 500, scope["path"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = headers.get("x-request-id", "")
        request_id = asked if REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"), *self._model]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        refusal = self._refusal(scope["method"], path, headers)
        try:
            if refusal is None and "transfer-encoding" in headers:
                body = await _read(receive, self._settings.limits.request_bytes)
                if body is None:
                    refusal = 413, self._too_large()
                else:
                    receive = _again(body, receive)
            if refusal:
                await _send_refusal(send_with_headers, *refusal, request_id)
            else:
                await self._app(scope, receive, send_with_headers)
        finally:
            self._traffic.request(scope["method"], path, status, time.perf_counter() - started)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        settings = self._settings
        if settings.token and path not in OPEN and not _has_token(headers.get("authorization", ""), settings.token):
            return 401, "this server wants a token: Authorization: Bearer <token>"
        origin = headers.get("origin")
        if method not in ("GET", "HEAD", "OPTIONS") and origin and not self._allowed(origin, headers.get("host", "")):
            return 403, f"pages of {origin} may not ask this server"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > settings.limits.request_bytes:
            return 413, self._too_large()
        return None

    def _allowed(self, origin: str, host: str) -> bool:
        """Return whether a page may send something here: a form on a foreign page could, without asking first."""
        return urlsplit(origin).netloc == host or origin in self._settings.origins or "*" in self._settings.origins

    def _too_large(self) -> str:
        return f"the request is too large: at most {self._settings.limits.request_bytes:,} bytes"


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return a body that does not say how long it is; None if it is longer than `most`.

    A server stops any other body at the length that it states.
    """
    parts: list[bytes] = []
    left, more = most, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        left, more = left - len(parts[-1]), message.get("more_body", False)
        if left < 0:
            return None
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read before."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def _has_token(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def _send_refusal(send: Send, status: int, text: str, request_id: str) -> None:
    body = json.dumps({"message": text, "request_id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
