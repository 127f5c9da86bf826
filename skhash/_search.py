"""Exact search among packed codes: the nearest items of each query, and their votes."""

from functools import partial
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.utils import gen_batches

from skhash._engines import scan_engine
from skhash._rerank import leading_bits, rerank
from skhash.codes import whole_distances, whole_weights

__all__ = ["check_n_neighbors", "find_nearest", "nearest", "vote_shares", "without_own"]

# Query-item pairs that are held at once, unless scikit-learn's `working_memory` allows fewer.
_CHUNK_PAIRS = 2**22
# What a pair takes: a distance, its key, and the copy of the key that is sorted; or a row, a vote
# and its column.
_BYTES_PER_PAIR = 24
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
    n_bits = 8 * database_codes.shape[1]
    return find_nearest(
        query_codes, database_codes, n_neighbors, n_bits=n_bits, query_weights=query_weights
    )


def find_nearest(
    query_codes,
    database_codes,
    n_neighbors,
    *,
    n_bits,
    query_weights=None,
    n_candidates=None,
    coarse_bits=None,
    own=False,
    engine_of=None,
    n_jobs=None,
):
    """Find the nearest items of packed codes, in one stage or in two.

    Parameters
    ----------
    query_codes, database_codes, n_neighbors, query_weights
        As :func:`nearest` takes them.

    n_bits : int
        Number of bits of a code.

    n_candidates : int, default=None
        Number of items that the first stage finds for the second to rank. None: there is one
        stage.

    coarse_bits : int, default=None
        Number of leading bits that the first stage compares. None: all.

    own : bool, default=False
        Whether the queries are the items, none of which is a neighbour of itself.

    engine_of : callable, default=None
        Returns the engine for the leading bits of the database, of which it is given the number,
        or None for all. None: engines that are made for this search.

    n_jobs : int, default=None
        Number of threads of the engine.

    Returns
    -------
    distances, indices
        As :func:`nearest` returns them.

    Raises
    ------
    ValueError
        If a number is out of range, or would have no effect.
    """
    n_items = len(database_codes)
    n_neighbors = check_n_neighbors(n_neighbors, n_items, own=own)
    _check_stages(n_neighbors, n_candidates, coarse_bits, query_weights is not None, n_bits)
    n_found = n_neighbors if n_candidates is None else n_candidates
    n_found = check_n_neighbors(n_found, n_items, own=own, name="n_candidates")
    # Integers of NumPy may be too narrow for what is computed with them.
    coarse_bits = None if coarse_bits is None else int(coarse_bits)
    if query_weights is not None and n_candidates is None:
        found = _weighted_nearest(query_codes, database_codes, n_found + own, query_weights)
    else:
        engine_of = engine_of or partial(_engine_of, database_codes)
        coarse = query_codes if coarse_bits is None else leading_bits(query_codes, coarse_bits)
        found = engine_of(coarse_bits).nearest(coarse, n_found + own, n_jobs)
    distances, rows = without_own(*found) if own else found
    if n_candidates is None:
        return distances, rows
    return rerank(query_codes, database_codes, rows, n_neighbors, query_weights)


def _engine_of(codes, coarse_bits):
    """Return an engine for the leading bits of packed codes, or for all."""
    if coarse_bits is None:
        return scan_engine(codes)
    return scan_engine(leading_bits(codes, coarse_bits))


def without_own(distances, rows):
    """Leave out the item that a query is itself, or else the last one.

    Parameters
    ----------
    distances, rows : ndarray of shape (n_items, n_neighbors + 1)
        Neighbours of each item.

    Returns
    -------
    distances, rows : ndarray of shape (n_items, n_neighbors)
        Those that are other items.
    """
    others = rows != np.arange(len(rows))[:, None]
    # Of more equal codes than were looked for, it need not be among the first.
    others[others.all(axis=1), -1] = False
    shape = len(rows), rows.shape[1] - 1
    return distances[others].reshape(shape), rows[others].reshape(shape)


def _weighted_nearest(query_codes, database_codes, n_neighbors, query_weights):
    """Compare all pairs by their weighted distance."""
    n_database = len(database_codes)
    whole, unit = whole_weights(query_weights)
    index = np.arange(n_database)
    distances = np.empty((len(query_codes), n_neighbors), np.int64)
    indices = np.empty((len(query_codes), n_neighbors), np.int64)
    for rows in _query_blocks(len(query_codes), n_database):
        level = whole_distances(query_codes[rows], database_codes, whole[rows])
        # One integer orders by distance, then by row: the ranking is total.
        keys = level * n_database + index
        keys.partition(n_neighbors - 1, axis=1)
        ranked = np.sort(keys[:, :n_neighbors], axis=1)
        distances[rows], indices[rows] = np.divmod(ranked, n_database)
    return distances * unit, indices


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
    n_neighbors = check_n_neighbors(n_neighbors, len(database_codes))
    engine = scan_engine(database_codes)
    n_database = len(database_codes)
    n_found = min(n_database, 16 * n_neighbors + 64)
    for rows in _query_blocks(len(query_codes), n_found + n_labels):
        shares = np.empty((rows.stop - rows.start, n_labels))
        parts = _voters(engine, query_codes[rows], n_database, n_neighbors, n_found)
        for some, found in parts:
            shares[some] = _shares(*_votes(*found, n_neighbors), database_labels, n_labels)
        yield shares


