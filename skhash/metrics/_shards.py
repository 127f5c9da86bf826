"""A database in shards: each is ranked alone, wherever joblib runs it, and rankings add up."""

from collections.abc import Iterable
from functools import partial, reduce
from itertools import islice
from numbers import Integral
from os import PathLike

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.utils import check_consistent_length

from skhash._sklearn import Interval, StrOptions, num_samples, validate_params
from skhash.codes import check_packed, unpack_codes
from skhash.metrics._closed_forms import METRICS, fill_empty
from skhash.metrics._counting import hamming_histogram, memory_bytes
from skhash.metrics._parameters import N_BITS, POLICIES, RESOURCES, check_cuts, check_options
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._weighted import weighted_rankings

__all__ = ["ShardsMixin", "evaluate_shards"]

_SHARDS = {
    "query_codes": ["array-like"],
    "query_labels": ["array-like", "sparse matrix"],
    "shards": [Iterable],
    **N_BITS,
    "n_labels": [Interval(Integral, 1, None, closed="left"), None],
    **RESOURCES,
}


class ShardsMixin:
    """What counts a database in shards, for :class:`~skhash.metrics.HammingHistogram`."""

    @classmethod
    @validate_params(_SHARDS, prefer_skip_nested_validation=True)
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
        form = {"n_bits": n_bits, "n_labels": n_labels}
        tables = _run(_count, queries, form, shards, n_jobs, working_memory)
        total = next(tables).astype(np.int64)
        for table in tables:
            total += table
        return cls(total)


@validate_params(
    _SHARDS
    | POLICIES
    | {
        "metric": [StrOptions(set(METRICS)), list],
        "query_weights": ["array-like"],
        "k": [Interval(Integral, 1, None, closed="left"), "array-like"],
    },
    prefer_skip_nested_validation=True,
)
def evaluate_shards(
    query_codes,
    query_labels,
    shards,
    metric,
    *,
    query_weights,
    k,
    ties="mean",
    empty=0,
    n_bits=None,
    n_labels=None,
    n_jobs=None,
    working_memory=None,
    **options,
):
    """Evaluate metrics of a ranking by weighted bits, of a database that is in shards.

    The mean over queries is what a function such as :func:`ndcg_score` with `query_weights` gives
    for the whole database, to the last bit, in whatever shards it is. Weighted distances have no
    histogram of bounded size, so that `k` is decided before: a shard gives its items up to that
    rank and counts the others. Without weights, :meth:`HammingHistogram.from_shards` counts all.

    Parameters
    ----------
    query_codes : array-like of shape (n_queries, n_bits)
        Codes of the queries, 0 and 1; or packed codes, with `n_bits`.

    query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of \
            shape (n_queries,)
        Label sets of the queries: an indicator matrix of 0 and 1, or class labels; or packed
        indicators, with `n_labels`.

    shards : iterable
        The parts of the database, as :meth:`HammingHistogram.from_shards` takes them.

    metric : str or list of str
        Name of a metric, see :meth:`HammingHistogram.evaluate`, or several, for which shards are
        ranked once.

    query_weights : array-like of shape (n_queries, n_bits)
        Weights of the bits of each query, not negative, such as those of
        :meth:`skhash.base.BaseHasher.bit_weights`. The distance of an item is the sum of the
        weights of the bits that differ.

    k : int or array-like of shape (n_cuts,)
        Number of ranks to look at, or several. Any above the size of the database means the whole
        database. Memory grows with the largest: a query takes 16 bytes a rank, and once more for
        each shard on the way, of which there are at most ``2 * n_jobs``.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst that
        an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database; "raise" raises ValueError.

    n_bits : int, default=None
        Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
        None: they are not.

    n_labels : int, default=None
        Number of labels, where label sets are packed. None: they are not.

    n_jobs : int, default=None
        Shards that are ranked at a time. None means 1 outside of a ``joblib.parallel_config``
        context, -1 all processors.

    working_memory : float, default=None
        Bound on the temporaries of the ranking of a shard in MiB, the shard and its result not
        included. None takes ``sklearn.get_config()["working_memory"]``.

    **options : dict
        What else the metrics take: `gain` for "ndcg", `convention` for both average precisions.

    Returns
    -------
    values : ndarray of shape (n_queries,) or (n_queries, n_cuts), or dict
        Value of each query; and of each cut-off, if there is an array of them. Of a list of
        metrics, a dict of such arrays by their names.

    Raises
    ------
    OSError
        If a file cannot be read.

    TypeError
        If a shard is neither a pair nor a function, or a metric does not take an option.

    ValueError
        As :func:`ndcg_score` does, of a shard that is not empty; if all shards are; or by `empty`.
        Notes of errors say which shard it was.

    Examples
    --------
    >>> from skhash.metrics import evaluate_shards
    >>> shards = [([[0, 1], [1, 0]], ["cat", "dog"]), ([[1, 1]], ["cat"])]
    >>> evaluate_shards([[0, 0]], ["cat"], shards, "precision", query_weights=[[1, 2]], k=[1, 2])
    array([[0. , 0.5]])
    """
    metrics = metric if isinstance(metric, list) else [metric]
    _check_metrics(metrics, options)
    k = check_cuts(k, "k", 1)
    queries = query_codes, _unpacked(query_labels, "query_labels", n_labels)
    form = {"n_bits": n_bits, "n_labels": n_labels, "query_weights": query_weights}
    n_ranks = int(np.max(k))
    rank, merge = partial(_rank, n_ranks), partial(_merge, n_ranks)
    rankings = reduce(merge, _run(rank, queries, form, shards, n_jobs, working_memory))
    values = {name: np.empty((len(rankings), np.size(k))) for name in metrics}
    for column, cut in enumerate(np.ravel(k).tolist()):
        for row, ranking in enumerate(one.cut(cut) for one in rankings):
            for name in metrics:
                value = ranking.evaluate(name, k=cut, ties=ties, **options)
                values[name][row, column] = value
    values = {
        name: fill_empty(of_cuts if np.ndim(k) else of_cuts[:, 0], empty)
        for name, of_cuts in values.items()
    }
    return values if isinstance(metric, list) else values[metric]


