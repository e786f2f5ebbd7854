"""What is settled before a pipeline leaves this machine: which version of the data it will find."""

from graft.params import Params


def pinned(params: Params) -> tuple[Params, str | None]:
    """Return the parameters with the data's revision as a commit, and the digest of that data.

    A branch may move between now and the run, a commit cannot. Only data that DVC tracks has a digest that is known
    without reading it; for other data the second value is None.

    Raises:
        DataError: if the repository, the revision or the path is not to be had.
    """
    source = params.get_data
    if source.repo is None:
        return params, None
    from graft.versions import data_version, pinned_revision

    commit = pinned_revision(source.repo, source.rev)
    get_data = source.model_copy(update={"rev": commit})
    return params.model_copy(update={"get_data": get_data}), data_version(source.repo, commit, source.source)
