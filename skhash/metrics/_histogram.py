"""The table of counts as an object: parts add up, metrics are methods, a file keeps it."""

from numbers import Integral
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from skhash._io import replaced_file
from skhash._sklearn import Interval, validate_params
from skhash.metrics._closed_forms import evaluate, fill_empty
from skhash.metrics._counting import hamming_histogram
from skhash.metrics._parameters import (
    CODES_AND_LABELS,
    CUTS,
    METRIC,
    N_BITS,
    POLICIES,
    RESOURCES,
    check_cuts,
    check_one_cut,
    check_options,
    of_metric,
)
from skhash.metrics._problem import RetrievalProblem

__all__ = ["HammingHistogram"]

_VERSION = 1


def _method(metric):
    """Return the method of :class:`HammingHistogram` that evaluates a metric."""

    def method(self, k=None, *, radius=None, ties="mean", empty=0, **options):
        """$summary.

        :func:`~skhash.metrics.${metric}_score` has the definition.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at. None, and any `k` larger than the database, means the
            whole database.

        radius : int or array-like of shape (n_cuts,), default=None
            Look at the items within this Hamming distance instead: a `k` of each query's own. A
            query that has no item there scores 0.

        ties : {"mean", "best", "worst"}, default="mean"
            Value over the orders of the items at equal distance: their mean, or the best or worst
            that an order has.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without any relevant item in the database; "raise" raises ValueError.

        $options

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query; and of each cut-off, if there is an array of them. It is between 0
            and $largest.

        Raises
        ------
        ValueError
            If a parameter has another value, both `k` and `radius` are given, or by `empty`.

        Examples
        --------
        >>> from skhash.metrics import HammingHistogram
        >>> histogram = HammingHistogram([[[0, 0, 0], [1, 0, 1], [0, 1, 0]]])
        >>> histogram.$metric(k=2).tolist()
        [$value]
        """
        return self.evaluate(metric, k=k, radius=radius, ties=ties, empty=empty, **options)

    name = f"HammingHistogram.{metric}"
    return of_metric(method, metric, name, {**CUTS, **POLICIES})


