"""The step `adapt`: the trained model, and beside it one for each domain of which only images are known."""

import shutil

from graft.params.adapt import AdaptParams
from graft.runs.run_log import Log
from graft.runs.step import In, Metrics, Out, step


@step
def adapt(dataset: In, tuned: In, model: Out, adaptation: Out, params: AdaptParams, log: Log) -> Metrics:
    """Hand the model through, byte for byte, with an adapted one for each target domain where that is safe."""
    from graft.data.target_rows import has_targets

    shutil.copytree(tuned, model)
    adaptation.mkdir(parents=True)
    if not has_targets(dataset):
        return {"domains": {}}
    # late: most datasets have no target domain, and need none of this
    from graft.revision.target_domains import adapt_to_domains

    found = adapt_to_domains(dataset, model, adaptation, params)
    for name, numbers in found.items():
        log.tag(f"adapted.{name}", str(numbers["kept"]).lower())
    log.artifact(adaptation)
    return {"domains": found}


if __name__ == "__main__":
    adapt.main()
