"""A real MLflow server on loopback: users with passwords, only allowed host names, artifacts on S3."""

import importlib.util
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import requests
from werkzeug.security import generate_password_hash

ADMIN = ("admin", "password-of-the-admin")
SECONDS_TO_START = 90
NO_FORMS = """
class CSRFProtect:
    def init_app(self, app):
        pass
"""


@contextmanager
def mlflow_server(folder: Path, artifacts: str, environment: Mapping[str, str], *, users: bool = True) -> Iterator[str]:
    """Run a server that keeps its databases in `folder`; yields its address.

    Args:
        folder: created if missing; also contains `server.log`.
        artifacts: URI of the artifact store, which only the server accesses.
        environment: variables for the server, in addition to those of this process.
        users: whether it asks for a name and a password; checking these takes most of a small request's time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    own = {
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-sessions",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves three processes for a feature that Graft does not use
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "^mlflow-artifacts:/.*$",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    if importlib.util.find_spec("flask_wtf") is None:
        # MLflow needs it only for its sign-up page, not for the API.
        stub = folder / "stub"
        (stub / "flask_wtf").mkdir(parents=True)
        (stub / "flask_wtf" / "__init__.py").write_text("")
        (stub / "flask_wtf" / "csrf.py").write_text(NO_FORMS)
        own["PYTHONPATH"] = str(stub)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--app-name", "basic-auth"] if users else []
    command += ["--host", "127.0.0.1", "--port", host.split(":")[1], "--allowed-hosts", host]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", artifacts]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,  # where the users are kept
            env={**os.environ, **environment, **own},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(f"http://{host}/health", process, folder / "server.log")
        yield f"http://{host}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def add_user(server: str, folder: Path, name: str, password: str) -> None:
    """Add a user to the server that keeps its databases in `folder`; users read everything and change what they own."""
    url = f"{server}/api/2.0/mlflow/users/create"
    requests.post(url, json={"username": name, "password": password}, auth=ADMIN, timeout=30).raise_for_status()
    # Checking a password takes a tenth of a second per request by design; fewer hash iterations make it faster.
    quick = generate_password_hash(password, "pbkdf2:sha256:1000")
    with closing(sqlite3.connect(folder / "basic_auth.db")) as users, users:
        users.execute("UPDATE users SET password_hash = ? WHERE username = ?", (quick, name))


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(5 * SECONDS_TO_START):
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        assert process.poll() is None, log.read_text()[-2000:]
        time.sleep(0.2)
    raise TimeoutError(log.read_text()[-2000:])