class HammingHistogram:
    """Numbers of items at each Hamming distance and relevance, for every query.

    Hamming distances take ``n_bits + 1`` values, and relevances (numbers of shared labels) take
    few. So this table holds all that a ranking by Hamming distance determines. Every metric is a
    closed form of it [1]_ and a method here. Once the items are counted, all metrics are known at
    every cut-off. Histograms of the parts of a database add up to that of the whole, so parts can
    be counted apart, on other machines too.

    Parameters
    ----------
    counts : array-like of shape (n_queries, n_bits + 1, max_relevance + 1), integer
        ``counts[q, d, r]`` is the number of items at distance `d` of query `q` that share `r`
        labels with it. :meth:`from_codes` counts them.

    Attributes
    ----------
    counts : ndarray of shape (n_queries, n_bits + 1, max_relevance + 1), dtype int64
        The table: 8 bytes a cell, 39 MB for 5,000 queries of 64 bits and up to 14 labels.

    n_bits : int
        Number of bits of a code.

    n_queries : int
        Number of queries.

    n_database : int
        Number of items that each query ranks; 0 without queries.

    max_relevance : int
        The largest relevance that there is a cell for. :meth:`from_codes` takes the size of the
        largest label set among the queries, so that it is the same for all parts of a database.

    Raises
    ------
    ValueError
        If `counts` is not three-dimensional and integer, is negative somewhere, has no cells, or
        if queries count different numbers of items.

    See Also
    --------
    skhash.metrics.bootstrap_interval : Confidence interval of a mean over queries.
    skhash.metrics.ndcg_score : The mean of a metric in one call.

    Notes
    -----
    :meth:`evaluate` takes the name of a metric. Each metric is a method of its own too, which
    takes `k` as the first parameter.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.

    Examples
    --------
    >>> from skhash.metrics import HammingHistogram
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> histogram = HammingHistogram.from_codes(query_codes, query_labels,
    ...                                         database_codes, database_labels)
    >>> histogram
    HammingHistogram(n_queries=1, n_bits=2, n_database=3, max_relevance=2)
    >>> histogram.counts[0]
    array([[0, 0, 0],
           [1, 0, 1],
           [0, 1, 0]])
    >>> histogram.precision(k=[1, 2, 3])
    array([[0.5       , 0.5       , 0.66666667]])
    >>> histogram.precision(k=1, ties="best"), histogram.precision(k=1, ties="worst")
    (array([1.]), array([0.]))
    """

    def __init__(self, counts):
        counts = np.asarray(counts)
        if counts.ndim != 3 or counts.dtype.kind not in "iu" or 0 in counts.shape[1:]:
            raise ValueError(
                "counts must be integers of shape (n_queries, n_bits + 1, max_relevance + 1), "
                f"got {counts.dtype} of shape {counts.shape}. "
                "HammingHistogram.from_codes counts codes."
            )
        n_items = counts.sum(axis=(1, 2))
        if (counts < 0).any() or (n_items != n_items[:1]).any():
            raise ValueError(
                "counts must be non-negative and count as many items for every query, got a least "
                f"count of {counts.min()} and {n_items.min()} to {n_items.max()} items."
            )
        self.counts = counts.astype(np.int64, copy=False)

    @classmethod
    @validate_params(CODES_AND_LABELS | N_BITS | RESOURCES, prefer_skip_nested_validation=True)
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_bits=None,
        n_jobs=None,
        working_memory=None,
    ):
        """Count codes and label sets.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 and 1; or packed codes, with `n_bits`.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like \
                of shape (n_queries,)
            Label sets of the queries: an indicator matrix of 0 and 1, or class labels.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to rank, in the form of `query_codes`.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels), or \
                array-like of shape (n_database,)
            Label sets of the items to rank, in the form of `query_labels`.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
            None: they are not.

        n_jobs : int, default=None
            Threads that share the queries. None means 1 outside of a
            :class:`joblib.parallel_config` context, -1 all processors.

        working_memory : float, default=None
            Bound on the temporaries of the counting in MiB, packed input and result not
            included. None takes ``sklearn.get_config()["working_memory"]``. The result does not
            depend on it.

        Returns
        -------
        histogram : HammingHistogram
            The histogram.

        Raises
        ------
        ValueError
            If codes or indicator matrices hold other values than 0 and 1, codes or labels are
            empty or of another shape, differ in length, if queries and database differ in
            `n_bits` or `n_labels`, or if only one of them has class labels.
        """
        problem = RetrievalProblem.from_codes(
            query_codes, query_labels, database_codes, database_labels, n_bits=n_bits
        )
        return cls(hamming_histogram(problem, n_jobs=n_jobs, working_memory=working_memory))

    @classmethod
    @validate_params(
        {"n_bits": [Interval(Integral, 1, None, closed="left")]} | RESOURCES,
        prefer_skip_nested_validation=True,
    )
    def from_packed(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_bits,
        n_jobs=None,
        working_memory=None,
    ):
        """Count packed codes and label sets, as hashers keep those of their database.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, ceil(n_bits / 8)), dtype uint8
            Packed codes, see :func:`skhash.codes.pack_codes`.

        query_labels : array-like of shape (n_queries, ceil(n_labels / 8)), dtype uint8
            Packed label indicators, in the same format.

        database_codes : array-like of shape (n_database, ceil(n_bits / 8)), dtype uint8
            Packed codes of the items to rank, as a hasher's `database_codes_`.

        database_labels : array-like of shape (n_database, ceil(n_labels / 8)), dtype uint8
            Packed label indicators of the items to rank, as a hasher's `database_labels_`.

        n_bits : int
            Number of bits of a code.

        n_jobs : int, default=None
            As in :meth:`from_codes`.

        working_memory : float, default=None
            As in :meth:`from_codes`.

        Returns
        -------
        histogram : HammingHistogram
            The histogram.

        Raises
        ------
        ValueError
            If codes or labels are not two-dimensional uint8, differ in length, the bytes per row
            of queries, database and `n_bits` do not agree, or codes are not padded with zeros.
        """
        problem = RetrievalProblem.from_packed(
            query_codes, query_labels, database_codes, database_labels, n_bits=n_bits
        )
        return cls(hamming_histogram(problem, n_jobs=n_jobs, working_memory=working_memory))

    @classmethod
    @validate_params(
        {"codes": ["array-like"], "labels": ["array-like", "sparse matrix"]} | N_BITS | RESOURCES,
        prefer_skip_nested_validation=True,
    )
    def leave_one_out(cls, codes, labels, *, n_bits=None, n_jobs=None, working_memory=None):
        """Count a set against itself: each sample ranks the others.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes, 0 and 1; or packed codes, with `n_bits`.

        labels : {array-like, sparse matrix} of shape (n_samples, n_labels), or array-like of \
                shape (n_samples,)
            Label sets: an indicator matrix of 0 and 1, or class labels.

        n_bits : int, default=None
            As in :meth:`from_codes`.

        n_jobs : int, default=None
            As in :meth:`from_codes`.

        working_memory : float, default=None
            As in :meth:`from_codes`.

        Returns
        -------
        histogram : HammingHistogram
            The histogram of ``n_samples`` queries and ``n_samples - 1`` items.

        Raises
        ------
        ValueError
            As :meth:`from_codes` does, or if there is only one sample.
        """
        problem = RetrievalProblem.leave_one_out(codes, labels, n_bits=n_bits)
        return cls(hamming_histogram(problem, n_jobs=n_jobs, working_memory=working_memory))

    @property
    def n_bits(self):
        """Number of bits of a code."""
        return self.counts.shape[1] - 1

    @property
    def n_queries(self):
        """Number of queries."""
        return len(self.counts)

    @property
    def n_database(self):
        """Number of items that each query ranks."""
        return int(self.counts[:1].sum())

    @property
    def max_relevance(self):
        """Largest relevance that there is a cell for."""
        return self.counts.shape[2] - 1

    def __repr__(self):
        return (
            f"{type(self).__name__}(n_queries={self.n_queries}, n_bits={self.n_bits}, "
            f"n_database={self.n_database}, max_relevance={self.max_relevance})"
        )

    def __eq__(self, other):
        if not isinstance(other, HammingHistogram):
            return NotImplemented
        return np.array_equal(self.counts, other.counts)

    __hash__ = None

    def __add__(self, other):
        """Merge with the histogram of the same queries and another part of the database."""
        if not isinstance(other, HammingHistogram):
            return NotImplemented
        for name in ("n_queries", "n_bits", "max_relevance"):
            one, another = getattr(self, name), getattr(other, name)
            if one != another:
                raise ValueError(
                    "Histograms add up if they are of the same queries and different parts of a "
                    f"database, got {name}={one} and {name}={another}. "
                    "HammingHistogram.concatenate joins different queries."
                )
        return type(self)(self.counts + other.counts)

    def __radd__(self, other):
        """Let `sum` start from 0."""
        return self if isinstance(other, Integral) and other == 0 else NotImplemented

    @classmethod
    def concatenate(cls, histograms):
        """Join histograms of different queries and the same database.

        Parameters
        ----------
        histograms : iterable of HammingHistogram
            At least one, all of the same `n_bits` and `n_database`.

        Returns
        -------
        histogram : HammingHistogram
            The queries of the first, then those of the second, and so on.

        Raises
        ------
        ValueError
            If there is none, or they differ in `n_bits` or `n_database`.
        """
        tables = [histogram.counts for histogram in histograms]
        if not tables or len({table.shape[1] for table in tables}) > 1:
            raise ValueError(
                "concatenate takes at least one histogram, all of the same n_bits, "
                f"got n_bits of {[table.shape[1] - 1 for table in tables]}."
            )
        width = max(table.shape[2] for table in tables)
        pad = lambda table: np.pad(table, ((0, 0), (0, 0), (0, width - table.shape[2])))  # noqa: E731
        return cls(np.concatenate([pad(table) for table in tables]))

    def save(self, path):
        """Write the histogram to a file.

        Parameters
        ----------
        path : str or path-like
            File, by custom of name ``*.npz``. It holds arrays alone, compressed: reading it runs
            no code. An existing file is replaced once the new one is whole.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with replaced_file(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, counts=self.counts, version=_VERSION)

    @classmethod
    def load(cls, path):
        """Read a histogram that :meth:`save` has written.

        Parameters
        ----------
        path : str or path-like
            File.

        Returns
        -------
        histogram : HammingHistogram
            The histogram.

        Raises
        ------
        FileNotFoundError
            If there is no such file.

        ValueError
            If the file is another, or of a version that this skhash does not read.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                version, counts = arrays["version"], arrays["counts"]
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise ValueError(
                f"{str(path)!r} is no file that HammingHistogram.save has written: {error}"
            ) from error
        if version != _VERSION:
            raise ValueError(
                f"{str(path)!r} is a histogram of version {version}, and this skhash reads "
                f"version {_VERSION}. Save it again with the skhash that reads it."
            )
        return cls(counts)

    @validate_params(METRIC | CUTS | POLICIES, prefer_skip_nested_validation=True)
    def evaluate(self, metric, *, k=None, radius=None, ties="mean", empty=0, **options):
        """Evaluate a metric, by its name.

        Parameters
        ----------
        metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
                "weighted_average_precision"}
            The metric, defined by the function of :mod:`skhash.metrics` of that name and `_score`.

        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at. None, and any `k` larger than the database, means the
            whole database.

        radius : int or array-like of shape (n_cuts,), default=None
            Look at the items within this Hamming distance instead: a `k` of each query's own. A
            query that has no item there scores 0.

        ties : {"mean", "best", "worst"}, default="mean"
            Value over the orders of the items at equal distance: their mean, or the best or worst
            that an order has.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without any relevant item in the database; "raise" raises ValueError.

        **options : dict
            What else the metric takes: `gain` for "ndcg", `convention` for both average
            precisions.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query; and of each cut-off, if there is an array of them.

        Raises
        ------
        ValueError
            If there is no such metric, a parameter or option has another value, both `k` and
            `radius` are given, or by `empty`.

        TypeError
            If the metric does not take an option.

        Examples
        --------
        >>> from skhash.metrics import HammingHistogram
        >>> histogram = HammingHistogram([[[0, 0, 0], [1, 0, 1], [0, 1, 0]]])
        >>> for metric in ["precision", "recall"]:
        ...     print(metric, histogram.evaluate(metric, k=[1, 2]))
        precision [[0.5 0.5]]
        recall [[0.25 0.5 ]]
        """
        check_options("HammingHistogram.evaluate", metric, options)
        check_one_cut(k, radius)
        k, radius = check_cuts(k, "k", 1), check_cuts(radius, "radius", 0)
        values = evaluate(metric, self.counts, k=k, radius=radius, ties=ties, **options)
        return fill_empty(values, empty)

    acg = _method("acg")
    average_precision = _method("average_precision")
    ndcg = _method("ndcg")
    precision = _method("precision")
    recall = _method("recall")
    reciprocal_rank = _method("reciprocal_rank")
    weighted_average_precision = _method("weighted_average_precision")
