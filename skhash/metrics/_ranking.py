"""Retrieval metrics of a ranking by Hamming distance, exact under ties.

Items at equal distance have no order, so a metric of the ranking is its expectation over all
orders of the items at equal distance (McSherry and Najork, ECIR 2008). The functions here are
means over queries, in one call. :class:`~skhash.metrics.HammingHistogram` has the same metrics for
each query, at several cut-offs.
"""

import numpy as np

from skhash._sklearn import check_sample_weight
from skhash.metrics._closed_forms import evaluate, fill_empty
from skhash.metrics._counting import hamming_histogram, memory_bytes, slices
from skhash.metrics._parameters import (
    CODES_AND_LABELS,
    CUT,
    N_BITS,
    POLICIES,
    check_one_cut,
    of_metric,
)
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._weighted import weighted_rankings

__all__ = [
    "acg_score",
    "average_precision_score",
    "mean_over_queries",
    "ndcg_score",
    "precision_score",
    "recall_score",
    "reciprocal_rank_score",
    "score_queries",
    "weighted_average_precision_score",
]

# Tables of the size of the counts that a batch of queries holds at once, with them.
_TABLES = 4
_CONSTRAINTS = {
    **CODES_AND_LABELS,
    **CUT,
    **POLICIES,
    "sample_weight": ["array-like", None],
    "query_weights": ["array-like", None],
    **N_BITS,
}


def score_queries(problem, metric, *, k=None, radius=None, ties="mean", empty=0, **options):
    """Evaluate a metric for every query, of codes and label sets that are validated.

    Queries are taken in batches whose tables fit into the `working_memory` of scikit-learn.

    Parameters
    ----------
    problem : RetrievalProblem
        Queries and database.

    metric : str
        Name of the metric.

    k, radius, ties, empty, **options
        As :meth:`HammingHistogram.evaluate` takes them, at most one cut-off.

    Returns
    -------
    values : ndarray of shape (n_queries,)
        Value of each query.

    Raises
    ------
    ValueError
        By `empty`, or if `radius` is given where bits have weights.

    Examples
    --------
    >>> from skhash.metrics._problem import RetrievalProblem
    >>> from skhash.metrics._ranking import score_queries
    >>> problem = RetrievalProblem.from_codes([[0, 0], [1, 1]], ["cat", "dog"],
    ...                                       [[0, 1], [1, 1]], ["dog", "cat"])
    >>> score_queries(problem, "reciprocal_rank")
    array([0.5, 0.5])
    """
    if problem.query_weights is not None and radius is not None:
        raise ValueError(
            f"radius={radius} is a number of bits, which says nothing of distances in which bits "
            "have weights. Give k, a number of ranks."
        )
    values = np.empty(problem.n_queries)
    if problem.query_weights is not None:
        for row, ranking in enumerate(weighted_rankings(problem, k)):
            values[row] = ranking.evaluate(metric, k=k, ties=ties, **options)
        return fill_empty(values, empty)
    query_bytes = _TABLES * 8 * (problem.n_bits + 1) * (problem.max_relevance + 1)
    for rows in slices(problem.n_queries, max(1, int(memory_bytes() // query_bytes))):
        counts = hamming_histogram(problem.of_queries(rows))
        values[rows] = evaluate(metric, counts, k=k, radius=radius, ties=ties, **options)
    return fill_empty(values, empty)


def mean_over_queries(values, sample_weight=None):
    """Average a metric over the queries that have a value.

    Parameters
    ----------
    values : ndarray of shape (n_queries,)
        Value of each query. Those that are NaN are left out.

    sample_weight : ndarray of shape (n_queries,), default=None
        Weights of the queries. None weighs all alike.

    Returns
    -------
    mean : float
        The mean, NaN if no query that has weight is left.
    """
    has_value = ~np.isnan(values)
    weights = None if sample_weight is None else sample_weight[has_value]
    if not (has_value if weights is None else weights).any():
        return np.nan
    return float(np.average(values[has_value], weights=weights))


def _score(metric):
    """Return the function that averages a metric over the queries."""

    def score(
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        k=None,
        radius=None,
        ties="mean",
        empty=0,
        sample_weight=None,
        query_weights=None,
        n_bits=None,
        **options,
    ):
        """$summary.

        The relevance `r` of an item is the number of labels it shares with the query. Items are
        ranked by Hamming distance. Over those at equal distance the score is the exact expectation
        over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in
        the database scores 0, unless `empty` says otherwise.

        $text

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

        $options

        sample_weight : array-like of shape (n_queries,), default=None
            Weights of the queries in the mean, not negative. None gives all the same weight.

        query_weights : array-like of shape (n_queries, n_bits), default=None
            Weights of the bits of each query, not negative, such as those of
            :meth:`skhash.base.BaseHasher.bit_weights`. The distance of an item is then the sum of
            the weights of the bits that differ. None gives all the weight 1.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
            None: they are not.

        Returns
        -------
        score : float
            Mean over queries, between 0 and $largest.

        Raises
        ------
        ValueError
            If codes or indicator matrices hold other values than 0 and 1, codes or labels are
            empty or of another shape, differ in length, if queries and database differ in
            `n_bits`, `n_labels` or names of labels, if only one of them has class labels, or one
            has strings and the other numbers, if both `k` and `radius` are given, if
            `sample_weight` has another length, is negative somewhere or 0 everywhere, if
            `query_weights` have another shape, are negative, or go with `radius`, or by `empty`.

        See Also
        --------
        HammingHistogram.$metric : The same for each query, at several cut-offs.

        References
        ----------
        .. [1] F. McSherry and M. Najork, "Computing information retrieval performance measures
               efficiently in the presence of tied scores", ECIR 2008.
        $references

        Examples
        --------
        >>> from skhash.metrics import ${metric}_score
        >>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
        >>> database_codes = [[0, 1], [1, 0], [1, 1]]
        >>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
        >>> ${metric}_score(query_codes, query_labels, database_codes, database_labels, k=2)
        $value
        """
        check_one_cut(k, radius)
        problem = RetrievalProblem.from_codes(
            query_codes,
            query_labels,
            database_codes,
            database_labels,
            n_bits=n_bits,
            query_weights=query_weights,
        )
        if sample_weight is not None:
            sample_weight = check_sample_weight(
                sample_weight, problem.query_codes, ensure_non_negative=True
            )
        cut = {"k": k, "radius": radius}
        values = score_queries(problem, metric, **cut, ties=ties, empty=empty, **options)
        return mean_over_queries(values, sample_weight)

    return of_metric(score, metric, f"{metric}_score", _CONSTRAINTS)


acg_score = _score("acg")
average_precision_score = _score("average_precision")
ndcg_score = _score("ndcg")
precision_score = _score("precision")
recall_score = _score("recall")
reciprocal_rank_score = _score("reciprocal_rank")
weighted_average_precision_score = _score("weighted_average_precision")
