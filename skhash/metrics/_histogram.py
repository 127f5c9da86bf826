"""Codes and label sets to counts: everything a Hamming ranking says, in one small table."""

from numbers import Integral, Real
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils import check_array, check_consistent_length

from skhash._sklearn import Interval, Options, StrOptions, validate_params
from skhash.codes import as_bits, as_words, check_packed, pack_codes
from skhash.metrics._closed_forms import OPTIONS, evaluate, fill_empty

__all__ = ["HammingHistogram", "hamming_histogram"]

# Database items per block: as many as keep a block in the second-level cache.
_BLOCK_ITEMS = 2**16
# An upper bound on the bytes of an item of a block, codes and labels not counted: word, popcount,
# bin index, and the index once more as the integer that counting takes.
_BYTES_PER_ITEM = 32
_VERSION = 1

_CODES_AND_LABELS = {
    "query_codes": ["array-like"],
    "query_labels": ["array-like", "sparse matrix"],
    "database_codes": ["array-like"],
    "database_labels": ["array-like", "sparse matrix"],
}
_RESOURCES = {
    "n_jobs": [Integral, None],
    "working_memory": [Interval(Real, 0, None, closed="left"), None],
}
_CUTS = {
    "k": [Interval(Integral, 1, None, closed="left"), "array-like", None],
    "radius": [Interval(Integral, 0, None, closed="left"), "array-like", None],
}
_POLICIES = {
    "ties": [StrOptions({"mean", "best", "worst"})],
    "empty": [StrOptions({"nan", "raise"}), Options(Integral, {0, 1})],
}
_METHOD = {**_CUTS, **_POLICIES}
_EXTRA = {
    option: [StrOptions(set(values))]
    for options in OPTIONS.values()
    for option, values in options.items()
}


