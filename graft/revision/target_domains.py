"""The target domains of a training run: a model is adapted to each, and each adapted model becomes a version."""

import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from graft.adapt.adaptation import adapt
from graft.adapt.label_check import LabelledCheck
from graft.adapt.target_images import TargetImages
from graft.core.errors import DataError
from graft.data.dataset import ImageDataset
from graft.data.target_rows import TargetDomain, read_targets
from graft.models.bundle import ModelBundle
from graft.models.domains import domain_folder
from graft.params.adapt import AdaptParams
from graft.revision.adaptation_page import LeftOut, summarise, write_page
from graft.revision.domain_adaptation import latencies

SOURCE = "the model of this run"


def adapt_to_domains(dataset: Path, model: Path, pages: Path, params: AdaptParams) -> dict[str, dict[str, Any]]:
    """Adapt a model to every target domain of its dataset, and write what the guards keep into the model's folder.

    Images with a label are not adapted to: they decide instead of the guards, like the `CHECK` of `make adapt`. A
    domain that cannot be adapted to, such as one of too few images, is left alone with the reason.

    Args:
        dataset: folder of the dataset.
        model: folder of the model; adapted ones are written below it.
        pages: receives a folder for each domain.
        params: method and limits.

    Returns:
        The numbers of each domain, by its name.

    Raises:
        ParamsError: if `params.domain` is none of them, or for a method that the backbone does not allow.
        ModelError: if the model cannot be adapted.
    """
    bundle, learnt = ModelBundle.load(model), ImageDataset.read(dataset)
    found = {}
    for domain in read_targets(dataset, params.domain):
        try:
            found[domain.name] = _adapt_to(domain, bundle, learnt, model, pages, params)
        except DataError as error:
            print(f"adapt: {domain.name}: left alone: {error}", file=sys.stderr, flush=True)
            found[domain.name] = {"kept": False, "why": str(error), "domain": domain.name}
    return found


def _adapt_to(
    domain: TargetDomain, bundle: ModelBundle, learnt: ImageDataset, model: Path, pages: Path, params: AdaptParams
) -> dict[str, Any]:
    labels, targets = bundle.spec.labels, domain.images.targets()
    known = [row for row in domain.rows if targets[row] >= 0]
    with tempfile.TemporaryDirectory(prefix="graft-target-") as name:
        folder = Path(name)
        files = dict(zip(domain.rows, _written(domain, folder), strict=True))
        check = None
        if known:
            ids = tuple(domain.images.table["id"].iloc[known])
            check = LabelledCheck(tuple(folder / files[row] for row in known), targets[known], ids)
        images = TargetImages.of(folder, [files[row] for row in domain.rows if row not in set(known)])
        trained = np.isin(images.ids, learnt.table["id"].to_numpy(np.str_))
        checked = np.array([identity in set(check.ids if check else ()) for identity in images.ids], dtype=np.bool_)
        left_out = LeftOut(int(trained.sum()), int((checked & ~trained).sum()), images.copies)
        if (trained | checked).all():
            raise DataError(
                f"no image to adapt to: {left_out.trained} are images that the model is learnt from or "
                f"tested on, and {left_out.checked} have a label elsewhere"
            )
        result = adapt(bundle, images.kept(~trained & ~checked), params, SOURCE, domain.name, check)
        times = None
        if result.record.kept:
            result.bundle.save(domain_folder(model, domain.name))
            times = latencies(bundle, result)
        place = pages / domain_folder(model, domain.name).name
        place.mkdir(parents=True)
        write_page(place, result, left_out, times, None, labels, learnt)
    numbers: dict[str, Any] = summarise(result, left_out, times, None)["adaptation"]
    return numbers


def _written(domain: TargetDomain, folder: Path) -> Sequence[str]:
    """Write the images of a domain as files, for the passes over them; return their relative paths."""
    paths = domain.images.table["path"]
    files = []
    for row in domain.rows:
        content = domain.images.image(row)
        file = PurePosixPath(paths.iloc[row])
        if ".." in file.parts or file.is_absolute() or (folder / file).exists():
            file = PurePosixPath(hashlib.sha256(content).hexdigest() + file.suffix)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
        files.append(str(file))
    return files
