"""Exact search in Hamming space."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import gen_batches, metadata_routing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skhash.codes import hamming_distances, pack_codes

__all__ = ["HammingNeighbors"]

# Query-item pairs of which the int64 sort keys are held at once: 32 MiB.
_CHUNK_PAIRS = 2**22


class HammingNeighbors(BaseEstimator):
    """Exact nearest neighbours of binary codes in Hamming distance.

    Unlike :class:`sklearn.neighbors.NearestNeighbors` it compares packed codes by popcount, eight
    bytes at a time, and its result is unique: of items at equal distance the one that comes
    first in the database is returned first.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours that `kneighbors` returns.

    algorithm : {"auto", "brute"}, default="auto"
        Both compare all pairs, in chunks of bounded memory.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        The packed database.

    n_features_in_ : int
        Number of bits.

    Examples
    --------
    >>> from skhash.neighbors import HammingNeighbors
    >>> search = HammingNeighbors(n_neighbors=2).fit([[0, 0, 0], [1, 1, 1], [0, 1, 1]])
    >>> distances, indices = search.kneighbors([[1, 1, 0]])
    >>> distances, indices
    (array([[1, 2]], dtype=int16), array([[1, 0]]))
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions({"auto", "brute"})],
    }

    # `codes` is what X is elsewhere, no metadata to be routed.
    __metadata_request__fit = {"codes": metadata_routing.UNUSED}

    def __init__(self, n_neighbors=5, *, algorithm="auto"):
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, codes, Y=None):  # noqa: ARG002
        """Keep the codes to be searched.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1.

        Y : None
            Ignored; present for the scikit-learn API.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If `codes` is not two-dimensional, holds no code, or an entry is neither 0 nor 1.
        """
        self.codes_ = self._pack(codes)
        self.n_features_in_ = np.shape(codes)[1]
        return self

    def kneighbors(self, codes, n_neighbors=None, return_distance=True):
        """Find the nearest codes.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits)
            Bits, 0 or 1.

        n_neighbors : int, default=None
            Number of neighbours; None means that of the constructor.

        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), integer
            Hamming distances, ascending. Only if `return_distance` is True.

        indices : ndarray of shape (n_queries, n_neighbors), dtype int64
            Rows of the database; of rows at equal distance, the lower comes first.

        Raises
        ------
        NotFittedError
            If `fit` was not called.

        ValueError
            If there are no codes, they are malformed or of another length, or `n_neighbors` is
            below 1 or above the number of codes searched.
        """
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        n_bits = np.shape(codes)[1] if np.ndim(codes) == 2 else None
        if n_bits not in (None, self.n_features_in_):
            raise ValueError(
                f"codes has {n_bits} bits, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} bits as input."
            )
        distances, indices = _kneighbors(self._pack(codes), self.codes_, k)
        return (distances, indices) if return_distance else indices

    def _pack(self, codes):
        """Return the packed codes, of which there must be one at least."""
        packed = pack_codes(codes)
        if len(packed) == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={np.shape(codes)}) while a minimum of 1 is "
                f"required by {type(self).__name__}."
            )
        return packed


def _kneighbors(query_codes, database_codes, n_neighbors):
    """Exact `kneighbors` on packed codes: the smallest keys ``distance * n + index``."""
    n_database = len(database_codes)
    _check_n_neighbors(n_neighbors, n_database)
    index = np.arange(n_database)
    distances = np.empty((len(query_codes), n_neighbors), np.int16)
    indices = np.empty((len(query_codes), n_neighbors), np.int64)
    for rows in gen_batches(len(query_codes), _rows_per_chunk(n_database)):
        level = hamming_distances(query_codes[rows], database_codes)
        # One integer orders by distance, then by row: the ranking is total.
        keys = level.astype(np.int64) * n_database + index
        keys.partition(n_neighbors - 1, axis=1)
        nearest = np.sort(keys[:, :n_neighbors], axis=1)
        distances = distances.astype(level.dtype, copy=False)
        distances[rows], indices[rows] = np.divmod(nearest, n_database)
    return distances, indices


def _rows_per_chunk(n_database):
    """Return how many queries to compare with the whole database at once."""
    return max(1, _CHUNK_PAIRS // n_database)


def _check_n_neighbors(n_neighbors, n_database):
    """Raise unless a database of that size has that many neighbours."""
    if not isinstance(n_neighbors, Integral) or n_neighbors < 1:
        raise ValueError(f"n_neighbors should be an int, at least 1, got {n_neighbors!r}.")
    if n_neighbors > n_database:
        raise ValueError(
            "Expected n_neighbors <= n_database, the number of codes searched, "
            f"got n_neighbors={n_neighbors}, n_database={n_database}."
        )
