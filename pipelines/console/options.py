"""Options that several commands share, and the class of commands that take DATA."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Data = Annotated[str, typer.Argument(help="folder or CSV manifest of images", show_default=False)]
ImageFolder = Annotated[Path, typer.Argument(help="folder of images, with any subfolders", show_default=False)]
Address = Annotated[
    str,
    typer.Option(help="a model's folder or models:/name@alias; default: that of the last run here", show_default=False),
]
Name = Annotated[str, typer.Option(help="registered name; default: that of the last run here", show_default=False)]


class DataCommand(TyperCommand):
    """A command whose first argument may also be written as `--data DATA`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line; click calls this."""
        moved: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--data":
                word = next(words, "")
                moved.extend([word] if word else [])
            elif word.startswith("--data="):
                moved.append(word.removeprefix("--data="))
            else:
                moved.append(word)
        parsed: list[str] = super().parse_args(ctx, moved)
        return parsed
