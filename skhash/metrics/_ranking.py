"""Retrieval metrics of a ranking by Hamming distance, exact under ties.

Items at equal distance have no order, so a metric of the ranking is its expectation over all
orders of the items at equal distance (McSherry and Najork, ECIR 2008). The functions here are
means over queries, in one call; :class:`~skhash.metrics.HammingHistogram` has the same metrics for
each query, at several cut-offs.
"""

from numbers import Integral, Real

import numpy as np
from scipy import stats
from sklearn import get_config
from sklearn.utils import check_array, check_random_state

from skhash._sklearn import Interval, validate_params
from skhash.metrics._closed_forms import evaluate, fill_empty
from skhash.metrics._histogram import (
    _CODES_AND_LABELS,
    _EXTRA,
    _POLICIES,
    _max_relevance,
    _slices,
    check_one_cut,
    hamming_histogram,
    leave_out_self,
    pack_problem,
)

__all__ = [
    "acg_score",
    "average_precision_score",
    "bootstrap_interval",
    "ndcg_score",
    "precision_score",
    "recall_score",
    "reciprocal_rank_score",
    "weighted_average_precision_score",
]

# Tables of the size of the counts that a batch of queries holds at once, with them.
_TABLES = 4
# Values that are drawn at once.
_BATCH_VALUES = 2**22

_CONSTRAINTS = {
    **_CODES_AND_LABELS,
    "k": [Interval(Integral, 1, None, closed="left"), None],
    "radius": [Interval(Integral, 0, None, closed="left"), None],
    **_POLICIES,
}


@validate_params({**_CONSTRAINTS, "gain": _EXTRA["gain"]}, prefer_skip_nested_validation=True)
def ndcg_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
    gain="exponential",
):
    """Normalised discounted cumulative gain of the first `k` ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

    The gain of an item is ``2 ** r - 1``, or `r` by `gain`, its discount at rank `p`
    ``1 / log2(1 + p)``; the discounted cumulative gain [2]_ of the first `k` ranks is divided by
    that of the ideal order of the whole database for the query.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    gain : {"exponential", "linear"}, default="exponential"
        Gain of an item: ``2 ** r - 1`` or `r`.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1 (the ideal order).

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

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
    return _mean_score(
        "ndcg",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
        gain=gain,
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def acg_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
):
    """Average cumulative gain: the mean relevance of the first `k` ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    Returns
    -------
    score : float
        Mean over queries, between 0 and the largest number of shared labels.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

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
    return _mean_score(
        "acg",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
    )


@validate_params(
    {**_CONSTRAINTS, "convention": _EXTRA["convention"]}, prefer_skip_nested_validation=True
)
def average_precision_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
    convention="skhash",
):
    """Average precision of the first `k` ranks, whose mean over queries is known as mAP.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    convention : {"skhash", "authors"}, default="skhash"
        What the sum is divided by, and the `k` that None stands for. "authors" is the rule of
        the code of deep semantic ranking, see :func:`weighted_average_precision_score`; much
        code for deep hashing has it, under the name of mAP@k.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1 (all relevant items first).

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

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
        "average_precision",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
        convention=convention,
    )


@validate_params(
    {**_CONSTRAINTS, "convention": _EXTRA["convention"]}, prefer_skip_nested_validation=True
)
def weighted_average_precision_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
    convention="skhash",
):
    """Average precision weighted by relevance: ACG at the relevant ranks.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

    An item is relevant if ``r > 0``. The average cumulative gains (mean `r` of the first `p`
    ranks) at the relevant ranks ``p <= k`` are summed and divided by ``min(k, n_relevant)``,
    where `n_relevant` counts the relevant items of the whole database. This is the weighted mAP
    of deep semantic ranking [2]_; where no two items share more than one label it equals
    :func:`average_precision_score`. The code of its authors [3]_ has another rule, see
    `convention`.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    convention : {"skhash", "authors"}, default="skhash"
        What the sum is divided by, and the `k` that None stands for. "skhash" is the rule above.
        "authors" looks at 5,000 ranks if neither `k` nor `radius` is given, and divides by the
        number of relevant items *among the ranks looked at*, be they few; a query that has none
        there scores 0 and counts in the mean. This is what the script `evaluate_nuswide.py` of
        the authors [3]_ computes, but that it leaves the order of ties to a sort, where
        `ties` is exact, and drops queries without labels, as ``empty="nan"`` does.

    Returns
    -------
    score : float
        Mean over queries, between 0 and the largest number of shared labels.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] F. Zhao, Y. Huang, L. Wang and T. Tan, "Deep Semantic Ranking Based Hashing for
           Multi-Label Image Retrieval", CVPR 2015.
    .. [3] https://github.com/zhaofang0627/cuda-convnet-for-hashing

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
        "weighted_average_precision",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
        convention=convention,
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def precision_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
):
    """Fraction of the first `k` ranks that are relevant.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

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
    return _mean_score(
        "precision",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def recall_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
):
    """Fraction of the relevant items that the first `k` ranks hold.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

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
    return _mean_score(
        "recall",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
    )


@validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
def reciprocal_rank_score(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    *,
    k=None,
    radius=None,
    ties="mean",
    empty=0,
):
    """Reciprocal of the rank of the first relevant item, whose mean over queries is MRR.

    The relevance `r` of an item is the number of labels it shares with the query. Items are
    ranked by Hamming distance; over those at equal distance the score is the exact expectation
    over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
    database scores 0, unless `empty` says otherwise.

    An item is relevant if ``r > 0``. A query with a relevant item, but none in the first `k`
    ranks, scores 0 [2]_.

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

    radius : int, default=None
        Look at the items within this Hamming distance instead: a `k` of each query's own. A
        query that has no item there scores 0.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query without any relevant item in the database. "nan" leaves it out of the
        mean, which is NaN if no query is left; "raise" raises ValueError.

    Returns
    -------
    score : float
        Mean over queries, between 0 and 1.

    Raises
    ------
    ValueError
        If codes or labels hold other values than 0 and 1, are empty or not two-dimensional,
        differ in length, if queries and database differ in `n_bits` or `n_labels`, if both `k`
        and `radius` are given, or by `empty`.

    References
    ----------
    .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
           efficiently in the presence of tied scores", ECIR 2008.
    .. [2] E. M. Voorhees, "The TREC-8 question answering track report", TREC-8, 1999.

    Examples
    --------
    >>> from skhash.metrics import reciprocal_rank_score
    >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
    >>> database_codes = [[0, 1], [1, 0], [1, 1]]
    >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
    >>> reciprocal_rank_score(query_codes, query_labels,
    ...              database_codes, database_labels, k=2)
    0.75
    """
    return _mean_score(
        "reciprocal_rank",
        (query_codes, query_labels, database_codes, database_labels),
        k=k,
        radius=radius,
        ties=ties,
        empty=empty,
    )


def _mean_score(metric, problem, *, k, radius, **options):
    """Validate public input and average a metric over the queries."""
    check_one_cut(k, radius)
    packed, n_bits = pack_problem(*problem)
    values = _score_packed(metric, *packed, n_bits=n_bits, k=k, radius=radius, **options)
    return _mean(values)


def _mean(values):
    """Return the mean of the values that are not NaN, NaN if there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def _score_packed(
    metric,
    packed_query_codes,
    packed_query_labels,
    packed_db_codes,
    packed_db_labels,
    *,
    n_bits,
    empty=0,
    leave_one_out=False,
    **options,
):
    """Return a metric of :data:`METRICS` for every query, from packed codes and labels.

    Queries are taken in batches whose histograms fit scikit-learn's `working_memory`. With
    `leave_one_out` they are the database too, and do not rank themselves.
    """
    n_cells = (n_bits + 1) * (_max_relevance(packed_query_labels) + 1)
    batch_bytes = get_config()["working_memory"] * 2**20
    batch_size = max(1, int(batch_bytes // (_TABLES * n_cells * np.int64().nbytes)))
    values = np.empty(len(packed_query_codes))
    for batch in _slices(len(values), batch_size):
        counts = hamming_histogram(
            packed_query_codes[batch],
            packed_query_labels[batch],
            packed_db_codes,
            packed_db_labels,
            n_bits=n_bits,
        )
        if leave_one_out:
            leave_out_self(counts, packed_query_labels[batch])
        values[batch] = evaluate(metric, counts, **options)
    return fill_empty(values, empty)


@validate_params(
    {
        "values": ["array-like"],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
        "n_resamples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def bootstrap_interval(values, *, confidence_level=0.95, n_resamples=2000, random_state=None):
    """Confidence interval of the mean over queries, by the percentile bootstrap.

    Queries are drawn anew, with replacement and as many as there are [1]_. The interval says how
    far the mean would move with other queries of the same kind, not with another database or
    training set.

    Parameters
    ----------
    values : array-like of shape (n_queries,) or (n_queries, n_cuts)
        Value of each query, from a method of :class:`HammingHistogram`. Queries that are NaN are
        left out.

    confidence_level : float, default=0.95
        Probability that the interval is to cover.

    n_resamples : int, default=2000
        Number of draws.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws; an int gives the same interval every time.

    Returns
    -------
    low, high : float, or ndarrays of shape (n_cuts,)
        Ends of the interval.

    Raises
    ------
    ValueError
        If fewer than two queries have a value, or a value is infinite.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", chapter 13,
           Chapman and Hall, 1993.

    Examples
    --------
    >>> from skhash.metrics import bootstrap_interval
    >>> low, high = bootstrap_interval([0.2, 0.4, 0.4, 0.7, 0.8], random_state=0)
    >>> bool(low < 0.5 < high)
    True
    """
    values = check_array(
        values, dtype=float, ensure_2d=False, ensure_all_finite="allow-nan", input_name="values"
    )
    values = values[~np.isnan(values).reshape(len(values), -1).any(axis=1)]
    if len(values) < 2:
        raise ValueError(
            f"A bootstrap over queries takes at least 2 queries that have a value, "
            f"got {len(values)}."
        )
    interval = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        method="percentile",
        confidence_level=confidence_level,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_VALUES // values.size),
        random_state=check_random_state(random_state),
    ).confidence_interval
    return interval.low, interval.high
