"""From a folder to a verdict: inventory, probes, expectations, findings."""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from graft.core.errors import ParamsError
from graft.data.dataset import TABLE_COLUMNS, ImageDataset, write_dataset
from graft.data.records import SPLITS, Listing, printable
from graft.data.wrappers import MOST_LEFT_OUT, MOST_LEFT_OUT_SHARE
from graft.imaging.decode import MAX_PIXELS
from graft.imaging.decoder_warnings import hearing
from graft.params.validate_data import ValidateDataParams
from graft.quality.class_findings import about_classes, findings_of_tasks, joined
from graft.quality.data_probes import Probes, run_probes
from graft.quality.expectations import Judgement, UnmetExpectation, judge
from graft.quality.findings import FAULTS, KINDS, SEVERITIES, Finding, make_finding, verdict
from graft.quality.inventory import Inventory, take_inventory
from graft.quality.kind import Severity
from graft.quality.wide_images import stretching
from graft.tasks.columns import check_answers

COPY_COLUMN = "copy_in_training"
"""Column of the dataset: whether a picture's copies in another given split were left out; a slice of the evaluation."""


@dataclass(frozen=True)
class Validation:
    """Everything known about a data folder, with findings and verdict."""

    root: Path
    inventory: Inventory
    probes: Probes
    judgement: Judgement
    findings: tuple[Finding, ...]
    """Worst first."""
    channels: int = 3
    """Channels of every image, from the parameters."""
    max_pixels: int = MAX_PIXELS
    """The largest allowed image, from the parameters."""
    on_leakage: str = "drop"
    """From the parameters."""
    picture: Callable[[int], bytes] | None = None
    """Returns what the page shows of an image, by its row, such as a photo with its mask; None: the image itself."""

    @property
    def verdict(self) -> Literal["pass", "warn", "fail"]:
        """The worst severity."""
        return verdict(self.findings)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kept images per split and class."""
        classes = self.inventory.classes.set_index("label")
        return {
            split: {str(label): int(n) for label, n in classes[split].items()}
            for split in SPLITS
            if classes[split].any()
        }

    @property
    def warnings(self) -> list[str]:
        """One line for each warning; none of them stops a run."""
        found = [finding.line() for finding in self.findings if finding.severity == "warn"]
        return [*self.inventory.listing.warnings, *self._moved(), *found]

    def _moved(self) -> list[str]:
        """Return a line about classes that have images in every split only because some were moved."""
        if not self.inventory.moved:
            return []
        named = joined([repr(printable(label)) for label in self.inventory.moved])
        return [
            f"splits: some images of {named} were moved to give each split every class; they may move as data grows"
        ]

    def failure(self) -> str:
        """Return one line with the reasons for a failing verdict: the first with its remedy, the others by name."""
        failing = [finding for finding in self.findings if finding.severity == "fail"]
        more = "".join(f"; also {finding.kind} ({finding.count})" for finding in failing[1:])
        return failing[0].line() + more

    def write(self, path: Path, name: str = "") -> ImageDataset:
        """Write the kept images as the dataset artifact, under a name; files are read again, one at a time."""
        kept = self.inventory.kept
        first, *further = (task.task(kept[task.column].tolist()) for task in self.inventory.tasks)
        check_answers([first, *further])
        return write_dataset(
            path,
            self.table(),
            self.inventory.contents(),
            first.labels,
            self.channels,
            first,
            max_pixels=self.max_pixels,
            name=name,
            value_range=self.inventory.values,
            further_tasks=further,
        )

    def table(self) -> pd.DataFrame:
        """Return the kept images as the dataset's table."""
        kept = self.inventory.kept
        table = kept[[*TABLE_COLUMNS, *self.inventory.extra]].copy()
        if self.on_leakage == "drop" and kept["leaks"].any():
            table[COPY_COLUMN] = np.where(kept["leaks"], "left out", "none")
        table[["width", "height"]] = table[["width", "height"]].astype("int64")
        return table


