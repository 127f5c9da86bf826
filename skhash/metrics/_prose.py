"""What is said of each metric, and the docstrings of its function and of its method."""

from dataclasses import dataclass

from skhash.metrics._closed_forms import OPTIONS

__all__ = ["PROSE", "method_docstring", "score_docstring"]


@dataclass(frozen=True)
class Prose:
    """What is said of one metric.

    Parameters
    ----------
    summary : str
        First line of the docstring of the function.

    short : str
        First line of the docstring of the method.

    text : str
        What is summed, and what the sum is divided by.

    largest : str
        The largest value.

    references : tuple of str
        References from [2]_ on.

    example : tuple (str, str)
        Parameters of the example beside codes and labels, and the value.
    """

    summary: str
    short: str
    text: str
    largest: str
    references: tuple
    example: tuple


_MANNING = """C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval",
       chapter 8, Cambridge University Press, 2008."""

PROSE = {
    "acg": Prose(
        summary="Average cumulative gain: the mean relevance of the first `k` ranks.",
        short="Average cumulative gain.",
        text="""\
The sum of `r` over the first ``min(k, n_database)`` ranks [2]_ is divided by
``min(k, n_database)``.""",
        largest="the largest number of shared labels",
        references=(
            """K. Järvelin and J. Kekäläinen, "IR evaluation methods for retrieving highly
       relevant documents", SIGIR 2000.""",
        ),
        example=("k=2", "1.0"),
    ),
    "average_precision": Prose(
        summary=(
            "Average precision of the first `k` ranks, whose mean over queries is known as mAP."
        ),
        short="Average precision.",
        text="""\
An item is relevant if ``r > 0``. The precisions at the relevant ranks ``p <= k`` are summed
and divided by ``min(k, n_relevant)``, where `n_relevant` counts the relevant items of the
whole database [2]_: an order with relevant items first scores 1 at every `k`. Much code for deep
hashing computes what ``convention="authors"`` does, under the name of mAP@k.""",
        largest="1 (all relevant items first)",
        references=(_MANNING,),
        example=("", "0.708..."),
    ),
    "ndcg": Prose(
        summary="Normalised discounted cumulative gain of the first `k` ranks.",
        short="Normalised discounted cumulative gain.",
        text="""\
The gain of an item is ``2 ** r - 1``, or `r` by `gain`, and its discount at rank `p` is
``1 / log2(1 + p)``. The discounted cumulative gain [2]_ of the first `k` ranks is divided by
that of the ideal order of the whole database for the query.""",
        largest="1 (the ideal order)",
        references=(
            """K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
       ACM Transactions on Information Systems 20(4), 2002.""",
        ),
        example=("", "0.811..."),
    ),
    "precision": Prose(
        summary="Fraction of the first `k` ranks that are relevant.",
        short="Fraction of the ranks that are relevant.",
        text="""\
An item is relevant if ``r > 0``. The number of relevant items in the first
``min(k, n_database)`` ranks is divided by ``min(k, n_database)`` [2]_.""",
        largest="1",
        references=(_MANNING,),
        example=("k=2", "0.5"),
    ),
    "recall": Prose(
        summary="Fraction of the relevant items that the first `k` ranks hold.",
        short="Fraction of the relevant items that are found.",
        text="""\
An item is relevant if ``r > 0``. The number of relevant items in the first `k` ranks is divided
by the number of relevant items of the whole database [2]_.""",
        largest="1",
        references=(_MANNING,),
        example=("k=2", "0.5"),
    ),
    "reciprocal_rank": Prose(
        summary=(
            "Reciprocal of the rank of the first relevant item, whose mean over queries is MRR."
        ),
        short="Reciprocal of the first relevant rank.",
        text="""\
An item is relevant if ``r > 0``. A query with a relevant item, but none in the first `k`
ranks, scores 0 [2]_.""",
        largest="1",
        references=(
            """E. M. Voorhees, "The TREC-8 question answering track report", TREC-8, 1999.""",
        ),
        example=("k=2", "0.75"),
    ),
    "weighted_average_precision": Prose(
        summary="Average precision weighted by relevance: ACG at the relevant ranks.",
        short="Average precision weighted by relevance.",
        text="""\
An item is relevant if ``r > 0``. The average cumulative gains (mean `r` of the first `p`
ranks) at the relevant ranks ``p <= k`` are summed and divided by ``min(k, n_relevant)``,
where `n_relevant` counts the relevant items of the whole database. This is the weighted mAP
of deep semantic ranking [2]_. Where no two items share more than one label it equals
:func:`average_precision_score`.

The script `evaluate_nuswide.py` of the authors [3]_ has another rule, ``convention="authors"``. By
it, a query that has no relevant item among the ranks looked at scores 0 and counts in the mean.
The script leaves the order of ties to a sort, where `ties` is exact, and drops queries without
labels, as ``empty="nan"`` does.""",
        largest="the largest number of shared labels",
        references=(
            """F. Zhao, Y. Huang, L. Wang and T. Tan, "Deep Semantic Ranking Based Hashing for
       Multi-Label Image Retrieval", CVPR 2015.""",
            "https://github.com/zhaofang0627/cuda-convnet-for-hashing",
        ),
        example=("", "1.25"),
    ),
}

