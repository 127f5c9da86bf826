"""What a search and its transformer share: parameters, and lists of neighbours as graphs."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse

from skhash._engines import ALGORITHMS
from skhash._sklearn import Interval, StrOptions, align_sparse

__all__ = [
    "SEARCH_CONSTRAINTS",
    "as_graph",
    "by_query",
    "check_mode",
    "whole_radius",
    "without_own_flat",
]

SEARCH_CONSTRAINTS = {
    "algorithm": [StrOptions(set(ALGORITHMS))],
    "n_jobs": [Integral, None],
    "n_bits": [Interval(Integral, 1, None, closed="left"), None],
}


def whole_radius(radius):
    """Return a radius as an int, or raise ValueError."""
    is_number = isinstance(radius, Real) and not isinstance(radius, bool)
    if not is_number or radius < 0 or not float(radius).is_integer():
        raise ValueError(
            f"radius should be a whole number of bits, at least 0, got {radius!r}. Hamming "
            "distances count the bits that differ."
        )
    return int(radius)


def check_mode(mode):
    """Raise ValueError unless there is that mode of a graph."""
    if mode not in ("connectivity", "distance"):
        raise ValueError(
            'Unsupported mode, must be one of "connectivity", or "distance" but got '
            f'"{mode}" instead'
        )


def without_own_flat(indptr, distances, rows):
    """Leave out the item that a query is itself, of lists that are flat."""
    query = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    others = rows != query
    n_own = np.bincount(query[~others], minlength=len(indptr) - 1)
    return indptr - np.append(0, np.cumsum(n_own)), distances[others], rows[others]


def by_query(flat, indptr):
    """Return the parts of a flat array as an array of arrays."""
    parts = np.split(flat, indptr[1:-1])
    return np.fromiter(parts, dtype=object, count=len(parts))


def as_graph(indptr, distances, rows, n_items, mode):
    """Return flat lists of neighbours as a sparse matrix, of the interface that is configured."""
    data = np.ones(len(rows)) if mode == "connectivity" else distances.astype(np.float64)
    shape = len(indptr) - 1, n_items
    return align_sparse(sparse.csr_array((data, rows, indptr), shape=shape))
