"""Models adapted to other domains, in a folder of the model that they were adapted from: `model/domains/night`."""

import re
from pathlib import Path

DOMAINS = "domains"


def domain_folder(model: Path, domain: str) -> Path:
    """Return where the model adapted to a domain lies; its spec has the domain's name as it was given."""
    plain = re.sub(r"[^\w.-]+", "-", domain).strip(".-") or "domain"
    return model / DOMAINS / plain


def adapted_models(model: Path) -> dict[str, Path]:
    """Return the folders of the models that were adapted from this one, by the names of their folders."""
    folder = model / DOMAINS
    return {place.name: place for place in sorted(folder.iterdir())} if folder.is_dir() else {}
