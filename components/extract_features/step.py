"""Step extract_features: every image once through the frozen backbone, every group's features kept."""

from graft.dataset import ImageDataset
from graft.incremental import extract_into
from graft.log import Log
from graft.params import ExtractFeaturesParams
from graft.step import In, Metrics, Out, step


@step
def extract_features(dataset: In, features: Out, params: ExtractFeaturesParams, log: Log) -> Metrics:
    """Run the frozen backbone once over every image."""
    extracted = extract_into(features, ImageDataset.read(dataset), params)
    spec = extracted.store.spec
    backbone = spec.backbone_content
    log.params({"backbone": {"groups": ",".join(backbone["groups"]), "image_size": backbone["transform"]["size"]}})
    log.tag("backbone", backbone["architecture"])
    log.tag("features_fingerprint", spec.fingerprint)
    return {
        "backbone": backbone["architecture"],
        "weights": backbone["weights"]["source"],
        "weights_sha256": backbone["weights"]["sha256"],
        "image_size": backbone["transform"]["size"],
        "backend": extracted.backend,
        "images": len(extracted.store),
        "new_images": extracted.new,
        "taps": spec.taps,
        "images_per_second": round(extracted.new / extracted.seconds, 1) if extracted.new else 0.0,
    }


if __name__ == "__main__":
    extract_features.main()
