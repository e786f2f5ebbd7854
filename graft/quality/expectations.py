"""Checks by Great Expectations: suites over the tables of images, classes and probes.

Every check is one expectation, built from the parameters, with the kind of its finding as metadata. The suites are
written as JSON so that they can be read and compared; results are complete, with the path of every failing image.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Great Expectations reads this at import: no usage events are sent.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

from graft.core.errors import DataError
from graft.data.records import SPLITS
from graft.params.validate_data import ValidateDataParams
from graft.quality.user_expectations import load_user_expectations

TABLES: Mapping[str, str] = {"images": "path", "classes": "label", "probes": "name"}
"""Each table that is checked, and the column that names its rows."""
SMALL_TEST, SMALL_CLASS = 30, 5
"""With fewer test images, in all or of a class, intervals are wide whatever the model."""
FAULT = "fault"
"""Column with the reason why a file is unusable; also the kind of its expectation."""


@dataclass(frozen=True, slots=True)
class UnmetExpectation:
    """An expectation that is not met."""

    kind: str
    table: str
    rows: tuple[str, ...]
    """Names of the failing rows; empty if the expectation is about the table as a whole."""
    text: str
    """The expectation in words."""
    severity: str | None
    """The severity that a user's expectation sets, if any."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The suites and their complete results as JSON, and the expectations that are not met."""

    suites: dict[str, Any]
    results: dict[str, Any]
    unmet: tuple[UnmetExpectation, ...]


def judge(tables: Mapping[str, pd.DataFrame], params: ValidateDataParams) -> Judgement:
    """Run the generated suites, and the user's own on the images, over the tables.

    Args:
        tables: by the names in `TABLES`; a table without rows is left out.
        params: the section of the step.

    Raises:
        DataError: if one of the user's expectation files is invalid or cannot be evaluated.
    """
    # At INFO, the level of KFP's executor, it logs its internals.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    # The default context creates a folder for its own documentation; Graft writes a page instead.
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=stores))
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_pandas("tables")
    suites: dict[str, Any] = {}
    results: dict[str, Any] = {}
    unmet: list[UnmetExpectation] = []
    suites_of = _suites(params)
    # An empty name would be the working directory, whose Python files are anything but expectations.
    if "images" in tables and params.expectations:
        suites_of["images"] += load_user_expectations(Path(params.expectations), tables["images"], gxe)
    for table, expectations in suites_of.items():
        frame = tables.get(table)
        if frame is None or (frame.empty and table != "classes"):
            continue
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name=table, expectations=expectations))
        definition = gx.ValidationDefinition(name=table, data=batch, suite=suite)
        context.validation_definitions.add(definition)
        outcome = definition.run(
            batch_parameters={"dataframe": frame},
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": [TABLES[table]]},
        )
        suites[table] = [_plain_expectation(expectation) for expectation in suite.expectations]
        results[table] = outcome.to_json_dict()["results"]
        unmet += [one for result in results[table] if not result["success"] for one in _unmet(table, result)]
    return Judgement(suites, results, tuple(unmet))


def _suites(params: ValidateDataParams) -> dict[str, list[Any]]:
    limits = params.thresholds
    images = [
        # A value other than "" is itself the kind of finding.
        _always("fault", "", FAULT),
        _always("extension_fits", True, "wrong_extension"),
        _always("warning", "", "decoder_warning"),
        _between("frames", "animated", most=1),
        _always("orientation", 1, "rotated"),
        _always("gps", False, "gps"),
        _always("personal", False, "personal"),
        _always("plain_mode", True, "odd_mode"),
        _always("seen_through", False, "transparent"),
        _always("empty_alpha", False, "empty_alpha"),
        _always("srgb", True, "colour_profile"),
        _between("not_finite", "not_finite", most=0),
        _between("least", "negative_values", least=0),
        _always("stretches", False, "stretched_range"),
        _between("short_side", "tiny", least=limits.min_side),
        _between("long_side", "huge", most=limits.max_side),
        _between("aspect", "extreme_aspect", most=limits.max_aspect),
        _between("size_ratio", "size_outlier", least=1 / limits.size_ratio, most=limits.size_ratio),
        _between("contrast", "uniform", least=limits.min_contrast),
        _between("entropy", "low_information", least=limits.min_entropy),
        _between("sharpness", "blurred", least=limits.min_sharpness),
        _between("brightest", "dark", least=limits.min_brightest),
        _between("darkest", "bright", most=limits.max_darkest),
        _always("odd_grey", False, "grey"),
        _between("exact_copies", "exact_duplicate", most=0),
        _between("near_copies", "near_duplicate", most=0),
        _always("leaks", False, "leakage"),
        _always("contradicts", False, "contradiction"),
    ]
    classes = [
        gxe.ExpectTableRowCountToBeBetween(min_value=2, meta=_meta("one_class")),
        *(_filled(split) for split in SPLITS),
        _between("train", "label_not_in_train", least=1),
        _between("train", "too_few", least=params.min_per_class),
        _between("val", "label_not_in_split", least=1),
        _between("test", "label_not_in_split", least=1),
        _between("test", "small_test", least=SMALL_CLASS),
        gxe.ExpectColumnSumToBeBetween(column="test", min_value=SMALL_TEST, meta=_meta("small_test")),
        _between("imbalance", "imbalance", most=limits.imbalance),
        _between("variants", "label_variant", most=0),
    ]
    probes = [
        _between("shift", "shift", most=limits.shift),
        _between("shortcut", "shortcut", most=limits.shortcut),
    ]
    return {"images": images, "classes": classes, "probes": probes}


def _meta(kind: str) -> dict[str, str]:
    return {"kind": kind}


def _between(column: str, kind: str, least: float | None = None, most: float | None = None) -> Any:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=least, max_value=most, meta=_meta(kind))


def _filled(split: str) -> Any:
    return gxe.ExpectColumnMaxToBeBetween(column=split, min_value=1, meta=_meta("empty_split"))


def _always(column: str, value: object, kind: str) -> Any:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[value], meta=_meta(kind))


def _plain_expectation(expectation: Any) -> dict[str, Any]:
    configuration = expectation.configuration.to_json_dict()
    return {key: configuration[key] for key in ("type", "kwargs", "meta") if key in configuration}


def _unmet(table: str, result: Mapping[str, Any]) -> list[UnmetExpectation]:
    expectation = result["expectation_config"]
    meta: Mapping[str, Any] = expectation.get("meta") or {}
    exception = _exception(result.get("exception_info") or {})
    if exception:
        where = meta.get("file", "the generated suite")
        raise DataError(f"{where}: {expectation['type']} could not be evaluated ({exception})")
    listed: Sequence[Mapping[str, Any]] = result["result"].get("unexpected_index_list") or ()
    kwargs = {key: value for key, value in expectation["kwargs"].items() if key != "batch_id"}
    words = expectation["type"].removeprefix("expect_").replace("_", " ")
    text = f"{words} ({', '.join(f'{key} {value}' for key, value in kwargs.items() if value is not None)})"
    rows: dict[str, list[str]] = {} if meta["kind"] == FAULT else {meta["kind"]: []}
    for entry in listed:
        rows.setdefault(entry[FAULT] if meta["kind"] == FAULT else meta["kind"], []).append(str(entry[TABLES[table]]))
    return [UnmetExpectation(kind, table, tuple(names), text, meta.get("severity")) for kind, names in rows.items()]


def _exception(info: Mapping[str, Any]) -> str:
    if "raised_exception" in info:
        return str(info.get("exception_message") or "") if info["raised_exception"] else ""
    return next((str(one.get("exception_message")) for one in info.values() if one.get("raised_exception")), "")
