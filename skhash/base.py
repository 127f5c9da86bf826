"""The estimator API that all hashers share: `fit` is written here once."""

from abc import ABCMeta, abstractmethod
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import check_is_fitted, validate_data

from skhash._blocks import ConvertedRows, is_better_converted, map_blocks, row_blocks
from skhash._database import DatabaseMixin, unchanged_on_error
from skhash._parts import PartialFitMixin
from skhash._persistence import SaveMixin
from skhash._range import in_range
from skhash._samples import check_in_memory
from skhash._search import find_nearest, vote_shares
from skhash._site import DocLinkMixin
from skhash._sklearn import Interval, fit_context
from skhash.codes import pack_codes
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._ranking import mean_over_queries, score_queries

__all__ = ["BaseHasher", "PartialFitMixin"]


class BaseHasher(
    DatabaseMixin,
    SaveMixin,
    DocLinkMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
    metaclass=ABCMeta,
):
    """Base class of all hashers: a real-valued projection and a threshold at zero.

    A subclass stores its parameters in `__init__`, `n_bits` among them, and defines ``_fit(X, Y)``
    and ``_project(X)`` on validated input. One without a parameter `n_neighbors` has 5 neighbours
    where none are asked for. Everything public follows: `fit` keeps the codes and label sets of
    the training set as the hasher's *database*, which `predict`, `kneighbors`, `score` and every
    scorer search.

    Attributes
    ----------
    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database, see :func:`skhash.codes.pack_codes`.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8, or None
        Packed label sets of the database; None if it has none.

    database_ids_ : ndarray of shape (n_database,), or None
        Ids of the items of the database, where `set_database` was given ids.

    classes_ : ndarray of shape (n_labels,), or None
        The class labels if `y` was one-dimensional. Else the columns of `y`: their names if it was
        a data frame whose columns have strings for names, else their numbers. None without `y`.

    n_features_in_ : int
        Number of features seen in `fit` (where `X` has features).

    See Also
    --------
    skhash.neighbors.HammingNeighbors : Search of codes, without a hasher.
    skhash.metrics.make_retrieval_scorer : Other metrics than that of `score`.
    """

    _parameter_constraints: dict = {
        "n_bits": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    # For a subclass that has no parameter of this name.
    n_neighbors = 5

    # Whether `fit` needs label sets; without, they are for the database (BRE learns from them).
    _supervised = False

    # Whether `_fit` and `_project` take what `ConvertedRows` is: large arrays of other types are
    # then converted a block at a time.
    _takes_blocks = False

    @abstractmethod
    def _fit(self, X, Y):
        """Learn from validated `X` and `Y` (indicator uint8, or None)."""

    @abstractmethod
    def _project(self, X):
        """Return the projection (n_samples, n_bits) of validated `X`, a block of rows."""

    def _validate_X(self, X, *, reset):
        """Return `X` as the algorithm takes it, or raise."""
        check_in_memory(X)
        if self._takes_blocks and is_better_converted(X):
            return in_range(_validate_large(self, X, reset=reset), learns=reset)
        # The search for infinite values adds all up first, which large ones overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            X = validate_data(
                self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=1 + reset
            )
        if not X.dtype.isnative:
            X = X.astype(X.dtype.newbyteorder("="))
        return in_range(X, learns=reset)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the projection, and keep the training set as the database.

        If `fit` raises, the hasher is left as it was before the call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples (for :class:`skhash.DeepRankingHasher` also images).

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets as an indicator matrix of 0 and 1, or class labels. Unsupervised hashers
            keep them for `predict` and `score` but do not learn from them. Names of columns of a
            data frame become `classes_`, and other names are refused later.

        Returns
        -------
        self : object
            The fitted hasher.

        Raises
        ------
        ValueError
            If a parameter is out of range, `X` or `y` is malformed or `y` is missing where the
            hasher learns from it, or squares of `X` are beyond the range of floats.
        """
        self._before_fit()
        with unchanged_on_error(self):
            self._fit_once(X, y)
        return self

    def _before_fit(self):
        """Do what is to outlast an error in `fit`: by default nothing."""

    def _fit_once(self, X, y):
        """Do the work of `fit`, in whatever state an error leaves behind."""
        if not hasattr(self, "n_bits"):
            raise TypeError(
                f"{type(self).__name__} has no parameter n_bits, the length of its codes. Take it "
                "in __init__ and store it, or set it as an attribute of the class."
            )
        self._check_labels_given(y)
        for name in [name for name in vars(self) if name.endswith("_") and name[0] != "_"]:
            delattr(self, name)
        # What `partial_fit` keeps.
        vars(self).pop("_parts", None)
        X = self._validate_X(X, reset=True)
        self._learn_labels(y)
        self._labels_from_fit = y is not None
        Y = self._encode_known(X, y)
        self._fit(X, Y)
        self._n_features_out = self.n_bits
        self._store_database(X, Y)

    def project(self, X):
        """Real-valued projection, whose sign is the code.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        projection : ndarray of shape (n_samples, n_bits), floating
            The farther an entry is from 0, the farther the sample is from the bit's threshold.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        check_is_fitted(self)
        return map_blocks(self._project, self._validate_X(X, reset=False))

    def transform(self, X):
        """Binary codes: ``project(X) >= 0``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), dtype uint8
            Bits, 0 or 1. :func:`skhash.codes.pack_codes` packs them eight to a byte.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        check_is_fitted(self)
        X = self._validate_X(X, reset=False)
        return map_blocks(lambda rows: self._project(rows) >= 0, X).view(np.uint8)

    def fit_transform(self, X, y=None):
        """Fit, and return the codes of the training set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets, as `fit` takes them.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), dtype uint8
            What ``fit(X, y).transform(X)`` returns.
        """
        return self.fit(X, y).transform(X)

    def _encode_items(self, X):
        """Return the bits of validated items, as booleans."""
        return self._project(X) >= 0

    def bit_weights(self, X):
        """How sure each bit of a code is: what an asymmetric search weighs it by.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        weights : ndarray of shape (n_samples, n_bits), floating
            Absolute values of the projection, or of the relaxed code where a hasher learns with
            one.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.
        """
        return np.abs(self._relax(self.project(X)))

    def _relax(self, projection):
        """Return what the hasher takes for the code before it is binary."""
        return projection

    def kneighbors(
        self,
        X,
        n_neighbors=None,
        return_distance=True,
        *,
        asymmetric=False,
        n_candidates=None,
        coarse_bits=None,
    ):
        """Nearest items of the database in Hamming distance.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        n_neighbors : int, default=None
            Number of neighbours; None means the hasher's `n_neighbors`.

        return_distance : bool, default=True
            Whether to return the distances too.

        asymmetric : bool, default=False
            Whether the bits of a query weigh what :meth:`bit_weights` says: items that differ in
            bits of which the query is not sure are nearer. The database stays binary.

        n_candidates : int, default=None
            Number of items that are found by plain Hamming distance, and are then ranked by the
            distance asked for, which takes far less time than to compare all items by it. None:
            all items are compared.

        coarse_bits : int, default=None
            Number of leading bits by which candidates are found, for codes that were learnt with
            :class:`skhash.deep.losses.NestedLoss`; the candidates are ranked by all bits. None:
            all bits. Needs `n_candidates`.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), integer, or floating if asymmetric
            Hamming distances, ascending, see also
            :func:`skhash.codes.weighted_hamming_distances`. Only if `return_distance` is True.

        indices : ndarray of shape (n_queries, n_neighbors), integer
            Rows of the database; of rows at equal distance, the lower comes first. Where the
            database has ids, see `set_database`, those of the items.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database is empty, as `partial_fit` leaves it, `n_neighbors` is below 1 or
            above its size, `n_candidates` is below `n_neighbors` or above that size,
            `coarse_bits` is above the length of the codes or given without `n_candidates`, or
            `n_candidates` would have no effect.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        projection = self.project(X)
        self._check_database_filled()
        weights = np.abs(self._relax(projection)) if asymmetric else None
        distances, indices = find_nearest(
            pack_codes(projection >= 0),
            self.database_codes_,
            k,
            n_bits=projection.shape[1],
            query_weights=weights,
            n_candidates=n_candidates,
            coarse_bits=coarse_bits,
        )
        # Files of former versions have no such attribute.
        ids = getattr(self, "database_ids_", None)
        indices = indices if ids is None else ids[indices]
        return (distances, indices) if return_distance else indices

    def predict(self, X):
        """Labels by vote of the `n_neighbors` nearest items of the database.

        Where items at equal distance compete for the last places, each has its share of a vote:
        the prediction does not depend on the order of the database.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        Returns
        -------
        y : ndarray of shape (n_queries, n_labels), dtype uint8, or of shape (n_queries,)
            Indicator matrix of the labels that more than half of the neighbours have; or, if the
            hasher was given class labels, the class with most votes (the first of equals).

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database has no labels, or fewer items than `n_neighbors`.
        """
        codes, database = pack_codes(self.transform(X)), self.labeled_database()
        space, n_labels = self._label_space(), len(self.classes_)
        shares = vote_shares(codes, *database, n_labels, self.n_neighbors)
        return np.concatenate([space.decode(part) for part in shares])

    def score(self, X, y, *, asymmetric=False):
        """Mean tie-exact ``NDCG@100`` of the queries `X` over the database.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of shape \
                (n_queries,)
            Their label sets, in the form that `fit` was given.

        asymmetric : bool, default=False
            Whether the bits of a query weigh what :meth:`bit_weights` says, as in `kneighbors`.

        Returns
        -------
        score : float
            ``NDCG@100`` with the number of shared labels as relevance,
            see :func:`skhash.metrics.ndcg_score`.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database has no labels, or `y` is missing, malformed or holds class labels of
            which the hasher knows none.
        """
        problem = RetrievalProblem.from_estimator(self, X, y, asker="score", asymmetric=asymmetric)
        return mean_over_queries(score_queries(problem, "ndcg", k=100))

    def _check_labels_given(self, y):
        """Raise if `y` is missing where the hasher learns from it."""
        if y is None and self._supervised:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None. Pass y, the label sets of X: an indicator matrix or class labels."
            )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._supervised
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _validate_large(hasher, X, *, reset):
    """Validate an array of another type than floats without a copy of it in double precision."""
    name = type(hasher).__name__
    X = validate_data(
        hasher,
        X,
        reset=reset,
        dtype=None,
        ensure_all_finite=False,
        ensure_min_samples=1 + reset,
    )
    rows = ConvertedRows(X)
    if X.dtype.kind == "f":
        for block in row_blocks(len(X)):
            assert_all_finite(rows[block], estimator_name=name, input_name="X")
    return rows
