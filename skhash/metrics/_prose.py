"""What is said of each metric, for the docstrings of its function and of its method."""

import re
from dataclasses import dataclass
from inspect import cleandoc
from string import Template

from skhash.metrics._closed_forms import OPTIONS

__all__ = ["PROSE", "docstring"]


@dataclass(frozen=True)
class Prose:
    """What is said of one metric.

    Parameters
    ----------
    summary : str
        First line of the docstrings, without its period.

    text : str
        What is summed, and what the sum is divided by.

    largest : str
        The largest value.

    references : str
        References from [2]_ on.

    value : str
        Value of the example, which looks at 2 ranks.
    """

    summary: str
    text: str
    largest: str
    references: str
    value: str


_MANNING = """\
.. [2] C. D. Manning, P. Raghavan and H. Schütze, "Introduction to Information Retrieval",
       chapter 8, Cambridge University Press, 2008."""

PROSE = {
    "acg": Prose(
        summary="Average cumulative gain: the mean relevance of the first `k` ranks",
        text="""\
The sum of `r` over the first ``min(k, n_database)`` ranks [2]_ is divided by
``min(k, n_database)``.""",
        largest="the largest number of shared labels",
        references="""\
.. [2] K. Järvelin and J. Kekäläinen, "IR evaluation methods for retrieving highly
       relevant documents", SIGIR 2000.""",
        value="1.0",
    ),
    "average_precision": Prose(
        summary="Average precision of the first `k` ranks; its mean over queries is known as mAP",
        text="""\
An item is relevant if ``r > 0``. The precisions at the relevant ranks ``p <= k`` are summed
and divided by ``min(k, n_relevant)``, where `n_relevant` counts the relevant items of the
whole database [2]_: an order with relevant items first scores 1 at every `k`. Much code for
deep hashing computes what ``convention="authors"`` does, under the name of mAP@k.""",
        largest="1 (all relevant items first)",
        references=_MANNING,
        value="0.375",
    ),
    "ndcg": Prose(
        summary="Normalised discounted cumulative gain of the first `k` ranks",
        text="""\
The gain of an item is ``2 ** r - 1``, or `r` by `gain`, and its discount at rank `p` is
``1 / log2(1 + p)``. The discounted cumulative gain [2]_ of the first `k` ranks is divided by
that of the ideal order of the whole database for the query.""",
        largest="1 (the ideal order)",
        references="""\
.. [2] K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
       ACM Transactions on Information Systems 20(4), 2002.""",
        value="0.673...",
    ),
    "precision": Prose(
        summary="Fraction of the first `k` ranks that are relevant",
        text="""\
An item is relevant if ``r > 0``. The number of relevant items in the first
``min(k, n_database)`` ranks is divided by ``min(k, n_database)`` [2]_.""",
        largest="1",
        references=_MANNING,
        value="0.5",
    ),
    "recall": Prose(
        summary="Fraction of the relevant items that the first `k` ranks hold",
        text="""\
An item is relevant if ``r > 0``. The number of relevant items in the first `k` ranks is
divided by the number of relevant items of the whole database [2]_.""",
        largest="1",
        references=_MANNING,
        value="0.5",
    ),
    "reciprocal_rank": Prose(
        summary="Reciprocal of the first relevant rank; its mean over queries is known as MRR",
        text="""\
An item is relevant if ``r > 0``. A query with a relevant item, but none in the first `k`
ranks, scores 0 [2]_.""",
        largest="1",
        references="""\
.. [2] E. M. Voorhees, "The TREC-8 question answering track report", TREC-8, 1999.""",
        value="0.75",
    ),
    "weighted_average_precision": Prose(
        summary="Average precision weighted by relevance: ACG at the relevant ranks",
        text="""\
An item is relevant if ``r > 0``. The average cumulative gains (mean `r` of the first `p`
ranks) at the relevant ranks ``p <= k`` are summed and divided by ``min(k, n_relevant)``,
where `n_relevant` counts the relevant items of the whole database. This is the weighted mAP
of deep semantic ranking [2]_. Where no two items share more than one label it equals
:func:`average_precision_score`.

The script `evaluate_nuswide.py` of the authors [3]_ has another rule,
``convention="authors"``. By it, a query that has no relevant item among the ranks looked at
scores 0 and counts in the mean. The script leaves the order of ties to a sort, where `ties`
is exact, and drops queries without labels, as ``empty="nan"`` does.""",
        largest="the largest number of shared labels",
        references="""\
.. [2] F. Zhao, Y. Huang, L. Wang and T. Tan, "Deep Semantic Ranking Based Hashing for
       Multi-Label Image Retrieval", CVPR 2015.
.. [3] https://github.com/zhaofang0627/cuda-convnet-for-hashing""",
        value="0.75",
    ),
}

_OPTION_PROSE = {
    "gain": "Gain of an item of relevance `r`: ``2 ** r - 1`` or `r`.",
    "convention": """\
What the sum is divided by, and the `k` that None stands for. "skhash" divides by
    ``min(k, n_relevant)``. "authors" divides by the number of relevant items *among the ranks
    looked at*, be they few, and looks at 5,000 ranks if neither `k` nor `radius` is given.""",
}


def docstring(template, metric):
    """Return the docstring of a function or method of one metric.

    Parameters
    ----------
    template : str
        Docstring for any metric, with names of what to fill in after a dollar sign.

    metric : str
        Name of the metric.

    Returns
    -------
    docstring : str
        In numpydoc's form, without indentation.
    """
    options = []
    for name, values in OPTIONS.get(metric, {}).items():
        names = ", ".join(f'"{value}"' for value in values)
        options.append(f'{name} : {{{names}}}, default="{values[0]}"\n    {_OPTION_PROSE[name]}')
    parts = vars(PROSE[metric]) | {"metric": metric, "options": "\n\n".join(options)}
    filled = Template(cleandoc(template)).substitute(parts)
    # A metric without options of its own leaves empty lines in their place.
    return re.sub("\n{3,}", "\n\n", filled)
