"""What scorers and displays ask of a fitted estimator: its hasher, its database, its queries."""

from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skhash.codes import pack_codes

__all__ = ["as_in_database", "fitted_hasher", "packed_problem", "packed_queries"]


def fitted_hasher(estimator):
    """Return the hasher at the end of `estimator`, fitted, or raise."""
    hasher = estimator
    while isinstance(hasher, Pipeline):
        hasher = hasher.steps[-1][1]
    if not hasattr(hasher, "encode_labels"):
        raise TypeError(
            "A scorer or display takes a hasher of skhash or a Pipeline that ends in one, "
            f"got {estimator!r}."
        )
    check_is_fitted(hasher, "database_codes_")
    return hasher


def as_in_database(hasher):
    """Return what encodes label sets as those of the hasher's database are, or raise."""
    if not len(hasher.database_codes_):
        raise ValueError(
            f"The database of this {type(hasher).__name__} is empty, as partial_fit leaves it: "
            "call set_database(X, Y)."
        )
    if hasher.database_labels_ is None:
        raise ValueError(
            f"Scoring needs label sets in the database, and {type(hasher).__name__} was fit "
            "without: fit with Y or call set_database(X, Y)."
        )
    return hasher.encode_labels


def packed_queries(estimator, X, Y, encode, asker):
    """Return ``(packed codes, packed labels), n_bits`` of the queries that `asker` is given."""
    if Y is None:
        raise ValueError(f"{asker} needs the label sets of the queries: pass Y beside X.")
    codes, labels = estimator.transform(X), encode(Y)
    check_consistent_length(codes, labels)
    return (pack_codes(codes), pack_codes(labels)), codes.shape[1]


def packed_problem(estimator, X, Y):
    """Return queries and database of a fitted estimator, packed.

    Parameters
    ----------
    estimator : estimator
        Fitted hasher, or a pipeline that ends in one.

    X : array-like of shape (n_queries, ...)
        Queries.

    Y : array-like or sparse matrix
        Their label sets.

    Returns
    -------
    packed : tuple of 4 ndarrays, dtype uint8
        Codes and labels of the queries, codes and labels of the database.

    n_bits : int
        Number of bits of a code.

    Raises
    ------
    TypeError
        If the estimator is no hasher.

    ValueError
        If the database is empty or has no label sets, or `Y` is missing.
    """
    hasher = fitted_hasher(estimator)
    queries, n_bits = packed_queries(estimator, X, Y, as_in_database(hasher), "A display")
    return (*queries, hasher.database_codes_, hasher.database_labels_), n_bits
