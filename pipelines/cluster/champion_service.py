"""The task behind the gate: a new champion becomes the model of an InferenceService of KServe."""

from kfp.dsl import Artifact, Input, Output, component

from components.image import image


@component(base_image=image("serve_champion"), packages_to_install=[], install_kfp_package=False)
def serve_champion(registration: Input[Artifact], service: Output[Artifact], settings: dict) -> None:
    """Write the manifest of a service for the registered version, and apply it if the settings say so."""
    from pathlib import Path

    from pipelines.cluster.service_manifest import serve

    serve(Path(registration.path), Path(service.path), settings)