_OPTION_PROSE = {
    "gain": "Gain of an item of relevance `r`: ``2 ** r - 1`` or `r`.",
    "convention": """\
What the sum is divided by, and the `k` that None stands for. "skhash" divides by
    ``min(k, n_relevant)``. "authors" divides by the number of relevant items *among the ranks
    looked at*, be they few, and looks at 5,000 ranks if neither `k` nor `radius` is given.""",
}

_SCORE = """\
{summary}

The relevance `r` of an item is the number of labels it shares with the query. Items are
ranked by Hamming distance. Over those at equal distance the score is the exact expectation
over all orders [1]_, unless `ties` says otherwise. A query without any relevant item in the
database scores 0, unless `empty` says otherwise.

{text}

Parameters
----------
query_codes : array-like of shape (n_queries, n_bits)
    Codes of the queries, 0 and 1.

query_labels : {{array-like, sparse matrix}} of shape (n_queries, n_labels), or array-like of \
shape (n_queries,)
    Label sets of the queries: an indicator matrix of 0 and 1, or class labels.

database_codes : array-like of shape (n_database, n_bits)
    Codes of the items to rank, 0 and 1.

database_labels : {{array-like, sparse matrix}} of shape (n_database, n_labels), or array-like of \
shape (n_database,)
    Label sets of the items to rank, in the form of `query_labels`.

k : int, default=None
    Number of ranks to look at. None, and any `k` larger than the database, means the
    whole database.

radius : int, default=None
    Look at the items within this Hamming distance instead: a `k` of each query's own. A
    query that has no item there scores 0.

ties : {{"mean", "best", "worst"}}, default="mean"
    Value over the orders of the items at equal distance: their mean, or the best or worst
    that an order has.

empty : {{0, 1, "nan", "raise"}}, default=0
    Value of a query without any relevant item in the database. "nan" leaves it out of the
    mean, which is NaN if no query is left; "raise" raises ValueError.

{options}sample_weight : array-like of shape (n_queries,), default=None
    Weights of the queries in the mean, not negative. None weighs all alike.

Returns
-------
score : float
    Mean over queries, between 0 and {largest}.

Raises
------
ValueError
    If codes or indicator matrices hold other values than 0 and 1, codes or labels are empty or of
    another shape, differ in length, if queries and database differ in `n_bits` or `n_labels`, if
    only one of them has class labels, if both `k` and `radius` are given, if `sample_weight` has
    another length, is negative somewhere or 0 everywhere, or by `empty`.

See Also
--------
HammingHistogram.{metric} : The same for each query, at several cut-offs.

References
----------
{references}

Examples
--------
>>> from skhash.metrics import {metric}_score
>>> query_codes, query_labels = [[0, 0]], [[1, 1, 0]]
>>> database_codes = [[0, 1], [1, 0], [1, 1]]
>>> database_labels = [[1, 1, 0], [0, 0, 1], [1, 0, 0]]
>>> {metric}_score(query_codes, query_labels, database_codes, database_labels{example})
{value}
"""

_METHOD = """\
{short}

:func:`~skhash.metrics.{metric}_score` has the definition.

Parameters
----------
k : int or array-like of shape (n_cuts,), default=None
    Number of ranks to look at. None, and any `k` larger than the database, means the
    whole database.

radius : int or array-like of shape (n_cuts,), default=None
    Look at the items within this Hamming distance instead.

ties : {{"mean", "best", "worst"}}, default="mean"
    Value over the orders of the items at equal distance: their mean, or the best or worst
    that an order has.

empty : {{0, 1, "nan", "raise"}}, default=0
    Value of a query without any relevant item in the database.

{options}Returns
-------
values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
    Value of each query, between 0 and {largest}.

Examples
--------
>>> from skhash.metrics import HammingHistogram
>>> histogram = HammingHistogram([[[0, 0, 0], [1, 0, 1], [0, 1, 0]]])
>>> histogram.{metric}({example}).tolist()
[{value}]
"""

_MCSHERRY = """F. McSherry and M. Najork, "Computing information retrieval performance measures
       efficiently in the presence of tied scores", ECIR 2008."""


def score_docstring(metric):
    """Return the docstring of the function of a metric.

    Parameters
    ----------
    metric : str
        Name of the metric.

    Returns
    -------
    docstring : str
        In numpydoc's form.
    """
    prose = PROSE[metric]
    references = [
        f".. [{number}] {reference}"
        for number, reference in enumerate((_MCSHERRY, *prose.references), 1)
    ]
    example = prose.example[0] and f", {prose.example[0]}"
    return _fill(_SCORE, metric, references="\n".join(references), example=example)


def method_docstring(metric):
    """Return the docstring of the method of a metric.

    Parameters
    ----------
    metric : str
        Name of the metric.

    Returns
    -------
    docstring : str
        In numpydoc's form.
    """
    return _fill(_METHOD, metric, example=PROSE[metric].example[0])


def _fill(template, metric, **parts):
    """Return a template filled with the prose of a metric and of its options."""
    options = ""
    for name, values in OPTIONS.get(metric, {}).items():
        names = ", ".join(f'"{value}"' for value in values)
        options += f'{name} : {{{names}}}, default="{values[0]}"\n    {_OPTION_PROSE[name]}\n\n'
    prose = vars(PROSE[metric]) | {"value": PROSE[metric].example[1]}
    return template.format(**(prose | parts), metric=metric, options=options)
