"""A Python for one peer: what .venv has, and beside it the peer's own packages, so that neither changes the other."""

import subprocess
import sys
import sysconfig
import venv
from functools import cache
from pathlib import Path

from benchmarks.data import ROOT


@cache
def peer_python(name: str) -> Path | None:
    """Return the Python that has `benchmarks/requirements-NAME.txt`, made on the first call.

    Returns:
        Its path; None, and a line that says why, if the packages cannot be installed.
    """
    wanted = Path(__file__).with_name(f"requirements-{name}.txt")
    folder = ROOT / "outputs" / "peers" / name
    python, packages = (
        folder / "bin" / "python",
        Path("lib", f"python{sysconfig.get_python_version()}", "site-packages"),
    )
    stamp = folder / "installed.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted.read_text(encoding="utf-8"):
        return python
    venv.create(folder, clear=True)
    (folder / packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / packages)]
    done = subprocess.run([*command, "-r", str(wanted)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{name} is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr, flush=True)
        return None
    stamp.write_text(wanted.read_text(encoding="utf-8"), encoding="utf-8")
    return python


def run_peer(name: str, module: str, *arguments: str) -> str | None:
    """Run `python -m module arguments` with a peer's Python, and return its last line; None without the peer."""
    python = peer_python(name)
    if python is None:
        return None
    command = [str(python), "-W", "ignore", "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{module} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1]
