"""What a retrieval problem is: codes and label sets of queries and of a database, packed."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skhash._labels import LabelSpace, as_labels, check_label_names, column_names
from skhash.codes import (
    as_bits,
    check_packed,
    check_packed_codes,
    check_padding,
    pack_codes,
    unpack_codes,
)

__all__ = ["RetrievalProblem", "as_codes", "fitted_hasher"]


@dataclass(frozen=True, eq=False)
class RetrievalProblem:
    """Queries that rank a database: packed codes and packed label sets of both.

    The class methods validate what they are given. Whatever takes a problem does not do it again.

    Parameters
    ----------
    query_codes : ndarray of shape (n_queries, ceil(n_bits / 8)), dtype uint8
        Packed codes of the queries, see :func:`skhash.codes.pack_codes`.

    query_labels : ndarray of shape (n_queries, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the queries, in the same format.

    database_codes : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the items to rank.

    database_labels : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the items to rank.

    n_bits : int
        Number of bits of a code.

    own_codes : ndarray of shape (n_queries, ceil(n_bits / 8)), dtype uint8, default=None
        Packed codes that the queries have as items of the database, if they are such; they do not
        rank themselves then. None: they are no items.

    query_weights : ndarray of shape (n_queries, n_bits), default=None
        Weights of the bits of each query: items are ranked by the sum of the weights of the bits
        that differ. None weighs all 1.

    Examples
    --------
    >>> from skhash.metrics._problem import RetrievalProblem
    >>> problem = RetrievalProblem.from_codes([[0, 0]], ["cat"], [[0, 1], [1, 1]], ["dog", "cat"])
    >>> problem.n_queries, problem.n_bits, problem.max_relevance
    (1, 2, 1)
    >>> problem.database_labels
    array([[ 64],
           [128]], dtype=uint8)
    """

    query_codes: np.ndarray
    query_labels: np.ndarray
    database_codes: np.ndarray
    database_labels: np.ndarray
    n_bits: int
    own_codes: np.ndarray | None = None
    query_weights: np.ndarray | None = None

    @classmethod
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_bits=None,
        query_weights=None,
    ):
        """Validate codes and label sets, and pack what is not packed.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 and 1; packed ones with `n_bits`.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like \
                of shape (n_queries,)
            Label sets of the queries: an indicator matrix of 0 and 1, or class labels.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to rank, in the same form.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels), or \
                array-like of shape (n_database,)
            Label sets of the items to rank, in the same form.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed. None: they are not.

        query_weights : array-like of shape (n_queries, n_bits), default=None
            Weights of the bits of each query, at least 0.

        Returns
        -------
        problem : RetrievalProblem
            The problem.

        Raises
        ------
        ValueError
            If codes or indicator matrices hold other values than 0 and 1, weights are negative,
            the shapes do not fit, or class labels or names of labels are of different kinds.
        """
        given = {"query_codes": query_codes, "database_codes": database_codes}
        codes, n_bits = _packed_alike(given, n_bits)
        given = {"query_labels": query_labels, "database_labels": database_labels}
        labels = {name: as_labels(y, name=name) for name, y in given.items()}
        for side in zip(codes, labels.values(), strict=True):
            check_consistent_length(*side)
        _check_names_alike(given)
        if query_weights is not None:
            query_weights = _check_weights(query_weights, (len(codes[0]), n_bits))
        packed = [pack_codes(Y) for Y in _encode_alike(labels)]
        sides = codes[0], packed[0], codes[1], packed[1]
        return cls(*sides, n_bits, query_weights=query_weights)

    @classmethod
    def from_packed(cls, query_codes, query_labels, database_codes, database_labels, *, n_bits):
        """Validate codes and label sets that are packed.

        Parameters
        ----------
        query_codes, query_labels, database_codes, database_labels : array-like, dtype uint8
            As the parameters of the class.

        n_bits : int
            Number of bits of a code.

        Returns
        -------
        problem : RetrievalProblem
            The problem.

        Raises
        ------
        ValueError
            If they are not two-dimensional uint8, differ in length, the bytes per row of queries,
            database and `n_bits` do not agree, or codes are not padded with zeros.
        """
        given = {
            "query_codes": query_codes,
            "query_labels": query_labels,
            "database_codes": database_codes,
            "database_labels": database_labels,
        }
        packed = {name: check_packed(array, name) for name, array in given.items()}
        for side in ("query", "database"):
            check_consistent_length(packed[f"{side}_codes"], packed[f"{side}_labels"])
        _check_bytes(packed, n_bits)
        for name in ("query_codes", "database_codes"):
            check_padding(packed[name], name, n_bits)
        return cls(**packed, n_bits=n_bits)

    @classmethod
    def leave_one_out(cls, codes, labels, item_codes=None, *, n_bits=None):
        """Validate and pack a set of which each sample ranks the others.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes, 0 and 1; packed ones with `n_bits`.

        labels : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of \
                shape (n_samples,)
            Label sets: an indicator matrix of 0 and 1, or class labels.

        item_codes : ndarray of shape (n_samples, n_bits), default=None
            Codes that the samples have as items, if not those that they have as queries.

        n_bits : int, default=None
            Number of bits of a code, where `codes` are packed. None: they are not.

        Returns
        -------
        problem : RetrievalProblem
            The problem.

        Raises
        ------
        ValueError
            As :meth:`from_codes` does, or if there is only one sample.
        """
        (codes,), n_bits = _packed_alike({"codes": codes}, n_bits)
        labels = as_labels(labels, name="labels")
        check_consistent_length(codes, labels)
        if len(codes) < 2:
            raise ValueError(
                f"Leaving one out takes at least 2 samples, got {len(codes)}: "
                "a single sample has no other to rank."
            )
        (labels,) = _encode_alike({"labels": labels})
        labels = pack_codes(labels)
        items = codes if item_codes is None else pack_codes(item_codes)
        return cls(codes, labels, items, labels, n_bits, own_codes=items)

    @classmethod
    def from_estimator(cls, estimator, X, y, *, asker, leave_one_out=False, asymmetric=False):
        """Hash queries, and take the database of a fitted hasher.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of shape \
                (n_queries,)
            Their label sets, in the form that the hasher's `fit` was given.

        asker : str
            What the error calls the one who needs `y`.

        leave_one_out : bool, default=False
            Whether each query ranks the others instead of the database.

        asymmetric : bool, default=False
            Whether the bits of a query weigh what the `bit_weights` of the hasher say.

        Returns
        -------
        problem : RetrievalProblem
            The problem.

        Raises
        ------
        TypeError
            If the estimator is no hasher.

        NotFittedError
            If the hasher is not fitted.

        ValueError
            If the database is empty or has no label sets, or `y` is missing, malformed or holds
            class labels of which the hasher knows none.
        """
        hasher = fitted_hasher(estimator)
        database = None if leave_one_out else hasher.labeled_database()
        if y is None:
            raise ValueError(f"{asker} needs the label sets of the queries: pass y beside X.")
        given, codes = _input_of_hasher(estimator, X), estimator.transform(X)
        weights = hasher.bit_weights(given) if asymmetric else None
        if leave_one_out:
            encode = getattr(hasher, "encode_database", hasher.transform)
            problem = cls.leave_one_out(codes, y, encode(given))
        else:
            labels = hasher.encode_labels(y)
            _check_some_known(y, labels, hasher)
            sides = pack_codes(codes), pack_codes(labels), *database
            problem = cls.from_packed(*sides, n_bits=codes.shape[1])
        return replace(problem, query_weights=weights)

    @property
    def n_queries(self):
        """Number of queries."""
        return len(self.query_codes)

    @cached_property
    def max_relevance(self):
        """Size of the largest label set of a query, which no relevance exceeds."""
        n_labels = np.bitwise_count(self.query_labels).sum(axis=1, dtype=np.intp)
        return int(n_labels.max(initial=0))

    def of_queries(self, rows):
        """Return the problem of some of the queries.

        Parameters
        ----------
        rows : slice or ndarray
            Rows of the queries.

        Returns
        -------
        problem : RetrievalProblem
            These queries, and the same database.
        """
        names = ("query_codes", "query_labels", "own_codes", "query_weights")
        of_all = {name: getattr(self, name) for name in names}
        return replace(
            self, **{name: array[rows] for name, array in of_all.items() if array is not None}
        )


def fitted_hasher(estimator):
    """Return the hasher at the end of an estimator.

    Parameters
    ----------
    estimator : estimator
        Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

    Returns
    -------
    hasher : estimator
        The hasher.

    Raises
    ------
    TypeError
        If there is none.

    NotFittedError
        If it is not fitted.
    """
    hasher = estimator
    while isinstance(hasher, Pipeline):
        hasher = hasher.steps[-1][1]
    if not hasattr(hasher, "labeled_database"):
        raise TypeError(
            "A scorer or display takes a hasher of skhash or a Pipeline that ends in one, "
            f"got {estimator!r}."
        )
    check_is_fitted(hasher, "database_codes_")
    return hasher


def _input_of_hasher(estimator, X):
    """Return what the hasher at the end of an estimator is given for `X`."""
    while isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    return X


def as_codes(codes, name, n_bits=None):
    """Return codes as booleans, or raise.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Codes, 0 and 1; packed ones with `n_bits`.

    name : str
        What errors call them.

    n_bits : int, default=None
        Number of bits of a code, where they are packed. None: they are not.

    Returns
    -------
    bits : ndarray of shape (n_samples, n_bits), dtype bool
        The same.

    Raises
    ------
    ValueError
        If they are not two-dimensional, are empty or hold other values than 0 and 1, or are not
        packed codes of that length.
    """
    if n_bits is not None:
        return unpack_codes(check_packed_codes(codes, name, n_bits), n_bits).view(bool)
    codes = check_array(codes, dtype=None, input_name=name)
    hint = "Threshold a projection with `>= 0` first; packed codes go with n_bits."
    return as_bits(codes, name, hint)


def _packed_alike(codes, n_bits):
    """Return codes, given by name, as packed codes of one length, and that length."""
    if n_bits is not None:
        return [check_packed_codes(array, name, n_bits) for name, array in codes.items()], n_bits
    codes = {name: as_codes(array, name) for name, array in codes.items()}
    _check_widths("bits", codes)
    packed = [pack_codes(bits) for bits in codes.values()]
    return packed, next(iter(codes.values())).shape[1]


def _encode_alike(labels):
    """Return label sets, given by name, as indicator matrices of the same labels."""
    if all(y.ndim == 1 for y in labels.values()):
        _check_one_kind(labels)
        space = LabelSpace.of(*labels.values())
        return [space.encode(y).view(bool) for y in labels.values()]
    if any(y.ndim == 1 for y in labels.values()):
        raise ValueError(
            f"{' and '.join(labels)} must both be indicator matrices or both be 1D class labels, "
            f"got arrays of shape {' and '.join(str(y.shape) for y in labels.values())}."
        )
    _check_widths("labels", labels)
    return [Y.view(bool) for Y in labels.values()]


def _check_one_kind(labels):
    """Raise unless class labels, given by name, can be equal to one another."""
    dtypes = [y.dtype for y in labels.values()]
    if len({dtype.kind if dtype.kind in "mM" else dtype.kind in "OU" for dtype in dtypes}) > 1:
        raise ValueError(
            f"{' and '.join(labels)} must be class labels of one kind, such as numbers or "
            f"strings, got dtypes {' and '.join(map(str, dtypes))}."
        )


def _check_names_alike(labels):
    """Raise if label sets, given by name, are data frames of other columns."""
    (of, first), *others = labels.items()
    for name, y in others:
        check_label_names(y, column_names(first), f"of {of}", name=name)


def _check_some_known(y, labels, hasher):
    """Raise if queries have class labels, and the hasher knows none of them."""
    if labels.any() or as_labels(y).ndim != 1:
        return
    given, known = np.unique(as_labels(y)), np.asarray(getattr(hasher, "classes_", []))
    raise ValueError(
        f"y holds no class that this {type(hasher).__name__} knows: got {given}, of dtype "
        f"{given.dtype}, and it knows {known}, of dtype {known.dtype}. Queries are to "
        "have classes that fit was given, of the same type."
    )


def _check_weights(weights, shape):
    """Return weights of bits as floats, or raise unless they are of that shape, not negative."""
    weights = check_array(weights, dtype=np.float64, input_name="query_weights")
    if weights.shape != shape or (weights < 0).any():
        raise ValueError(
            "query_weights should hold a number of at least 0 for each bit of query_codes, of "
            f"shape {shape}, got shape {weights.shape} and a least weight of {weights.min()}."
        )
    return weights


def _check_widths(what, arrays):
    """Raise unless arrays, given by name, have as many columns."""
    widths = [f"{name}.shape[1] == {array.shape[1]}" for name, array in arrays.items()]
    if len({array.shape[1] for array in arrays.values()}) > 1:
        raise ValueError(
            f"{' and '.join(arrays)} must have the same number of {what}: "
            f"{' while '.join(widths)}."
        )


def _check_bytes(packed, n_bits):
    """Raise unless rows of both sides have as many bytes, and codes as many as `n_bits` takes."""
    for name in ("codes", "labels"):
        widths = [packed[f"{side}_{name}"].shape[1] for side in ("query", "database")]
        if widths[0] != widths[1]:
            raise ValueError(
                f"query_{name} and database_{name} must have as many bytes per row, "
                f"got {widths[0]} and {widths[1]}."
            )
    shape = packed["query_codes"].shape
    if shape[1] != -(-n_bits // 8):
        raise ValueError(
            f"Codes of n_bits={n_bits} take {-(-n_bits // 8)} bytes each, "
            f"got packed codes of shape {shape}."
        )
