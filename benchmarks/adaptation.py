"""python -m benchmarks.adaptation: adaptation without target labels beside other methods, into docs/adaptation.md.

Domains are `pacs_mini` (in GRAFT_SHARED) and two sets of digits from installed packages. Every method sees the same
features, and no method sees a label of the target. Features take minutes; they are kept in `outputs/adaptation`.
"""

import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.data import ROOT
from benchmarks.peer_python import run_peer
from graft.adapt.adaptation import SERVED
from graft.adapt.comparisons import comparison_view
from graft.adapt.guards import agreement, agreement_guard, class_gap_guard, shift_guard
from graft.adapt.prototypes import pseudo_labels
from graft.adapt.view_heads import PULL, AdaptedViews, SourceHead, adapt_views
from graft.backbones.backbone import Backbone, build_backbone
from graft.backbones.bn_folding import for_inference
from graft.demo.demo_digits import _digits
from graft.heads.class_moments import ClassMoments
from graft.heads.feature_sample import SAMPLE_IMAGES
from graft.heads.linear_probe import PENALTIES, Linear, fit_path
from graft.heads.protocols import Floats, Ints, TrainingSet
from graft.models.batch_norm import estimate_norms
from graft.models.classifier import Head
from graft.models.two_views import with_norms
from graft.params.adapt import AdaptParams
from graft.quality.dataset_shift import embedding_shift
from graft.stats.subsampling import evenly_spaced
from graft.tasks.single_label import SingleLabel

