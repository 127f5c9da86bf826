"""Packed codes and label sets to counts: the items at each distance and relevance of a query."""

from functools import partial, reduce

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.sparse import csc_array
from sklearn import get_config

from skhash.codes import as_words

__all__ = ["hamming_histogram", "memory_bytes", "slices"]

# Database items per block: so many that what a query costs once a block, such as to add up a table
# of pairs of items, is little beside them.
_BLOCK_ITEMS = 2**18
# An upper bound on the bytes of an item of a block, codes and labels not counted: relevance and
# what it is the sum of, distance, cell, the cell once more as the integer that counting takes, and
# half a row of a sparse column.
_BYTES_PER_ITEM = 24


def hamming_histogram(problem, *, n_jobs=None, working_memory=None):
    """Count, for every query, the database items at each distance and relevance.

    Parameters
    ----------
    problem : RetrievalProblem
        Queries and database.

    n_jobs : int, default=None
        Threads that share the queries, as joblib understands it.

    working_memory : float, default=None
        Bound on the temporaries in MiB, the result not counted. None takes
        ``sklearn.get_config()["working_memory"]``. The result does not depend on it.

    Returns
    -------
    H : ndarray of shape (n_queries, n_bits + 1, max_relevance + 1), dtype int64
        ``H[q, d, r]`` is the number of items at distance `d` of query `q` that share `r`
        labels with it. `max_relevance` is the size of the largest label set among the queries,
        so it does not depend on the database.

    Examples
    --------
    >>> from skhash.metrics._counting import hamming_histogram
    >>> from skhash.metrics._problem import RetrievalProblem
    >>> database_labels = [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
    >>> problem = RetrievalProblem.from_codes([[0, 0]], [[1, 0, 1]],
    ...                                       [[0, 0], [0, 1], [1, 1]], database_labels)
    >>> hamming_histogram(problem)
    array([[[0, 0, 1],
            [1, 0, 0],
            [0, 1, 0]]])
    """
    shape = (problem.n_queries, problem.n_bits + 1, problem.max_relevance + 1)
    H = np.zeros(shape, dtype=np.int64)
    # Labels that no query has do not matter.
    used = problem.query_labels.any(axis=0)
    queries = as_words(problem.query_codes), problem.query_labels[:, used]
    database = as_words(problem.database_codes), problem.database_labels[:, used]
    n_threads = max(1, min(effective_n_jobs(n_jobs), len(H)))
    n_items = _block_size(H, 8 * used.sum(), n_threads, working_memory)
    # Threads write to their own rows of the one table, which processes could not.
    Parallel(n_jobs=n_threads, require="sharedmem")(
        delayed(_count)(H[rows], [side[rows] for side in queries], database, n_items)
        for rows in slices(len(H), max(1, -(-len(H) // n_threads)))
    )
    if problem.own_codes is not None:
        # A sample shares all labels with itself.
        different = np.bitwise_xor(problem.query_codes, problem.own_codes)
        own, n_own = (
            np.bitwise_count(packed).sum(axis=1, dtype=np.intp)
            for packed in (different, problem.query_labels)
        )
        H[np.arange(len(H)), own, n_own] -= 1
    return H


def memory_bytes(working_memory=None):
    """Return a bound on temporaries in bytes.

    Parameters
    ----------
    working_memory : float, default=None
        The bound in MiB; None takes ``sklearn.get_config()["working_memory"]``.

    Returns
    -------
    n_bytes : float
        The bound.
    """
    return (get_config()["working_memory"] if working_memory is None else working_memory) * 2**20


def slices(n_samples, size):
    """Return slices that cut samples into blocks.

    Parameters
    ----------
    n_samples : int
        Number of samples, of which there may be none.

    size : int
        Samples of a block.

    Returns
    -------
    slices : list of slice
        The blocks, the last of which may be shorter.
    """
    return [slice(start, start + size) for start in range(0, n_samples, size)]


def _count(H, queries, database, n_items):
    """Count the pairs of some queries and the database, in place."""
    groups = _group_by_labels(queries[1])
    for items in slices(len(database[0]), n_items):
        words, labels = (side[items] for side in database)
        _count_block(H, queries[0], groups, words.T.copy(), _unpack_labels(labels))


def _group_by_labels(packed):
    """Return the distinct label sets, as indices of labels, each with the rows that have it."""
    rows = {}
    for row, labels in enumerate(packed):
        rows.setdefault(labels.tobytes(), []).append(row)
    sets = (np.unpackbits(np.frombuffer(labels, np.uint8)) for labels in rows)
    return list(zip(map(np.flatnonzero, sets), rows.values(), strict=True))


def _unpack_labels(packed):
    """Return the indicator matrix of packed label sets, of shape (n_labels, n_items)."""
    # Many times faster than to transpose what numpy.unpackbits gives.
    columns = np.ascontiguousarray(packed.T)
    has_label = np.right_shift(columns[:, None], np.arange(8, dtype=np.uint8)[::-1, None])
    has_label &= 1
    return has_label.reshape(-1, len(packed))


def _count_block(H, query_words, groups, words, has_label):
    """Add the pairs of the queries and one block of items to the table, in place.

    The words of the items have shape (n_words, n_items), their labels (n_labels, n_items).
    """
    distance_type, relevance_type = (np.min_scalar_type(size - 1) for size in H.shape[1:])
    pairs = _PairCounter(words.shape[1])
    for label_set, queries in groups:
        relevance = _shared_labels(has_label, label_set, relevance_type)
        n_relevances = int(relevance.max()) + 1
        count = _way_to_count(relevance, n_relevances, H.shape[1], pairs)
        for query in queries:
            first, counts = count(_distances(query_words[query], words, distance_type))
            table = counts.reshape(n_relevances, -1).T
            H[query, first : first + len(table), :n_relevances] += table


def _way_to_count(relevance, n_relevances, n_levels, pairs):
    """Return the function that counts items of that relevance, given their distances."""
    n_cells = n_levels * n_relevances
    # Mostly a third of the distances or more is not in use.
    if pairs.fit(2 * n_cells // 3):
        return partial(_count_found, relevance, n_relevances, pairs)
    steps = relevance * np.min_scalar_type(n_cells).type(n_levels)
    return partial(_count_all, steps, n_cells)


def _shared_labels(has_label, label_set, dtype):
    """Return the number of labels of a set that each item has, to be read only."""
    if not len(label_set):
        return np.zeros(has_label.shape[1], dtype)
    return reduce(partial(np.add, dtype=dtype), (has_label[label] for label in label_set))


def _distances(code, words, dtype):
    """Return the distances of the items to a code."""
    different = np.bitwise_xor(words[0], code[0])
    distances = np.bitwise_count(different).astype(dtype, copy=False)
    for word, other in zip(words[1:], code[1:], strict=True):
        distances += np.bitwise_count(np.bitwise_xor(word, other, out=different))
    return distances


def _count_all(steps, n_cells, distances):
    """Return 0, the least distance there may be, and the items in cells of all distances."""
    cells = distances.astype(steps.dtype)
    cells += steps
    return 0, np.bincount(cells, minlength=n_cells)


def _count_found(relevance, n_relevances, pairs, distances):
    """Return the least distance there is, and the items in cells from it to the largest."""
    first = int(distances.min())
    n_levels = int(distances.max()) + 1 - first
    n_cells = first + n_levels * n_relevances
    # The narrowest index that holds every cell: counting is bound by memory traffic.
    dtype = np.min_scalar_type(n_cells)
    cells = np.multiply(relevance, dtype.type(n_levels), dtype=dtype)
    cells += distances
    if pairs.fit(n_cells):
        return first, pairs.count(cells, n_cells)[first:]
    return first, np.bincount(cells, minlength=n_cells)[first:]


class _PairCounter:
    """Counts numbers two at a time: a table of pairs of numbers, with half as many additions.

    Parameters
    ----------
    n_items : int
        How many numbers are counted at a time.
    """

    def __init__(self, n_items):
        self._n_rows = n_items // 4
        # A sparse column adds up what is at the same row, in two thirds of the time of
        # numpy.bincount, which looks for the extremes first and casts to 64 bits.
        ends = np.array([0, n_items // 2], np.int32)
        ones, rows = np.ones(ends[1], np.int32), np.zeros(ends[1], np.int32)
        self._column = csc_array((ones, rows, ends), shape=(max(1, self._n_rows), 1))

    def fit(self, n_cells):
        """Return whether pairs of numbers below `n_cells` have a table that is worth it."""
        return n_cells < 256 and n_cells**2 <= self._n_rows

    def count(self, cells, n_cells):
        """Return how often each number below `n_cells` is among bytes, which are overwritten."""
        # Two neighbours are one number a + 256 b, of which a + n_cells b is made.
        n_paired = len(cells) // 2 * 2
        pairs = cells[:n_paired].view(np.uint16)
        high = pairs >> 8
        high *= 256 - n_cells
        pairs -= high
        self._column.indices[:] = pairs
        # Times a one of the same type: another type would convert the column.
        table = self._column @ self._column.data[:1]
        table = table[: n_cells**2].reshape(n_cells, n_cells)
        counts = table.sum(axis=0) + table.sum(axis=1)
        counts[cells[n_paired:]] += 1
        return counts


def _block_size(H, n_labels, n_threads, working_memory):
    """Return the number of database items of one block, within `working_memory` MiB."""
    # Codes once more in words, labels in columns and unpacked.
    item_bytes = _BYTES_PER_ITEM + H.shape[1] // 8 + 16 + n_labels + n_labels // 8
    # A row is added to its cells once a block, so it should not be shorter than they are.
    n_items = max(_BLOCK_ITEMS, H.shape[1] * H.shape[2])
    return int(max(1, min(n_items, memory_bytes(working_memory) / n_threads // item_bytes)))
