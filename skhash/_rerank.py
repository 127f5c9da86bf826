"""Candidates of a coarse search, ranked by a finer distance."""

import numpy as np
from sklearn.utils import gen_batches

from skhash.codes import distance_type, signed_weights, unpack_codes, whole_weights

__all__ = ["leading_bits", "rerank"]

# Bytes of codes of candidates that are held at once.
_CHUNK_BYTES = 2**25


def leading_bits(codes, n_bits):
    """Return the first bits of packed codes, packed.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    n_bits : int
        Number of bits to take.

    Returns
    -------
    codes : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        A copy, padded with zeros.
    """
    codes = codes[:, : -(-n_bits // 8)].copy()
    codes[:, -1] &= 0xFF & 0xFF << -n_bits % 8
    return codes


def rerank(query_codes, database_codes, candidates, n_neighbors, query_weights=None):
    """Return the nearest of the candidates of each query.

    Parameters
    ----------
    query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
        Packed codes of the queries.

    database_codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes of the items.

    candidates : ndarray of shape (n_queries, n_candidates), dtype int64
        Rows of the items among which to choose.

    n_neighbors : int
        Number of items to choose, at most `n_candidates`.

    query_weights : ndarray of shape (n_queries, n_bits), default=None
        Weights of the bits of each query. None weighs all 1.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), integer, or floating with weights
        Distances, ascending.

    rows : ndarray of shape (n_queries, n_neighbors), dtype int64
        Rows of the database; of rows at equal distance, the lower comes first.
    """
    shape = len(query_codes), n_neighbors
    distances, rows = np.empty(shape, np.int64), np.empty(shape, np.int64)
    weigh = None if query_weights is None else whole_weights(query_weights)
    n_bytes = query_codes.shape[1] if weigh is None else 4 * query_weights.shape[1]
    n_queries = max(1, _CHUNK_BYTES // (n_bytes * candidates.shape[1]))
    for some in gen_batches(len(query_codes), n_queries):
        codes = database_codes[candidates[some]]
        if weigh is None:
            level = _popcounts(query_codes[some], codes)
        else:
            level = _whole_sums(query_codes[some], codes, weigh[0][some])
        order = np.lexsort((candidates[some], level), axis=1)[:, :n_neighbors]
        distances[some] = np.take_along_axis(level, order, axis=1)
        rows[some] = np.take_along_axis(candidates[some], order, axis=1)
    if weigh is None:
        return distances.astype(distance_type(query_codes)), rows
    return distances * weigh[1], rows


def _popcounts(query_codes, codes):
    """Count the bits in which the codes (n_queries, n, n_bytes) differ from the queries."""
    return np.bitwise_count(codes ^ query_codes[:, None]).sum(axis=2, dtype=np.int64)


def _whole_sums(query_codes, codes, whole):
    """Sum the weights, which are whole, of the bits in which they differ: exact in float32."""
    signed, ones = signed_weights(query_codes, whole)
    bits = unpack_codes(codes.reshape(-1, codes.shape[2]), whole.shape[1]).astype(np.float32)
    bits = bits.reshape(*codes.shape[:2], -1)
    return ((bits @ signed[:, :, None])[:, :, 0] + ones).astype(np.int64)
