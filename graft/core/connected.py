"""Connected components of a graph: which rows belong together, directly or through others."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = npt.NDArray[np.int64]


def component_labels(n: int, first: Indices, second: Indices) -> Indices:
    """Return, for each of `n` rows, the lowest row it is connected to through the pairs, shape (n,)."""
    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, labels = connected_components(edges, directed=False)
    lowest = np.full(n, n, dtype=np.int64)
    np.minimum.at(lowest, labels, np.arange(n))
    return np.asarray(lowest[labels], dtype=np.int64)