class HammingHistogram:
    """Rankings by Hamming distance, counted: the items at each distance and relevance.

    Hamming distances take ``n_bits + 1`` values and relevances (numbers of shared labels) few,
    so this table holds all that a ranking by Hamming distance determines. Every metric is a
    closed form of it [1]_ and a method here: counted once, all of them are known at every
    cut-off. Histograms of the parts of a database add up to that of the whole, so parts can be
    counted apart, on other machines too.

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
    All metrics take the same parameters (at most one of the first two), beside their own:

    k : int, array-like of shape (n_cuts,) or None, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the whole
        database.
    radius : int, array-like of shape (n_cuts,) or None, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.
    ties : {"mean", "best", "worst"}, default="mean"
        Value of the metric over the orders of the items at equal distance: their exact mean, or
        the best or worst that an order can have.
    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query that has no relevant item in the database; "raise" raises ValueError.

    They return an ndarray of shape (n_queries,), or (n_queries, n_cuts) for an array of cut-offs,
    and raise ValueError for parameters other than these.

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
    @validate_params({**_CODES_AND_LABELS, **_RESOURCES}, prefer_skip_nested_validation=True)
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_jobs=None,
        working_memory=None,
    ):
        """Count codes and label sets.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 and 1.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels)
            Label indicator matrix of the queries, 0 and 1.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to rank, 0 and 1.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels)
            Label indicator matrix of the items to rank, 0 and 1.

        n_jobs : int, default=None
            Threads that share the queries. None means 1 outside of a
            :func:`joblib.parallel_config` context, -1 all processors.

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
            If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
            differ in length, or if queries and database differ in `n_bits` or `n_labels`.
        """
        packed, n_bits = pack_problem(query_codes, query_labels, database_codes, database_labels)
        return cls.from_packed(
            *packed, n_bits=n_bits, n_jobs=n_jobs, working_memory=working_memory
        )

    @classmethod
    @validate_params(
        {"n_bits": [Interval(Integral, 1, None, closed="left")], **_RESOURCES},
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
        return cls(
            hamming_histogram(
                query_codes,
                query_labels,
                database_codes,
                database_labels,
                n_bits=n_bits,
                n_jobs=n_jobs,
                working_memory=working_memory,
            )
        )

    @classmethod
    @validate_params(
        {
            "codes": ["array-like"],
            "labels": ["array-like", "sparse matrix"],
            **_RESOURCES,
        },
        prefer_skip_nested_validation=True,
    )
    def leave_one_out(cls, codes, labels, *, n_jobs=None, working_memory=None):
        """Count a set against itself: each sample ranks the others.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes, 0 and 1.

        labels : {array-like, sparse matrix} of shape (n_samples, n_labels)
            Label indicator matrix, 0 and 1.

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
        (codes, labels), n_bits, _ = _pack_side(codes, labels)
        check_several(codes)
        options = {"n_bits": n_bits, "n_jobs": n_jobs, "working_memory": working_memory}
        counts = hamming_histogram(codes, labels, codes, labels, **options)
        leave_out_self(counts, labels)
        return cls(counts)

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
            no code.
        """
        with Path(path).open("wb") as file:
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

    @validate_params({**_METHOD, "gain": _EXTRA["gain"]}, prefer_skip_nested_validation=True)
    def ndcg(self, k=None, *, radius=None, ties="mean", empty=0, gain="exponential"):
        """Normalised discounted cumulative gain.

        See :func:`~skhash.metrics.ndcg_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        gain : {"exponential", "linear"}, default="exponential"
            Gain of an item of relevance `r`: ``2 ** r - 1`` or `r`.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate("ndcg", k=k, radius=radius, ties=ties, empty=empty, gain=gain)

    @validate_params(_METHOD, prefer_skip_nested_validation=True)
    def acg(self, k=None, *, radius=None, ties="mean", empty=0):
        """Average cumulative gain.

        See :func:`~skhash.metrics.acg_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate("acg", k=k, radius=radius, ties=ties, empty=empty)

    @validate_params(
        {**_METHOD, "convention": _EXTRA["convention"]}, prefer_skip_nested_validation=True
    )
    def average_precision(self, k=None, *, radius=None, ties="mean", empty=0, convention="skhash"):
        """Average precision.

        See :func:`~skhash.metrics.average_precision_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        convention : {"skhash", "authors"}, default="skhash"
            What the sum is divided by. "skhash": the relevant items of the whole database, or the
            ranks looked at if these are fewer. "authors": the relevant items among those ranks,
            5,000 if neither `k` nor `radius` is given.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate(
            "average_precision", k=k, radius=radius, ties=ties, empty=empty, convention=convention
        )

    @validate_params(
        {**_METHOD, "convention": _EXTRA["convention"]}, prefer_skip_nested_validation=True
    )
    def weighted_average_precision(
        self, k=None, *, radius=None, ties="mean", empty=0, convention="skhash"
    ):
        """Average precision weighted by relevance.

        See :func:`~skhash.metrics.weighted_average_precision_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        convention : {"skhash", "authors"}, default="skhash"
            As in :meth:`average_precision`.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate(
            "weighted_average_precision",
            k=k,
            radius=radius,
            ties=ties,
            empty=empty,
            convention=convention,
        )

    @validate_params(_METHOD, prefer_skip_nested_validation=True)
    def precision(self, k=None, *, radius=None, ties="mean", empty=0):
        """Fraction of the ranks that are relevant.

        See :func:`~skhash.metrics.precision_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate("precision", k=k, radius=radius, ties=ties, empty=empty)

    @validate_params(_METHOD, prefer_skip_nested_validation=True)
    def recall(self, k=None, *, radius=None, ties="mean", empty=0):
        """Fraction of the relevant items that are found.

        See :func:`~skhash.metrics.recall_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate("recall", k=k, radius=radius, ties=ties, empty=empty)

    @validate_params(_METHOD, prefer_skip_nested_validation=True)
    def reciprocal_rank(self, k=None, *, radius=None, ties="mean", empty=0):
        """Reciprocal of the first relevant rank.

        See :func:`~skhash.metrics.reciprocal_rank_score`.

        Parameters
        ----------
        k : int or array-like of shape (n_cuts,), default=None
            Number of ranks to look at.

        radius : int or array-like of shape (n_cuts,), default=None
            Largest distance to look at, instead.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        empty : {0, 1, "nan", "raise"}, default=0
            Value of a query without relevant items in the database.

        Returns
        -------
        values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
            Value of each query.
        """
        return self._evaluate("reciprocal_rank", k=k, radius=radius, ties=ties, empty=empty)

    def _evaluate(self, metric, *, k, radius, empty, **options):
        """Check the cut-offs and evaluate a metric."""
        check_one_cut(k, radius)
        k, radius = _check_cuts(k, "k", 1), _check_cuts(radius, "radius", 0)
        return fill_empty(evaluate(metric, self.counts, k=k, radius=radius, **options), empty)


def check_one_cut(k, radius):
    """Raise if a ranking is to be cut in two ways.

    Parameters
    ----------
    k, radius : object
        The cut-offs, None if not given.

    Raises
    ------
    ValueError
        If both are given.
    """
    if k is not None and radius is not None:
        raise ValueError(
            f"k and radius are two ways to cut a ranking, got k={k!r} and radius={radius!r}. "
            "Pass one of them."
        )


def _check_cuts(cuts, name, least):
    """Return None, an integer or an array of integers, or raise."""
    if cuts is None:
        return None
    array = np.asarray(cuts)
    if array.dtype.kind not in "iu" or array.ndim > 1 or (array < least).any() or not array.size:
        raise ValueError(
            f"{name} must be an int or a one-dimensional array of at least one int, "
            f"none below {least}, got {cuts!r}."
        )
    return array[()]


def check_several(codes):
    """Raise if there is no other sample to rank.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, ...)
        Codes of queries that are the database too.

    Raises
    ------
    ValueError
        If there are fewer than two samples.
    """
    if len(codes) < 2:
        raise ValueError(
            f"Leaving one out takes at least 2 samples, got {len(codes)}: "
            "a single sample has no other to rank."
        )


def leave_out_self(counts, packed_labels):
    """Take the queries themselves out of the counts of a database that they are in.

    Parameters
    ----------
    counts : ndarray of shape (n_queries, n_bits + 1, n_relevances), dtype int64
        Table of the queries; changed in place.

    packed_labels : ndarray of shape (n_queries, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the queries.
    """
    # A sample is at distance 0 of itself and shares all of its labels.
    n_own = np.bitwise_count(packed_labels).sum(axis=1, dtype=np.intp)
    counts[np.arange(len(counts)), 0, n_own] -= 1


def hamming_histogram(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    n_bits,
    n_jobs=None,
    working_memory=None,
):
    """Count, for every query, the database items at each distance and relevance.

    What :class:`HammingHistogram` holds, from packed codes and labels.

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

    Raises
    ------
    ValueError
        If codes or labels are not two-dimensional uint8, differ in length, the bytes per row
        of queries, database and `n_bits` do not agree, or codes are not padded with zeros.

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
    queries = _check_packed_side(query_codes, query_labels, "query")
    database = _check_packed_side(database_codes, database_labels, "database")
    _check_bytes(queries, database, n_bits)
    _check_padding(queries[0], "query_codes", n_bits)
    _check_padding(database[0], "database_codes", n_bits)
    n_levels = _max_relevance(queries[1]) + 1
    H = np.zeros((len(queries[0]), n_bits + 1, n_levels), dtype=np.int64)
    # Labels that no query has do not matter.
    used = queries[1].any(axis=0)
    queries, database = (
        (as_words(codes), labels[:, used]) for codes, labels in (queries, database)
    )
    n_threads = max(1, min(effective_n_jobs(n_jobs), len(H)))
    n_items = _block_size(H, 8 * used.sum(), n_threads, working_memory)
    # Threads write to their own rows of the one table, which processes could not.
    Parallel(n_jobs=n_threads, require="sharedmem")(
        delayed(_count)(H[rows], [side[rows] for side in queries], database, n_items)
        for rows in _slices(len(H), max(1, -(-len(H) // n_threads)))
    )
    return H


def _count(H, queries, database, n_items):
    """Count the pairs of some queries and the database, in place."""
    label_sets = [np.flatnonzero(labels) for labels in np.unpackbits(queries[1], axis=1)]
    # The narrowest index that holds every cell: counting is bound by memory traffic.
    index_type = np.min_scalar_type(H[0].size)
    for items in _slices(len(database[0]), n_items):
        words, labels = (side[items] for side in database)
        # A cell is d + (n_bits + 1) * r, to which a shared label adds n_bits + 1.
        steps = np.unpackbits(labels, axis=1).T * index_type.type(H.shape[1])
        _count_block(H, queries[0], label_sets, words.T.copy(), np.ascontiguousarray(steps))


def _count_block(H, query_words, label_sets, words, steps):
    """Add the pairs of the queries and one block of items to the table, in place.

    The words of the items have shape (n_words, n_items), the steps (n_labels, n_items).
    """
    different = np.empty(words.shape[1], dtype=np.uint64)
    for table, code, label_set in zip(H, query_words, label_sets, strict=True):
        index = np.bitwise_count(np.bitwise_xor(words[0], code[0], out=different))
        index = index.astype(steps.dtype)
        for word, other in zip(words[1:], code[1:], strict=True):
            index += np.bitwise_count(np.bitwise_xor(word, other, out=different))
        for label in label_set:
            index += steps[label]
        table += np.bincount(index, minlength=table.size).reshape(table.shape[::-1]).T


def _slices(n_samples, size):
    """Return slices that cut `n_samples`, of which there may be none, into blocks of `size`."""
    return [slice(start, start + size) for start in range(0, n_samples, size)]


def _block_size(H, n_labels, n_threads, working_memory):
    """Return the number of database items of one block, within `working_memory` MiB."""
    if working_memory is None:
        working_memory = get_config()["working_memory"]
    n_bytes = working_memory * 2**20 / n_threads
    # Labels as unpacked, as multiplied and in order; codes once more in words.
    item_bytes = _BYTES_PER_ITEM + H.shape[1] // 8 + 16
    item_bytes += n_labels * (1 + 2 * np.min_scalar_type(H[:1].size).itemsize)
    # A row is added to its cells once a block, so it should not be shorter than they are.
    n_items = max(_BLOCK_ITEMS, H.shape[1] * H.shape[2])
    return int(max(1, min(n_items, n_bytes // item_bytes)))


def _max_relevance(packed_labels):
    """Return the size of the largest label set, which no relevance to these rows exceeds."""
    return int(np.bitwise_count(packed_labels).sum(axis=1, dtype=np.intp).max(initial=0))


def _check_packed_side(codes, labels, name):
    """Return packed codes and labels of the queries or of the database, or raise."""
    codes = check_packed(codes, f"{name}_codes")
    labels = check_packed(labels, f"{name}_labels")
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


def _check_padding(codes, name, n_bits):
    """Raise if bits beyond `n_bits` are set: they would count as distance."""
    if (codes[:, -1:] & (0xFF >> (n_bits - 1) % 8 + 1)).any():
        raise ValueError(
            f"{name} must be padded with zeros beyond n_bits={n_bits}, as pack_codes does, "
            "got other bits set there."
        )


def pack_problem(query_codes, query_labels, database_codes, database_labels):
    """Validate and pack queries and database.

    Parameters
    ----------
    query_codes, query_labels, database_codes, database_labels : array-like or sparse matrix
        As :meth:`HammingHistogram.from_codes` takes them.

    Returns
    -------
    packed : list of 4 ndarrays, dtype uint8
        The same, packed.

    n_bits : int
        Number of bits of a code.

    Raises
    ------
    ValueError
        If they hold other values than 0 and 1 or their shapes do not fit.
    """
    queries, *query_shape = _pack_side(query_codes, query_labels, "query_")
    database, *shape = _pack_side(database_codes, database_labels, "database_")
    for what, name, n_query, n_item in zip(
        ("bits", "labels"), ("codes", "labels"), query_shape, shape, strict=True
    ):
        if n_query != n_item:
            raise ValueError(
                f"query_{name} and database_{name} must have the same number of {what}: "
                f"query_{name}.shape[1] == {n_query} while database_{name}.shape[1] == {n_item}."
            )
    return [*queries, *database], query_shape[0]


def _pack_side(codes, labels, prefix=""):
    """Return ``(packed codes, packed labels), n_bits, n_labels`` of one side, or raise."""
    codes = check_array(codes, dtype=None, input_name=f"{prefix}codes")
    codes = as_bits(codes, f"{prefix}codes", "Threshold a projection with `>= 0` first.")
    labels = _check_indicator(labels, f"{prefix}labels")
    check_consistent_length(codes, labels)
    return (pack_codes(codes), pack_codes(labels)), codes.shape[1], labels.shape[1]


def _check_indicator(labels, name):
    """Return a label indicator matrix as a dense array of booleans, or raise."""
    labels = check_array(labels, accept_sparse=True, dtype=None, ensure_2d=False, input_name=name)
    hint = "sklearn.preprocessing.MultiLabelBinarizer and LabelBinarizer make one."
    if labels.ndim != 2:
        raise ValueError(
            f"{name} must be a label indicator matrix of shape (n_samples, n_labels), "
            f"got a 1D array. {hint}"
        )
    return as_bits(labels.toarray() if issparse(labels) else labels, name, hint)
