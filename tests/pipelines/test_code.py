from pathlib import Path

import grimp
import pytest

from graft.params.params import Params
from pipelines.code import step_digest, step_files, step_wings, with_code

STEPS = list(Params.model_fields)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "constraints.txt": "numpy==1",
        "components/a/step.py": "from graft.one import x\nfrom graft import late\n",
        "components/b/step.py": "import graft.two\n",
        "graft/one.py": "def f():\n    from graft.deep import y\n",
        "graft/one/page.html": "<p>",
        "graft/late.py": "import numpy\n",
        "graft/deep.py": "from graft.one import x\n",
        "graft/two.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_step_consists_of_all_that_it_imports(project: Path) -> None:
    assert step_files("a", project) == [
        "components/a/step.py",
        "graft/deep.py",
        "graft/late.py",
        "graft/one.py",
        "graft/one/page.html",
    ]
    assert step_files("b", project) == ["components/b/step.py", "graft/two.py"]


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("graft/deep.py", {"a"}),
        ("graft/one/page.html", {"a"}),
        ("components/a/step.py", {"a"}),
        ("graft/two.py", {"b"}),
        ("constraints.txt", {"a", "b"}),
    ],
)
def test_a_change_invalidates_only_the_steps_that_depend_on_it(project: Path, changed: str, stale: set[str]) -> None:
    before = {step: step_digest(step, project) for step in "ab"}
    file = project / changed
    file.write_text(file.read_text() + "# changed\n")
    assert {step for step in "ab" if step_digest(step, project) != before[step]} == stale


@pytest.mark.parametrize("step", STEPS)
def test_no_import_is_missed(step: str) -> None:
    graph = grimp.build_graph("graft", "components", include_external_packages=False)
    modules = graph.find_upstream_modules(f"components.{step}.step") | {f"components.{step}.step"}
    packages = {"graft", "components", f"components.{step}"}
    expected = {module.replace(".", "/") + ".py" for module in modules - packages}
    assert {file for file in step_files(step) if file.endswith(".py")} == expected


@pytest.mark.parametrize(
    ("step", "data"),
    [
        ("validate_data", "graft/reports/page/page.css"),
        ("validate_data", "graft/reports/data_page/data.html.j2"),
        ("validate_data", "graft/reports/finding_view/finding.html.j2"),
        ("review_features", "graft/reports/feature_page/review.html.j2"),
        ("review_features", "graft/reports/label_page/labels.html.j2"),
        ("evaluate", "graft/reports/evaluation_page/report.html.j2"),
        ("evaluate", "graft/reports/page/page.css"),
    ],
)
def test_templates_and_styles_of_a_page_belong_to_its_step(step: str, data: str) -> None:
    assert data in step_files(step)


def test_dvc_knows_the_code_of_every_stage(root: Path) -> None:
    text = (root / "dvc.yaml").read_text()
    assert with_code(text) == text, "make format writes each stage's code into dvc.yaml"


RERUN = {
    "core": STEPS,
    "demo": ["get_data"],
    "params": STEPS,
    "runs": STEPS,
    "imaging": STEPS,
    "stats": STEPS,
    "tasks": STEPS,
    "data": STEPS,
    "backbones": STEPS[2:],
    "heads": STEPS[2:],
    "quality": ["validate_data", "review_features", "adapt"],
    "masks": [step for step in STEPS[1:] if step != "adapt"],
    "pixel_quality": ["validate_data"],
    "objects": [step for step in STEPS[1:] if step != "adapt"],
    "detectors": [step for step in STEPS[2:] if step != "adapt"],
    "dense": [step for step in STEPS[2:] if step != "adapt"],
    "models": STEPS[3:],
    "decoders": [step for step in STEPS[2:] if step != "adapt"],
    "adapt": ["adapt"],
    "training": [step for step in STEPS[3:] if step != "adapt"],
    "finetune": ["fine_tune"],
    "continual": ["train_head", "fine_tune"],
    "evaluation": ["review_features", "adapt", "evaluate", "register_model"],
    "reports": ["validate_data", "review_features", "adapt", "evaluate", "register_model"],
    "pixel_reports": ["review_features", "evaluate", "register_model"],
    "labelling": ["adapt"],
    "serving": ["adapt", "register_model"],
    "batch_prediction": ["adapt"],
    "revision": ["adapt", "register_model"],
    "pixel_serving": ["register_model"],
    "web": [],
}


def test_what_dvc_runs_again_after_a_change_in_a_wing(root: Path) -> None:
    wings = sorted(folder.name for folder in (root / "graft").iterdir() if (folder / "__init__.py").is_file())
    assert wings == sorted(RERUN)
    used = {step: step_wings(step) for step in STEPS}
    assert {wing: [step for step in STEPS if f"graft/{wing}" in used[step]] for wing in RERUN} == RERUN
