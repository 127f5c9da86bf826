"""Exact search among packed codes: the nearest items of each query, and their votes."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.utils import gen_batches

from skhash.codes import hamming_distances, whole_distances, whole_weights

__all__ = ["check_n_neighbors", "nearest", "vote_shares"]

# Query-item pairs that are held at once, unless scikit-learn's `working_memory` allows fewer.
_CHUNK_PAIRS = 2**22
# What a pair takes: a distance, its key, and the copy of the key that is sorted.
_BYTES_PER_PAIR = 20
# Bytes of packed label sets that are unpacked at once: each takes some hundred bytes then.
_CHUNK_BYTES = 2**18


def nearest(query_codes, database_codes, n_neighbors, query_weights=None):
    """Find the nearest items of packed codes.

    Parameters
    ----------
    query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
        Packed codes of the queries.

    database_codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes of the items.

    n_neighbors : int
        Number of items to find.

    query_weights : ndarray of shape (n_queries, n_bits), default=None
        Weights of the bits of each query. None weighs all 1.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), integer, or floating with weights
        Hamming distances, ascending; with weights, the sums of those of the bits that differ, see
        :func:`skhash.codes.weighted_hamming_distances`.

    indices : ndarray of shape (n_queries, n_neighbors), dtype int64
        Rows of the database; of rows at equal distance, the lower comes first.

    Raises
    ------
    ValueError
        If `n_neighbors` is no integer from 1 to `n_database`.
    """
    n_database = len(database_codes)
    check_n_neighbors(n_neighbors, n_database)
    if query_weights is not None:
        whole, unit = whole_weights(query_weights)
    index = np.arange(n_database)
    distances = np.empty((len(query_codes), n_neighbors), np.int16)
    indices = np.empty((len(query_codes), n_neighbors), np.int64)
    for rows in _query_blocks(len(query_codes), n_database):
        if query_weights is None:
            level = hamming_distances(query_codes[rows], database_codes)
        else:
            level = whole_distances(query_codes[rows], database_codes, whole[rows])
        # One integer orders by distance, then by row: the ranking is total.
        keys = level.astype(np.int64) * n_database + index
        keys.partition(n_neighbors - 1, axis=1)
        ranked = np.sort(keys[:, :n_neighbors], axis=1)
        distances = distances.astype(level.dtype, copy=False)
        distances[rows], indices[rows] = np.divmod(ranked, n_database)
    return (distances if query_weights is None else distances * unit), indices


def vote_shares(query_codes, database_codes, database_labels, n_labels, n_neighbors):
    """Yield the share of the votes of the nearest items that each label has.

    Items at equal distance that compete for the last places share the votes of these. Only the
    labels of items that vote are unpacked, some at a time.

    Parameters
    ----------
    query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
        Packed codes of the queries.

    database_codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes of the items.

    database_labels : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the items.

    n_labels : int
        Number of labels.

    n_neighbors : int
        Number of items that vote.

    Yields
    ------
    shares : ndarray of shape (n_some_queries, n_labels), dtype float64
        Between 0 and 1, of the next queries; equal shares, and a share of one half, are exact.

    Raises
    ------
    ValueError
        If `n_neighbors` is no integer from 1 to `n_database`.
    """
    check_n_neighbors(n_neighbors, len(database_codes))
    for rows in _query_blocks(len(query_codes), len(database_codes) + n_labels):
        distances = hamming_distances(query_codes[rows], database_codes)
        votes, items = _votes(distances, n_neighbors)
        shares = np.zeros((len(votes), n_labels))
        for some in gen_batches(len(items), max(1, _CHUNK_BYTES // database_labels.shape[1])):
            labels = _sparse_labels(database_labels[items[some]], n_labels)
            shares += (sparse.csr_array(votes[:, some]) @ labels).toarray()
        shares /= votes.sum(axis=1, keepdims=True)
        yield shares


def _votes(distances, n_neighbors):
    """Return the votes of each query, whole numbers, and the items that have any."""
    last = np.partition(distances, n_neighbors - 1, axis=1)[:, [n_neighbors - 1]]
    items = np.flatnonzero((distances <= last).any(axis=0))
    distances = distances[:, items]
    nearer, level = distances < last, distances == last
    places_left = n_neighbors - nearer.sum(axis=1, keepdims=True)
    # Counted in units of 1 / n_level votes are whole, and floats add whole numbers exactly:
    # a share of one half is 0.5, and equal shares are equal.
    n_level = level.sum(axis=1, keepdims=True)
    return np.where(nearer, n_level, level * places_left).astype(np.float64), items


def _sparse_labels(packed, n_labels):
    """Return packed label sets as a sparse indicator matrix."""
    row, byte = np.nonzero(packed)
    at, bit = np.nonzero(np.unpackbits(packed[row, byte, None], axis=1))
    cells = row[at], 8 * byte[at] + bit
    return sparse.csr_array((np.ones(len(at)), cells), shape=(len(packed), n_labels))


def _query_blocks(n_queries, n_columns):
    """Return slices of as many queries as have their rows of so many columns in memory at once."""
    n_pairs = min(_CHUNK_PAIRS, get_config()["working_memory"] * 2**20 // _BYTES_PER_PAIR)
    return gen_batches(n_queries, max(1, int(n_pairs) // n_columns))


def check_n_neighbors(n_neighbors, n_database):
    """Raise ValueError unless a database of that size has that many neighbours."""
    if not isinstance(n_neighbors, Integral) or n_neighbors < 1:
        raise ValueError(f"n_neighbors should be an int, at least 1, got {n_neighbors!r}.")
    if n_neighbors > n_database:
        raise ValueError(
            "Expected n_neighbors <= n_database, the number of codes searched, "
            f"got n_neighbors={n_neighbors}, n_database={n_database}."
        )
