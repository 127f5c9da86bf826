"""A database in shards: each is counted alone, wherever joblib runs it, and counts add up."""

from collections.abc import Iterable
from functools import partial
from itertools import islice
from numbers import Integral
from os import PathLike

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import check_consistent_length

from skhash._sklearn import Interval, num_samples, validate_params
from skhash.codes import check_packed, unpack_codes
from skhash.metrics._counting import hamming_histogram, memory_bytes
from skhash.metrics._parameters import N_BITS, RESOURCES
from skhash.metrics._problem import RetrievalProblem

__all__ = ["ShardsMixin"]


class ShardsMixin:
    """What counts a database in shards, for :class:`~skhash.metrics.HammingHistogram`."""

    @classmethod
    @validate_params(
        {
            "query_codes": ["array-like"],
            "query_labels": ["array-like", "sparse matrix"],
            "shards": [Iterable],
            **N_BITS,
            "n_labels": [Interval(Integral, 1, None, closed="left"), None],
            **RESOURCES,
        },
        prefer_skip_nested_validation=True,
    )
    def from_shards(
        cls,
        query_codes,
        query_labels,
        shards,
        *,
        n_bits=None,
        n_labels=None,
        n_jobs=None,
        working_memory=None,
    ):
        """Count a database that is in shards, several at a time.

        The counts are those of :meth:`from_codes` for the whole database, in whatever shards it is
        and in whatever order they are counted. One table is held for the result, and at most
        ``2 * n_jobs`` tables of shards on the way. Threads, processes, or machines of a cluster
        count the shards, as ``joblib.parallel_config`` says.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 and 1; or packed codes, with `n_bits`.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like \
                of shape (n_queries,)
            Label sets of the queries: an indicator matrix of 0 and 1, or class labels; or packed
            indicators, with `n_labels`.

        shards : iterable
            The parts of the database. Each is a pair ``(codes, labels)`` in the form of
            `query_codes` and `query_labels`, or a function without parameters that returns such a
            pair. Either of a pair may be the path of a ``.npy`` file. The worker that counts a
            shard calls the function and maps the file into memory, so that nothing else need hold
            the shard. A shard may be empty. A generator is asked for shards as they are needed.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
            None: they are not.

        n_labels : int, default=None
            Number of labels, where label sets are packed, as in a hasher's `database_labels_`.
            None: they are not.

        n_jobs : int, default=None
            Shards that are counted at a time. None means 1 outside of a
            ``joblib.parallel_config`` context, -1 all processors.

        working_memory : float, default=None
            Bound on the temporaries of the counting of a shard in MiB, the shard and its counts
            not included. None takes ``sklearn.get_config()["working_memory"]``.

        Returns
        -------
        histogram : HammingHistogram
            The histogram of the whole database.

        Raises
        ------
        OSError
            If a file cannot be read.

        TypeError
            If a shard is neither a pair nor a function.

        ValueError
            As :meth:`from_codes` does, of a shard that is not empty; or if all shards are. Notes
            of errors say which shard it was.

        Examples
        --------
        >>> from skhash.metrics import HammingHistogram
        >>> shards = [([[0, 1], [1, 0]], ["cat", "dog"]), ([[1, 1]], ["cat"])]
        >>> HammingHistogram.from_shards([[0, 0]], ["cat"], shards).counts[0]
        array([[0, 0],
               [1, 1],
               [0, 1]])
        """
        queries = query_codes, _unpacked(query_labels, "query_labels", n_labels)
        # Workers do not share the configuration of scikit-learn.
        working_memory = memory_bytes(working_memory) / 2**20
        count = partial(_count, queries, n_bits, n_labels, working_memory)
        return cls(_sum(_run(count, shards, n_jobs)))


def _sum(tables):
    """Add up tables of counts in the order in which they come, None for a shard without items."""
    total = None
    for table in tables:
        if total is None and table is not None:
            total = table.astype(np.int64)
        elif table is not None:
            total += table
    if total is None:
        raise ValueError(
            "Found no items in shards, while a minimum of 1 is required: give at least one shard "
            "that is not empty. A generator yields its shards only once."
        )
    return total


def _run(count, shards, n_jobs):
    """Yield what `count` returns for each shard and its number, as results arrive."""
    calls = (delayed(count)(number, shard) for number, shard in enumerate(shards))
    try:
        # A batch of several shards would hold as many tables.
        parallel = Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    except ValueError:
        # Pools in the manner of multiprocessing, which Ray's is, return lists alone.
        yield from _run_in_rounds(calls, n_jobs)
    else:
        yield from parallel(calls)


def _run_in_rounds(calls, n_jobs):
    """Yield the results of calls, of which twice as many run at a time as there are workers."""
    with Parallel(n_jobs=n_jobs, batch_size=1) as parallel:
        while some := list(islice(calls, 2 * effective_n_jobs(n_jobs))):
            yield from parallel(some)


def _count(queries, n_bits, n_labels, working_memory, number, shard):
    """Return the counts of a shard in the narrowest integers, or None if it is empty."""
    try:
        codes, labels = _open(shard)
        check_consistent_length(codes, labels)
        if num_samples(codes) == 0:
            return None
        labels = _unpacked(labels, "database_labels", n_labels)
        problem = RetrievalProblem.from_codes(*queries, codes, labels, n_bits=n_bits)
        counts = hamming_histogram(problem, n_jobs=1, working_memory=working_memory)
    except Exception as error:
        error.add_note(f"This is of shards[{number}].")
        raise
    # Counts travel from process to process.
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _open(shard):
    """Return the codes and labels of a shard."""
    pair = shard() if callable(shard) else shard
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            "A shard should be a pair (codes, labels), or a function without parameters that "
            f"returns one, got {type(pair).__name__}."
        )
    is_path = [isinstance(side, (str, PathLike)) for side in pair]
    return [
        np.load(side, mmap_mode="r", allow_pickle=False) if named else side
        for side, named in zip(pair, is_path, strict=True)
    ]


def _unpacked(labels, name, n_labels):
    """Return label sets as they are, or as an indicator matrix if they are packed."""
    if n_labels is None:
        return labels
    labels = check_packed(labels, name)
    n_bytes = -(-n_labels // 8)
    if labels.shape[1] != n_bytes or (labels[:, -1] & (0xFF >> (n_labels - 1) % 8 + 1)).any():
        raise ValueError(
            f"{name}: packed label sets of n_labels={n_labels} take {n_bytes} bytes each, the "
            f"bits beyond the labels 0, got shape {labels.shape}."
        )
    return unpack_codes(labels, n_labels)
