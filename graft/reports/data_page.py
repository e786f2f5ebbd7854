"""The data page: one self-contained file that loads nothing, sends nothing and runs only its own script.

The same folder holds the findings as JSON, the expectation suite and its results, and the inventory as a table.
"""

from collections.abc import Hashable, Mapping, Sequence
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from graft.core.atomic import write_json, write_text
from graft.core.parquet import write_table
from graft.data.records import SPLITS, printable
from graft.quality.data_probes import IMAGES_FILE
from graft.quality.findings import KINDS, SEVERITIES
from graft.quality.validation import Validation
from graft.reports.distributions import distributions
from graft.reports.finding_view import BADGES, FOLDER, SIDE, STYLE, Picture, finding_view, shown_files
from graft.reports.page import script, stylesheet, template_environment
from graft.reports.thumbnails import thumbnail, thumbnails

PAGE, FINDINGS, SUITE, RESULTS = "data.html", "findings.json", "suite.json", "results.json"
MONTAGE_CLASSES = 60
MONTAGE_IMAGES = 10
"""Images per class."""
MONTAGE_SIDE = 96
_DETAIL = {
    "tiny": ("{width:.0f} x {height:.0f} pixels", ("width", "height")),
    "huge": ("{width:.0f} x {height:.0f} pixels", ("width", "height")),
    "extreme_aspect": ("{width:.0f} x {height:.0f} pixels", ("width", "height")),
    "size_outlier": ("{width:.0f} x {height:.0f} pixels", ("width", "height")),
    "blurred": ("sharpness {sharpness:.3f}", ("sharpness",)),
    "dark": ("brightest {brightest:.2f}", ("brightest",)),
    "bright": ("darkest {darkest:.2f}", ("darkest",)),
    "uniform": ("contrast {contrast:.3f}", ("contrast",)),
    "low_information": ("{entropy:.2f} bits", ("entropy",)),
    "wrong_extension": ("is {format}", ("format",)),
    "decoder_warning": ("{warning}", ("warning",)),
    "odd_mode": ("{format} {mode}", ("format", "mode")),
    "colour_profile": ("{profile}", ("profile",)),
    "animated": ("{frames:.0f} frames", ("frames",)),
    "not_finite": ("{not_finite:.0f} values", ("not_finite",)),
    "negative_values": ("from {least:g}", ("least",)),
    "stretched_range": ("{least:g} to {greatest:g}", ("least", "greatest")),
}


def write_page(validation: Validation, folder: Path, data: str = "") -> None:
    """Write the page, findings, suite, results and inventory into `folder`; `data` names the data set."""
    write_json(folder / FINDINGS, [finding.as_dict() for finding in validation.findings])
    write_json(folder / SUITE, validation.judgement.suites)
    write_json(folder / RESULTS, validation.judgement.results)
    write_table(folder / IMAGES_FILE, validation.inventory.images)
    write_text(folder / PAGE, render(validation, data))


def render(validation: Validation, data: str = "", made_on: date | None = None) -> str:
    """Return the page as HTML; every text that comes from the data is escaped.

    Args:
        validation: what to show.
        data: name of the data set; empty: that of its folder.
        made_on: date shown on the page; None: today.
    """
    inventory = validation.inventory
    sorting = script()
    kept = inventory.kept
    return (
        _environment()
        .get_template("data.html.j2")
        .render(
            name=printable(data or validation.root.name),
            made_on=f"{made_on or date.today():%d %B %Y}",
            headline=_headline(validation),
            validation=validation,
            severities=BADGES,
            findings=_findings(validation),
            good=_passed_checks(validation),
            facts=_facts(validation),
            classes=inventory.classes.sort_values("label").to_dict("records"),
            splits=[split for split in SPLITS if (kept["split"] == split).any()],
            largest=int(max(inventory.classes[list(SPLITS)].sum(axis=1), default=1)),
            montage=_montage(validation),
            slices=_slices(kept, ["domain", *inventory.extra]),
            distributions=distributions(kept),
            probes=validation.probes,
            expectations=_expectations(validation),
            kinds=KINDS,
            style=stylesheet([STYLE, "data_page/data.css"]),
            script=sorting.text,
            script_hash=sorting.csp_source,
        )
    )


def _headline(validation: Validation) -> str:
    number = {severity: sum(f.severity == severity for f in validation.findings) for severity in SEVERITIES}
    if number["fail"]:
        return f"Not ready: {number['fail']} problem{'s' * (number['fail'] > 1)} to fix before training"
    if number["warn"]:
        return f"Ready for training, with {number['warn']} warning{'s' * (number['warn'] > 1)} to check"
    return "Ready for training"


def _passed_checks(validation: Validation) -> list[str]:
    """Return the most important checks that found nothing, one sentence each."""
    found = {finding.kind for finding in validation.findings}
    images = validation.inventory.images
    passed = []
    if not (images["fault"] != "").any():
        passed.append("Every file is a readable image.")
    if not found & {"leakage", "exact_duplicate", "near_duplicate"}:
        passed.append("No picture appears twice, not even re-encoded, resized, mirrored or turned.")
    elif "leakage" not in found:
        passed.append("No picture or group is in more than one split.")
    if "contradiction" not in found and "near_duplicate" in found | {"exact_duplicate"} & found:
        passed.append("All copies of a picture have the same label.")
    if "shortcut" not in found and validation.probes.shortcut is not None:
        passed.append("Size, format, compression and borders do not give the label away.")
    if "shift" not in found and validation.probes.shifts:
        passed.append("The splits look alike in size, brightness and colour.")
    return passed


