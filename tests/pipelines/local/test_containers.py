"""The container images and the pipeline in them, on a real engine: `make test-containers` builds the images."""

import io
import json
import os
import shutil
import site
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kfp import dsl, local

from components.push import TARGETS, profile_lines, push
from components.wheel import CONTENT, build_wheel
from graft.core.errors import GraftError
from graft.demo.demo_digits import write_demo
from graft.params.params import Params
from pipelines.cluster.profile import Profile
from pipelines.local.containers import Folder, reliable_exit_codes, run_container
from pipelines.local.execution import execute
from pipelines.local.summary import Summary
from tests.support.drawn_masks import write_pairs
from tests.support.pictures import MakeImages

docker = pytest.importorskip("docker")
pytestmark = pytest.mark.containers

DATA, TORCH = "graft-python-data:latest", "graft-python-torch:latest"
QUICK = (
    "extract_features.image_size=32",
    "train_head.reuse_depth=last",
    "train_head.folds=2",
    "fine_tune.epochs=1",
    "fine_tune.folds=0",
    "evaluate.bootstrap=100",
    "evaluate.random_init=false",
    "register_model.promote=false",
)
QUICK_PIXELS = (
    "extract_features.image_size=64",
    "fine_tune.enabled=false",
    "evaluate.bootstrap=100",
    "evaluate.random_init=false",
    "evaluate.learning_curve=false",
    "register_model.max_milliseconds=60000",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with closing(docker.from_env()) as client:
        client.ping()
        yield client


@pytest.fixture(scope="module")
def host_torch() -> Folder:
    """The torch of this machine: the images of the test were built without it (TORCH=mounted)."""
    return Folder(Path(site.getsitepackages()[0]), "/opt/torch")


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """KFP's runner with our settings; returns the pipeline root."""
    from pipelines.local import containers

    root = tmp_path / "steps"
    root.mkdir()
    containers._make_writable(root)
    local.init(containers._runner([], {}, "none"), pipeline_root=str(root))
    return root


def inside(engine: Any, image: str, command: str, **options: Any) -> str:
    output = engine.containers.run(image, ["sh", "-c", command], remove=True, network_mode="none", **options)
    return str(output.decode())


@pytest.mark.parametrize("image", [DATA, TORCH])
def test_an_image_contains_only_what_a_step_needs(engine: Any, image: str) -> None:
    assert inside(engine, image, "id -u").strip() == "10001"
    for tool in ("gcc", "cc", "g++"):
        assert inside(engine, image, f"command -v {tool} || true") == ""
    assert inside(engine, image, "ls /opt/graft/bin | grep -c '^pip' || true").strip() == "0"
    assert inside(engine, image, "ls /run/secrets 2>/dev/null || true") == ""
    history = json.dumps([layer["CreatedBy"] for layer in engine.images.get(image).history()])
    assert "BEGIN CERTIFICATE" not in history
    assert "org.opencontainers.image.revision" in engine.images.get(image).labels
    code = (
        "import graft.quality.expectations, graft.data.fetch, kfp.dsl.executor_main, sys; print('torch' in sys.modules)"
    )
    # KFP sets this variable in steps: without it the client's requirements are checked, which no step needs.
    command = f'_KFP_RUNTIME=true python3 -c "{code}"'
    assert inside(engine, image, command, read_only=True, tmpfs={"/tmp": ""}).strip() == "False"


def test_the_data_image_has_no_torch(engine: Any) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('torch'))"
    assert inside(engine, DATA, f'python3 -c "{code}"').strip() == "None"


def code_layers(engine: Any, root: Path, context: Path) -> list[str]:
    """Build an image of the code alone on its base, without cache, and return the digests of its layers."""
    recipe = context / "Dockerfile"
    packages = "COPY --from=finished-data /tree/ /\n"
    whole = (root / "components" / "Dockerfile").read_text()
    assert packages in whole
    recipe.write_text(whole.replace(packages, ""))
    base = os.environ.get("BASE_IMAGE", "python:3.11-slim")
    options = ["--no-cache", "--quiet", "--network", "host", "--target", "data", "--build-arg", f"BASE_IMAGE={base}"]
    command = [os.environ.get("DOCKER", "docker"), "build", *options, "--file", recipe, context]
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
    try:
        return list(engine.images.get(made).attrs["RootFS"]["Layers"])
    finally:
        engine.images.remove(made, force=True)


