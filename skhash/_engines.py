"""What searches packed codes, by name: engines of one interface."""

from contextlib import contextmanager

import numpy as np
from joblib import effective_n_jobs

from skhash._brute import BruteEngine, joined_lists
from skhash._distinct import Buckets, DistinctEngine
from skhash._multi_index import MultiIndexEngine
from skhash.codes import distance_type

__all__ = ["ALGORITHMS", "make_engine", "scan_engine"]

ALGORITHMS = ("auto", "brute", "faiss", "multi_index")

# Bytes of codes that faiss compares faster than NumPy does.
_FASTER_BY_FAISS = (16, 32, 64)
# Fewer codes are scanned in less time than tables take to be asked.
_LEAST_CODES = 2**16
# Share of different codes up to which each is kept once: a copy of it, and the rows that have it.
_DISTINCT = {"multi_index": 0.4, "auto": 0.7}
# What codes and tables may take, as a multiple of the codes.
_MEMORY = {"multi_index": 2.75, "auto": 4.0}
# Number of codes, and of neighbours, with which tables of long substrings are tried, and the share
# of a scan's cost below which they are kept. Among codes that are not alike it is 1.
_TRIAL_CODES, _TRIED_NEIGHBORS, _WORTH_TABLES = 2**18, 1, 0.97


def make_engine(algorithm, codes, n_bits):
    """Return an engine that searches packed codes many times.

    Parameters
    ----------
    algorithm : {"auto", "brute", "faiss", "multi_index"}
        What searches.

    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes, at least one, which are not copied.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    engine : object
        It has the methods `nearest` and `within` of :class:`skhash._brute.BruteEngine`.

    Raises
    ------
    ImportError
        If `algorithm` is "faiss" and faiss is not installed.

    ValueError
        If `algorithm` is "multi_index" and there are more codes than it can number.
    """
    if algorithm == "brute":
        return BruteEngine(codes)
    if algorithm == "faiss":
        return FaissEngine(codes)
    fits = len(codes) < 2**32 and n_bits < 2**16
    if algorithm == "auto" and (len(codes) < _LEAST_CODES or not fits):
        return scan_engine(codes)
    if not fits:
        raise ValueError(
            "algorithm='multi_index' searches fewer than 2 ** 32 codes, of fewer than 2 ** 16 "
            f"bits, got {len(codes)} codes of {n_bits} bits. 'brute' searches more."
        )
    scan = scan_engine if algorithm == "auto" else BruteEngine
    buckets, memory = Buckets.of(codes, _DISTINCT[algorithm]), _MEMORY[algorithm]
    if buckets is None:
        return _with_tables(codes, n_bits, scan, memory)
    return DistinctEngine(buckets, _with_tables(buckets.codes, n_bits, scan, memory))


def scan_engine(codes):
    """Return the fastest engine that compares each query with all packed codes.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes, which are not copied.

    Returns
    -------
    engine : object
        As :func:`make_engine` returns it.
    """
    if codes.shape[1] in _FASTER_BY_FAISS:
        try:
            return FaissNearestEngine(codes)
        except ImportError:
            pass
    return BruteEngine(codes)


class FaissNearestEngine(BruteEngine):
    """Search of the nearest by the package faiss, whose order is the same; of a radius by NumPy.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes, which are not copied if they are contiguous.

    Raises
    ------
    ImportError
        If faiss is not installed.
    """

    def __init__(self, codes):
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "algorithm='faiss' needs the package faiss; `pip install faiss-cpu` brings it. "
                "'brute' needs none."
            ) from error
        super().__init__(np.ascontiguousarray(codes))

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
        with _faiss_threads(n_jobs) as faiss:
            found = faiss.knn_hamming(np.ascontiguousarray(query_codes), self.codes, n_neighbors)
        return found[0].astype(distance_type(query_codes)), found[1].astype(np.int64, copy=False)


class FaissEngine(FaissNearestEngine):
    """Search by the package faiss, which is faster than NumPy where few items are within a radius.

    Parameters
    ----------
    codes : ndarray of shape (n_database, n_bytes), dtype uint8
        Packed codes, which are not copied if they are contiguous.

    Raises
    ------
    ImportError
        If faiss is not installed.
    """

    def within(self, query_codes, radius, n_jobs=None):
        """Find all items within a radius, see :meth:`skhash._brute.BruteEngine.within`.

        Queries of one radius are searched together, in an index that holds a copy of the codes.

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
        radius = np.broadcast_to(radius, len(query_codes))
        found = []
        with _faiss_threads(n_jobs) as faiss:
            index = faiss.IndexBinaryFlat(8 * self.codes.shape[1])
            index.add(self.codes)
            for largest in np.unique(radius):
                some = np.flatnonzero(radius == largest)
                # It takes those below a radius.
                ends, *near = index.range_search(query_codes[some], int(largest) + 1)
                for query, start, stop in zip(some, ends[:-1], ends[1:], strict=True):
                    found.append(_in_order(query, *(part[start:stop] for part in near)))
        return joined_lists(found, len(query_codes), distance_type(query_codes))


def _in_order(query, distances, rows):
    """Return the query of each item, and distances and rows, sorted by both."""
    # One sort of integers is faster than one by two keys.
    keys = np.sort(distances.astype(np.int64) << 40 | rows)
    return np.full(len(keys), query), keys >> 40, keys & (1 << 40) - 1


@contextmanager
def _faiss_threads(n_jobs):
    """Give faiss with so many threads, and those that it had before afterwards."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(effective_n_jobs(n_jobs))
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


def _with_tables(codes, n_bits, scan, memory):
    """Return an engine with the tables that find neighbours fastest."""
    n_tables = max(1, 3 * n_bits // 64, -(-n_bits // 56))
    numbers = [n_tables]
    if n_bits >= 64:
        # Few long substrings, then half as long ones, are for codes that are alike in many bits.
        long = [-(-n_bits // 64), 2 * -(-n_bits // 64)]
        some = codes[:: -(-len(codes) // _TRIAL_CODES)]
        tried = _indexed(some, n_bits, long, BruteEngine(some), _MEMORY["auto"])
        if tried.plans[_TRIED_NEIGHBORS][1] < _WORTH_TABLES:
            numbers = long
        # Its memory is needed.
        del tried
    return _indexed(codes, n_bits, numbers, scan(codes), memory)


def _indexed(codes, n_bits, numbers, scan, memory):
    """Return an engine with tables that are as large as memory allows."""
    # Each row of a table takes four bytes.
    n_bytes = len(codes) * ((memory - 1) * codes.shape[1] / sum(numbers) - 4)
    return MultiIndexEngine(codes, n_bits, numbers, n_bytes, scan)
