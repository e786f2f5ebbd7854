"""The names of architectures, read without the libraries."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torchvision

from graft.backbones.architecture_names import architecture_names, check_architecture
from graft.core.errors import ModelError


def test_they_are_the_names_of_the_libraries() -> None:
    assert architecture_names() == {*torchvision.models.list_models(module=torchvision.models), *timm.list_models()}


def test_a_misspelt_name_gets_the_nearest_ones() -> None:
    check_architecture("resnet18")
    check_architecture("resnet18.a1_in1k")
    with pytest.raises(ModelError, match=r"backbone='resnt18': unknown architecture; did you mean resnet18"):
        check_architecture("resnt18")


def test_reading_them_loads_neither(root: Path) -> None:
    code = (
        "import sys; from graft.backbones.architecture_names import architecture_names; architecture_names();"
        "print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
