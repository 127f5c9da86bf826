"""Exact search among packed codes by comparing all pairs, a block of the database at a time."""

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import gen_batches

from skhash.codes import as_columns, distance_type

__all__ = ["BruteEngine", "in_threads", "joined_lists"]

# Codes that are compared with a query at once: words and distances stay in the second-level cache.
_BLOCK_CODES = 2**16
# Codes that give each query its first neighbours; as many again make the next block, and so on.
_FIRST_CODES = 2**10


class BruteEngine:
    """Search that compares each query with each code, and keeps nothing but the codes.

    A block of the database is compared with one query after the other. Only codes that are nearer
    than the last neighbour so far are looked at, which are few after the first block.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes. They may be memory-mapped: blocks are read one after the other.
    """

    def __init__(self, codes):
        self.codes = codes
        # Nanoseconds that a query takes.
        self.cost = 0.8 * len(codes) * -(-codes.shape[1] // 8)

    def nearest(self, query_codes, n_neighbors, n_jobs=None):
        """Find the nearest items of each query.

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
        distances : ndarray of shape (n_queries, n_neighbors), integer
            Hamming distances, ascending.

        rows : ndarray of shape (n_queries, n_neighbors), dtype int64
            Rows of the database; of rows at equal distance, the lower comes first.
        """
        distances = np.empty((len(query_codes), n_neighbors), distance_type(query_codes))
        rows = np.empty((len(query_codes), n_neighbors), np.int64)

        def search(some):
            _search_nearest(query_codes[some], self.codes, distances[some], rows[some])

        in_threads(search, len(query_codes), n_jobs)
        return distances, rows

    def within(self, query_codes, radius, n_jobs=None):
        """Find all items within a radius of each query.

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
        indptr : ndarray of shape (n_queries + 1,), dtype int64
            The items of query `i` are those from ``indptr[i]`` to ``indptr[i + 1]``.

        distances : ndarray of shape (n_found,), integer
            Hamming distances, ascending for each query.

        rows : ndarray of shape (n_found,), dtype int64
            Rows of the database; of rows at equal distance, the lower comes first.
        """
        radius = np.broadcast_to(radius, len(query_codes))
        found = []

        def search(some):
            found.extend(_search_within(query_codes[some], self.codes, radius[some], some.start))

        in_threads(search, len(query_codes), n_jobs)
        return joined_lists(found, len(query_codes), distance_type(query_codes))


def in_threads(search, n_queries, n_jobs, largest=None):
    """Call a function with slices of queries, in threads: NumPy does not hold the lock.

    Parameters
    ----------
    search : callable
        It takes a slice, and writes what it finds.

    n_queries : int
        Number of queries.

    n_jobs : int or None
        Number of threads, as joblib understands it.

    largest : int, default=None
        Largest number of queries of a slice.
    """
    n_threads = max(1, min(effective_n_jobs(n_jobs), n_queries))
    size = max(1, min(-(-n_queries // n_threads), largest or n_queries))
    Parallel(n_jobs=n_threads, require="sharedmem")(
        delayed(search)(some) for some in gen_batches(n_queries, size)
    )


def joined_lists(found, n_queries, dtype):
    """Join lists of items that were found for queries.

    Parameters
    ----------
    found : list of (ndarray, ndarray, ndarray)
        Queries, distances and rows; those of a query in their order, in one entry.

    n_queries : int
        Number of queries.

    dtype : dtype
        Integer of the distances.

    Returns
    -------
    indptr, distances, rows : ndarray
        As :meth:`BruteEngine.within` returns them.
    """
    query, distances, rows = map(np.concatenate, zip(*found, strict=True))
    if (query[1:] < query[:-1]).any():
        order = query.argsort(kind="stable")
        query, distances, rows = query[order], distances[order], rows[order]
    indptr = np.append(0, np.bincount(query, minlength=n_queries).cumsum())
    return indptr, distances.astype(dtype), rows.astype(np.int64, copy=False)


def _search_nearest(query_codes, codes, distances, rows):
    """Write the nearest items of each query."""
    n_neighbors, words = rows.shape[1], as_columns(query_codes).T
    n_first = min(len(codes), max(_FIRST_CODES, 2 * n_neighbors))
    block = _Block(codes[:n_first])
    for i, word in enumerate(words):
        level = block.distances(word)
        rows[i] = level.argsort(kind="stable")[:n_neighbors]
        distances[i] = level[rows[i]]
    for start, stop in _blocks(n_first, len(codes)):
        block = _Block(codes[start:stop])
        for i, word in enumerate(words):
            level = block.distances(word)
            # Of items at the last distance, those that were found before come first.
            nearer = np.flatnonzero(level < int(distances[i, -1]))
            if len(nearer):
                _merge(distances[i], rows[i], level[nearer], nearer + start)


def _search_within(query_codes, codes, radius, first):
    """Yield the number, and distances and rows of the items within the radius, of each query."""
    words = as_columns(query_codes).T
    none = np.empty(0, np.uint8), np.empty(0, np.int64)
    parts = [[none] for _ in words]
    for start, stop in _blocks(0, len(codes)):
        block = _Block(codes[start:stop])
        for part, word, largest in zip(parts, words, radius, strict=True):
            level = block.distances(word)
            near = np.flatnonzero(level <= int(largest))
            if len(near):
                part.append((level[near], near + start))
    for number, part in enumerate(parts, first):
        distances, rows = map(np.concatenate, zip(*part, strict=True))
        order = distances.argsort(kind="stable")
        yield np.full(len(order), number), distances[order], rows[order]


def _blocks(start, n_codes):
    """Yield where blocks start and stop, each as long as all before it up to a largest length."""
    while start < n_codes:
        stop = min(n_codes, start + min(_BLOCK_CODES, max(start, _FIRST_CODES)))
        yield start, stop
        start = stop


def _merge(distances, rows, new_distances, new_rows):
    """Put items of later rows among the nearest ones of a query, in place."""
    both = np.concatenate([distances, new_distances], dtype=distances.dtype)
    order = both.argsort(kind="stable")[: len(distances)]
    distances[:] = both[order]
    rows[:] = np.concatenate([rows, new_rows])[order]


class _Block:
    """Some codes as columns of words, and memory for their distances from a query."""

    def __init__(self, codes):
        self.columns = as_columns(codes)
        n_bits = 8 * self.columns.itemsize * len(self.columns)
        self.different = np.empty_like(self.columns[0])
        self.counts = np.empty(len(codes), np.uint8)
        self.level = np.empty(len(codes), np.min_scalar_type(n_bits))

    def distances(self, word):
        """Return the distances of a code, which the next call overwrites."""
        np.bitwise_xor(self.columns[0], word[0], out=self.different)
        np.bitwise_count(self.different, out=self.level)
        for column, part in zip(self.columns[1:], word[1:], strict=True):
            np.bitwise_xor(column, part, out=self.different)
            np.bitwise_count(self.different, out=self.counts)
            self.level += self.counts
        return self.level
