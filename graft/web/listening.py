"""Start a server: take the port, load the model, listen, announce it; end on Ctrl-C or SIGTERM."""

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from graft.core.errors import GraftError
from graft.web.access import ASGI

GRACE_SECONDS = 10
"""Time that requests in progress have when the server is asked to end."""


@contextmanager
def taken_port(host: str, port: int) -> Iterator[socket.socket]:
    """Bind an address, before anything that takes long; port 0 is any free one.

    Raises:
        GraftError: if it is in use, or is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise GraftError(f"host {host!r}: {error.strerror}") from error
    family, kind, _, _, address = found[0]
    with socket.socket(family, kind) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield taken


def serve(app: ASGI, taken: socket.socket, announce: Callable[[str], None]) -> None:
    """Serve until the process is asked to end.

    Args:
        app: the server.
        taken: from `taken_port`.
        announce: called with the server's address, once it listens.

    Raises:
        GraftError: if another server took the port while this one loaded its model.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    host, port = taken.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        _Announced(config, lambda: announce(address)).run([taken])
    except OSError as error:
        raise _unusable(host, port, error) from error
    except KeyboardInterrupt:
        return


class _Announced(uvicorn.Server):
    """Calls back once it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def _unusable(host: str, port: int, error: OSError) -> GraftError:
    why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return GraftError(f"port {port} of {host} {why}; choose another: --port {port % 65535 + 1}")