PAGE, CACHE = ROOT / "docs" / "adaptation.md", ROOT / "outputs" / "adaptation"
BLOCK = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
PARAMS = AdaptParams()
PENALTY, NORM_BATCH = 1e-4, 32
DIGIT_TAPS = ("blocks.4", "blocks.5")
Array = npt.NDArray[np.float32]
SUBSETS: Mapping[str, Sequence[float]] = {
    "full": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "longtail": (1, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125, 0.125, 0.125, 0.125),
    "five": (1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
    "three": (1, 1, 1, 0, 0, 0, 0, 0, 0, 0),
}
"""Share of each class's images that is kept, in a random order of the classes."""


class Domain(NamedTuple):
    """Features of one domain's images."""

    plain: Array
    normed: Mapping[str, Array]
    """Under the BatchNorm statistics of each subset."""
    rows: Mapping[str, Ints]
    targets: Ints


class Unseen(NamedTuple):
    """Accuracy on images that the adaptation did not see."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class Source:
    """What is known of a source."""

    plain: Array
    normed: Array
    targets: Ints
    task: SingleLabel

    @property
    def head(self) -> SourceHead:
        """The model that was trained on it."""
        return _head(self.plain, self.targets, self.task)

    @property
    def renormed(self) -> SourceHead:
        """The head that the model keeps for the second view, fitted to as many images as in training."""
        order = np.argsort(self.targets, kind="stable")
        rows = order[evenly_spaced(len(order), SAMPLE_IMAGES)] if len(order) > SAMPLE_IMAGES else order
        return _head(self.normed[rows], self.targets[rows], self.task)

    def adapted(self, plain: Array, normed: Array) -> AdaptedViews:
        """Adapt to a target's features."""
        return adapt_views([self.head, self.renormed], [plain, normed])


class Case(NamedTuple):
    """A source, and a target without labels."""

    name: str
    source: Source
    plain: Array
    normed: Array
    targets: Ints


class Outcome(NamedTuple):
    """One case, adapted."""

    name: str
    accuracy: Mapping[str, float]
    kept: bool
    agreement: float


def measure(case: Case) -> Outcome:
    """Adapt to one target by every method, and decide by the guards."""
    source, head = case.source, case.source.head
    before = head.probabilities(case.plain)
    views = source.adapted(case.plain, case.normed)
    answers = {
        "the model as it was": before,
        "BatchNorm of the target (AdaBN)": head.probabilities(case.normed),
        "BatchNorm of each domain, head fitted again": _answers(
            _fit(source.normed, source.targets, source.task), case.normed, source
        ),
        "CORAL, head fitted again": _answers(
            _fit(_coral(source.plain, case.plain), source.targets, source.task), case.plain, source
        ),
        "features standardised per domain": views_of_start(head, case),
        "prototypes (as SHOT's)": _shot(head, case.plain, before),
        "`label_propagation`": comparison_view("label_propagation", head, case.plain, case.plain).probabilities,
        "`standardise`": views.views[SERVED["standardise"]][0].probabilities,
        "`batchnorm`": views.views[SERVED["batchnorm"]][0].probabilities,
        "`both`": views.probabilities,
    }
    accuracy = {name: float((found.argmax(1) == case.targets).mean()) for name, found in answers.items()}
    after = agreement(views.views[0].probabilities, views.views[1].probabilities)
    kept = _kept(case, head, views, before, after)
    accuracy["`both`, with guards"] = accuracy["`both`" if kept else "the model as it was"]
    return Outcome(case.name, accuracy, kept, after)


def views_of_start(head: SourceHead, case: Case) -> Floats:
    """Return the source head's answers for standardised features."""
    from graft.adapt.standardisation import Match

    return head.probabilities(Match.of(case.plain, head.moments, None, head.widths).apply(case.plain))


def _kept(case: Case, head: SourceHead, views: AdaptedViews, before: Floats, after: float) -> bool:
    rows = np.linspace(0, len(case.source.plain) - 1, min(SAMPLE_IMAGES, len(case.source.plain))).astype(int)
    known, new = case.source.plain[rows].astype(np.float64), case.plain.astype(np.float64)
    names = np.arange(len(known) + len(new)).astype(str)
    shift = embedding_shift(known, new, (names[: len(known)], names[len(known) :]), ("s", "t"), 0, "features")
    first = agreement(before, views.views[1].start)
    guards = [
        shift_guard(shift, PARAMS),
        class_gap_guard(head.moments.shares, views.shares, head.task.labels, PARAMS),
        agreement_guard(first, after, PARAMS),
    ]
    return all(guard.passed for guard in guards)


def _head(features: Array, targets: Ints, task: SingleLabel) -> SourceHead:
    made = Head.of(_fit(features, targets, task), ("features",))
    rows = Linear.of_raw(*(p.detach().double().numpy() for p in (made.linear.weight, made.linear.bias)))  # type: ignore[arg-type, union-attr]
    return SourceHead(made, rows, ClassMoments.of(features, targets, task.outputs), (features.shape[1],), task)


def _fit(features: npt.NDArray[np.floating], targets: Ints, task: SingleLabel, start: Linear | None = None) -> Linear:
    path = [PULL] if start else [penalty for penalty in PENALTIES if penalty >= PENALTY]
    *_, fitted = fit_path(TrainingSet(features, targets, task), path, start=start)
    return fitted


def _answers(fitted: Linear, features: Array, source: Source) -> Floats:
    return source.task.probabilities(fitted.logits(features))


def _coral(source: Array, target: Array, shrunk: float = 1.0) -> Floats:
    """Return the source's features with the target's covariance (Sun et al. 2016), both shrunk to the identity."""
    spread = source.std(0).astype(np.float64) + 1e-6

    def root(features: Array, power: float) -> tuple[Floats, Floats]:
        scaled = features / spread
        centred = scaled - scaled.mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred) + shrunk * np.eye(centred.shape[1]))
        return scaled.mean(0), (vectors * values**power) @ vectors.T

    (mean, whiten), (other, colour) = root(source, -0.5), root(target, 0.5)
    return np.asarray(((source / spread - mean) @ whiten @ colour + other) * spread, dtype=np.float64)


