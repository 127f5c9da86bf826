"""Retrieval metrics of a ranking by Hamming distance, exact under ties.

Items at equal distance have no order, so a metric of the ranking is its expectation over all
orders of the items at equal distance (McSherry and Najork, ECIR 2008). The private helpers
compute it in closed form from the histogram ``H`` of shape (n_queries, n_bits + 1,
max_relevance + 1), see :func:`skhash.metrics._histogram.hamming_histogram`, and return one
value per query; the public functions validate and average.
"""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, validate_params

from skhash.codes import pack_codes
from skhash.metrics._histogram import _max_relevance, _slices, hamming_histogram

__all__ = [
    "acg_score",
    "average_precision_score",
    "ndcg_score",
    "precision_score",
    "recall_score",
    "weighted_average_precision_score",
]

# Tables of the size of H that a helper holds at once, with H itself.
_TABLES = 4

_CONSTRAINTS = {
    "query_codes": ["array-like"],
    "query_labels": ["array-like", "sparse matrix"],
    "database_codes": ["array-like"],
    "database_labels": ["array-like", "sparse matrix"],
    "k": [Interval(Integral, 1, None, closed="left"), None],
}


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def ndcg_score(query_codes, query_labels, database_codes, database_labels, *, k=None):
    """Normalised discounted cumulative gain of the first `k` ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    The gain of an item is ``2 ** r - 1``, its discount at rank `p` ``1 / log2(1 + p)``; the
    discounted cumulative gain [2]_ of the first `k` ranks is divided by that of the ideal
    order of the whole database for the query.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1 (the ideal order).

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
           ACM Transactions on Information Systems 20(4), 2002.

    Examples
    --------
    >>> from skhash.metrics import ndcg_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> ndcg_score(query_codes, query_labels,
    ...            database_codes, database_labels)
    0.811...
    """
    return _mean_score("ndcg", query_codes, query_labels, database_codes, database_labels, k)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def acg_score(query_codes, query_labels, database_codes, database_labels, *, k=None):
    """Average cumulative gain: the mean relevance of the first `k` ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    The sum of `r` over the first ``min(k, n_database)`` ranks [2]_ is divided by
    ``min(k, n_database)``.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and the largest number of shared labels.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] K. Järvelin and J. Kekäläinen, "IR evaluation methods for retrieving highly
           relevant documents", SIGIR 2000.

    Examples
    --------
    >>> from skhash.metrics import acg_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> acg_score(query_codes, query_labels,
    ...           database_codes, database_labels, k=2)
    1.0
    """
    return _mean_score("acg", query_codes, query_labels, database_codes, database_labels, k)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def average_precision_score(query_codes, query_labels, database_codes, database_labels, *, k=None):
    """Average precision of the first `k` ranks, whose mean over queries is known as mAP.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    An item is relevant if ``r > 0``. The precisions at the relevant ranks ``p <= k`` are summed
    and divided by ``min(k, n_relevant)``, where `n_relevant` counts the relevant items of the
    whole database [2]_: an order with relevant items first scores 1 at every `k`.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1 (all relevant items first).

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval",
           chapter 8, Cambridge University Press, 2008.

    Examples
    --------
    >>> from skhash.metrics import average_precision_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> average_precision_score(query_codes, query_labels,
    ...                         database_codes, database_labels)
    0.708...
    """
    return _mean_score(
        "average_precision", query_codes, query_labels, database_codes, database_labels, k
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def weighted_average_precision_score(
    query_codes, query_labels, database_codes, database_labels, *, k=None
):
    """Average precision weighted by relevance: ACG at the relevant ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    An item is relevant if ``r > 0``. The average cumulative gains (mean `r` of the first `p`
    ranks) at the relevant ranks ``p <= k`` are summed and divided by ``min(k, n_relevant)``,
    where `n_relevant` counts the relevant items of the whole database. This is the weighted mAP
    of deep semantic ranking [2]_; where no two items share more than one label it equals
    :func:`average_precision_score`.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and the largest number of shared labels.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] F. Zhao, Y. Huang, L. Wang and T. Tan, "Deep Semantic Ranking Based Hashing for
           Multi-Label Image Retrieval", CVPR 2015.

    Examples
    --------
    >>> from skhash.metrics import weighted_average_precision_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> weighted_average_precision_score(query_codes, query_labels,
    ...                                  database_codes, database_labels)
    1.25
    """
    return _mean_score(
        "weighted_average_precision", query_codes, query_labels, database_codes, database_labels, k
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def precision_score(query_codes, query_labels, database_codes, database_labels, *, k=None):
    """Fraction of the first `k` ranks that are relevant.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    An item is relevant if ``r > 0``. The relevant items in the first ``min(k, n_database)``
    ranks are divided by ``min(k, n_database)`` [2]_.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval",
           chapter 8, Cambridge University Press, 2008.

    Examples
    --------
    >>> from skhash.metrics import precision_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> precision_score(query_codes, query_labels,
    ...                 database_codes, database_labels, k=2)
    0.5
    """
    return _mean_score("precision", query_codes, query_labels, database_codes, database_labels, k)


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def recall_score(query_codes, query_labels, database_codes, database_labels, *, k=None):
    """Fraction of the relevant items that the first `k` ranks hold.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_. A query without any relevant item in the database scores 0.

    An item is relevant if ``r > 0``. The relevant items in the first `k` ranks are divided by
    the relevant items of the whole database [2]_.

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

    k : int, default=None
        Number of ranks to look at. None, and any `k` larger than the database, means the
        whole database.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, or if queries and database differ in `n_bits` or `n_labels`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval",
           chapter 8, Cambridge University Press, 2008.

    Examples
    --------
    >>> from skhash.metrics import recall_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> recall_score(query_codes, query_labels,
    ...              database_codes, database_labels, k=2)
    0.5
    """
    return _mean_score("recall", query_codes, query_labels, database_codes, database_labels, k)


def _mean_score(metric, query_codes, query_labels, database_codes, database_labels, k):
    """Validate public input and average a metric over the queries."""
    queries, n_bits, n_labels = _check_side(query_codes, query_labels, "query")
    database, *shape = _check_side(database_codes, database_labels, "database")
    for what, name, n_query, n_item in zip(
        ("bits", "labels"), ("codes", "labels"), (n_bits, n_labels), shape, strict=True
    ):
        if n_query != n_item:
            raise ValueError(
                f"query_{name} and database_{name} must have the same number of {what}: "
                f"query_{name}.shape[1] == {n_query} while database_{name}.shape[1] == {n_item}."
            )
    return float(_score_packed(metric, *queries, *database, n_bits=n_bits, k=k).mean())


def _check_side(codes, labels, name):
    """Return ``(packed codes, packed labels), n_bits, n_labels`` of one side, or raise."""
    codes = check_array(codes, dtype=None, input_name=f"{name}_codes")
    codes = _check_bits(codes, f"{name}_codes", "Threshold a projection with `>= 0` first.")
    labels = _check_indicator(labels, f"{name}_labels")
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
    return _check_bits(labels.toarray() if issparse(labels) else labels, name, hint)


def _check_bits(array, name, hint):
    """Return an array of 0 and 1 as booleans, or raise."""
    bits = array == 1
    if not (is_bit := bits | (array == 0)).all():
        other = array[~is_bit][:1].tolist()
        raise ValueError(f"{name} must hold only 0 and 1, got {other[0]!r}. {hint}")
    return bits.astype(bool, copy=False)


def _score_packed(
    metric_name,
    packed_query_codes,
    packed_query_labels,
    packed_db_codes,
    packed_db_labels,
    *,
    n_bits,
    k=None,
):
    """Return a metric of :data:`_METRICS` for every query, from packed codes and labels.

    Queries are taken in batches whose histograms fit scikit-learn's `working_memory`.
    """
    n_cells = (n_bits + 1) * (_max_relevance(packed_query_labels) + 1)
    batch_bytes = get_config()["working_memory"] * 2**20
    batch_size = max(1, int(batch_bytes // (_TABLES * n_cells * np.int64().nbytes)))
    scores = np.empty(len(packed_query_codes))
    for batch in _slices(len(scores), batch_size):
        H = hamming_histogram(
            packed_query_codes[batch],
            packed_query_labels[batch],
            packed_db_codes,
            packed_db_labels,
            n_bits=n_bits,
        )
        scores[batch] = _METRICS[metric_name](H, k)
    return scores


class _Ties(NamedTuple):
    """Where the groups of items at equal distance stand in the first `n_ranks` ranks."""

    sizes: np.ndarray  # (n_queries, n_bits + 1): items in the group
    starts: np.ndarray  # (n_queries, n_bits + 1): ranks before the group, at most n_ranks
    stops: np.ndarray  # (n_queries, n_bits + 1): ranks up to its end, at most n_ranks
    n_ranks: int  # min(k, n_database)

    @classmethod
    def of(cls, H, k):
        """Read the groups off a histogram."""
        sizes = H.sum(axis=2)
        stops = sizes.cumsum(axis=1)
        n_database = int(stops[0, -1])
        n_ranks = n_database if k is None else min(k, n_database)
        return cls(sizes, np.minimum(stops - sizes, n_ranks), np.minimum(stops, n_ranks), n_ranks)

    def expect(self, totals, weights=None):
        """Return the expected sum over the first ranks of a quantity with these totals per group.

        Every order being as likely, each rank of a group expects the mean of the group.
        `weights` are those of the ranks, None weighs each by 1.
        """
        shares = self.stops - self.starts if weights is None else self.sum_ranks(weights)
        return (_divide(totals, self.sizes) * shares).sum(axis=1)

    def sum_ranks(self, weights):
        """Return the sum of the `weights` of the ranks that each group takes."""
        # The widest float there is: far down a long database, neighbouring sums share most
        # of their digits, and their difference would lose them.
        sums = np.zeros(len(weights) + 1, dtype=np.longdouble)
        np.cumsum(weights, out=sums[1:])
        return (sums[self.stops] - sums[self.starts]).astype(float)

    def ranks(self):
        """Return all ranks, 1 to `n_ranks`."""
        return np.arange(1, self.n_ranks + 1)


def _ndcg(H, k):
    """Normalised discounted cumulative gain per query."""
    ties = _Ties.of(H, k)
    discounts = 1 / np.log2(1 + ties.ranks())
    counts = H.sum(axis=1)
    gains = _gains(counts)
    dcg = ties.expect(np.einsum("qdr,qr->qd", H, gains), discounts)
    # The ideal order, most relevant first, is a ranking whose groups are the relevances.
    ideal = _Ties.of(counts[:, ::-1, None], k)
    ideal_dcg = ideal.expect((counts * gains)[:, ::-1], discounts)
    return _divide(dcg, ideal_dcg)


def _gains(counts):
    """Gains ``2 ** r - 1`` per query, scaled so that those of many labels do not overflow.

    A power of two, the same for all gains of a query, drops out of the ratio of two sums.
    """
    relevance = np.arange(counts.shape[1])
    largest = np.where(counts > 0, relevance, 0).max(axis=1, keepdims=True)
    return np.exp2(np.minimum(relevance - largest, 0)) - np.exp2(-largest.astype(float))


def _acg(H, k):
    """Average cumulative gain per query."""
    ties = _Ties.of(H, k)
    return ties.expect(_total_relevance(H)) / ties.n_ranks


def _average_precision(H, k):
    """Average precision per query."""
    return _average_at_relevant(H, k, _n_relevant(H))


def _weighted_average_precision(H, k):
    """Average precision weighted by relevance, per query."""
    return _average_at_relevant(H, k, _total_relevance(H))


def _average_at_relevant(H, k, totals):
    """Average over relevant ranks of the mean, up to that rank, of what `totals` sums.

    In a group of n items, m of them relevant with total S, that stands behind s items with
    total S_b, an item at position j is relevant with probability m / n. It then contributes
    S / m itself, and each of the j - 1 before it (S - S / m) / (n - 1), so that rank s + j
    expects ``m / n * (S_b + S / m + (j - 1) * (S - S / m) / (n - 1)) / (s + j)``. Since
    ``(j - 1) / (s + j) = 1 - (s + 1) / (s + j)``, the sum over j needs harmonic numbers only.
    """
    ties, n_relevant = _Ties.of(H, k), _n_relevant(H)
    before = totals.cumsum(axis=1) - totals
    own = _divide(totals, n_relevant)
    slope = _divide(totals - own, ties.sizes - 1)
    reciprocals = ties.sum_ranks(1 / ties.ranks())
    sums = (before + own - slope * (ties.starts + 1)) * reciprocals
    sums += slope * (ties.stops - ties.starts)
    at_relevant = _divide(n_relevant, ties.sizes) * sums
    return _divide(at_relevant.sum(axis=1), np.minimum(n_relevant.sum(axis=1), ties.n_ranks))


def _precision(H, k):
    """Precision per query."""
    ties = _Ties.of(H, k)
    return ties.expect(_n_relevant(H)) / ties.n_ranks


def _recall(H, k):
    """Recall per query."""
    n_relevant = _n_relevant(H)
    return _divide(_Ties.of(H, k).expect(n_relevant), n_relevant.sum(axis=1))


_METRICS = {
    "acg": _acg,
    "average_precision": _average_precision,
    "ndcg": _ndcg,
    "precision": _precision,
    "recall": _recall,
    "weighted_average_precision": _weighted_average_precision,
}


def _n_relevant(H):
    """Return the number of relevant items per query and distance."""
    return H[:, :, 1:].sum(axis=2)


def _total_relevance(H):
    """Return the sum of relevances per query and distance."""
    return H @ np.arange(H.shape[2], dtype=float)


def _divide(numerator, denominator):
    """Return the quotient, 0 where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)