def _check_metrics(metrics, options):
    """Raise unless there are metrics of these names that take these options."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(
            f"metric should be one of {sorted(METRICS)} or a list of such names, got {metrics!r}."
        )
    for name in metrics:
        check_options("evaluate_shards", name, options)


def _run(count, queries, form, shards, n_jobs, working_memory):
    """Yield what `count` makes of each shard that has items, as results arrive; at least one."""
    # Workers do not share the configuration of scikit-learn.
    count = partial(_of_shard, count, queries, form, memory_bytes(working_memory) / 2**20)
    n_found = 0
    for found in _results(count, shards, n_jobs):
        if found is not None:
            n_found += 1
            yield found
    if not n_found:
        raise ValueError(
            "Found no items in shards, while a minimum of 1 is required: give at least one shard "
            "that is not empty. A generator yields its shards only once."
        )


def _results(count, shards, n_jobs):
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


def _of_shard(count, queries, form, working_memory, number, shard):
    """Return what `count` makes of the problem of a shard, or None if it is empty."""
    try:
        codes, labels = _open(shard)
        check_consistent_length(codes, labels)
        if num_samples(codes) == 0:
            return None
        form = dict(form)
        labels = _unpacked(labels, "database_labels", form.pop("n_labels"))
        problem = RetrievalProblem.from_codes(*queries, codes, labels, **form)
        return count(problem, working_memory)
    except Exception as error:
        error.add_note(f"This is of shards[{number}].")
        raise


def _count(problem, working_memory):
    """Return the counts of a problem in the narrowest integers: they travel between processes."""
    counts = hamming_histogram(problem, n_jobs=1, working_memory=working_memory)
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _rank(n_ranks, problem, working_memory):
    """Return the rankings of a problem."""
    return list(weighted_rankings(problem, n_ranks, working_memory))


def _merge(n_ranks, rankings, others):
    """Return the rankings of two parts of a database as those of both."""
    return [one.merge(other, n_ranks) for one, other in zip(rankings, others, strict=True)]


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
