"""`graft.update` and `graft.adapt`: new classes, and images of another domain, for a model that exists."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.atomic import read_json
from graft.params.checking import validate_values
from pipelines.adapt_arguments import AdaptPipelineParams
from pipelines.api.html import html_table, text_table
from pipelines.api.keywords import Given, plain_fields
from pipelines.api.result import Page
from pipelines.update_arguments import UpdateParams

if TYPE_CHECKING:
    from graft.models.bundle import ModelBundle

_CONTINUAL = {"acc": "accuracy on all exams", "bwt": "change on earlier exams", "forgetting": "largest loss on an exam"}


@dataclass(frozen=True)
class Changed:
    """A model that was changed: its folder, what came of it in numbers, and the page about it."""

    out: Path
    """The output folder."""
    numbers: Mapping[str, Any]
    """The content of `summary.json`."""
    page: Page
    rows: tuple[tuple[str, str], ...]
    """What to know: a heading and a text for each line."""

    @cached_property
    def model(self) -> "ModelBundle":
        """The changed model, ready to predict; the one of before, if it was left alone."""
        from graft.serving.loading import load_model  # torch takes seconds, and not every look at a result needs it

        return load_model(self.out / "model")

    def __repr__(self) -> str:
        return text_table([*self.rows, ("page", str(self.page))])

    def _repr_html_(self) -> str:
        return html_table(self.rows, self.page._repr_html_())


def update(
    data: str | Path,
    *,
    model: str | Path,
    out: str | Path = "outputs/update",
    validate_data: Given = None,
    update_model: Given = None,
    register_update: Given = None,
) -> Changed:
    """Add new labelled images or classes to a model, examine it on old and new, and register it.

    Args:
        data: folder of labelled images, CSV manifest or archive.
        model: a model's folder, `models:/name@alias` or `models:/name/version`; it must have kept its memory.
        out: folder for the page, the model and the numbers.
        validate_data: fields of this section of the parameters.
        update_model: as in `{"method": "lda"}`.
        register_update: as in `{"name": "cats-and-dogs"}`.

    Raises:
        ParamsError: for an unknown name or a wrong value.
        GraftError: with the one-line cause of the step that failed.
    """
    sections = {"validate_data": validate_data, "update_model": update_model, "register_update": register_update}
    values = {name: plain_fields(name, given) for name, given in sections.items() if given is not None}
    values["get_data"] = {"source": str(data)}
    values["update_model"] = {**values.get("update_model", {}), "model": str(model)}
    settled = validate_values(UpdateParams, values, where="keyword")
    from pipelines.updating import execute, one_at_a_time

    out = Path(out)
    with one_at_a_time(settled.update_model.model):
        found = execute(settled, out)
    numbers, version = found["update_model"], found["register_update"]
    rows = [("result", str(numbers["headline"]))]
    for name, meaning in _CONTINUAL.items():
        value = numbers["continual"][name]
        if value["value"] is not None:
            rows.append((meaning, f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"))
    rows.append(("model", f"{version['name']} version {version['version']} ({version['alias']})"))
    rows += [("not promoted", reason) for reason in version["reasons"]]
    return Changed(out, found, Page(out / "update.html"), tuple(rows))


def adapt(
    data: str | Path,
    *,
    model: str | Path,
    check: str | Path | None = None,
    out: str | Path = "outputs/adapted",
    adapt: Given = None,
) -> Changed:
    """Adapt a model to images of another domain that nobody has labelled, if that is safe.

    Args:
        data: folder of unlabelled images, with any subfolders.
        model: a model's folder, `models:/name@alias` or `models:/name/version`.
        check: CSV file (path, label) of labelled images of this domain, to measure with.
        out: folder for the page, the model and the numbers.
        adapt: fields of this section of the parameters, as in `{"method": "standardise"}`.

    Raises:
        ParamsError: for an unknown name or a wrong value.
        GraftError: if the model or the images cannot be read.
    """
    given = {} if adapt is None else plain_fields("adapt", adapt)
    chosen = validate_values(AdaptPipelineParams, {"adapt": given}, where="keyword").adapt
    from graft.revision.domain_adaptation import SUMMARY, adapt_to_folder
    from graft.runs import tracking

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    recorded = {"data": str(data), "model": str(model), "check": str(check or ""), **chosen.model_dump(mode="json")}
    with tracking.step_run("adapt", recorded) as log:
        adapt_to_folder(str(model), Path(data), out, chosen, log, Path(check) if check else None)
    numbers = read_json(out / SUMMARY)
    found = numbers["adaptation"]
    rows = [("adapted" if found["kept"] else "left alone", str(found["why"]))]
    rows += [("yes" if guard["passed"] else "no", str(guard["sentence"])) for guard in found["guards"]]
    if found["estimated_accuracy"]:
        value, low, high = (found["estimated_accuracy"][name] for name in ("value", "low", "high"))
        rows.append(("estimated accuracy", f"{value:.3f} ({low:.3f} to {high:.3f}), the agreement of two views"))
    if found["version"]:
        rows.append(("model", f"{found['version']}, a challenger for the domain {found['domain']}"))
    return Changed(out, numbers, Page(out / "adaptation.html"), tuple(rows))
