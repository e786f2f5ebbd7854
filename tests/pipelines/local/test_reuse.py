"""Results of earlier runs, on tasks that the test itself carries out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from graft.core.atomic import remove
from graft.runs import live_log, pipeline_runs, tracking
from graft.runs.reused import REUSED_TAG
from pipelines.local.reuse import results_of_earlier_runs
from pipelines.local.runner import METRICS
from pipelines.local.tasks import OUTPUT_FILE, Task

pytestmark = pytest.mark.usefixtures("store")


@dataclass
class Chain:
    """Two steps, the second of which reads what the first made."""

    folder: Path
    params: dict[str, dict[str, Any]] = field(default_factory=lambda: {"make": {"value": 1.0}, "use": {"scale": 2.0}})
    code: dict[str, str] = field(default_factory=lambda: {"make": "a", "use": "b"})
    round_to: int = 1

    def run(self, out: str, *, force: bool = False) -> tuple[list[str], str]:
        """Return the steps that ran and the key of the pipeline run; checks what the steps made."""
        key, ran = pipeline_runs.new_pipeline_run_key(), []
        remove(self.folder / out)
        with pytest.MonkeyPatch.context() as patch, results_of_earlier_runs(key, self.code.get, force=force) as results:
            patch.setenv("GRAFT_PIPELINE_RUN", key)
            start = results.reusing(lambda task: ran.append(task.step) or self._carry_out(task))
            made = task(self.folder / out / "make", self.params["make"])
            used = task(self.folder / out / "use", self.params["use"], made.outputs["output"])
            assert [start(one) for one in (made, used)] == [0, 0]
        assert results.reused == [step for step in ("make", "use") if step not in ran]
        expected = round(self.params["make"]["value"], self.round_to) * self.params["use"]["scale"]
        assert float((used.outputs["output"] / "number").read_text()) == expected
        recorded = json.loads((used.folder / OUTPUT_FILE).read_text())
        assert recorded["artifacts"]["output"]["artifacts"][0]["uri"] == str(used.outputs["output"])
        return ran, key

    def _carry_out(self, task: Task) -> int:
        value = round(task.params.get("value", 0), self.round_to)
        for paths in task.inputs.values():
            value = float((paths[0] / "number").read_text()) * task.params["scale"]
        task.outputs["output"].mkdir(parents=True)
        (task.outputs["output"] / "number").write_text(str(value))
        (task.folder / METRICS).write_text(json.dumps(task.params))
        if "alias" in task.params:
            (task.folder / "registration").mkdir()
        artifacts = {"output": {"artifacts": [{"name": "output", "uri": str(task.outputs["output"])}]}}
        (task.folder / OUTPUT_FILE).write_text(json.dumps({"artifacts": artifacts}))
        with tracking.step_run(task.step, task.params) as log:
            log.metric("value", value)
            log.metric("own", value)
            log.summary({"value": value})
            if task.step == "make":
                log.dataset("data", "d" * 64, "here", {"images": 1}, "made")
        return 0


def task(folder: Path, params: Mapping[str, Any], source: Path | None = None) -> Task:
    artifacts = {"source": {"artifacts": [{"uri": str(source)}]}} if source else {}
    executor_input = {
        "inputs": {"parameterValues": {"params": params}, "artifacts": artifacts},
        "outputs": {
            "artifacts": {"output": {"artifacts": [{"uri": str(folder / "output")}]}},
            "outputFile": str(folder / OUTPUT_FILE),
        },
    }
    options = ["--executor_input", json.dumps(executor_input), "--function_to_execute", folder.name]
    return Task(["sh", "-ec", "...", "def step(): ...", *options], {})


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path / "outputs é")
    assert made.run("first")[0] == ["make", "use"]
    return made


def test_nothing_runs_again_when_nothing_has_changed(chain: Chain) -> None:
    assert chain.run("second")[0] == []
    assert chain.run("first")[0] == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda chain: chain.params["use"].update(scale=3.0), ["use"]),
        (lambda chain: chain.params["make"].update(value=2.0), ["make", "use"]),
        (lambda chain: chain.params["make"].update(value=1.01), ["make"]),  # its result is the same
        (lambda chain: chain.code.update(use="c"), ["use"]),
        (lambda chain: chain.code.update(make="c"), ["make"]),
    ],
)
def test_only_what_depends_on_a_change_runs_again(
    chain: Chain, change: Callable[[Chain], None], again: list[str]
) -> None:
    change(chain)
    assert chain.run("second")[0] == again
    assert chain.run("third")[0] == []


def test_a_file_that_a_parameter_names_is_part_of_the_key(chain: Chain, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_text("a")
    (tmp_path / "list.csv").write_text("path,label\nimages/a.png,x\n")
    (tmp_path / "weights.pth").write_text("w")
    named = {"source": str(images), "listed": str(tmp_path / "list.csv"), "candidates": [f"n={tmp_path}/weights.pth"]}
    for step, name in (("make", "source"), ("make", "listed"), ("use", "candidates")):
        chain.params[step] = {"value": 1.0, "scale": 2.0, name: named[name]}
        chain.run("second")
        assert chain.run("second")[0] == []
        changed = tmp_path / "weights.pth" if name == "candidates" else images / "a.png"
        changed.write_text(changed.read_text() + ".")
        assert chain.run("third")[0] == [step]


def test_a_branch_may_have_moved_and_a_commit_has_not(chain: Chain) -> None:
    chain.params["make"] = {"value": 1.0, "repo": "https://example.com/data", "rev": "main"}
    assert chain.run("second")[0] == ["make"]
    assert chain.run("second")[0] == ["make"]
    chain.params["make"]["rev"] = "0" * 40
    assert chain.run("second")[0] == ["make"]
    assert chain.run("second")[0] == []


def test_results_that_were_changed_by_hand_are_not_reused(chain: Chain) -> None:
    (chain.folder / "first" / "make" / "output" / "number").write_text("1.00")
    assert chain.run("second")[0] == ["make"]


def test_results_outlive_the_folder_they_were_written_to(chain: Chain) -> None:
    remove(chain.folder)
    assert chain.run("second")[0] == []


def test_forced_steps_run_and_replace_the_results(chain: Chain) -> None:
    ran, key = chain.run("second", force=True)
    assert ran == ["make", "use"]
    assert chain.run("third")[0] == []
    assert tags_of_last_run()[REUSED_TAG + "use"] == step_runs(key)["use"]


def test_nothing_is_kept_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "off")
    chain = Chain(tmp_path / "out")
    assert chain.run("first")[0] == chain.run("second")[0] == ["make", "use"]


def test_mlflow_tells_which_steps_did_not_run_and_where_they_ran(chain: Chain) -> None:
    chain.params["use"]["scale"] = 3.0
    key = chain.run("second")[1]
    client = client_of_store()
    run = client.get_run(pipeline_runs.pipeline_run_id(key))
    assert {name for name in run.data.tags if name.startswith(REUSED_TAG)} == {REUSED_TAG + "make"}
    origin = client.get_run(run.data.tags[REUSED_TAG + "make"])
    assert origin.data.params == {"value": "1.0"}
    assert set(step_runs(key)) == {"use"}
    assert run.data.params == {"make.value": "1.0", "use.scale": "3.0"}
    assert run.data.metrics == {"value": 3.0}
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["data"]
    assert run.data.tags[live_log.DATA_TAG] == "d" * 64


def test_results_without_their_run_in_mlflow_are_not_reused(chain: Chain) -> None:
    client = client_of_store()
    for run_id in step_runs(tracking_key_of_last_run()).values():
        client.delete_run(run_id)
    assert chain.run("second")[0] == ["make", "use"]


def test_a_version_is_reused_as_long_as_the_registry_says_the_same_about_it(chain: Chain) -> None:
    client = client_of_store()
    client.create_registered_model("graft")
    for version in ("1", "2"):
        client.create_model_version("graft", source="file:///nowhere")
        client.set_registered_model_alias("graft", "champion", version)
    chain.params["use"] |= {"name": "graft", "version": "2", "alias": "champion"}
    assert chain.run("second")[0] == ["use"]
    assert chain.run("third")[0] == []
    client.set_registered_model_alias("graft", "champion", "1")
    assert chain.run("third")[0] == ["use"]
    client.delete_model_version("graft", "2")
    assert chain.run("third")[0] == ["use"]


def client_of_store() -> Any:
    from graft.runs.mlflow_store import open_client

    return open_client()


def last_run() -> Any:
    client = client_of_store()
    experiment = client.get_experiment_by_name("graft").experiment_id
    found = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    return next(run for run in found if live_log.PIPELINE_TAG in run.data.tags)


def tags_of_last_run() -> dict[str, str]:
    return dict(last_run().data.tags)


def tracking_key_of_last_run() -> str:
    return tags_of_last_run()[live_log.PIPELINE_TAG]


def step_runs(key: str) -> dict[str, str]:
    """The ids of the runs of a pipeline's steps, by step."""
    client = client_of_store()
    parent = client.get_run(pipeline_runs.pipeline_run_id(key))
    found = client.search_runs(
        [parent.info.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    return {run.data.tags[live_log.STEP_TAG]: run.info.run_id for run in found}
