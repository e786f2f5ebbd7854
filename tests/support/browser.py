"""A headless Chromium, controlled through its DevTools protocol, for tests of the pages."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from websocket import create_connection

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page; records its network requests and console errors."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._last = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message)

    def open(self, path: Path) -> None:
        """Load a file and wait until it is complete."""
        self.visit(path.absolute().as_uri())

    def visit(self, address: str) -> None:
        """Load an address and wait until it is complete."""
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Wait until JavaScript is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.run(condition):
                return
            time.sleep(0.05)
        raise TimeoutError(condition)

    def choose_files(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an input element."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key; `code` is its virtual key code."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def violations(self) -> list[str]:
        """Return what axe-core finds serious or critical about the page's accessibility, with the first element."""
        self.run(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + ";0")
        result = self.send(
            "Runtime.evaluate",
            expression="axe.run({resultTypes: ['violations']}).then(found => found.violations"
            ".filter(one => ['serious', 'critical'].includes(one.impact))"
            ".map(one => one.id + ': ' + one.help + ': ' + one.nodes[0].html.slice(0, 200)))",
            returnByValue=True,
            awaitPromise=True,
        )
        return result["result"]["value"]

    def screenshot(self, width: int, height: int, scheme: str = "light") -> bytes:
        """Return the page as PNG."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        return self.picture()

    def picture(self) -> bytes:
        """Return what is seen of the page as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in {"error", "warning"}:
                self.complaints.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(params["entry"]["text"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with its profile in `folder`; skip the test if it is not installed."""
    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        pytest.skip(f"needs a browser: none of {', '.join(EXECUTABLES)} is installed")
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
    process = subprocess.Popen(
        [executable, *arguments, "--remote-allow-origins=*", f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(folder / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        socket = create_connection(page["webSocketDebuggerUrl"], timeout=30)
        try:
            yield Browser(socket)
        finally:
            socket.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if file.is_file() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")
