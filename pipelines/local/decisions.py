"""What the steps decided, in words: one line when a step ends, and the rows of the table after a run."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from graft.data.records import SPLITS


class Decision(BaseModel):
    """One choice of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    chosen: str
    why: str = ""


def decided(step: str, metrics: Mapping[str, Any]) -> str:
    """Return what a step decided, from its metrics; empty for a step that decides nothing."""
    say = _LINES.get(step)
    return say(metrics) if say else ""


def decisions(metrics: Mapping[str, Mapping[str, Any]]) -> list[Decision]:
    """Return the choices of a run, from the metrics of its steps."""
    validated, extracted = metrics["validate_data"], metrics["extract_features"]
    head, tuned = metrics["train_head"], metrics["fine_tune"]
    found = [
        Decision(what="image size", chosen=f"{extracted['image_size']} pixels") if "image_size" in extracted else None,
        _backbone(extracted),
        Decision(what="reused", chosen=f"{extracted['backbone']} up to {head['depth']}"),
        Decision(what="head", chosen=_head(head), why=head.get("reason", "")) if "head" in head else None,
        *_stages(tuned),
        Decision(what="left out", chosen=_left_out(validated)) if _left_out(validated) else None,
        *_to_look_at(validated, "validation/data.html"),
        *_to_look_at(metrics["review_features"], "review/review.html"),
    ]
    return [one for one in found if one]


def counts_line(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the number of images of each split: train, validation, test."""
    return ", ".join(f"{split} {sum(counts[split].values()):,}" for split in in_order(counts))


def in_order(counts: Mapping[str, Any]) -> list[str]:
    """Return the names of the splits that there are, in the order in which they are used."""
    return [split for split in SPLITS if split in counts] + [split for split in counts if split not in SPLITS]


def _backbone(extracted: Mapping[str, Any]) -> Decision | None:
    candidates = extracted.get("candidates") or []
    if not candidates:
        return None
    return Decision(
        what="backbone", chosen=extracted["backbone"], why=f"the best of {len(candidates)} by cross-validation"
    )


def _head(head: Mapping[str, Any]) -> str:
    taps = len(head.get("taps", ()))
    return str(head["head"]) + (f" on {taps} groups together" if taps > 1 else "")


def _stages(tuned: Mapping[str, Any]) -> list[Decision]:
    stages = tuned.get("stages") or []
    found = [
        Decision(what=f"stage {stage['name']}", chosen="kept" if stage["kept"] else "not kept", why=stage["reason"])
        for stage in stages
    ]
    if tuned.get("untried"):
        found.append(
            Decision(what="not tried", chosen="more stages" if stages else "fine-tuning", why=tuned["untried"])
        )
    return found


def _left_out(validated: Mapping[str, Any]) -> str:
    left_out = validated.get("left_out", 0)
    return f"{left_out:,} images" if left_out else ""


def _to_look_at(metrics: Mapping[str, Any], page: str) -> list[Decision]:
    found = metrics.get("findings") or {}
    if not found:
        return []
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in found.items())
    return [Decision(what="to look at", chosen=kinds, why=page)]


def _validated(metrics: Mapping[str, Any]) -> str:
    total = sum(sum(of.values()) for of in metrics["counts"].values())
    findings = sum((metrics.get("findings") or {}).values())
    found = f", {findings:,} findings" if findings else ", nothing odd"
    return f"{total:,} images of {len(metrics.get('classes', ())):,} classes ({counts_line(metrics['counts'])}){found}"


def _reviewed(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("findings") or {}
    return ", ".join(f"{count:,} {kind}" for kind, count in found.items()) or "nothing odd"


def _head_line(metrics: Mapping[str, Any]) -> str:
    accuracy = (metrics.get("cv") or {}).get("accuracy")
    judged = f", {accuracy:.3f} right in cross-validation" if accuracy is not None else ""
    return f"{_head(metrics)}, up to {metrics['depth']}{judged}"


def _tuned(metrics: Mapping[str, Any]) -> str:
    stages = metrics.get("stages") or []
    kept = [stage["name"] for stage in stages if stage["kept"]]
    tried = (
        f"{len(stages)} stage{'s' * (len(stages) > 1)} tried, kept {', '.join(kept) or 'none'}"
        if stages
        else "no stage tried"
    )
    return tried + (", fitted again to training and validation images" if metrics.get("refit") else "")


def _evaluated(metrics: Mapping[str, Any]) -> str:
    name, found = next(iter(metrics["test"].items()))
    value = found.get("value")
    return "" if value is None else f"test {name} {value:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _registered(metrics: Mapping[str, Any]) -> str:
    why = f": {metrics['reasons'][0]}" if metrics.get("reasons") else ""
    return f"{metrics['name']} version {metrics['version']}, {metrics['alias']}{why}"


_LINES = {
    "get_data": lambda metrics: f"{metrics['files']:,} files from {metrics['source']}",
    "validate_data": _validated,
    "extract_features": lambda metrics: f"{metrics['backbone']} at {metrics['image_size']} pixels",
    "train_head": _head_line,
    "review_features": _reviewed,
    "fine_tune": _tuned,
    "evaluate": _evaluated,
    "register_model": _registered,
}
