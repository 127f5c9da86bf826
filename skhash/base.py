"""The estimator API that all hashers share: `fit` is written here once."""

from abc import ABCMeta, abstractmethod
from contextlib import contextmanager
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d, gen_batches
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from skhash._persistence import SaveMixin
from skhash.codes import hamming_distances, pack_codes, unpack_codes
from skhash.metrics._ranking import _score_packed
from skhash.neighbors import _check_n_neighbors, _kneighbors, _rows_per_chunk

__all__ = ["BaseHasher"]


class BaseHasher(
    SaveMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, metaclass=ABCMeta
):
    """Base class of all hashers: a real-valued projection and a threshold at zero.

    A subclass stores its parameters in `__init__`, `n_bits` and `n_neighbors` among them, and
    defines ``_fit(X, Y)`` and ``_project(X)`` on validated input. Everything public follows:
    `fit` keeps the codes and label sets of the training set as the hasher's *database*, which
    `predict`, `kneighbors`, `score` and every scorer search.

    Attributes
    ----------
    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database, see :func:`skhash.codes.pack_codes`.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8, or None
        Packed label sets of the database; None if it has none.

    classes_ : ndarray of shape (n_labels,), or None
        The class labels if `Y` was one-dimensional, else the column numbers; None without `Y`.

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

    # Whether `fit` learns from label sets; without, they are only kept for the database.
    _supervised = False

    @abstractmethod
    def _fit(self, X, Y):
        """Learn from validated `X` and `Y` (indicator uint8, or None)."""

    @abstractmethod
    def _project(self, X):
        """Return the projection (n_samples, n_bits) of validated `X`."""

    def _validate_X(self, X, *, reset):
        """Return `X` as the algorithm takes it, or raise."""
        return validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=1 + reset
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, Y=None):
        """Learn the projection, and keep the training set as the database.

        If `fit` raises, the hasher is left as it was before the call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples (for :class:`skhash.DeepRankingHasher` also images).

        Y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets as an indicator matrix of 0 and 1, or class labels. Unsupervised hashers
            keep them for `predict` and `score` but do not learn from them.

        Returns
        -------
        self : object
            The fitted hasher.

        Raises
        ------
        ValueError
            If a parameter is out of range, `X` or `Y` is malformed or `Y` is missing where the
            hasher learns from it.
        """
        self._before_fit()
        with _unchanged_on_error(self):
            self._fit_once(X, Y)
        return self

    def _before_fit(self):
        """Do what is to outlast an error in `fit`: by default nothing."""

    def _fit_once(self, X, Y):
        """Do the work of `fit`, in whatever state an error leaves behind."""
        self._check_labels_given(Y)
        for name in [name for name in vars(self) if name.endswith("_") and name[0] != "_"]:
            delattr(self, name)
        X = self._validate_X(X, reset=True)
        self._labels_from_fit = Y is not None
        Y = self._learn_labels(Y)
        if Y is not None:
            check_consistent_length(X, Y)
        self._fit(X, Y)
        self._n_features_out = self.n_bits
        self._store_database(X, Y)

    def _fit_part(self, X, Y, classes, *, first):
        """Do the work of a `partial_fit`, in whatever state an error leaves behind.

        A subclass that has a `partial_fit` defines ``_learn_part(X, Y, first)``, on validated
        input. The database is left empty: codes of earlier parts are not known.
        """
        self._check_labels_given(Y)
        X = self._validate_X(X, reset=first)
        if first:
            self._labels_from_fit = Y is not None
            self._learn_labels(Y if Y is None or classes is None else classes)
        Y = self._encode_known_labels(Y)
        if Y is not None:
            check_consistent_length(X, Y)
        self._learn_part(X, Y, first)
        self._n_features_out = self.n_bits
        self.database_codes_ = np.empty((0, -(-self.n_bits // 8)), np.uint8)
        self.database_labels_ = None if Y is None else pack_codes(Y[:0])

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
        return self._project(self._validate_X(X, reset=False))

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
        return (self.project(X) >= 0).view(np.uint8)

    def fit_transform(self, X, y=None):
        """Fit, and return the codes of the training set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training samples.

        y : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of shape \
                (n_samples,), default=None
            Label sets, the `Y` of `fit` (scikit-learn passes it under this name).

        Returns
        -------
        codes : ndarray of shape (n_samples, n_bits), dtype uint8
            What ``fit(X, y).transform(X)`` returns, without projecting twice.
        """
        return unpack_codes(self.fit(X, y).database_codes_, self.n_bits)

    def set_database(self, X, Y=None):
        """Replace the database that `predict`, `kneighbors`, `score` and the scorers search.

        If `set_database` raises, the hasher keeps the database that it had.

        Parameters
        ----------
        X : array-like of shape (n_database, n_features)
            Samples to be found; only their packed codes are kept.

        Y : {array-like, sparse matrix} of shape (n_database, n_labels), or array-like of shape \
                (n_database,), default=None
            Their label sets, in the form that `fit` was given (in either if it was given none).
            Without them `kneighbors` works, `predict` and `score` do not.

        Returns
        -------
        self : object
            The hasher.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `Y` has other labels than those of `fit`, or another length than `X`.
        """
        check_is_fitted(self)
        X = self._validate_X(X, reset=False)
        with _unchanged_on_error(self):
            if not self._labels_from_fit:
                self._learn_labels(Y)
            labels = self._encode_known_labels(Y)
            if labels is not None:
                check_consistent_length(X, labels)
            self._store_database(X, labels)
        return self

    def _store_database(self, X, Y):
        """Keep the packed codes of validated `X` and the packed labels of indicator `Y`."""
        self.database_codes_ = pack_codes(self._project(X) >= 0)
        self.database_labels_ = None if Y is None else pack_codes(Y)

    def kneighbors(self, X, n_neighbors=None, return_distance=True):
        """Nearest items of the database in Hamming distance.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        n_neighbors : int, default=None
            Number of neighbours; None means the hasher's `n_neighbors`.

        return_distance : bool, default=True
            Whether to return the distances too.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors), integer
            Hamming distances, ascending. Only if `return_distance` is True.

        indices : ndarray of shape (n_queries, n_neighbors), integer
            Rows of the database; of rows at equal distance, the lower comes first.

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If `n_neighbors` is below 1 or above the size of the database.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        distances, indices = _kneighbors(pack_codes(self.transform(X)), self.database_codes_, k)
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
        Y : ndarray of shape (n_queries, n_labels), dtype uint8, or of shape (n_queries,)
            Indicator matrix of the labels that more than half of the neighbours have; or, if the
            hasher was given class labels, the class with most votes (the first of equals).

        Raises
        ------
        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database has no labels, or fewer items than `n_neighbors`.
        """
        codes = pack_codes(self.transform(X))
        labels = unpack_codes(self._require_labels(), len(self.classes_)).astype(np.float64)
        _check_n_neighbors(self.n_neighbors, len(labels))
        batches = gen_batches(len(codes), _rows_per_chunk(len(labels)))
        distances = (hamming_distances(codes[rows], self.database_codes_) for rows in batches)
        share = np.concatenate([_vote(level, labels, self.n_neighbors) for level in distances])
        if self._one_class_each:
            return self.classes_[share.argmax(axis=1)]
        return (share > 0.5).view(np.uint8)

    def score(self, X, y):
        """Mean tie-exact ``NDCG@100`` of the queries `X` over the database.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features)
            Queries.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of shape \
                (n_queries,)
            Their label sets, in the form that `fit` was given (scikit-learn passes them under
            this name).

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
            If the database has no labels, or `y` is missing or malformed.
        """
        codes = self.transform(X)
        database_labels = self._require_labels()
        if y is None:
            raise ValueError("score needs the label sets of the queries: pass y beside X.")
        Y = self._encode_labels(y)
        check_consistent_length(codes, Y)
        values = _score_packed(
            "ndcg",
            pack_codes(codes),
            pack_codes(Y),
            self.database_codes_,
            database_labels,
            n_bits=codes.shape[1],
            k=100,
        )
        return float(values.mean())

    def _require_labels(self):
        """Return the packed labels of the database, or raise."""
        if not len(self.database_codes_):
            raise ValueError(
                f"The database of this {type(self).__name__} is empty, as partial_fit leaves it. "
                "Call set_database(X, Y)."
            )
        if self.database_labels_ is None:
            raise ValueError(
                f"The database of this {type(self).__name__} has no label sets. "
                "Call fit(X, Y) or set_database(X, Y) with Y."
            )
        return self.database_labels_

    def _check_labels_given(self, Y):
        """Raise if `Y` is missing where the hasher learns from it."""
        if Y is None and self._supervised:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None. Pass Y, the label sets of X: an indicator matrix or class labels."
            )

    def _learn_labels(self, Y):
        """Take over the label space of `Y` and return `Y` as an indicator matrix, or None."""
        self._one_class_each, self.classes_ = False, None
        if Y is None:
            return None
        Y = _as_labels(Y)
        self._one_class_each = Y.ndim == 1
        self.classes_ = np.unique(Y) if Y.ndim == 1 else np.arange(Y.shape[1])
        return self._encode_labels(Y)

    def _encode_labels(self, Y):
        """Return `Y` as an indicator matrix of the known labels; unseen classes have no column."""
        if Y is None:
            return None
        Y = _as_labels(Y)
        if self._one_class_each:
            if Y.ndim != 1:
                raise ValueError(
                    f"Y should be 1D class labels, as in fit, got an array of shape {Y.shape}."
                )
            return (Y[:, None] == self.classes_).view(np.uint8)
        if Y.ndim != 2 or Y.shape[1] != len(self.classes_):
            raise ValueError(
                "Y should be an indicator matrix of shape "
                f"(n_samples, {len(self.classes_)}), as in fit, got shape {Y.shape}."
            )
        return Y

    def _encode_known_labels(self, Y):
        """Return `Y` as an indicator matrix, or raise if it has a class that was never seen."""
        labels = self._encode_labels(Y)
        if labels is not None and self._one_class_each and not labels.any(axis=1).all():
            unseen = np.setdiff1d(_as_labels(Y), self.classes_)
            raise ValueError(f"Y contains classes that fit has not seen: {unseen}.")
        return labels

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._supervised
        tags.target_tags.two_d_labels = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = []
        return tags


@contextmanager
def _unchanged_on_error(hasher):
    """Put the attributes of `hasher` back as they were if the block raises."""
    before = vars(hasher).copy()
    try:
        yield
    except BaseException:
        vars(hasher).clear()
        vars(hasher).update(before)
        raise


def _as_labels(Y):
    """Return `Y` as a dense uint8 indicator matrix or a 1D array of class labels, or raise."""
    if sparse.issparse(Y):
        Y = Y.toarray()
    try:
        Y = np.asarray(Y)
    except ValueError as error:
        raise ValueError(
            "Y should be an indicator matrix of shape (n_samples, n_labels) or 1D class labels; "
            "got sequences of different lengths. sklearn.preprocessing.MultiLabelBinarizer turns "
            "lists of labels into an indicator matrix."
        ) from error
    assert_all_finite(Y, input_name="Y")
    if Y.ndim == 1:
        return _as_classes(Y)
    if Y.ndim != 2 or Y.shape[1] == 0:
        raise ValueError(
            "Y should be an indicator matrix of shape (n_samples, n_labels) or 1D class labels, "
            f"got an array of shape {Y.shape}."
        )
    if not (is_bit := (Y == 0) | (Y == 1)).all():
        other = Y[~is_bit][:1].tolist()
        raise ValueError(f"Y should be an indicator matrix of 0 and 1, got {other[0]!r}.")
    return Y.astype(np.uint8, copy=False)


def _as_classes(Y):
    """Return 1D `Y` if it holds class labels, or raise."""
    kind = type_of_target(Y, input_name="Y", raise_unknown=True)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. Y should be an indicator matrix of label sets or 1D "
            "class labels."
        )
    return column_or_1d(Y)


def _vote(distances, labels, n_neighbors):
    """Share of the votes of the `n_neighbors` nearest items that each label has."""
    last = np.partition(distances, n_neighbors - 1, axis=1)[:, [n_neighbors - 1]]
    nearer, level = distances < last, distances == last
    places_left = n_neighbors - nearer.sum(axis=1, keepdims=True)
    # Counted in units of 1 / n_level votes are whole, and floats add whole numbers exactly:
    # a share of one half is 0.5, and equal shares are equal.
    n_level = level.sum(axis=1, keepdims=True)
    votes = np.where(nearer, n_level, level * places_left).astype(np.float64)
    return votes @ labels / votes.sum(axis=1, keepdims=True)
