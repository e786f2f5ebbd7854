"""The step `train_head`: how much of the backbone to reuse, and a linear head on what it says."""

from graft.log import Log
from graft.params import TrainHeadParams
from graft.step import In, Metrics, Out, step


@step
def train_head(features: In, head: Out, params: TrainHeadParams, log: Log) -> Metrics:
    """Choose the depth by cross-validation, fit the head on the training images, and cut the backbone there."""
    # late: a wrong parameter should not cost the import of torch
    from graft.features import FeatureStore
    from graft.label_errors import review_labels
    from graft.reuse import decide, gather
    from graft.training import fit_head, head_metrics

    store = FeatureStore.read(features)
    evidence = gather(store, params)
    reuse = decide(evidence, params.reuse_depth, params.head)
    bundle = fit_head(evidence, reuse)
    bundle.save(head)
    result = head_metrics(evidence, reuse, bundle)
    trained = store.table.iloc[evidence.rows].reset_index(drop=True)
    suspected = review_labels(head / "labels", trained, reuse.chosen.probabilities[reuse.chosen.best], store.classes)
    if suspected:
        log.artifact(head / "labels")
    result["suspected_labels"] = suspected.count if suspected else 0
    for number, point in enumerate(bundle.spec.curve):
        log.metric("reuse_depth_accuracy", point.accuracy, step=number)
    log.params({"decided": {"depth": bundle.spec.backbone.depth, "taps": ",".join(reuse.taps), "l2": bundle.spec.l2}})
    for name, value in {**result["cv"], **{f"val_{key}": value for key, value in result["val"].items()}}.items():
        log.metric(name, value)
    return result


if __name__ == "__main__":
    train_head.main()