def _shot(head: SourceHead, features: Array, before: Floats) -> Floats:
    inner = head.inner(features)
    labels = pseudo_labels((inner - inner.mean(0)) / (inner.std(0) + 1e-6), before)
    return head.task.probabilities(_fit(inner, labels, head.task, head.rows).logits(inner))


# --- domains


def _extract(
    name: str, contents: Sequence[bytes], targets: Ints, backbone: Backbone, crop: float | None = None
) -> Domain:
    """Return a domain's features, computed once; `crop` replaces the part of an image's side that the backbone sees."""
    file = CACHE / f"{name}.npz"
    if not file.is_file():
        transform = backbone.spec.transform
        if crop is not None:
            transform = transform.model_copy(update={"crop_fraction": crop})
        pixels = torch.stack([transform.pixels(content) for content in contents])
        found: dict[str, npt.NDArray[np.generic]] = {"plain": _features(backbone, pixels)}
        for subset, rows in _subsets(targets).items():
            shuffled = rows[np.random.default_rng(0).permutation(len(rows))]
            parts = np.array_split(shuffled, max(1, round(len(rows) / NORM_BATCH)))
            norms = estimate_norms(backbone, (transform.normalise(pixels[torch.from_numpy(part)]) for part in parts))
            found |= {f"rows/{subset}": rows, f"normed/{subset}": _features(with_norms(backbone, norms), pixels)}
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found)  # type: ignore[arg-type]
    read = np.load(file)
    rows = {key[5:]: read[key] for key in read if key.startswith("rows/")}
    return Domain(read["plain"], {key[7:]: read[key] for key in read if key.startswith("normed/")}, rows, targets)


def _features(backbone: Backbone, pixels: torch.Tensor) -> Array:
    transform = backbone.spec.transform
    network = for_inference(backbone, transform.normalise(pixels[:1]))
    with torch.inference_mode():
        parts = [
            network(transform.normalise(part).contiguous(memory_format=torch.channels_last))
            for part in pixels.split(16)
        ]
    return torch.cat(parts).numpy()


def _subsets(targets: Ints) -> dict[str, Ints]:
    classes = int(targets.max()) + 1
    order = np.random.default_rng(0).permutation(classes)
    found = {}
    for name, shares in SUBSETS.items():
        kept, generator = [], np.random.default_rng(0)
        for label, share in zip(order, shares, strict=False):
            rows = generator.permutation(np.flatnonzero(targets == label))
            kept.append(rows[: round(share * len(rows))])
        found[name] = np.sort(np.concatenate(kept))
    halves = []
    for label in range(classes):
        rows = np.random.default_rng(label).permutation(np.flatnonzero(targets == label))
        halves.append(rows[: len(rows) // 2])
    half = np.sort(np.concatenate(halves))
    return found | {"half": half, "rest": np.setdiff1d(np.arange(len(targets)), half)}


def _pacs_folder() -> Path:
    return Path(os.environ.get("GRAFT_SHARED", ROOT.parent / "shared")) / "data" / "pacs_mini"


@cache
def pacs() -> dict[str, Domain]:
    """Return photo, art, cartoon and sketch."""
    root = _pacs_folder()
    backbone = build_backbone("tf_efficientnet_lite0")
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        classes = sorted(path.name for path in folder.iterdir())
        files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).iterdir())]
        targets = np.array([label for _, label in files])
        found[folder.name] = _extract(folder.name, [file.read_bytes() for file, _ in files], targets, backbone)
    return found


