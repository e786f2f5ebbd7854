"""The pipeline graph is written by hand twice, for Kubeflow and for DVC: these tests check that both are equal."""

import importlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from graft.params.params import Params
from graft.runs.step import Step
from pipelines.cluster.compiled import write_pipeline

STEPS = list(Params.model_fields)
SHOWN_BY_KUBEFLOW = {"system.HTML", "system.ClassificationMetrics"}
"""Types of outputs that a component adds only for Kubeflow's pages."""
TYPED = {"get_data": {"source"}, "extract_features": {"backbone"}, "fine_tune": {"budget"}, "register_model": {"name"}}
"""Fields that Kubeflow's page asks for beside the sections."""
Edge = tuple[str, str, str]
"""Producing step, name of the artifact, consuming step."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("compiled") / "training.yaml"
    write_pipeline(file)
    return file.read_text()


@pytest.fixture(scope="module")
def spec(compiled: str) -> PipelineSpec:
    return parsed(compiled)


@pytest.fixture(scope="module")
def stages(root: Path) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return stages


def parsed(text: str) -> PipelineSpec:
    return json_format.ParseDict(yaml.safe_load(text), PipelineSpec())


def name(task: str) -> str:
    return task.replace("-", "_")


def kfp_edges(spec: PipelineSpec) -> set[Edge]:
    return {
        (name(source.task_output_artifact.producer_task), source.task_output_artifact.output_artifact_key, name(task))
        for task, content in spec.root.dag.tasks.items()
        for source in content.inputs.artifacts.values()
    }


def dvc_edges(stages: dict[str, Any]) -> set[Edge]:
    makers = {out: stage for stage, content in stages.items() for out in content["outs"]}
    return {
        (makers[dep], dep.removeprefix("artifacts/"), stage)
        for stage, content in stages.items()
        for dep in content["deps"]
        if dep in makers
    }


def schema(output: Any) -> str:
    return str(output.artifact_type.schema_title)


def step_of(stage: str) -> Step:
    found = getattr(importlib.import_module(f"components.{stage}.step"), stage)
    assert isinstance(found, Step)
    return found


def test_golden(compiled: str, golden: Callable[[str, str], None]) -> None:
    golden("training.yaml", compiled)


def test_both_graphs_have_the_same_steps(spec: PipelineSpec, stages: dict[str, Any]) -> None:
    assert list(stages) == STEPS
    assert {name(task) for task in spec.root.dag.tasks} == set(STEPS)


def test_both_graphs_have_the_same_edges(spec: PipelineSpec, stages: dict[str, Any]) -> None:
    assert kfp_edges(spec) == dvc_edges(stages)
    assert ("validate_data", "dataset", "extract_features") in kfp_edges(spec)


def test_kubeflow_gives_each_input_the_output_of_its_name(spec: PipelineSpec) -> None:
    for task in spec.root.dag.tasks.values():
        for key, source in task.inputs.artifacts.items():
            assert source.task_output_artifact.output_artifact_key == key


def test_each_step_takes_the_section_of_its_name(spec: PipelineSpec, stages: dict[str, Any]) -> None:
    for task, content in spec.root.dag.tasks.items():
        assert content.inputs.parameters["params"].component_input_parameter == name(task)
        assert set(content.inputs.parameters) - {"params"} == TYPED.get(name(task), set())
    for stage, content in stages.items():
        assert content["params"] == [stage]


@pytest.mark.parametrize("step", STEPS)
def test_component_and_stage_have_the_ports_of_the_step(step: str, spec: PipelineSpec, stages: dict[str, Any]) -> None:
    work, component, stage = step_of(step), spec.components[f"comp-{step.replace('_', '-')}"], stages[step]
    lists = {
        name for name, one in component.input_definitions.artifacts.items() if one.is_artifact_list and one.is_optional
    }
    assert lists == set(work.input_lists)
    assert set(component.input_definitions.artifacts) - lists == set(work.inputs)
    shown = {name for name, one in component.output_definitions.artifacts.items() if schema(one) in SHOWN_BY_KUBEFLOW}
    assert set(component.output_definitions.artifacts) - shown == {*work.outputs, "metrics"}
    assert stage["outs"] == [f"artifacts/{output}" for output in [*work.outputs, f"metrics/{step}.json"]]
    command = shlex.split(stage["cmd"])
    ports = {port: f"artifacts/{port}" for port in [*work.inputs, *work.outputs]}
    ports["metrics"] = f"artifacts/metrics/{step}.json"
    assert command[:3] == ["python", "-m", f"components.{step}.step"]
    assert dict(zip(command[3::2], command[4::2], strict=True)) == {f"--{port}": path for port, path in ports.items()}
    assert work.section is Params.model_fields[step].annotation


@pytest.fixture(scope="module")
def fanned(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    """The pipeline where three workers share the images."""
    from kfp.compiler import Compiler

    from pipelines.training import pipeline

    file = tmp_path_factory.mktemp("fanned") / "training.yaml"
    Compiler().compile(pipeline(shards=3), str(file))
    return parsed(file.read_text())


def test_sharing_the_images_changes_no_other_edge(fanned: PipelineSpec, stages: dict[str, Any]) -> None:
    (loop,) = {name(task) for task in fanned.root.dag.tasks} - set(STEPS)
    edges = kfp_edges(fanned)
    inside = {edge for edge in edges if loop in edge}
    assert edges - inside == dvc_edges(stages)
    assert {(maker, taker) for maker, _, taker in inside} == {
        ("validate_data", loop),
        (loop, "extract_features"),
    }


def test_each_worker_takes_what_the_step_takes_and_gives_its_part(fanned: PipelineSpec) -> None:
    (loop,) = [task for task in fanned.root.dag.tasks.values() if task.HasField("parameter_iterator")]
    assert json.loads(loop.parameter_iterator.items.raw) == [0, 1, 2]
    inner = fanned.components[loop.component_ref.name].dag
    (worker,) = inner.tasks.values()
    outer = {key: one.component_input_parameter for key, one in loop.inputs.parameters.items()}
    assert worker.task_info.name == "extract-shard"
    assert list(worker.inputs.artifacts) == ["dataset"]
    assert outer[worker.inputs.parameters["params"].component_input_parameter] == "extract_features"
    assert worker.inputs.parameters["shards"].runtime_value.constant.number_value == 3
    (selected,) = next(iter(inner.outputs.artifacts.values())).artifact_selectors
    assert (selected.producer_subtask, selected.output_artifact_key) == ("extract-shard", "part")
    joining = fanned.root.dag.tasks["extract-features"].inputs.artifacts
    assert set(joining) == {"dataset", "parts"}


def test_sharing_the_images_changes_no_other_task(spec: PipelineSpec, fanned: PipelineSpec) -> None:
    for task in set(spec.root.dag.tasks) - {"extract-features"}:
        assert fanned.root.dag.tasks[task] == spec.root.dag.tasks[task]
        assert fanned.components[f"comp-{task}"] == spec.components[f"comp-{task}"]
    assert fanned.components["comp-extract-features"] == spec.components["comp-extract-features"]


def test_parameters_become_defaults_without_null(tmp_path: Path) -> None:
    params = Params.model_validate({"train_head": {"folds": 7}})
    write_pipeline(tmp_path / "p.yaml", params)
    spec = parsed((tmp_path / "p.yaml").read_text())
    defaults = json_format.MessageToDict(spec.root.input_definitions)["parameters"]
    assert set(defaults) == {*STEPS, "source", "backbone", "budget", "model_name"}
    # The defaults in the compiled file are the same parameters.
    assert Params.model_validate({step: defaults[step]["defaultValue"] for step in STEPS}) == params


def test_images_are_chosen_when_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    import subprocess
    import sys

    digest = "registry.example/graft@sha256:" + 64 * "a"
    environment = {"GRAFT_IMAGE_DATA": digest, "GRAFT_IMAGE_REGISTRY": "registry.example/", "GRAFT_IMAGE_TAG": "1.2"}
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    file = tmp_path / "p.yaml"
    subprocess.run([sys.executable, "-m", "pipelines.cli", "compile", "--out", str(file)], check=True, cwd=root)
    executors = parsed(file.read_text()).deployment_spec["executors"]
    images = {key.removeprefix("exec-"): executors[key]["container"]["image"] for key in executors}
    assert images["get-data"] == images["validate-data"] == digest
    assert images["fine-tune"] == "registry.example/graft-python-torch:1.2"


def test_whole_numbers_are_integers_on_kubeflows_page(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p.yaml", Params())
    shown = yaml.safe_load((tmp_path / "p.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    folds, decay = shown["train_head"]["defaultValue"]["folds"], shown["fine_tune"]["defaultValue"]["layer_decay"]
    assert (folds, type(folds), decay) == (5, int, 0.7)
    for step in STEPS:
        given = {name: value for name, value in Params().section(step).items() if value is not None}
        assert shown[step]["defaultValue"] == given
