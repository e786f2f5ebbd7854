"""A model as a repository of the Hugging Face Hub: the bundle, a model card with the Hub's metadata, a config.

`huggingface-cli upload NAME FOLDER` publishes it, and `graft.load(snapshot_download(NAME))` reads it. It is no timm
model: the backbone may be cut and the head may read several groups.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from graft.core.atomic import replacing, write_json, write_text
from graft.core.checksums import SUMS_FILE
from graft.evaluation.schema import SCORES_FILE, Evaluation, read_evaluation
from graft.models.bundle import ModelBundle
from graft.serving.evidence import CARD_FILE
from graft.serving.loading import FetchedModel

CARD, CONFIG = "README.md", "config.json"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "f1", "auroc", "map", "log_loss")
"""Those of an evaluation that the card names, where the task has them."""


def write_hub_folder(model: FetchedModel, folder: Path) -> None:
    """Write the folder.

    Raises:
        ModelError: if the model's folder holds no bundle.
    """
    bundle, evidence = model.load(), model.evidence
    scored = read_evaluation(evidence) if evidence and (evidence / SCORES_FILE).is_file() else None
    card = (evidence / CARD_FILE).read_text(encoding="utf-8") if evidence and (evidence / CARD_FILE).is_file() else ""
    with replacing(folder) as temporary:
        shutil.copytree(model.bundle, temporary, ignore=shutil.ignore_patterns(SUMS_FILE))
        write_json(temporary / CONFIG, config(bundle))
        front = yaml.safe_dump(metadata(bundle, model.name or folder.name, scored), sort_keys=False, allow_unicode=True)
        write_text(temporary / CARD, f"---\n{front}---\n\n{card or _described(bundle)}\n{USE}")


USE = """## Use

```python
import graft  # pip install graft-vision
from huggingface_hub import snapshot_download

model = graft.load(snapshot_download("NAME/OF-THIS-REPOSITORY"))
model.predict(["a.jpg"])
```
"""


def config(bundle: ModelBundle) -> dict[str, Any]:
    """Return the content of `config.json`: the Hub counts downloads by it, and people look there for the labels."""
    spec = bundle.spec
    return {
        "model_type": "graft",
        "architecture": spec.backbone.architecture,
        "groups": list(spec.backbone.groups),
        "num_classes": len(spec.labels),
        "id2label": {str(place): label for place, label in enumerate(spec.labels)},
        "transform": spec.backbone.transform.model_dump(mode="json"),
    }


def metadata(bundle: ModelBundle, name: str, scored: Evaluation | None) -> Mapping[str, Any]:
    """Return the card's metadata in the Hub's terms; only its owner can say under which licence a model is given."""
    found: dict[str, Any] = {
        "library_name": "graft",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "transfer-learning", bundle.spec.backbone.architecture],
    }
    if scored:
        values = {one: scored.test[one].value for one in METRICS if one in scored.test}
        metrics = [{"type": one, "value": round(value, 4)} for one, value in values.items() if value is not None]
        data = {"type": "imagefolder", "name": scored.dataset_digest[:12], "split": "test"}
        result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": metrics}
        found["model-index"] = [{"name": name, "results": [result]}]
    return found


def _described(bundle: ModelBundle) -> str:
    labels = ", ".join(bundle.spec.labels)
    return f"# {bundle.spec.backbone.architecture}\n\nIt tells apart: {labels}. There is no evaluation beside it.\n"