def _findings(validation: Validation) -> list[dict[str, Any]]:
    images = validation.inventory.images
    rows = {path: row for row, path in zip(images.index[::-1], images["path"][::-1], strict=True)}
    wanted: list[int] = []
    for finding in validation.findings:
        wanted += [rows[path] for path in shown_files(finding) if path in rows and images.at[rows[path], "fault"] == ""]
    uris = _thumbnails(validation, wanted, SIDE)

    def picture(path: str, kind: str) -> Picture | None:
        if path not in rows:
            return None
        row = {str(name): value for name, value in images.loc[rows[path]].items()}
        template, columns = _DETAIL.get(kind, ("", ()))
        detail = row["fault_text"] or template.format(**{name: row[name] for name in columns})
        split = row["given_split"] if kind == "leakage" and row["given_split"] else row["split"]
        return Picture(printable(path), row["label"], split, detail, uris.get(rows[path]), row["dropped"] != "")

    return [finding_view(finding, partial(picture, kind=finding.kind)) for finding in validation.findings]


def _montage(validation: Validation) -> list[tuple[str, int, list[Picture]]]:
    """Return for each class its number of images and a few of them, chosen by content hash so that they are stable."""
    kept = validation.inventory.kept
    chosen: list[tuple[str, int, list[int]]] = []
    for label, rows in list(kept.sort_values("id").groupby("label"))[:MONTAGE_CLASSES]:
        chosen.append((str(label), len(rows), [int(row) for row in rows.index[:MONTAGE_IMAGES]]))
    wanted = [row for _, _, rows in chosen for row in rows]
    uris = _thumbnails(validation, wanted, MONTAGE_SIDE, square=True)

    def picture(row: int, label: str) -> Picture:
        return Picture(printable(str(kept.at[row, "path"])), label, str(kept.at[row, "split"]), "", uris.get(row))

    return [(label, number, [picture(row, label) for row in rows]) for label, number, rows in chosen]


def _thumbnails(validation: Validation, rows: Sequence[int], side: int, square: bool = False) -> Mapping[int, str]:
    if validation.picture is not None:
        return {row: thumbnail(validation.picture(row), side, square) for row in sorted(set(rows))}
    inventory = validation.inventory
    return thumbnails(rows, inventory.files, side, square, validation.max_pixels, validation.channels, inventory.values)


def _facts(validation: Validation) -> list[tuple[str, str]]:
    inventory = validation.inventory
    kept = inventory.kept
    pixels = validation.picture is not None  # masks are shown over their photos; the photos have no class
    facts = [("Layout", "photos with masks" if pixels else inventory.listing.layout), ("Images", f"{len(kept):,}")]
    left_out = int((inventory.images["dropped"] != "").sum())
    if left_out:
        facts.append(("Left out", f"{left_out:,}"))
    if not pixels:
        facts.append(("Classes", f"{kept['label'].nunique():,}"))
    if len(kept):
        given = sorted(set(kept["given_split"]) - {""}, key=list(SPLITS).index)
        made = [split for split in SPLITS if split not in given and (kept["split"] == split).any()]
        facts.append(("Splits", "; ".join(_split_origins(given, made))))
        formats = kept["format"].value_counts()
        facts.append(("Formats", ", ".join(f"{name} {count:,}" for name, count in formats.items())))
        sides = kept[["width", "height"]].median()
        facts.append(("Median size", f"{sides['width']:.0f} x {sides['height']:.0f} pixels"))
        facts.append(("Total size", _bytes(int(kept["bytes"].sum()))))
        wide = int(kept["greatest"].notna().sum())
        if wide and inventory.values is not None:
            black, white = inventory.values
            facts.append(
                ("Value range", f"{black:g} is black and {white:g} white in all {wide:,} images of more than 8 bits")
            )
        pictures = kept["picture"].nunique()
        facts.append(("Distinct pictures", f"{pictures:,}"))
    return facts


def _split_origins(given: Sequence[str], made: Sequence[str]) -> list[str]:
    origins = [f"{', '.join(given)} given"] if given else []
    return origins + ([f"{', '.join(made)} drawn by content hash, groups kept together"] if made else [])


def _bytes(number: int) -> str:
    power = min(3, (len(str(number)) - 1) // 3) if number >= 1000 else 0
    return f"{number / 1000**power:,.{1 if power else 0}f} {('bytes', 'kB', 'MB', 'GB')[power]}"


def _slices(kept: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, list[dict[Hashable, Any]]]]:
    """Count images by the values of the user's own columns, largest count first."""
    tables = []
    for column in columns:
        if column in kept.columns and 1 < kept[column].nunique() <= 50:
            counts = pd.crosstab(kept[column], kept["split"]).reindex(columns=list(SPLITS), fill_value=0)
            counts["classes"] = kept.groupby(column)["label"].nunique()
            order = counts[list(SPLITS)].sum(axis=1).sort_values(ascending=False).index
            tables.append((column, counts.loc[order].rename_axis("value").reset_index().to_dict("records")))
    return tables


def _expectations(validation: Validation) -> list[dict[str, Any]]:
    """Return every expectation in words, with the number of rows that break it."""
    rows = []
    for table, results in validation.judgement.results.items():
        for result in results:
            expectation: Mapping[str, Any] = result["expectation_config"]
            kwargs = {key: value for key, value in expectation["kwargs"].items() if key not in ("batch_id", "column")}
            limits = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in kwargs.items() if value is not None)
            rows.append(
                {
                    "table": table,
                    "column": expectation["kwargs"].get("column", "all rows"),
                    "type": expectation["type"].removeprefix("expect_").replace("_", " "),
                    "limits": limits,
                    "kind": expectation["meta"]["kind"],
                    "met": result["success"],
                    "unexpected": result["result"].get("unexpected_count") or 0,
                }
            )
    return rows


@cache
def _environment() -> Environment:
    return template_environment("data_page", FOLDER)
