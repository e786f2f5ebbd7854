"""Record a command in a terminal as a picture: `python -m benchmarks.recording FILE.svg COMMAND...`.

The command runs in a pseudo terminal, as for a user. The picture shows what is left on the screen at the end.
"""

import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 116
_CONTROL = re.compile(r"\x1b\[(\?25[lh]|2K|\d*A)|\r|\n")


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after `output`: lines that were cleared are gone."""
    lines, row, place = [""], 0, 0
    for control in _CONTROL.finditer(output):
        lines[row] += output[place : control.start()]
        place = control.end()
        if control[0] == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif control[0].endswith("2K"):
            lines[row] = ""
        elif control[0].endswith("A"):
            row = max(0, row - int(control[1][:-1] or 1))
    lines[row] += output[place:]
    return lines


def record(command: list[str]) -> str:
    """Run a command in a pseudo terminal, and return what it wrote."""
    os.environ |= {"COLUMNS": str(WIDTH), "LINES": "50", "TERM": "xterm-256color"}
    written: list[bytes] = []

    def read(descriptor: int) -> bytes:
        written.append(os.read(descriptor, 4096))
        return written[-1]

    if pty.spawn(command, read):
        raise SystemExit(f"{' '.join(command)}: failed")
    return b"".join(written).decode(errors="replace")


def main() -> None:
    """Write the picture."""
    file, *command = sys.argv[1:]
    shown = [f"$ {' '.join(command)}", *screen(record(command))]
    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    for line in shown:
        console.print(Text.from_ansi(line), soft_wrap=False)
    Path(file).write_text(console.export_svg(title="graft"), encoding="utf-8")


if __name__ == "__main__":
    main()
