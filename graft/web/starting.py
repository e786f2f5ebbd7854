"""From a registered version to a server that listens."""

import socket
from collections.abc import Callable

from graft.runs.termination import clean_end_on_sigterm
from graft.serving.registered_version import Version
from graft.serving.registry import Registry
from graft.web.app import make_app
from graft.web.listening import serve
from graft.web.served_model import ServedModel
from graft.web.settings import Settings


def serve_version(
    registry: Registry,
    version: Version,
    settings: Settings,
    taken: socket.socket,
    announce: Callable[[str], None],
) -> None:
    """Serve a version of a registered model until the process is asked to end.

    Args:
        registry: of the model.
        version: to serve; if an alias moves meanwhile, this one stays.
        settings: of the server.
        taken: the port, from `listening.taken_port`.
        announce: called with the server's address, once it listens.

    Raises:
        RegistryError: if the version does not load.
        GraftError: if another server took the port meanwhile.
    """
    with clean_end_on_sigterm(), registry.downloaded(version) as folder:
        model = ServedModel.load(folder, version.name, version.number, version.tags.get("data.digest", ""))
        serve(make_app(model, settings), taken, announce)
