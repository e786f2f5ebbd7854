"""The step `get_data`: raw images from a pinned DVC version, a folder or a CSV manifest."""

from graft.params.get_data import GetDataParams
from graft.runs.run_log import Log
from graft.runs.step import FilesOut, Metrics, step


@step
def get_data(raw: FilesOut, params: GetDataParams, log: Log) -> Metrics:
    """Fetch the images that the parameters name, and record their version."""
    from graft.data.fetch import fetch  # late: a wrong parameter should fail before the slow import of DVC

    source = fetch(params.source, raw, repo=params.repo, rev=params.rev)
    log.dataset("raw", source.digest, str(source), {"files": source.files}, context="raw")
    return {"digest": source.digest, "files": source.files, "source": str(source)}


if __name__ == "__main__":
    get_data.main()
