"""Exact search in Hamming space."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import metadata_routing
from sklearn.utils.validation import check_is_fitted

from skhash._search import check_n_neighbors, nearest
from skhash._sklearn import Interval, StrOptions, fit_context
from skhash.codes import check_packed_codes, pack_codes

__all__ = ["HammingNeighbors"]


class HammingNeighbors(BaseEstimator):
    """Exact nearest neighbours of binary codes in Hamming distance.

    Unlike :class:`sklearn.neighbors.NearestNeighbors` it compares packed codes by popcount, eight
    bytes at a time, and its result is unique: of items at equal distance the one that comes
    first in the database is returned first.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours that `kneighbors` returns.

    algorithm : {"auto", "brute", "faiss"}, default="auto"
        What searches; the result is the same. "brute" compares all pairs with NumPy, within
        scikit-learn's `working_memory`. "faiss" takes the flat binary index of the package faiss,
        which has to be installed. "auto" is "brute".

    n_bits : int, default=None
        Number of bits of a code, where codes are given packed, to `fit` and to `kneighbors`. None:
        they are given as bits.

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

    The same with packed codes:

    >>> from skhash.codes import check_packed_codes, pack_codes
    >>> search = HammingNeighbors(n_neighbors=2, n_bits=3)
    >>> search = search.fit(pack_codes([[0, 0, 0], [1, 1, 1], [0, 1, 1]]))
    >>> search.kneighbors(pack_codes([[1, 1, 0]]), return_distance=False)
    array([[1, 0]])
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "algorithm": [StrOptions({"auto", "brute", "faiss"})],
        "n_bits": [Interval(Integral, 1, None, closed="left"), None],
    }

    # `codes` is what X is elsewhere, no metadata to be routed.
    __metadata_request__fit = {"codes": metadata_routing.UNUSED}

    def __init__(self, n_neighbors=5, *, algorithm="auto", n_bits=None):
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.n_bits = n_bits

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, codes, y=None):  # noqa: ARG002
        """Keep the codes to be searched.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. These are not copied.

        y : None
            Ignored; present for the scikit-learn API.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If `codes` is not two-dimensional, holds no code, or an entry is neither 0 nor 1; or if
            packed codes have another length, or are not padded with zeros.
        """
        self.codes_ = self._pack(codes)
        self.n_features_in_ = self.n_bits or np.shape(codes)[1]
        return self

    def kneighbors(self, codes, n_neighbors=None, return_distance=True):
        """Find the nearest codes.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits)
            Bits, 0 or 1; or packed codes, if the search has `n_bits`.

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

        ImportError
            If `algorithm` is "faiss" and faiss is not installed.
        """
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        n_bits = self.n_bits or (np.shape(codes)[1] if np.ndim(codes) == 2 else None)
        if n_bits not in (None, self.n_features_in_):
            raise ValueError(
                f"codes has {n_bits} bits, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} bits as input."
            )
        search = _faiss_nearest if self.algorithm == "faiss" else nearest
        distances, indices = search(self._pack(codes), self.codes_, k)
        return (distances, indices) if return_distance else indices

    def _pack(self, codes):
        """Return the packed codes, of which there must be one at least."""
        if self.n_bits is not None:
            return check_packed_codes(codes, "codes", self.n_bits)
        packed = pack_codes(codes)
        if len(packed) == 0:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={np.shape(codes)}) while a minimum of 1 is "
                f"required by {type(self).__name__}."
            )
        return packed


def _faiss_nearest(query_codes, database_codes, n_neighbors):
    """Return what :func:`skhash._search.nearest` returns, by faiss, whose order is the same."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "algorithm='faiss' needs the package faiss; `pip install faiss-cpu` brings it. "
            "'brute' needs none."
        ) from error
    check_n_neighbors(n_neighbors, len(database_codes))
    index = faiss.IndexBinaryFlat(8 * database_codes.shape[1])
    index.add(np.ascontiguousarray(database_codes))
    distances, indices = index.search(np.ascontiguousarray(query_codes), n_neighbors)
    return distances.astype(np.int16), indices
