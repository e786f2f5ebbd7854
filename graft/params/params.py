"""All parameters: one frozen section per step, read from `params.yaml`, overridable, validated.

A section has the name of its step, its DVC stage and its KFP task. For an unknown name or a value of the wrong type,
one line names the field, the value and what was expected.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft.core.installed import default_file
from graft.params.adapt import AdaptParams
from graft.params.checking import validate_values
from graft.params.evaluate import EvaluateParams
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.fine_tune import FineTuneParams
from graft.params.get_data import GetDataParams
from graft.params.overrides import RUN_SETTINGS, apply_overrides, override_name, read_yaml
from graft.params.register_model import RegisterModelParams
from graft.params.review_features import ReviewFeaturesParams
from graft.params.section import Section
from graft.params.train_head import TrainHeadParams
from graft.params.validate_data import ValidateDataParams


class Params(Section):
    """All sections, in the order of the steps."""

    get_data: GetDataParams = GetDataParams()
    validate_data: ValidateDataParams = ValidateDataParams()
    extract_features: ExtractFeaturesParams = ExtractFeaturesParams()
    train_head: TrainHeadParams = TrainHeadParams()
    review_features: ReviewFeaturesParams = ReviewFeaturesParams()
    fine_tune: FineTuneParams = FineTuneParams()
    adapt: AdaptParams = AdaptParams()
    evaluate: EvaluateParams = EvaluateParams()
    register_model: RegisterModelParams = RegisterModelParams()

    @classmethod
    def load(cls, path: Path | None = None, overrides: Iterable[str] = ()) -> "Params":
        """Read a file and apply `section.field=value` overrides (values are YAML).

        Args:
            path: of the file; None: `params.yaml` of the working folder, else that of Graft itself.
            overrides: replace its values.

        Raises:
            ParamsError: for a missing or broken file, an unknown name or a value of the wrong type.
        """
        path = path or default_file("params.yaml")
        overrides = list(overrides)
        values = apply_overrides(read_yaml(path), overrides)
        sections = {name: value for name, value in values.items() if name not in RUN_SETTINGS}
        return validate_values(cls, sections, str(path), dict.fromkeys(map(override_name, overrides), "PARAMS"))

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain JSON values."""
        section: Section = getattr(self, name)
        return section.model_dump(mode="json")
