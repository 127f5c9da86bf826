"""Scorers: how scikit-learn's model selection asks how well a fitted hasher retrieves."""

from numbers import Integral

from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from skhash.codes import pack_codes
from skhash.metrics._closed_forms import METRICS
from skhash.metrics._ranking import _mean, _score_packed

__all__ = ["make_retrieval_scorer"]


@validate_params(
    {
        "metric": [StrOptions(set(METRICS))],
        "k": [Interval(Integral, 1, None, closed="left"), None],
    },
    prefer_skip_nested_validation=True,
)
def make_retrieval_scorer(metric="ndcg", *, k=None):
    """Make a scorer from a retrieval metric.

    The scorer hashes the samples that it is given as queries, ranks the *database* of the
    fitted hasher (its training set, or what `set_database` put in its place) by Hamming
    distance, and returns the metric's mean over queries. In cross-validation, then, the
    training folds are the database and the test fold holds the queries.

    Parameters
    ----------
    metric : {"acg", "average_precision", "ndcg", "precision", "recall", \
            "weighted_average_precision"}, default="ndcg"
        The metric: the function of :mod:`skhash.metrics` of that name and `_score`.

    k : int, default=None
        Number of ranks to look at; None means the whole database.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, Y)`` returns a float, greater is better. `estimator` is a fitted
        hasher or a :class:`~sklearn.pipeline.Pipeline` that ends in one, `X` are queries and
        `Y` their label sets in any form that the hasher's `fit` accepts. It raises TypeError
        for any other estimator, and ValueError where `Y` or the labels of the database are
        missing. It can be pickled, and takes no metadata.

    Raises
    ------
    ValueError
        If `metric` or `k` is none of the above (:class:`InvalidParameterError`).

    See Also
    --------
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
    return _RetrievalScorer(metric, k)


class _RetrievalScorer:
    """The callable behind :func:`make_retrieval_scorer`.

    Metadata routing takes an object without `get_metadata_routing` to request nothing, which
    is right: queries are weighted alike.
    """

    def __init__(self, metric, k):
        self._metric = metric
        self._k = k

    def __call__(self, estimator, X, Y=None):
        """Score the ranking of the estimator's database for the queries `X`.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a pipeline that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them.

        Y : {array-like, sparse matrix} of shape (n_queries, n_labels) or (n_queries,)
            Label sets of the queries.

        Returns
        -------
        score : float
            Mean of the metric over the queries.
        """
        hasher = _fitted_hasher(estimator)
        if Y is None:
            raise ValueError(f"{self!r} needs the label sets of the queries: pass Y beside X.")
        codes, labels = estimator.transform(X), hasher._encode_labels(Y)
        check_consistent_length(codes, labels)
        scores = _score_packed(
            self._metric,
            pack_codes(codes),
            pack_codes(labels),
            hasher.database_codes_,
            hasher.database_labels_,
            n_bits=codes.shape[1],
            k=self._k,
        )
        return _mean(scores)

    def __repr__(self):
        k = "" if self._k is None else f", k={self._k}"
        return f"make_retrieval_scorer({self._metric!r}{k})"

    def _accept_sample_weight(self):
        # Grid search with several scorers asks each of them when `fit` is given weights.
        return False


def _fitted_hasher(estimator):
    """Return the hasher at the end of `estimator`, ready to be scored, or raise."""
    hasher = estimator
    while isinstance(hasher, Pipeline):
        hasher = hasher.steps[-1][1]
    if not hasattr(hasher, "_encode_labels"):
        raise TypeError(
            "A retrieval scorer takes a hasher of skhash or a Pipeline that ends in one, "
            f"got {estimator!r}."
        )
    check_is_fitted(hasher, "database_codes_")
    if hasher.database_labels_ is None:
        raise ValueError(
            f"Scoring needs label sets in the database, and {type(hasher).__name__} was fit "
            "without: fit with Y or call set_database(X, Y)."
        )
    return hasher