def test_equal_code_makes_an_equal_layer(engine: Any, root: Path, tmp_path: Path) -> None:
    digests = []
    for number in range(3):
        context = tmp_path / f"clone {number}"
        for name in CONTENT:
            # Two clones of one revision differ in the times of their files.
            if (root / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(root / name, context / name, ignore=ignored, copy_function=shutil.copyfile)
            else:
                context.mkdir(exist_ok=True)
                shutil.copyfile(root / name, context / name)
        if number == 2:
            (context / "graft" / "new.py").write_text("")
        build_wheel(context / "outputs" / "images" / "wheel", context)
        digests.append(code_layers(engine, root, context))
    first, again, other = digests
    assert first == again
    assert first[:-1] == other[:-1]
    assert first[-1] != other[-1]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on the loopback address, which engines accept without TLS."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry (Debian's package of that name)")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(tmp_path / "blobs")}}}
    (tmp_path / "registry.json").write_text(json.dumps(settings | {"http": {"addr": address}}))
    with subprocess.Popen([program, "serve", tmp_path / "registry.json"], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://{address}/v2/")
            yield address
        finally:
            process.terminate()


def wait_for(url: str) -> None:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_pushed_images_are_referenced_by_digest(engine: Any, registry: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    names = [f"{registry}/team/graft-python-{target}" for target in TARGETS]
    for name in names:
        engine.images.client.api.import_image_from_data(content.getvalue(), repository=name, tag="1.0")
    try:
        references = push(f"{registry}/team", "1.0", os.environ.get("DOCKER", "docker"))
        for name, reference in zip(names, references.values(), strict=True):
            with urllib.request.urlopen(f"http://{registry}/v2/{name.split('/', 1)[1]}/manifests/1.0") as answer:
                assert reference.startswith(f"{name}@sha256:")
                assert answer.status == 200
            engine.images.pull(reference)  # as a node does with the reference in the profile
        (tmp_path / "mine.yaml").write_text(profile_lines(references))
        assert Profile.load(str(tmp_path / "mine.yaml")).images.digests_only
    finally:
        for name in names:
            engine.images.remove(f"{name}:1.0", force=True)


@dsl.component(base_image=DATA, packages_to_install=[], install_kfp_package=False)
def give_up():  # type: ignore[no-untyped-def]
    raise SystemExit(3)


@dsl.pipeline(name="failing")
def failing():  # type: ignore[no-untyped-def]
    give_up()


def test_a_failed_step_is_never_missed(engine: Any, started: Path) -> None:
    # KFP alone misses the failure about every third time, when the engine removes the container first.
    for _ in range(25):
        with reliable_exit_codes(), pytest.raises(RuntimeError, match=r"Inner task failed: .*give-up"):
            failing()
    assert engine.containers.list(all=True) == []


def test_a_missing_image_is_one_clear_line(engine: Any) -> None:
    with pytest.raises(GraftError, match=r"no image graft-none:1.* make images builds it"):
        run_container(engine, "graft-none:1", ["true"], {})


@dsl.component(base_image=DATA, packages_to_install=[], install_kfp_package=False)
def look_around(found: dsl.Output[dsl.Artifact]):  # type: ignore[no-untyped-def]
    import json
    import os
    import socket
    from pathlib import Path

    def fails(action):  # type: ignore[no-untyped-def]
        try:
            action()
        except OSError:
            return True
        return False

    seen = {
        "user": os.getuid(),
        "root is read-only": fails(lambda: Path("/opt/graft/new").write_text("")),
        "no network": fails(lambda: socket.create_connection(("192.0.2.1", 80), timeout=2)),
        "no capability": "CapEff:\t0000000000000000" in Path("/proc/self/status").read_text(),
    }
    Path("/tmp/new").write_text("")
    Path(found.path).write_text(json.dumps(seen))


@dsl.pipeline(name="looking")
def looking():  # type: ignore[no-untyped-def]
    look_around()


def test_a_step_has_no_rights_it_does_not_need(engine: Any, started: Path) -> None:
    with reliable_exit_codes():
        looking()
    (seen,) = started.glob("*/look-around/found")
    found = json.loads(seen.read_text())
    assert found.pop("user") == 10001
    assert all(found.values()), found


def some_digits(folder: Path, each: int) -> Path:
    """The first digits of the demo, `each` of every class for the test and twice as many for training."""
    write_demo(folder)
    for split, count in (("train", 2 * each), ("test", each)):
        for label in (folder / split).iterdir():
            for image in sorted(label.iterdir())[count:]:
                image.unlink()
    return folder


def answers(out: Path) -> pd.DataFrame:
    (file,) = out.glob("steps/*/evaluate/evaluation/predictions.parquet")
    return pd.read_parquet(file).sort_values("path", ignore_index=True)


def test_the_whole_pipeline_in_containers_equals_the_one_in_processes(
    root: Path, tmp_path: Path, host_torch: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some_digits(tmp_path / "digits", each=8)
    plain, contained = tmp_path / "plain", tmp_path / "contained"
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "run",
        "--data",
        data,
        "--out",
        plain,
        "--params",
        " ".join(QUICK),
    ]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns-plain/mlflow.db")
    # Both at once: most of a short run is one core importing.
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
        params = Params.load(root / "params.yaml", [f"get_data.source={data}", *QUICK])
        found = execute(params, contained, in_containers=True, folders=[host_torch])
        output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    expected = Summary.model_validate_json((plain / "summary.json").read_text())
    assert found.data == expected.data
    assert found.reused == expected.reused
    for name, estimate in expected.metrics["test"].items():
        assert found.metrics["test"][name].value == pytest.approx(estimate.value, abs=1e-3), name
    # Not exactly equal: sums are split among a different number of threads.
    pd.testing.assert_frame_equal(answers(contained), answers(plain), rtol=0, atol=1e-3)
    assert (contained / "report.html").is_file()
    # The steps ran as another user: everyone can read their outputs.
    shutil.copytree(contained, tmp_path / "copy")


def test_a_model_of_masks_comes_out_of_containers(
    root: Path, tmp_path: Path, host_torch: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_pairs(tmp_path / "shapes", 30)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    values = "validate_data.mask_values={0: background, 1: disc, 2: square, 3: triangle}"
    quick = (f"get_data.source={data}", "validate_data.task=segment", values, *QUICK_PIXELS)
    found = execute(
        Params.load(root / "params.yaml", quick), tmp_path / "out", in_containers=True, folders=[host_torch]
    )
    assert found.metrics["test"]["mean_iou"].value > 0.4
    assert found.model.version == 1
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_step_that_fails_in_a_container_fails_the_run_with_its_line(
    root: Path, tmp_path: Path, image_folder: MakeImages
) -> None:
    data = image_folder({"cat": 6, "dog": 6})
    (data / "cat" / "0002.png").write_bytes(b"no image")
    params = Params.load(root / "params.yaml", [f"get_data.source={data}"])
    with pytest.raises(GraftError, match=r"validate_data: .*cat/0002\.png"):
        execute(params, tmp_path / "out", in_containers=True)
    assert (tmp_path / "out" / "validation" / "data.html").is_file()
