"""Batch prediction on this machine: a folder of images to a table of predictions and a drift page."""

import os
from pathlib import Path
from typing import Annotated

import typer

from graft.core.errors import GraftError
from graft.runs.params import Params


def main(
    data: Annotated[Path, typer.Option(help="folder of images, with any subfolders")],
    model: Annotated[str, typer.Option(help="bundle's folder or models:/name@alias; empty: the champion")] = "",
    out: Annotated[Path, typer.Option(help="output folder for tables and drift page")] = Path("outputs/predictions"),
) -> None:
    """Predict every image of a folder, and compare the images with those that the model was tested on."""
    try:
        address = model or f"models:/{Params.load().register_model.name}@champion"
        from graft.runs import tracking  # imported here so that a wrong option fails fast
        from graft.serving.monitoring import predict_and_compare

        out.mkdir(parents=True, exist_ok=True)
        with tracking.step_run("batch_predict", {"data": str(data), "model": address}) as log:
            found = predict_and_compare(address, data, out, log)
    except GraftError as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        raise SystemExit(f"{out}: {os.strerror(error.errno or 0)}") from error
    reused = f", {found['reused']:,} of them predicted earlier" if found["reused"] else ""
    print(f"{found['images']:,} images{reused}; {found['errors']:,} could not be read")
    print(f"{found['headline']}\n  answers  {found['table']} (and .csv)\n  drift    {found['page']}")
    if found["next_step"]:
        print(found["next_step"].replace("<their folder>", str(data)))


if __name__ == "__main__":
    typer.run(main)
