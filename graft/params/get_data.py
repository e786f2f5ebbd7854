"""Parameters of the step `get_data`."""

from pydantic import Field

from graft.params.section import Section


class GetDataParams(Section):
    """Where the raw images come from."""

    source: str = Field("data/digits", description="folder, CSV manifest, or (with repo) a path tracked by DVC in it")
    repo: str | None = Field(
        None, description="git repository (URL or path) whose DVC data to fetch; null: local files"
    )
    rev: str | None = Field(None, description="git revision (tag, branch, commit) of repo; null: its HEAD")
