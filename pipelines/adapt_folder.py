"""Adaptation on this machine: from a model and a folder of unlabelled images to a challenger, or the reason why not."""

import os
from pathlib import Path
from typing import Annotated

import typer

from graft.core.errors import GraftError
from graft.params.overrides import split_overrides
from pipelines.adapt_arguments import adapt_params
from pipelines.default_model import default_address
from pipelines.local.occupied import occupied


def main(
    data: Annotated[Path, typer.Option(help="folder of unlabelled images, with any subfolders")],
    model: Annotated[str, typer.Option(help="models:/name@alias or bundle's folder; empty: the champion")] = "",
    check: Annotated[str, typer.Option(help="CSV file (path, label) of labelled images of this domain")] = "",
    params: Annotated[str, typer.Option(help="adapt.field=value ...")] = "",
    out: Annotated[Path, typer.Option(help="output folder for page, summary and model")] = Path("outputs/adapted"),
) -> None:
    """Adapt a model to images that nobody has labelled, if that is safe."""
    try:
        chosen = adapt_params(split_overrides(params))
        address = model or default_address()
        from graft.revision.domain_adaptation import MODEL, SUMMARY, adapt_to_folder
        from graft.runs import tracking  # imported here so that a wrong option fails fast

        out.mkdir(parents=True, exist_ok=True)
        recorded = {"data": str(data), "model": address, "check": check, **chosen.model_dump(mode="json")}
        with occupied(out, out), tracking.step_run("adapt", recorded) as log:
            labelled = Path(check) if check else None
            found = adapt_to_folder(address, data, out, chosen, log, labelled, Path("outputs"))["adaptation"]
    except GraftError as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        raise SystemExit(f"{out}: {os.strerror(error.errno or 0)}") from error
    for guard in found["guards"]:
        print(f"  {'yes' if guard['passed'] else 'no ':3} {guard['sentence']}")
    print(f"{'Adapted' if found['kept'] else 'Left alone'}: {found['why']}")
    if found["estimated_accuracy"]:
        value, low, high = (found["estimated_accuracy"][name] for name in ("value", "low", "high"))
        print(
            f"Estimated accuracy {value:.3f} ({low:.3f} to {high:.3f}): the agreement of two views, not a measurement"
        )
    if found["version"]:
        print(f"Registered as {found['version']}, a challenger for the domain {found['domain']}")
    print(f"  page     {out / 'adaptation.html'}\n  numbers  {out / SUMMARY}\n  model    {out / MODEL}")


if __name__ == "__main__":
    typer.run(main)
