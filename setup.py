"""Build the wheel: `components`, `pipelines` and the default files go into `graft/bundled`.

Everything else is in pyproject.toml. In the repository these packages stay top-level; in `site-packages`, where such
common names could collide with others, the only new name is `graft` (see `graft/core/installed.py`).
"""

from setuptools import find_namespace_packages, setup

BUNDLED = "graft.bundled"

# Folders of templates and profiles count: they are packages without Python files.
own = find_namespace_packages(include=["graft", "graft.*"])
inside = find_namespace_packages(include=["components*", "pipelines*"])
setup(
    packages=[*own, BUNDLED, *(f"{BUNDLED}.{name}" for name in inside)],
    package_dir={BUNDLED: "."},
    package_data={
        "": ["*.html", "*.css", "*.js", "*.yaml", "*.j2", "*.pyi"],
        BUNDLED: ["params.yaml", "dvc.yaml", "update/*.yaml", "expectations/*", "constraints.txt"],
    },
)