def validate(
    root: Path,
    params: ValidateDataParams,
    say: Callable[[str], None] = lambda _: None,
    listing: Listing | None = None,
) -> Validation:
    """Examine and check the folder `root`.

    Args:
        root: the data folder.
        params: the step's parameter section.
        say: is told how the folder is read, before any image is opened.
        listing: the folder's images; None: as its class folders or its manifest say.

    Raises:
        DataError: if there is no data in a known layout.
        ParamsError: if a severity is set for an unknown kind.
    """
    for kind in params.severity:
        if kind not in KINDS:
            close = difflib.get_close_matches(kind, KINDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(KINDS)}"
            raise ParamsError(f"validate_data.severity: unknown kind of finding {kind!r}; {hint}")
    with hearing():
        inventory = take_inventory(root, params, say, listing)
    probes = run_probes(inventory, params)
    tables = {"images": inventory.images, "classes": inventory.classes, "probes": probes.table()}
    judgement = judge(tables, params)
    findings = _findings(inventory, probes, judgement.unmet, params)
    if len(inventory.tasks) > 1:
        found = [*findings, *findings_of_tasks(inventory, params)]
        findings = sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
    return Validation(
        root, inventory, probes, judgement, tuple(findings), params.channels, params.max_pixels, params.on_leakage
    )