@cache
def digits(tap: str) -> dict[str, Domain]:
    """Return features of 800 digits of MNIST and 800 of UCI (Alpaydin and Kaynak 1998), both in installed packages.

    The 80 of each class are drawn at random: both lists are in the order of their writers. Digits of UCI fill their
    8 x 8 pixels, so whole images count; the centre square would cut strokes.
    """
    from sklearn.datasets import load_digits

    mnist: dict[int, list[bytes]] = {}
    for path, pixels in _digits():
        mnist.setdefault(int(path.split("/")[1]), []).append(_png(pixels))
    scans = load_digits()
    uci: dict[int, list[bytes]] = {}
    for image, label in zip(scans.images, scans.target, strict=True):
        uci.setdefault(int(label), []).append(_png((image * 255 / 16).astype(np.uint8)))
    backbone, found = build_backbone("tf_efficientnet_lite0", image_size=96).truncated(tap), {}
    for name, images in (("mnist", mnist), ("uci", uci)):
        drawn = {label: np.random.default_rng(label).permutation(len(images[label]))[:80] for label in range(10)}
        chosen = [(images[label][number], label) for label, numbers in drawn.items() for number in numbers]
        targets = np.array([label for _, label in chosen])
        found[name] = _extract(f"{name}-{tap}", [content for content, _ in chosen], targets, backbone, crop=1.0)
    return found


def digit_pairs(subset: str = "full") -> Iterator[Case]:
    """Yield MNIST and UCI as source of each other, cut where the source's own cross-validation says."""
    by_tap = {tap: digits(tap) for tap in DIGIT_TAPS}
    for name, other in (("mnist", "uci"), ("uci", "mnist")):
        tap = min(DIGIT_TAPS, key=lambda tap: _held_out_loss(by_tap[tap][name]))
        both = {one: by_tap[tap][one] for one in (name, other)}
        yield next(pairs(both, subset))


def _held_out_loss(domain: Domain) -> float:
    """Return the cross-validated log loss of a linear probe on a domain's own features."""
    folds, losses = np.arange(len(domain.targets)) % 5, []
    order = np.random.default_rng(0).permutation(len(domain.targets))
    task = SingleLabel(labels=tuple(f"c{label}" for label in range(1 + int(domain.targets.max()))))
    for fold in range(5):
        train, held = order[folds != fold], order[folds == fold]
        fitted = _fit(domain.plain[train], domain.targets[train], task)
        losses.append(task.losses(fitted.logits(domain.plain[held]), domain.targets[held]).mean())
    return float(np.mean(losses))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


# --- cases


def pairs(domains: Mapping[str, Domain], subset: str = "full") -> Iterator[Case]:
    """Yield every domain as source of every other one."""
    task = SingleLabel(
        labels=tuple(f"c{label}" for label in range(1 + max(int(d.targets.max()) for d in domains.values())))
    )
    for name, one in domains.items():
        source = Source(one.plain, one.normed["full"], one.targets, task)
        for other, target in domains.items():
            if other != name:
                rows = target.rows[subset]
                yield Case(
                    f"{name} → {other}", source, target.plain[rows], target.normed[subset][rows], target.targets[rows]
                )


def three_to_one(domains: Mapping[str, Domain]) -> Iterator[Case]:
    """Yield three domains together as the source of the fourth."""
    task = next(pairs(domains)).source.task
    for other, target in domains.items():
        rest = [domain for name, domain in domains.items() if name != other]
        plain, normed, targets = (
            np.concatenate(parts)
            for parts in ([d.plain for d in rest], [d.normed["full"] for d in rest], [d.targets for d in rest])
        )
        yield Case(
            f"others → {other}",
            Source(plain, normed, targets, task),
            target.plain,
            target.normed["full"],
            target.targets,
        )


def halves(domains: Mapping[str, Domain]) -> Iterator[Case]:
    """Yield one half of a domain as the source of its other half: there is no shift."""
    task = next(pairs(domains)).source.task
    for name, domain in domains.items():
        one, other = domain.rows["half"], domain.rows["rest"]
        source = Source(domain.plain[one], domain.normed["half"][one], domain.targets[one], task)
        yield Case(f"{name}, halves", source, domain.plain[other], domain.normed["rest"][other], domain.targets[other])


