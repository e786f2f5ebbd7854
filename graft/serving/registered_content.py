"""Is a registered model what was registered? Its files, code, labels and weights are compared with its tags.

The digest of its checksums covers every file. A version of an earlier Graft has none, and is compared by the digests
that it has.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from graft.core.atomic import read_json_object
from graft.core.errors import DamagedError
from graft.runs.registered_files import FILES_TAG, download_tagged
from graft.serving.packaging import BUNDLE, NETWORK
from graft.serving.server import SPEC_FILE
from graft.serving.serving_code import ServingCode

_REMEDY = "do not use it; promote another version, or register it again"


def download_checked(model_uri: str, folder: Path, uri: str | None = None) -> Path:
    """Copy the files of `models:/name/3` or `models:/name@champion` into `folder`, check them, return where they are.

    Raises:
        RegistryError: if the model does not exist.
        DamagedError: if its files are not those that were registered.
    """
    place, tags = download_tagged(model_uri, folder, uri)
    check_content(place, tags, model_uri)
    return place


def check_content(folder: Path, tags: Mapping[str, str], name: str) -> None:
    """Compare labels and code of a packed model with each other and its tags; the weights if nothing covers all files.

    Raises:
        DamagedError: naming what differs.
    """
    artifacts = folder / "artifacts"
    served, trained = artifacts / NETWORK / SPEC_FILE, artifacts / BUNDLE / "bundle.json"
    labels = read_json_object(served).get("labels") if served.is_file() else None
    known = read_json_object(trained).get("labels") if trained.is_file() else None
    if None not in (labels, known) and labels != known:
        raise DamagedError(f"{name}: the served labels are not those of the model; {_REMEDY}")
    if "code.digest" in tags and packed_code_digest(folder) != tags["code.digest"]:
        raise DamagedError(f"{name}: its code is not the code that was registered; {_REMEDY}")
    if FILES_TAG not in tags and "weights.digest" in tags and trained.is_file():
        from graft.backbones.weights import tensors_digest
        from graft.models.bundle import ModelBundle

        if tensors_digest(ModelBundle.load(trained.parent).module().state_dict()) != tags["weights.digest"]:
            raise DamagedError(f"{name}: its weights are not those that were registered; {_REMEDY}")


def packed_code_digest(folder: Path) -> str:
    """Return the digest of the package of a packed model, as it was computed when it was packed."""
    sources = {}
    for package in sorted((folder / "code").glob("graft_*")):
        own = re.compile(rf"^(\s*(?:from|import)\s+){package.name}(?=[.\s])", re.MULTILINE)
        for file in sorted(package.rglob("*.py")):
            if file.name != "__init__.py":
                parts = file.relative_to(package).with_suffix("").parts
                sources[".".join(("graft", *parts))] = own.sub(r"\1graft", file.read_text(encoding="utf-8"))
    return ServingCode(sources, (), "").digest
