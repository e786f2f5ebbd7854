"""Container images: their locked packages, names, bills of materials and pushes."""

import re
import tomllib
from pathlib import Path

import pytest

from components.image import DATA_STEPS, image
from components.lock import TORCH
from components.push import digest_reference, profile_lines, push
from components.sbom import bill_of_materials
from graft.core.errors import GraftError
from graft.params.params import Params
from pipelines.cluster.profile import Profile

LOCKS = ("data", "torch", "cuda")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root: Path) -> dict[str, str]:
    lines = (line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def locked(root: Path, name: str) -> dict[str, str]:
    text = (root / "components" / f"requirements-{name}.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    return {canonical(line.split("==")[0]): line.split("==")[1].split(" ")[0] for line in lines}


def required(lines: list[str]) -> set[str]:
    return {canonical(re.split(r"[\[<>=~!; ]", line)[0]) for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_locked_versions_are_the_pinned_ones(root: Path, name: str) -> None:
    pinned = pins(root)
    for package, version in locked(root, name).items():
        if package.startswith(tuple(part for part in TORCH if part not in ("torch", "torchvision"))):
            continue  # follows from torch
        assert pinned.get(package) == version, f"{package}: make lock writes the pinned version into the lock files"


def test_every_requirement_of_a_step_is_in_its_image(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    data = locked(root, "data")
    torch = data | locked(root, "torch") | locked(root, "cuda")
    extras = project["optional-dependencies"]
    assert required(project["dependencies"] + extras["data"]) <= set(data)
    assert required(extras["predict"] + extras["torch"]) <= set(torch) | {canonical(project["name"])}
    assert "kfp" in data


def test_the_data_image_gets_no_torch(root: Path) -> None:
    assert not set(locked(root, "data")) & {"torch", "torchvision", "timm"}


def test_the_lock_files_do_not_overlap(root: Path) -> None:
    data, torch, cuda = (set(locked(root, name)) for name in LOCKS)
    assert not data & torch
    assert not cuda & (data | torch)


def test_the_dockerfile_follows_the_rules(root: Path) -> None:
    text = (root / "components" / "Dockerfile").read_text()
    assert "# syntax" not in text
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert "apt-get" not in text
    installs = re.findall(r"pip install[^&;]*", text.replace("\\\n", ""))
    assert installs
    for install in installs:
        # torch from its own index is pinned, but PyPI's hashes do not match its wheels.
        assert "--require-hashes" in install or "TORCH_INDEX" in install


def test_each_step_has_an_image_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAFT_IMAGE_DATA", "GRAFT_IMAGE_TORCH", "GRAFT_IMAGE_REGISTRY", "GRAFT_IMAGE_TAG"):
        monkeypatch.delenv(name, raising=False)
    assert set(Params.model_fields) > DATA_STEPS
    assert image("get_data") == "graft-python-data:latest"
    assert image("evaluate") == "graft-python-torch:latest"
    monkeypatch.setenv("GRAFT_IMAGE_REGISTRY", "registry.example/team/")
    monkeypatch.setenv("GRAFT_IMAGE_TAG", "7")
    assert image("evaluate") == "registry.example/team/graft-python-torch:7"
    monkeypatch.setenv("GRAFT_IMAGE_TORCH", "other@sha256:1")
    assert image("evaluate") == "other@sha256:1"


@pytest.mark.parametrize("target", ["data", "torch"])
def test_the_bill_of_materials_names_every_package(root: Path, target: str) -> None:
    document = bill_of_materials(target)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    named = {canonical(one["name"]): one for one in document["components"]}
    expected = set(locked(root, "data"))
    if target == "torch":
        expected |= set(locked(root, "torch")) | set(locked(root, "cuda"))
    assert set(named) == expected
    assert named["mlflow"]["purl"] == f"pkg:pypi/mlflow@{pins(root)['mlflow']}"
    assert len(named["mlflow"]["hashes"][0]["content"]) == 64


def test_the_bill_of_materials_names_the_torch_that_is_in_the_image(root: Path) -> None:
    index, mounted = (
        {one["name"]: one for one in bill_of_materials("torch", kind)["components"]} for kind in ("index", "mounted")
    )
    assert set(index) - set(mounted) == {"torch", "torchvision"}
    assert index["torch"]["version"] == pins(root)["torch"]
    assert "hashes" not in index["torch"]  # the hashes are PyPI's, the wheel is from another index
    assert set(map(canonical, mounted)) == set(locked(root, "data")) | set(locked(root, "torch"))
    assert "components.sbom $$target $(TORCH)" in (root / "Makefile").read_text()


def test_a_profile_takes_the_lines_that_push_prints(tmp_path: Path) -> None:
    known = [f"mirror/graft-python-data@sha256:{64 * 'b'}", f"host:5000/team/graft-python-data@sha256:{64 * 'a'}"]
    reference = digest_reference("host:5000/team/graft-python-data", known)
    assert reference == known[1]
    torch = f"host:5000/team/graft-python-torch@sha256:{64 * 'c'}"
    (tmp_path / "mine.yaml").write_text(profile_lines({"data": reference, "torch": torch}))
    images = Profile.load(str(tmp_path / "mine.yaml")).images
    assert (images.data, images.torch, images.digests_only) == (reference, torch, True)


def test_an_image_that_was_not_pushed_there_has_no_digest() -> None:
    with pytest.raises(GraftError, match="host/graft-python-data: the container engine has no digest for it"):
        digest_reference("host/graft-python-data", [f"other/graft-python-data@sha256:{64 * 'a'}"])


def test_pushing_without_an_engine_is_one_clear_line() -> None:
    with pytest.raises(GraftError, match="no-such-engine: no such command; set DOCKER to the container engine's"):
        push("host", "1", "no-such-engine")