def unseen(case: Case, domain: Domain) -> Unseen:
    """Adapt to one half of a target, and return the accuracy on the other half before and after."""
    half, rest, head = domain.rows["half"], domain.rows["rest"], case.source.head
    views = case.source.adapted(domain.plain[half], domain.normed["half"][half])
    seen = (domain.plain[rest], domain.normed["half"][rest])
    with torch.inference_mode():
        answers = [
            case.source.task.probabilities(view.head(torch.from_numpy(features)).numpy())
            for view, features in zip(views.views, seen, strict=True)
        ]
    before = head.probabilities(domain.plain[rest])
    hits = [float((found.argmax(1) == domain.targets[rest]).mean()) for found in (before, np.mean(answers, axis=0))]
    return Unseen(case.name, *hits)


def unseen_halves() -> list[Unseen]:
    """Return every pair of pacs_mini and of the digits, scored on images that the adaptation did not see."""
    found = [unseen(case, pacs()[case.name.split(" → ")[1]]) for case in pairs(pacs())]
    for case in digit_pairs():
        tap = next(tap for tap in DIGIT_TAPS if digits(tap)["mnist"].plain.shape[1] == case.plain.shape[1])
        found.append(unseen(case, digits(tap)[case.name.split(" → ")[1]]))
    return found


def seeded(seed: int) -> Iterator[Case]:
    """Yield the 12 pairs with BatchNorm statistics from batches in another order."""
    for case in pairs(pacs()):
        source, target = (_normed_again(name, seed) for name in case.name.split(" → "))
        yield case._replace(source=replace(case.source, normed=source), normed=target)


@cache
def _normed_again(name: str, seed: int) -> Array:
    file = CACHE / f"{name}-seed{seed}.npy"
    if not file.is_file():
        backbone = build_backbone("tf_efficientnet_lite0")
        transform = backbone.spec.transform
        files = [file for folder in sorted((_pacs_folder() / name).iterdir()) for file in sorted(folder.iterdir())]
        pixels = torch.stack([transform.pixels(file.read_bytes()) for file in files])
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(pixels)))
        norms = estimate_norms(backbone, (transform.normalise(pixels[part]) for part in order.split(NORM_BATCH)))
        np.save(file, _features(with_norms(backbone, norms), pixels))
    found: Array = np.load(file)
    return found


# --- skada


