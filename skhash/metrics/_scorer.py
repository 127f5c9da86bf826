"""Scorers: how scikit-learn's model selection asks how well a fitted hasher retrieves."""

import re

from skhash._sklearn import StrOptions, validate_params
from skhash.metrics._closed_forms import METRICS
from skhash.metrics._parameters import CUT, METRIC, POLICIES, check_one_cut, check_options
from skhash.metrics._problem import RetrievalProblem
from skhash.metrics._ranking import mean_over_queries, score_queries

__all__ = ["get_scorer", "get_scorer_names", "get_scorers", "make_retrieval_scorer"]

_DEFAULTS = {
    "k": None,
    "radius": None,
    "protocol": "database",
    "asymmetric": False,
    "ties": "mean",
    "empty": 0,
}


def get_scorer_names():
    """Names of the metrics that :func:`get_scorer` takes.

    Returns
    -------
    names : list of str
        Sorted names, each that of a function of :mod:`skhash.metrics` without its ``_score``.

    Examples
    --------
    >>> from skhash.metrics import get_scorer_names
    >>> get_scorer_names()
    ['acg', 'average_precision', 'ndcg', 'precision', 'recall', 'reciprocal_rank',
    'weighted_average_precision']
    """
    return sorted(METRICS)


@validate_params({"scoring": [str]}, prefer_skip_nested_validation=True)
def get_scorer(scoring):
    """Get a scorer by its name.

    Parameters
    ----------
    scoring : str
        A metric of :func:`get_scorer_names`, alone for the whole database, with ``@k`` for the
        first `k` ranks or with ``@r`` and a radius for the items within that Hamming distance:
        ``"average_precision"``, ``"ndcg@100"``, ``"precision@r2"``.

    Returns
    -------
    scorer : callable
        What :func:`make_retrieval_scorer` makes with these.

    Raises
    ------
    ValueError
        If there is no such metric, or the cut-off is not one. The error lists the names.

    See Also
    --------
    get_scorers : Several by their names.
    make_retrieval_scorer : The same with further options.

    Examples
    --------
    >>> from skhash.metrics import get_scorer
    >>> get_scorer("ndcg@100")
    make_retrieval_scorer('ndcg', k=100)
    >>> get_scorer("precision@r2")
    make_retrieval_scorer('precision', radius=2)
    """
    match = re.fullmatch(r"([a-z_]+)(?:@([1-9][0-9]*)|@r([0-9]+))?", scoring)
    if match is None or match[1] not in METRICS:
        raise ValueError(
            f"{scoring!r} is not a valid scoring value. Take one of {get_scorer_names()}, alone "
            "or with a cut-off: 'ndcg@100' looks at 100 ranks, 'ndcg@r2' at the items within "
            "Hamming distance 2."
        )
    k, radius = (None if group is None else int(group) for group in match.groups()[1:])
    return make_retrieval_scorer(match[1], k=k, radius=radius)


@validate_params({"scoring": [list, tuple, set]}, prefer_skip_nested_validation=False)
def get_scorers(scoring):
    """Get several scorers by their names, as a dict that scikit-learn takes as `scoring`.

    Parameters
    ----------
    scoring : list, tuple or set of str
        Names as :func:`get_scorer` takes them, all different.

    Returns
    -------
    scorers : dict of str to callable
        The scorers by their names, for `cross_validate`, `GridSearchCV` and the like.

    Raises
    ------
    ValueError
        If there is none, a name is given twice, or is not known.

    See Also
    --------
    get_scorer : One of them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_validate
    >>> from skhash import LSHHasher
    >>> from skhash.metrics import get_scorers
    >>> X, y = load_digits(return_X_y=True)
    >>> results = cross_validate(LSHHasher(16, random_state=0), X, y,
    ...                          scoring=get_scorers(["ndcg@100", "average_precision"]))
    >>> sorted(name for name in results if name.startswith("test"))
    ['test_average_precision', 'test_ndcg@100']
    """
    names = list(scoring)
    if not names or len({*names}) < len(names):
        raise ValueError(f"scoring should be names that are all different, got {names}.")
    return {name: get_scorer(name) for name in names}


