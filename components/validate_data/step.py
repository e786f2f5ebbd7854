"""The step `validate_data`: raw folder -> ImageDataset and a page about it, or a failing verdict."""

import sys

from graft.core.errors import DataError
from graft.params.validate_data import ValidateDataParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def validate_data(raw: In, dataset: Out, page: Out, params: ValidateDataParams, log: Log) -> Metrics:
    """Examine and split images, check them with Great Expectations; write the dataset unless the verdict is fail."""
    # late: a wrong parameter should fail before the slow import of Great Expectations
    from graft.data.source import data_name, read_source
    from graft.data.target_rows import write_targets
    from graft.pixel_quality.validators import validator
    from graft.quality.validation import counts_by_kind
    from graft.reports.data_page import write_page

    validate = validator(params.task)
    validation = validate(raw, params, say=lambda text: print(f"validate_data: {text}", file=sys.stderr, flush=True))
    source = read_source(raw)
    name = data_name(source.path, source.repo) if source else ""
    write_page(validation, page, name)
    log.artifact(page, "data")
    kinds = counts_by_kind(validation.findings)
    for kind, count in kinds.items():
        log.metric(f"findings.{kind}", count)
    log.tag("verdict", validation.verdict)
    if validation.verdict == "fail":
        raise DataError(validation.failure(), keep=("page",))
    written = validation.write(dataset, name)
    write_targets(validation.inventory.listing.targets, written)
    counts = written.counts()
    several = {task.name: written.of_task(task).counts() for task in written.tasks} if len(written.tasks) > 1 else {}
    log.dataset(
        raw.name,
        written.spec.digest,
        str(raw),
        {split: sum(counts[split].values()) for split in counts},
        "validate_data",
    )
    return {
        "digest": written.spec.digest,
        "images": len(written),
        "left_out": len(validation.inventory.images) - len(written),
        "classes": list(written.spec.classes),
        "counts": counts,
        "verdict": validation.verdict,
        "findings": kinds,
        "warnings": validation.warnings,
        **({"tasks": several} if several else {}),
    }


if __name__ == "__main__":
    validate_data.main()
