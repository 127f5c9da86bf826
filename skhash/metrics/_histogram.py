"""Codes and label sets to counts: everything a Hamming ranking says, in one small table."""

import numpy as np
from sklearn import get_config
from sklearn.utils import check_consistent_length

from skhash.codes import _as_words, _check_packed, _popcount_pairs

__all__ = ["hamming_histogram"]

# Pairs per block, and database items per block: what keeps the temporaries of a block in the
# second-level cache and the cost of a call small beside its work.
_BLOCK_PAIRS, _BLOCK_ITEMS = 2**17, 2**13
# An upper bound on the temporaries of one pair: distance, relevance, 64-bit word, bin index.
_BYTES_PER_PAIR = 32


def hamming_histogram(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    n_bits,
    working_memory=None,
):
    """Count, for every query, the database items at each distance and relevance.

    Hamming distances take ``n_bits + 1`` values and relevances few, so this table holds all
    that a ranking by Hamming distance determines: every tie-aware metric is a closed form of
    it [1]_. Histograms add up: the table of a database is the sum of the tables of its parts.

    Parameters
    ----------
    query_codes : array-like of shape (n_queries, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`.

    query_labels : array-like of shape (n_queries, ceil(n_labels / 8)), dtype uint8
        Packed label indicators, in the same format.

    database_codes : array-like of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the items to rank.

    database_labels : array-like of shape (n_database, ceil(n_labels / 8)), dtype uint8
        Packed label indicators of the items to rank.

    n_bits : int
        Number of bits of a code.

    working_memory : float, default=None
        Bound on the temporaries in MiB, the result not counted. None takes
        ``sklearn.get_config()["working_memory"]``. The result does not depend on it.

    Returns
    -------
    H : ndarray of shape (n_queries, n_bits + 1, max_relevance + 1), dtype int64
        ``H[q, d, r]`` is the number of items at distance `d` of query `q` that share `r`
        labels with it. `max_relevance` is the size of the largest label set among the queries,
        so it does not depend on the database.

    Raises
    ------
    ValueError
        If codes or labels are not two-dimensional uint8, differ in length, or the bytes per
        row of queries, database and `n_bits` do not agree.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.

    Examples
    --------
    >>> from skhash.codes import pack_codes
    >>> from skhash.metrics._histogram import hamming_histogram
    >>> database_codes = pack_codes([[0, 0], [0, 1], [1, 1]])
    >>> database_labels = pack_codes([[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    >>> hamming_histogram(pack_codes([[0, 0]]), pack_codes([[1, 0, 1]]),
    ...                   database_codes, database_labels, n_bits=2)
    array([[[0, 0, 1],
            [1, 0, 0],
            [0, 1, 0]]])
    """
    queries = _check_side(query_codes, query_labels, "query")
    database = _check_side(database_codes, database_labels, "database")
    _check_bytes(queries, database, n_bits)
    n_levels = _max_relevance(queries[1]) + 1
    H = np.zeros((len(queries[0]), n_bits + 1, n_levels), dtype=np.int64)
    n_rows, n_items = _block_shape((n_bits + 1) * n_levels, len(database[0]), working_memory)
    # Padding to whole words once spares every block a copy.
    queries, database = (
        [_as_words(packed).view(np.uint8) for packed in side] for side in (queries, database)
    )
    for rows in _slices(len(H), n_rows):
        for items in _slices(len(database[0]), n_items):
            _count_block(H[rows], [side[rows] for side in queries], [s[items] for s in database])
    return H


def _count_block(H, queries, database):
    """Add the pairs of one block to its rows of the table, in place."""
    n_cells = H[0].size
    index = _popcount_pairs(np.bitwise_xor, queries[0], database[0])
    # The narrowest index that holds every cell: the block is bound by memory traffic.
    index = index.astype(np.promote_types(index.dtype, np.min_scalar_type(-n_cells)), copy=False)
    index *= H.shape[2]
    index += _popcount_pairs(np.bitwise_and, queries[1], database[1])
    for cells, row in zip(H.reshape(len(H), n_cells), index, strict=True):
        cells += np.bincount(row, minlength=n_cells)


def _slices(n_samples, size):
    """Return slices that cut `n_samples`, of which there may be none, into blocks of `size`."""
    return [slice(start, start + size) for start in range(0, n_samples, size)]


def _block_shape(n_cells, n_database, working_memory):
    """Return the queries and database items of one block, within `working_memory` MiB."""
    if working_memory is None:
        working_memory = get_config()["working_memory"]
    n_pairs = max(1, min(_BLOCK_PAIRS, int(working_memory * 2**20) // _BYTES_PER_PAIR))
    # A row is added to its n_cells counts once a block, so it should not be shorter than them.
    n_items = min(max(_BLOCK_ITEMS, n_cells), max(1, n_database), n_pairs)
    return n_pairs // n_items, n_items


def _max_relevance(packed_labels):
    """Return the size of the largest label set, which no relevance to these rows exceeds."""
    return int(np.bitwise_count(packed_labels).sum(axis=1, dtype=np.intp).max(initial=0))


def _check_side(codes, labels, name):
    """Return packed codes and labels of the queries or of the database, or raise."""
    codes = _check_packed(codes, f"{name}_codes")
    labels = _check_packed(labels, f"{name}_labels")
    check_consistent_length(codes, labels)
    return codes, labels


def _check_bytes(queries, database, n_bits):
    """Raise unless rows of both sides have as many bytes, and codes as many as `n_bits` takes."""
    for name, query, item in zip(("codes", "labels"), queries, database, strict=True):
        if query.shape[1] != item.shape[1]:
            raise ValueError(
                f"query_{name} and database_{name} must have as many bytes per row, "
                f"got {query.shape[1]} and {item.shape[1]}."
            )
    if queries[0].shape[1] != -(-n_bits // 8):
        raise ValueError(
            f"Codes of n_bits={n_bits} take {-(-n_bits // 8)} bytes each, "
            f"got packed codes of shape {queries[0].shape}."
        )