def _voters(engine, query_codes, n_database, n_neighbors, n_found):
    """Yield numbers of queries, and all items at their last distance or nearer, as flat lists.

    Of most queries these are among the `n_found` nearest. The others have items in any number, so
    few are looked at together.
    """
    distances, items = engine.nearest(query_codes, n_found)
    last = distances[:, n_neighbors - 1]
    is_whole = (distances[:, -1] > last) | (n_found == n_database)
    whole, rest = np.flatnonzero(is_whole), np.flatnonzero(~is_whole)
    if len(whole):
        near = distances[whole] <= last[whole, None]
        indptr = np.append(0, np.cumsum(near.sum(axis=1)))
        yield whole, (indptr, distances[whole][near], items[whole][near])
    if not len(rest):
        return
    for some in _query_blocks(len(rest), n_database):
        yield rest[some], engine.within(query_codes[rest[some]], last[rest[some]])


def _votes(indptr, distances, items, n_neighbors):
    """Return the votes of each query, whole numbers, as a sparse matrix, and the items voting."""
    n_items = np.diff(indptr)
    query = np.repeat(np.arange(len(n_items)), n_items)
    # Each list ends with an item at the last distance.
    nearer = distances < distances[indptr[1:] - 1][query]
    n_nearer = np.bincount(query[nearer], minlength=len(n_items))
    # Counted in units of 1 / n_level votes are whole, and floats add whole numbers exactly:
    # a share of one half is 0.5, and equal shares are equal.
    n_level, places_left = n_items - n_nearer, n_neighbors - n_nearer
    votes = np.where(nearer, n_level[query], places_left[query]).astype(np.float64)
    items, columns = np.unique(items, return_inverse=True)
    return sparse.csr_array((votes, columns, indptr), shape=(len(n_items), len(items))), items


def _shares(votes, items, database_labels, n_labels):
    """Return the share of the votes of each query that each label has."""
    shares, by_item = np.zeros((votes.shape[0], n_labels)), votes.tocsc()
    for some in gen_batches(len(items), max(1, _CHUNK_BYTES // database_labels.shape[1])):
        labels = _sparse_labels(database_labels[items[some]], n_labels)
        shares += (by_item[:, some] @ labels).toarray()
    return shares / votes.sum(axis=1)[:, None]


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


def check_n_neighbors(n_neighbors, n_database, *, own=False, name="n_neighbors"):
    """Return a number of neighbours as an int, or raise if a database of that size has fewer.

    Parameters
    ----------
    n_neighbors : int
        What is asked for.

    n_database : int
        Number of items.

    own : bool, default=False
        Whether it is asked for the neighbours of an item, which is none of its own.

    name : str, default="n_neighbors"
        What the error calls it.

    Returns
    -------
    n_neighbors : int
        The number.

    Raises
    ------
    ValueError
        If it is no integer, below 1, or above the number that there are.
    """
    if not isinstance(n_neighbors, Integral) or n_neighbors < 1:
        raise ValueError(f"{name} should be an int, at least 1, got {n_neighbors!r}.")
    if n_neighbors > n_database - own:
        what = "one more than an item has others" if own else "the number of codes searched"
        raise ValueError(
            f"Expected {name} {'<' if own else '<='} n_database, {what}, "
            f"got {name}={n_neighbors}, n_database={n_database}."
        )
    return int(n_neighbors)


def _check_stages(n_neighbors, n_candidates, coarse_bits, weighted, n_bits):
    """Raise ValueError unless the numbers of a search in two stages go together."""
    if coarse_bits is not None:
        if not isinstance(coarse_bits, Integral) or not 1 <= coarse_bits <= n_bits:
            raise ValueError(
                f"coarse_bits should be an int from 1 to n_bits={n_bits}, got {coarse_bits!r}."
            )
        if n_candidates is None:
            raise ValueError(
                f"coarse_bits={coarse_bits} needs n_candidates, the number of items that are "
                "found by these bits and ranked by all."
            )
    if n_candidates is None:
        return
    if coarse_bits is None and not weighted:
        raise ValueError(
            f"n_candidates={n_candidates} has no effect on a search by plain Hamming distance: "
            "the candidates of coarse_bits, or of an asymmetric search, are ranked anew."
        )
    if isinstance(n_candidates, Integral) and n_candidates < n_neighbors:
        raise ValueError(
            f"Expected n_candidates >= n_neighbors, got n_candidates={n_candidates}, "
            f"n_neighbors={n_neighbors}."
        )