def skada(cases: Sequence[Case]) -> list[tuple[str, list[float]]]:
    """Return the accuracy on each case of skada's estimators, and of those that its scorers pick; none without it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cases.npz"
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for number, case in enumerate(cases):
            arrays |= {f"source/{number}": case.source.plain, f"label/{number}": case.source.targets}
            arrays |= {f"target/{number}": case.plain, f"truth/{number}": case.targets}
        np.savez(file, **arrays)  # type: ignore[arg-type]
        found = json.loads(run_peer("skada", "benchmarks.peer_skada", str(file)) or "[]")
    if not found:
        return []
    rows = [(f"skada: {name}", [one["accuracy"][name] for one in found]) for name in found[0]["accuracy"]]
    for scorer in found[0]["picked"]:
        rows.append((f"skada: picked by {scorer}", [one["accuracy"][one["picked"][scorer]] for one in found]))
    return rows


# --- the table


def main() -> None:
    """Measure, and write the tables into the page."""
    torch.set_num_threads(1)
    whole = [measure(case) for case in pairs(pacs())]
    regimes: dict[str, Callable[[], Iterator[Case]]] = {
        **{f"12 pairs, seed {seed}": partial(seeded, seed) for seed in (1, 2)},
        "long tail": lambda: pairs(pacs(), "longtail"),
        "5 of the 7 classes": lambda: pairs(pacs(), "five"),
        "3 of the 7 classes": lambda: pairs(pacs(), "three"),
        "three domains → the fourth": lambda: three_to_one(pacs()),
        "no shift: halves of one domain": lambda: halves(pacs()),
        "digits: MNIST ↔ UCI": lambda: digit_pairs(),
        "digits, long tail": lambda: digit_pairs("longtail"),
        "digits, 5 of the 10 classes": lambda: digit_pairs("five"),
    }
    measured = {"12 pairs": whole} | {name: [measure(case) for case in cases()] for name, cases in regimes.items()}
    lines = [
        *_methods(whole, skada(list(pairs(pacs())))),
        "",
        *_regimes(measured),
        "",
        *_unseen(unseen_halves()),
        "",
        *_cases([*whole, *measured["digits: MNIST ↔ UCI"]]),
    ]
    errors = [
        np.mean([abs(found.agreement - found.accuracy["`both`"]) for found in outcomes])
        for outcomes in (whole, measured["digits: MNIST ↔ UCI"])
    ]
    lines += [
        "",
        f"Agreement as an estimate of accuracy: mean absolute error {errors[0]:.3f} on the 12 pairs, "
        f"{errors[1]:.3f} on digits.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    PAGE.write_text(BLOCK.sub(lambda _: "\n" + text + "\n", PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _change(outcomes: Sequence[Outcome], method: str) -> list[float]:
    return [found.accuracy[method] - found.accuracy["the model as it was"] for found in outcomes]


def _methods(outcomes: Sequence[Outcome], peers: Sequence[tuple[str, list[float]]]) -> list[str]:
    lines = ["| 12 pairs of pacs_mini | mean accuracy | worst change | pairs worse |", "|---|---|---|---|"]
    for method in outcomes[0].accuracy:
        changes = _change(outcomes, method)
        mean = np.mean([found.accuracy[method] for found in outcomes])
        lines.append(f"| {method} | {mean:.3f} | {min(changes):+.3f} | {sum(change < 0 for change in changes)} |")
    starts = [found.accuracy["the model as it was"] for found in outcomes]
    for name, accuracies in peers:
        own = next((values for peer, values in peers if peer == "skada: source only"), starts)
        changes = [after - before for after, before in zip(accuracies, own, strict=True)]
        worse = sum(change < 0 for change in changes)
        lines.append(f"| {name} | {np.mean(accuracies):.3f} | {min(changes):+.3f} | {worse} |")
    return lines


def _unseen(found: Sequence[Unseen]) -> list[str]:
    lines = ["| adapted to one half, scored on the other | cases | as it was | `both` | worst change |"]
    lines.append("|---|---|---|---|---|")
    for name, part in (("12 pairs of pacs_mini", found[:-2]), ("digits: MNIST ↔ UCI", found[-2:])):
        before, after = (np.mean([getattr(one, field) for one in part]) for field in ("before", "after"))
        worst = min(one.after - one.before for one in part)
        lines.append(f"| {name} | {len(part)} | {before:.3f} | {after:.3f} | {worst:+.3f} |")
    return lines


def _regimes(measured: Mapping[str, Sequence[Outcome]]) -> list[str]:
    lines = [
        "| target | cases | as it was | `both` | worst change | with guards | adapted | worst change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, outcomes in measured.items():
        means = [
            np.mean([found.accuracy[method] for found in outcomes])
            for method in ("the model as it was", "`both`", "`both`, with guards")
        ]
        free, guarded = (min(_change(outcomes, method)) for method in ("`both`", "`both`, with guards"))
        lines.append(
            f"| {name} | {len(outcomes)} | {means[0]:.3f} | {means[1]:.3f} | {free:+.3f} | **{means[2]:.3f}** | "
            f"{sum(found.kept for found in outcomes)} | {guarded:+.3f} |"
        )
    return lines


def _cases(outcomes: Sequence[Outcome]) -> list[str]:
    lines = ["| case | as it was | `both` | the views agree on | adapted |", "|---|---|---|---|---|"]
    for found in outcomes:
        before, after = found.accuracy["the model as it was"], found.accuracy["`both`"]
        lines.append(
            f"| {found.name} | {before:.3f} | {after:.3f} | {found.agreement:.3f} | {'yes' if found.kept else 'no'} |"
        )
    return lines


if __name__ == "__main__":
    main()
