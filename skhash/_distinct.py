"""Exact search among codes that repeat: each code is searched once, for all items that have it."""

import numpy as np
from sklearn.utils import gen_batches

from skhash._brute import in_threads
from skhash._multi_index import (
    packed_keys,
    places_of_ranges,
    rows_by_place,
    unpacked_keys,
)
from skhash.codes import as_columns, distance_type

__all__ = ["Buckets", "DistinctEngine"]

# Codes that are looked at together when buckets are made, and items that are expanded at once.
_BLOCK_CODES = 2**16
_BLOCK_ITEMS = 2**18
# An odd number, with which words of codes are mixed.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class Buckets:
    """Items by their code.

    Parameters
    ----------
    codes : ndarray of shape (n_buckets, n_bytes), dtype uint8
        The codes that there are, each once, in the order of their first rows.

    offsets : ndarray of shape (n_buckets + 1,), dtype uint32
        The rows of bucket `i` are those from ``offsets[i]`` to ``offsets[i + 1]``.

    rows : ndarray of shape (n_items,), dtype uint32
        Rows of the database, ascending in each bucket.
    """

    def __init__(self, codes, offsets, rows):
        self.codes, self.offsets, self.rows = codes, offsets, rows

    @classmethod
    def of(cls, codes, largest_share):
        """Return the buckets of packed codes, or None if there are too many.

        Parameters
        ----------
        codes : ndarray of shape (n_items, n_bytes), dtype uint8
            Packed codes, fewer than ``2 ** 32``.

        largest_share : float
            Largest number of buckets, as a share of the number of items.

        Returns
        -------
        buckets : Buckets or None
            The buckets.
        """
        blocks = list(gen_batches(len(codes), _BLOCK_CODES))
        hashes = np.empty(len(codes), np.uint64)
        for block in blocks:
            hashes[block] = _hashes(codes[block])
        hashes.sort()
        is_first = np.append(True, hashes[1:] != hashes[:-1])
        if np.count_nonzero(is_first) > largest_share * len(codes):
            return None
        hashes = hashes[is_first]
        bucket = np.empty(len(codes), np.uint32)
        for block in blocks:
            # What is looked for in order is found much faster.
            some = _hashes(codes[block])
            order = some.argsort()
            bucket[block.start + order] = np.searchsorted(hashes, some[order])
        # Of several rows of one bucket the last that is written stays, which is the first row.
        first = np.empty(len(hashes), np.uint32)
        first[bucket[::-1]] = np.arange(len(codes), dtype=np.uint32)[::-1]
        order = first.argsort()
        number = np.empty(len(hashes), np.uint32)
        number[order] = np.arange(len(hashes), dtype=np.uint32)
        bucket, kept = number[bucket], codes[first[order]]
        if any((kept[bucket[block]] != codes[block]).any() for block in blocks):
            # Different codes of one hash: hardly ever.
            return None
        places = lambda: (bucket[block].astype(np.int64) for block in blocks)  # noqa: E731
        return cls(kept, *rows_by_place(places, len(codes), len(kept)))


class DistinctEngine:
    """Search of the codes that there are, each once; what is found are the items of their buckets.

    Buckets are ordered by their first rows. So the nearest items of a query are in as many
    buckets, the first ones by distance and first row: each bucket before that of an item has an
    item that comes before it.

    Parameters
    ----------
    buckets : Buckets
        The items.

    engine : object
        What searches ``buckets.codes``, such as :class:`skhash._brute.BruteEngine`.
    """

    def __init__(self, buckets, engine):
        self.buckets, self.engine = buckets, engine

    def nearest(self, query_codes, n_neighbors, n_jobs=None):
        """Find the nearest items of each query, see :meth:`skhash._brute.BruteEngine.nearest`.

        Parameters
        ----------
        query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
            Packed codes.

        n_neighbors : int
            Number of items to find, from 1 to `n_database`.

        n_jobs : int, default=None
            Threads that share the queries, as joblib understands it.

        Returns
        -------
        distances, rows : ndarray of shape (n_queries, n_neighbors), integer
            Sorted by distance, then by row.
        """
        n_buckets = min(n_neighbors, len(self.buckets.codes))
        level, buckets = self.engine.nearest(query_codes, n_buckets, n_jobs)
        distances = np.empty((len(query_codes), n_neighbors), distance_type(query_codes))
        rows = np.empty((len(query_codes), n_neighbors), np.int64)
        # Of a bucket no more items than neighbours can be among them.
        starts = self.buckets.offsets[buckets].astype(np.int64)
        counts = np.minimum(self.buckets.offsets[buckets + 1] - starts, n_neighbors)
        # Nor is any bucket that is farther than the one that has the last neighbour.
        last = (counts.cumsum(axis=1) >= n_neighbors).argmax(axis=1)[:, None]
        counts[level > np.take_along_axis(level, last, axis=1)] = 0
        size = max(1, _BLOCK_ITEMS // counts.sum(axis=1).max())
        for some in gen_batches(len(query_codes), min(size, 2**14)):
            owner = np.repeat(np.arange(len(level[some])), n_buckets)
            found = self._expanded(
                owner, level[some].ravel(), starts[some].ravel(), counts[some].ravel(), n_neighbors
            )
            distances[some], rows[some] = (part.reshape(-1, n_neighbors) for part in found[1:])
        return distances, rows

    def within(self, query_codes, radius, n_jobs=None):
        """Find all items within a radius, see :meth:`skhash._brute.BruteEngine.within`.

        Parameters
        ----------
        query_codes : ndarray of shape (n_queries, n_bytes), dtype uint8
            Packed codes.

        radius : int or ndarray of shape (n_queries,), integer
            Largest Hamming distance of an item that is found; or that of each query.

        n_jobs : int, default=None
            Threads that share the queries, as joblib understands it.

        Returns
        -------
        indptr, distances, rows : ndarray
            Items of each query, sorted by distance, then by row.
        """
        indptr, level, buckets = self.engine.within(query_codes, radius, n_jobs)
        starts = self.buckets.offsets[buckets].astype(np.int64)
        counts = self.buckets.offsets[buckets + 1] - starts
        ends = np.append(0, counts.cumsum())[indptr]
        distances, rows = np.empty(ends[-1], level.dtype), np.empty(ends[-1], np.int64)

        def expand(some):
            for query in range(some.start, some.stop):
                part, to = (slice(at[query], at[query + 1]) for at in (indptr, ends))
                owner = np.zeros(part.stop - part.start, np.int64)
                found = self._expanded(owner, level[part], starts[part], counts[part])
                distances[to], rows[to] = found[1:]

        in_threads(expand, len(query_codes), n_jobs)
        return ends, distances, rows

    def _expanded(self, owner, level, starts, counts, n_neighbors=None):
        """Return query, distance and row of the items of buckets, sorted, the first of each."""
        rows = self.buckets.rows[places_of_ranges(starts, counts)].astype(np.int64)
        keys = packed_keys(
            np.repeat(owner, counts), np.repeat(level.astype(np.int64), counts), rows
        )
        return unpacked_keys(np.sort(keys), n_neighbors)


def _hashes(codes):
    """Return a word of each packed code: its own if it is as short, else a mixture."""
    hashes = np.zeros(len(codes), np.uint64)
    for column in as_columns(codes):
        hashes ^= column
        hashes *= _SPREAD
        hashes ^= hashes >> np.uint64(29)
    return hashes