@validate_params(
    METRIC
    | CUT
    | POLICIES
    | {
        "protocol": [StrOptions({"database", "leave_one_out"})],
        "asymmetric": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_retrieval_scorer(
    metric="ndcg",
    *,
    k=None,
    radius=None,
    protocol="database",
    asymmetric=False,
    ties="mean",
    empty=0,
    **options,
):
    """Make a scorer from a retrieval metric.

    The scorer takes the samples that it is given as queries and hashes them. It ranks the
    *database* of the fitted hasher (its training set, or what `set_database` put in its place) by
    Hamming distance, and returns the metric's mean over queries. So in cross-validation the
    training folds are the database, and the test fold holds the queries.

    Parameters
    ----------
    metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
            "weighted_average_precision"}, default="ndcg"
        The metric: the function of :mod:`skhash.metrics` of that name and `_score`.

    k : int, default=None
        Number of ranks to look at; None means the whole database.

    radius : int, default=None
        Look at the items within this Hamming distance instead.

    protocol : {"database", "leave_one_out"}, default="database"
        What a query ranks: the hasher's database, or all the other queries. The latter needs no
        labels in the database, and in cross-validation no item of the training folds takes part.

    asymmetric : bool, default=False
        Whether the bits of a query weigh what the hasher's `bit_weights` says of how sure they
        are. It does not go with `radius`.

    ties : {"mean", "best", "worst"}, default="mean"
        Value over the orders of the items at equal distance: their mean, or the best or worst
        that an order has.

    empty : {0, 1, "nan", "raise"}, default=0
        Value of a query that has no relevant item among those that it ranks. "nan" leaves it
        out of the mean, "raise" raises ValueError.

    **options : dict
        What else the metric takes: `gain` for "ndcg", `convention` for both average precisions.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns a float, greater is better. `estimator` is a fitted
        hasher or a :class:`~sklearn.pipeline.Pipeline` that ends in one, `X` are queries and
        `y` their label sets in any form that the hasher's `fit` accepts. It raises TypeError
        for any other estimator, and ValueError where `y` or the labels of the database are
        missing. It can be pickled, and takes no metadata.

    Raises
    ------
    ValueError
        If a parameter is none of the above, or both `k` and `radius` are given, or `radius` with
        `asymmetric`.

    TypeError
        If the metric does not take an option.

    See Also
    --------
    get_scorer : Scorers by name.
    skhash.metrics.ndcg_score : The default metric, with its conventions.

    Examples
    --------
    Pass it to scikit-learn as `scoring`, alone or several in a dict:

    >>> from skhash.metrics import make_retrieval_scorer
    >>> make_retrieval_scorer(k=100)
    make_retrieval_scorer('ndcg', k=100)
    >>> scoring = {"mAP": make_retrieval_scorer("average_precision"),
    ...            "ACG@100": make_retrieval_scorer("acg", k=100)}
    """
    check_one_cut(k, radius)
    check_options("make_retrieval_scorer", metric, options)
    if asymmetric and radius is not None:
        raise ValueError(
            f"radius={radius} is a number of bits, which an asymmetric ranking does not count. "
            "Give k, a number of ranks."
        )
    given = {"k": k, "radius": radius, "ties": ties, "empty": empty}
    return _RetrievalScorer(metric, protocol=protocol, asymmetric=asymmetric, **given, **options)


class _RetrievalScorer:
    """The callable behind :func:`make_retrieval_scorer`.

    It has no `get_metadata_routing`, so metadata routing takes it to request nothing. That is
    right, since it gives all queries the same weight.
    """

    def __init__(self, metric, *, protocol, asymmetric, **options):
        self._metric, self._options = metric, options
        self._protocol, self._asymmetric = protocol, asymmetric

    def __call__(self, estimator, X, y=None):
        """Score the ranking for the queries `X`.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a pipeline that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels) or (n_queries,)
            Label sets of the queries.

        Returns
        -------
        score : float
            Mean of the metric over the queries.
        """
        leave_one_out = self._protocol == "leave_one_out"
        problem = RetrievalProblem.from_estimator(
            estimator,
            X,
            y,
            asker=repr(self),
            leave_one_out=leave_one_out,
            asymmetric=self._asymmetric,
        )
        return mean_over_queries(score_queries(problem, self._metric, **self._options))

    def __repr__(self):
        options = {
            **self._options,
            "protocol": self._protocol,
            "asymmetric": self._asymmetric,
        }
        given = "".join(
            f", {name}={options[name]!r}"
            for name in [*_DEFAULTS, *sorted(options.keys() - _DEFAULTS)]
            if name not in _DEFAULTS or options[name] != _DEFAULTS[name]
        )
        return f"make_retrieval_scorer({self._metric!r}{given})"

    def _accept_sample_weight(self):
        # Grid search with several scorers asks each of them when `fit` is given weights.
        return False
