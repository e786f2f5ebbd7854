"""KFP's local cache: a step that changed runs again, with the steps after it, and no other step."""

from pathlib import Path

import pytest
from kfp import dsl, local

import pipelines.cluster.platform
from pipelines.cluster.platform import set_cache_key


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def get_data(made: dsl.Output[dsl.Artifact], params: dict):  # type: ignore[no-untyped-def, type-arg]
    from pathlib import Path

    with Path(params["log"]).open("a") as log:
        log.write("get_data ")
    Path(made.path).write_text("data")


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def train_head(data: dsl.Input[dsl.Artifact], made: dsl.Output[dsl.Artifact], params: dict):  # type: ignore[no-untyped-def, type-arg]
    from pathlib import Path

    with Path(params["log"]).open("a") as log:
        log.write("train_head ")
    Path(made.path).write_text("head")


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def evaluate(head: dsl.Input[dsl.Artifact], made: dsl.Output[dsl.Artifact], params: dict):  # type: ignore[no-untyped-def, type-arg]
    from pathlib import Path

    with Path(params["log"]).open("a") as log:
        log.write("evaluate ")
    Path(made.path).write_text("report")


class Project:
    """Three steps whose code, data and parameters can be changed; `run` returns which of them ran."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.code = dict.fromkeys(("get_data", "train_head", "evaluate"), "code 1")
        self.data: str | None = "data 1"
        self.params: dict[str, dict[str, object]] = {step: {"log": str(self.log)} for step in self.code}
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "root"), enable_caching=True)

    def run(self) -> list[str]:
        @dsl.pipeline(name="cached")
        def cached():  # type: ignore[no-untyped-def]
            data = get_data(params=self.params["get_data"])
            head = train_head(params=self.params["train_head"], data=data.outputs["made"])
            report = evaluate(params=self.params["evaluate"], head=head.outputs["made"])
            set_cache_key(data, "get_data", self.data, self.data is not None)
            set_cache_key(head, "train_head", None, True)
            set_cache_key(report, "evaluate", None, True)

        self.log.write_text("")
        cached()
        return self.log.read_text().split()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.setattr(pipelines.cluster.platform, "step_digest", lambda step: made.code[step])
    assert made.run() == ["get_data", "train_head", "evaluate"]
    return made


def test_nothing_changed_runs_nothing(project: Project) -> None:
    assert project.run() == []


@pytest.mark.parametrize(
    ("step", "ran"),
    [
        ("get_data", ["get_data", "train_head", "evaluate"]),
        ("train_head", ["train_head", "evaluate"]),
        ("evaluate", ["evaluate"]),
    ],
)
@pytest.mark.parametrize("what", ["code", "parameter"])
def test_a_change_runs_its_step_and_what_follows(project: Project, what: str, step: str, ran: list[str]) -> None:
    before = project.code[step]
    if what == "code":
        project.code[step] = "code 2"
    else:
        project.params[step]["seed"] = 1
    assert project.run() == ran
    # Changed back, the first results are still valid.
    project.code[step] = before
    project.params[step].pop("seed", None)
    assert project.run() == []


def test_new_data_runs_everything(project: Project) -> None:
    project.data = "data 2"
    assert project.run() == ["get_data", "train_head", "evaluate"]


def test_data_of_an_unknown_version_is_fetched_each_time(project: Project) -> None:
    project.data = None
    assert project.run()[0] == "get_data"
    assert project.run()[0] == "get_data"
