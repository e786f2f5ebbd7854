"""What people read in MLflow about a run and its model."""

from graft.evaluation.schema import Estimate, read_evaluation
from graft.serving.descriptions import model_description, run_description, run_name, score_text
from graft.serving.registered_version import Version
from tests.support.finished_run import FinishedRun

VERSION = Version("graft-digits", 7, ("champion",), {}, None, 0)


def test_a_run_is_called_by_data_backbone_and_score(finished_run: FinishedRun) -> None:
    judged = read_evaluation(finished_run.evaluation)
    accuracy = judged.test["accuracy"].value
    assert run_name("digits", "lite0", judged) == f"digits · lite0 · {accuracy:.3f}"
    text = run_description("digits", judged, VERSION, ())
    assert text.startswith(f"digits: Accuracy {accuracy:.3f} (")
    assert text.endswith("**graft-digits version 7**, promoted.")
    assert "not promoted: too slow; too few" in run_description("", judged, VERSION, ("too slow", "too few"))


def test_what_is_undefined_is_said(finished_run: FinishedRun) -> None:
    judged = read_evaluation(finished_run.evaluation)
    none = judged.model_copy(update={"test": {"accuracy": Estimate(value=None, low=None, high=None)}})
    assert run_name("", "lite0", none) == "lite0 · undefined"
    assert score_text(none) == "Accuracy is not defined on 90 test images"


def test_a_model_says_how_it_is_used() -> None:
    text = model_description("graft-digits", "digits", tuple("0123456789"))
    assert "for digits: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more." in text
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "sample", "exec")
    assert 'load("models:/graft-digits@champion")' in code
