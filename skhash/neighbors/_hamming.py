"""Exact search in Hamming space, with the methods of scikit-learn's `NearestNeighbors`."""

from numbers import Integral, Real
from threading import RLock

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import metadata_routing
from sklearn.utils.validation import check_is_fitted

from skhash._engines import make_engine
from skhash._items import Items, stored_ids
from skhash._persistence import SaveMixin
from skhash._rerank import leading_bits
from skhash._search import find_nearest
from skhash._site import DocLinkMixin
from skhash._sklearn import Interval, fit_context
from skhash.codes import check_packed_codes, check_weights, pack_codes
from skhash.neighbors._graphs import (
    SEARCH_CONSTRAINTS,
    as_graph,
    by_query,
    check_mode,
    whole_radius,
    without_own_flat,
)

__all__ = ["HammingNeighbors"]

# Held while an engine is made.
_MAKING = RLock()


class HammingNeighbors(SaveMixin, DocLinkMixin, BaseEstimator):
    """Exact nearest neighbours of binary codes in Hamming distance.

    It has the methods of :class:`sklearn.neighbors.NearestNeighbors`. Unlike that it compares
    packed codes by popcount, distances are numbers of bits, and its result is unique: of items at
    equal distance the one that comes first in the database is returned first.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours that `kneighbors` returns.

    radius : int or float, default=1
        Distance up to which `radius_neighbors` returns neighbours: a whole number of bits. By
        default codes that differ in one bit are neighbours, and equal ones.

    algorithm : {"auto", "brute", "faiss", "multi_index"}, default="auto"
        What searches; the result is the same. "brute" compares all pairs with NumPy. "faiss" does
        so by the package faiss, which has to be installed. "multi_index" looks up parts of the
        codes in tables [1]_, and compares all codes where that would take longer. "auto" does the
        same in more memory from 65,536 codes on, and compares all where they are fewer, by faiss
        where that is installed and faster.

    n_jobs : int, default=None
        Number of threads of a search; None means one, -1 all cores.

    n_bits : int, default=None
        Number of bits of a code, where codes are given packed, to `fit` and to all that searches.
        None: they are given as bits.

    Attributes
    ----------
    codes_ : ndarray of shape (n_samples_fit, ceil(n_bits / 8)), dtype uint8
        The packed database.

    ids_ : ndarray of shape (n_samples_fit,), or None
        The ids of its items, int64 or strings; None if `fit` was given none.

    n_samples_fit_ : int
        Number of items of the database.

    n_features_in_ : int
        Number of bits.

    effective_metric_ : str
        "hamming".

    See Also
    --------
    HammingNeighborsTransformer : Graphs of neighbours in a pipeline.
    skhash.base.BaseHasher.kneighbors : Search of samples, by a hasher.

    Notes
    -----
    Threads may search at the same time. The first search after `fit`, `add` or `remove` makes the
    tables of "multi_index" and "auto"; pickles and files do not hold them.

    References
    ----------
    .. [1] M. Norouzi, A. Punjani, D. J. Fleet, "Fast search in Hamming space with multi-index
           hashing", CVPR 2012.

    Examples
    --------
    >>> from skhash.neighbors import HammingNeighbors
    >>> search = HammingNeighbors(n_neighbors=2).fit([[0, 0, 0], [1, 1, 1], [0, 1, 1]])
    >>> distances, indices = search.kneighbors([[1, 1, 0]])
    >>> distances, indices
    (array([[1, 2]], dtype=int16), array([[1, 0]]))

    The same with packed codes:

    >>> from skhash.codes import pack_codes
    >>> search = HammingNeighbors(n_neighbors=2, n_bits=3)
    >>> search = search.fit(pack_codes([[0, 0, 0], [1, 1, 1], [0, 1, 1]]))
    >>> search.kneighbors(pack_codes([[1, 1, 0]]), return_distance=False)
    array([[1, 0]])
    """

    _parameter_constraints: dict = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="left")],
        **SEARCH_CONSTRAINTS,
    }

    # `codes` is what X is elsewhere, no metadata to be routed.
    __metadata_request__fit = {"codes": metadata_routing.UNUSED}

    def __init__(self, n_neighbors=5, *, radius=1, algorithm="auto", n_jobs=None, n_bits=None):
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.algorithm = algorithm
        self.n_jobs = n_jobs
        self.n_bits = n_bits

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, codes, y=None, *, ids=None):  # noqa: ARG002
        """Keep the codes to be searched.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. These are not copied, and
            may be memory-mapped.

        y : None
            Ignored; present for the scikit-learn API.

        ids : array-like of shape (n_samples,), default=None
            Ids of the codes, integers or strings, each once, which searches then return. None:
            they return rows.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If `codes` is not two-dimensional, holds no code, or an entry is neither 0 nor 1; if
            packed codes have another length, or are not padded with zeros; or if `ids` are
            malformed.
        """
        whole_radius(self.radius)
        packed = self._pack(codes)
        self._keep(Items(packed, stored_ids(ids, len(packed))), self.n_bits or np.shape(codes)[1])
        return self

    def _keep(self, items, n_bits):
        """Set all that `fit` sets."""
        self.n_features_in_ = int(n_bits)
        self.effective_metric_ = "hamming"
        self._items, self._engine = items, None

    @property
    def codes_(self):
        """Packed codes of the database."""
        return self._items.codes

    @property
    def ids_(self):
        """Ids of the database, or None."""
        return self._items.ids

    @property
    def n_samples_fit_(self):
        """Number of items of the database."""
        return len(self._items)

    def add(self, codes, ids=None):
        """Append codes to the database; the rows that it has keep their numbers.

        It takes time in proportion to the codes that are added, on average over many calls; the
        first call copies the database. What has been prepared for searching is prepared again
        before the next search. If `add` raises, the search is left as it was.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Bits, 0 or 1; or packed codes, if the search has `n_bits`.

        ids : array-like of shape (n_samples,), default=None
            Their ids, other ones than the database has. None if it has none.

        Returns
        -------
        self : object
            The search.

        Raises
        ------
        NotFittedError
            If `fit` was not called.

        ValueError
            If `codes` are malformed or of another length, or if `ids` are malformed, there
            already, given where the database has none, or missing where it has some.

        Examples
        --------
        >>> from skhash.neighbors import HammingNeighbors
        >>> search = HammingNeighbors(1).fit([[0, 0, 0], [1, 1, 1]], ids=["a", "b"])
        >>> search.add([[0, 1, 1]], ids=["c"]).kneighbors([[0, 1, 0]])
        (array([[1]], dtype=int16), array([['a']], dtype='<U1'))
        """
        check_is_fitted(self)
        if (ids is None) != (self.ids_ is None):
            has, given = ("no ids", "some") if self.ids_ is None else ("ids", "None")
            raise ValueError(
                f"The database of this {type(self).__name__} has {has}, and ids is {given}. Pass "
                f"ids with all codes, to fit and to add, or with none."
            )
        packed = self._pack_alike(codes)
        more = self._items.plus(packed, stored_ids(ids, len(packed)))
        self._items, self._engine = more, None
        return self

    def remove(self, ids):
        """Take codes out of the database; the rows after them move up, as with `numpy.delete`.

        Each call copies the database, so remove many codes at a time. If `remove` raises, the
        search is left as it was.

        Parameters
        ----------
        ids : array-like of shape (n_codes,)
            Ids of the codes, each once; or their rows, where the database has no ids.

        Returns
        -------
        self : object
            The search.

        Raises
        ------
        NotFittedError
            If `fit` was not called.

        ValueError
            If an id is not there or given twice, or if no code would be left.

        Examples
        --------
        >>> from skhash.neighbors import HammingNeighbors
        >>> search = HammingNeighbors(1).fit([[0, 0, 0], [1, 1, 1], [0, 1, 1]])
        >>> search.remove([0]).kneighbors([[0, 0, 1]])
        (array([[1]], dtype=int16), array([[1]]))
        """
        check_is_fitted(self)
        rows = self._items.rows_of(ids)
        if len(rows) == len(self._items):
            raise ValueError(
                f"ids are those of all {len(rows)} codes, while a minimum of 1 is required by "
                f"{type(self).__name__}. Call fit with other codes."
            )
        self._items, self._engine = self._items.minus(rows), None
        return self

    def kneighbors(
        self,
        codes=None,
        n_neighbors=None,
        return_distance=True,
        *,
        weights=None,
        n_candidates=None,
        coarse_bits=None,
    ):
        """Find the nearest codes.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits), default=None
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. None: each code of the
            database, which is then no neighbour of itself.

        n_neighbors : int, default=None
            Number of neighbours; None means that of the constructor.

        return_distance : bool, default=True
            Whether to return the distances too.

        weights : array-like of shape (n_queries, n_bits), default=None
            Weights of the bits of each query, at least 0: the distance is the sum of those of the
            bits that differ, see :func:`skhash.codes.weighted_hamming_distances`.
            :meth:`skhash.base.BaseHasher.bit_weights` are such weights. None weighs all 1.

        n_candidates : int, default=None
            Number of codes that are found by plain Hamming distance, and are then ranked by the
            distance asked for, which takes far less time than to compare all codes by it. None:
            all codes are compared.

        coarse_bits : int, default=None
            Number of leading bits by which candidates are found, for codes whose beginnings are
            codes themselves, as those of :class:`skhash.deep.losses.NestedLoss`; the candidates
            are ranked by all bits. None: all bits. Needs `n_candidates`.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), integer, or floating with `weights`
            Hamming distances, ascending. Only if `return_distance` is True.

        indices : ndarray of shape (n_queries, n_neighbors), dtype int64
            Rows of the database; of rows at equal distance, the lower comes first. Where the
            database has ids, those of the rows.

        Raises
        ------
        NotFittedError
            If `fit` was not called.

        ValueError
            If there are no codes, or they or the weights are malformed or of another length, or
            `n_neighbors` is below 1 or above the number of codes searched; if `n_candidates` is
            below `n_neighbors` or above that number, `coarse_bits` is above the length of the
            codes or given without `n_candidates`, or `n_candidates` would have no effect.

        ImportError
            If `algorithm` is "faiss" and faiss is not installed.
        """
        check_is_fitted(self)
        items = self._items
        distances, rows = self._nearest(
            items,
            codes,
            n_neighbors,
            weights=weights,
            n_candidates=n_candidates,
            coarse_bits=coarse_bits,
        )
        return (distances, items.names(rows)) if return_distance else items.names(rows)

    def radius_neighbors(self, codes=None, radius=None, return_distance=True, sort_results=True):  # noqa: ARG002
        """Find all codes within a radius.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits), default=None
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. None: each code of the
            database, which is then no neighbour of itself.

        radius : int or float, default=None
            Largest Hamming distance, a whole number of bits; None means that of the constructor.

        return_distance : bool, default=True
            Whether to return the distances too.

        sort_results : bool, default=True
            Ignored; present for the scikit-learn API. Results are always sorted.

        Returns
        -------
        distances : ndarray of shape (n_queries,) of integer arrays
            Hamming distances, ascending. Only if `return_distance` is True.

        indices : ndarray of shape (n_queries,) of arrays
            Rows of the database; of rows at equal distance, the lower comes first. Where the
            database has ids, those of the rows.

        Raises
        ------
        NotFittedError
            If `fit` was not called.

        ValueError
            If there are no codes, they are malformed or of another length, or `radius` is no
            whole number, at least 0.

        ImportError
            If `algorithm` is "faiss" and faiss is not installed.

        Examples
        --------
        >>> from skhash.neighbors import HammingNeighbors
        >>> search = HammingNeighbors(radius=1).fit([[0, 0, 0], [1, 1, 1], [0, 1, 1]])
        >>> distances, indices = search.radius_neighbors([[1, 1, 1]])
        >>> distances[0], indices[0]
        (array([0, 1], dtype=int16), array([1, 2]))
        """
        check_is_fitted(self)
        items = self._items
        indptr, distances, rows = self._within(items, codes, radius)
        names = by_query(items.names(rows), indptr)
        return (by_query(distances, indptr), names) if return_distance else names

    def kneighbors_graph(self, codes=None, n_neighbors=None, mode="connectivity"):
        """Graph of the nearest codes, as a sparse matrix that scikit-learn's estimators take.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits), default=None
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. None: each code of the
            database, which is then no neighbour of itself.

        n_neighbors : int, default=None
            Number of neighbours; None means that of the constructor.

        mode : {"connectivity", "distance"}, default="connectivity"
            Whether entries are ones, or Hamming distances, among which zeros are explicit.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), dtype float64
            In CSR format, of each row the nearest first. Columns are rows of the database, also
            where it has ids.

        Raises
        ------
        NotFittedError, ValueError, ImportError
            As `kneighbors` does, or if `mode` is another one.
        """
        check_mode(mode)
        check_is_fitted(self)
        items = self._items
        distances, rows = self._nearest(items, codes, n_neighbors)
        indptr = np.arange(len(rows) + 1) * rows.shape[1]
        return as_graph(indptr, distances.ravel(), rows.ravel(), len(items), mode)

    def radius_neighbors_graph(
        self,
        codes=None,
        radius=None,
        mode="connectivity",
        sort_results=True,  # noqa: ARG002
    ):
        """Graph of the codes within a radius, as a sparse matrix that scikit-learn takes.

        Parameters
        ----------
        codes : array-like of shape (n_queries, n_bits), default=None
            Bits, 0 or 1; or packed codes, if the search has `n_bits`. None: each code of the
            database, which is then no neighbour of itself.

        radius : int or float, default=None
            Largest Hamming distance, a whole number of bits; None means that of the constructor.

        mode : {"connectivity", "distance"}, default="connectivity"
            Whether entries are ones, or Hamming distances, among which zeros are explicit.

        sort_results : bool, default=True
            Ignored; present for the scikit-learn API. Rows are always sorted.

        Returns
        -------
        graph : sparse matrix of shape (n_queries, n_samples_fit), dtype float64
            In CSR format, of each row the nearest first. Columns are rows of the database, also
            where it has ids.

        Raises
        ------
        NotFittedError, ValueError, ImportError
            As `radius_neighbors` does, or if `mode` is another one.
        """
        check_mode(mode)
        check_is_fitted(self)
        items = self._items
        return as_graph(*self._within(items, codes, radius), len(items), mode)

    def _nearest(self, items, codes, n_neighbors, *, weights=None, **stages):
        """Return distances and rows of the nearest items."""
        queries = items.codes if codes is None else self._pack_alike(codes)
        if weights is not None:
            weights = check_weights(weights, queries, self.n_features_in_)
        return find_nearest(
            queries,
            items.codes,
            self.n_neighbors if n_neighbors is None else n_neighbors,
            n_bits=self.n_features_in_,
            query_weights=weights,
            own=codes is None,
            engine_of=lambda coarse_bits: self._engine_of(items, coarse_bits),
            n_jobs=self.n_jobs,
            **stages,
        )

    def _within(self, items, codes, radius):
        """Return what lies within the radius, flat: indptr, distances and rows."""
        radius = whole_radius(self.radius if radius is None else radius)
        queries = items.codes if codes is None else self._pack_alike(codes)
        engine = self._engine_of(items, None)
        found = engine.within(queries, min(radius, self.n_features_in_), self.n_jobs)
        return without_own_flat(*found) if codes is None else found

    def _engine_of(self, items, coarse_bits):
        """Return the engine for the leading bits of the items, or for all, and keep it."""
        # Of several threads, the first makes it.
        with _MAKING:
            # The identity of the items: they are a value.
            if self._engine is None or self._engine[0] is not items:
                self._engine = items, {}
            engines, asked = self._engine[1], (self.algorithm, coarse_bits)
            if asked not in engines:
                codes, n_bits = items.codes, self.n_features_in_
                if coarse_bits is not None:
                    codes, n_bits = leading_bits(codes, coarse_bits), coarse_bits
                engines[asked] = make_engine(self.algorithm, codes, n_bits)
            return engines[asked]

    def _pack_alike(self, codes):
        """Return the packed codes, which are to be of the length of those that were fitted."""
        n_bits = self.n_bits or (np.shape(codes)[1] if np.ndim(codes) == 2 else None)
        if n_bits not in (None, self.n_features_in_):
            raise ValueError(
                f"codes has {n_bits} bits, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} bits as input."
            )
        return self._pack(codes)

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

    def __getstate__(self):
        state = super().__getstate__()
        return {name: None if name == "_engine" else value for name, value in state.items()}

    def _learnt(self):
        return {"codes": self.codes_, "ids": self.ids_, "n_bits": self.n_features_in_}

    def _take_over(self, learnt):
        self._keep(Items(learnt["codes"], learnt["ids"]), learnt["n_bits"])