def _findings(
    inventory: Inventory, probes: Probes, unmet: Sequence[UnmetExpectation], params: ValidateDataParams
) -> list[Finding]:
    merged: dict[str, list[UnmetExpectation]] = {}
    for failed in unmet:
        merged.setdefault(failed.kind if failed.kind != "expectation" else failed.text, []).append(failed)
    found = [
        finding
        for same in merged.values()
        for finding in (
            _probed(probes, same[0], params) if same[0].table == "probes" else [_finding(inventory, same, params)]
        )
    ]
    return worst_first(finding for finding in found if finding is not None)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, then in the order of `KINDS`, without those that are ignored."""
    order = {severity: place for place, severity in enumerate(SEVERITIES)}
    kinds = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(
        (finding for finding in findings if finding.severity != "ignore"),
        key=lambda finding: (order[finding.severity], kinds[finding.kind]),
    )


def _finding(inventory: Inventory, same: Sequence[UnmetExpectation], params: ValidateDataParams) -> Finding | None:
    kind = same[0].kind
    rows = list(dict.fromkeys(row for failed in same for row in failed.rows))
    images = inventory.images
    severity: Severity = params.severity.get(kind, KINDS[kind].severity)
    if kind == "left_out":
        return _left_out(images[images["fault"] == kind], len(images), severity, params)
    if kind in FAULTS:
        return _fault(kind, images[images["fault"] == kind], severity, params)
    if same[0].table == "classes":
        if kind == "one_class" and inventory.tasks[0].has_tags and len(inventory.classes):
            return None
        name = inventory.tasks[0].name if len(inventory.tasks) > 1 else ""
        return about_classes(kind, rows, inventory.classes.set_index("label"), severity, params, name)
    if kind == "expectation":
        wanted = next((one.severity for one in same if one.severity in SEVERITIES), None)
        return make_finding(kind, wanted or severity, rows, f"not met: {same[0].text}, by {len(rows)} images")
    flagged = images[images["path"].isin(rows)]
    if kind == "decoder_warning":
        said = [f"{printable(path)} ({text})" for path, text in zip(flagged["path"], flagged["warning"], strict=True)]
        return make_finding(kind, severity, rows, f"{len(rows)} with a warning: {joined(said, most=3)}")
    if kind == "stretched_range":
        return _stretched(flagged, images, severity)
    if kind == "leakage":
        return _leakage(flagged, images, severity, params)
    if kind in ("exact_duplicate", "near_duplicate", "contradiction"):
        column = "id" if kind == "exact_duplicate" else "picture"
        alike = images[images[column].isin(flagged[column])] if kind != "exact_duplicate" else flagged
        groups = [tuple(sorted(paths)) for _, paths in alike.groupby(column)["path"]]
        return make_finding(kind, severity, rows, groups=sorted(group for group in groups if len(group) > 1))
    return make_finding(kind, severity, rows)


def _stretched(flagged: pd.DataFrame, images: pd.DataFrame, severity: Severity) -> Finding:
    low, high = stretching(images)[1]
    shown = [
        f"{printable(path)} ({least:g} to {greatest:g})"
        for path, least, greatest in zip(flagged["path"], flagged["least"], flagged["greatest"], strict=True)
    ]
    wide = int(images["greatest"].notna().sum())
    text = f"{len(shown)} of {wide:,} images stretch the one range of all, {low:g} to {high:g} without them: "
    remedy = f"repair them, or set validate_data.value_range=[{low:g},{high:g}]"
    return make_finding("stretched_range", severity, list(flagged["path"]), text + joined(shown, most=3), remedy=remedy)


def _fault(kind: str, bad: pd.DataFrame, severity: Severity, params: ValidateDataParams) -> Finding:
    listed = [f"{printable(path)} ({text})" for path, text in zip(bad["path"][:3], bad["fault_text"][:3], strict=True)]
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    noun = "image" if len(bad) == 1 else "images"
    if params.on_bad_image == "drop":
        severity = "warn" if severity == "fail" else severity
        detail = f"{len(bad)} {noun} left out: {', '.join(listed)}{more}"
        return make_finding(kind, severity, list(bad["path"]), detail, remedy="repair or remove the files")
    return make_finding(kind, severity, list(bad["path"]), f"{len(bad)} bad {noun}: {', '.join(listed)}{more}")


def _left_out(files: pd.DataFrame, whole: int, severity: Severity, params: ValidateDataParams) -> Finding:
    few = len(files) <= min(MOST_LEFT_OUT, MOST_LEFT_OUT_SHARE * whole)
    if few and severity == "fail" and "left_out" not in params.severity:
        severity = "warn"
    folders = files["path"].str.rpartition("/")[0].value_counts()
    named = [f"{printable(str(folder)) or '.'}/ {number:,}" for folder, number in folders.items()]
    noun = "image is" if len(files) == 1 else "images are"
    text = f"{len(files):,} {noun} {files['fault_text'].iloc[0]} and not used: {joined(named)}"
    return make_finding("left_out", severity, list(files["path"]), text)


def _leakage(flagged: pd.DataFrame, images: pd.DataFrame, severity: Severity, params: ValidateDataParams) -> Finding:
    groups = [tuple(sorted(paths)) for _, paths in flagged.groupby("group")["path"]]
    if params.on_leakage == "fail":
        return make_finding("leakage", severity, list(flagged["path"]), groups=sorted(groups))
    text = "1 picture or group" if len(groups) == 1 else f"{len(groups)} pictures or groups"
    text += " in more than one split"
    if params.on_leakage == "drop":
        dropped = list(flagged.loc[flagged["dropped"] != "", "path"])
        text += f"; {len(dropped)} left out, outside the test set: {joined(list(map(printable, dropped)), most=3)}"
        test = images["given_split"] == "test"
        copied, whole = int((flagged["given_split"] == "test").sum()), int((test & (images["dropped"] == "")).sum())
        if copied:
            text += (
                f"; with them a model could answer {copied} of {whole} test images from memory, "
                f"and its accuracy would be up to {100 * copied / whole:.1f} points too high"
            )
    return make_finding(
        "leakage", "warn", list(flagged["path"]), text, groups=sorted(groups), remedy="move each into one split"
    )


def _probed(probes: Probes, failed: UnmetExpectation, params: ValidateDataParams) -> list[Finding | None]:
    severity: Severity = params.severity.get(failed.kind, KINDS[failed.kind].severity)
    if failed.kind == "shortcut" and probes.shortcut is not None:
        found = probes.shortcut
        text = (
            f"file properties alone ({', '.join(found.properties)}) predict the label with balanced accuracy "
            f"{found.accuracy:.2f} ({found.low:.2f} to {found.high:.2f}; guessing: {found.chance:.2f})"
        )
        return [make_finding("shortcut", severity, (), text, count=1)]
    shifts = [shift for shift in probes.shifts if shift.low > params.thresholds.shift]
    return [
        make_finding(
            "shift",
            severity,
            (),
            f"{shift.about} of {shift.between[1]} differ from {shift.between[0]}: AUROC {shift.auroc:.2f} "
            f"({shift.low:.2f} to {shift.high:.2f}); {', '.join(map(printable, shift.differences))}",
            count=1,
        )
        for shift in shifts
    ]


def counts_by_kind(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Return the number of files or labels of each kind of finding."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.kind] = counts.get(finding.kind, 0) + finding.count
    return counts
