"""A metric against the number of ranks, as a picture."""

from numbers import Real

import numpy as np

from skhash._sklearn import Interval, StrOptions, validate_params
from skhash.metrics._intervals import bootstrap_interval
from skhash.metrics._parameters import METRIC, POLICIES
from skhash.metrics._plot._curve import CurveDisplay
from skhash.metrics._plot._style import scale_of_counts

__all__ = ["RankingCurveDisplay"]

_SHORT = {"acg": "ACG", "average_precision": "average precision", "ndcg": "NDCG"}
_N_CUTS = 50
_CONSTRAINTS = {
    **METRIC,
    "k": ["array-like", None],
    "ties": POLICIES["ties"],
    "confidence_level": [Interval(Real, 0, 1, closed="neither"), None],
    "xscale": [StrOptions({"log", "linear"})],
}


class RankingCurveDisplay(CurveDisplay):
    """A metric of the ranking against the number of ranks that it looks at.

    :meth:`from_estimator` and :meth:`from_codes` make it.

    Parameters
    ----------
    k : array-like of shape (n_cuts,)
        Numbers of ranks.

    values : array-like of shape (n_cuts,)
        The metric at each, the mean over queries.

    band : tuple (low, high) of array-likes of shape (n_cuts,), default=None
        A confidence interval.

    metric : str, default="ndcg"
        Name of the metric.

    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.

    figure_ : matplotlib Figure
        The figure of these.

    line_ : matplotlib Line2D
        The curve.

    band_ : matplotlib PolyCollection or None
        The confidence interval.

    See Also
    --------
    PrecisionRecallDisplay : By the Hamming radius.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn.datasets import load_digits
    >>> from skhash import ITQHasher, LSHHasher
    >>> from skhash.metrics import RankingCurveDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> ax = None
    >>> for hasher in (ITQHasher(16, random_state=0), LSHHasher(16, random_state=0)):
    ...     display = RankingCurveDisplay.from_estimator(
    ...         hasher.fit(X[300:], y[300:]), X[:300], y[:300], metric="precision", ax=ax)
    ...     ax = display.ax_
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['ITQHasher, 16 bits', 'LSHHasher, 16 bits']
    """

    def __init__(self, k, values, *, band=None, metric="ndcg", name=None):
        self.k, self.values, self.band = k, values, band
        self.metric, self.name = metric, name

    @classmethod
    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        metric="ndcg",
        k=None,
        ties="mean",
        confidence_level=None,
        xscale="log",
        name=None,
        title=None,
        ax=None,
        **kwargs,
    ):
        """Draw for the queries `X` over the database of a fitted hasher.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them.

        y : {array-like, sparse matrix} of shape (n_queries, n_labels), or array-like of shape \
                (n_queries,)
            Their label sets, in any form that the hasher's `fit` accepts.

        metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
                "weighted_average_precision"}, default="ndcg"
            The metric.

        k : array-like of shape (n_cuts,), default=None
            Numbers of ranks. None takes up to 50, from 1 to the size of the database: in about
            equal ratios, or at about equal distances where `xscale` is "linear".

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        confidence_level : float, default=None
            Level of the band, see :func:`bootstrap_interval`. None draws no band.

        xscale : {"log", "linear"}, default="log"
            Scale of the numbers of ranks.

        name : str, default=None
            Name in the legend; None is the class of the hasher and its number of bits, such as
            "ITQHasher, 16 bits".

        title : str, default=None
            Title of the axes; None leaves it as it is.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.
        """
        options = {"k": k, "ties": ties, "confidence_level": confidence_level, **kwargs}
        options |= {"metric": metric, "xscale": xscale, "name": name, "title": title, "ax": ax}
        return super().from_estimator(estimator, X, y, **options)

    @classmethod
    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_bits=None,
        metric="ndcg",
        k=None,
        ties="mean",
        confidence_level=None,
        xscale="log",
        name=None,
        title=None,
        ax=None,
        **kwargs,
    ):
        """Draw for codes and label sets.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 or 1; or packed codes, with `n_bits`.

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

        metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
                "weighted_average_precision"}, default="ndcg"
            The metric.

        k : array-like of shape (n_cuts,), default=None
            Numbers of ranks. None takes up to 50, from 1 to the size of the database: in about
            equal ratios, or at about equal distances where `xscale` is "linear".

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        confidence_level : float, default=None
            Level of the band, see :func:`bootstrap_interval`. None draws no band.

        xscale : {"log", "linear"}, default="log"
            Scale of the numbers of ranks.

        name : str, default=None
            Name in the legend.

        title : str, default=None
            Title of the axes; None leaves it as it is.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.
        """
        problem = query_codes, query_labels, database_codes, database_labels
        options = {"k": k, "ties": ties, "confidence_level": confidence_level, **kwargs}
        options |= {"metric": metric, "xscale": xscale, "name": name, "title": title, "ax": ax}
        return super().from_codes(*problem, n_bits=n_bits, **options)

    @classmethod
    def _from_histogram(
        cls, histogram, *, metric, k, ties, confidence_level, xscale, name, title, ax, **kwargs
    ):
        if k is None:
            space = np.geomspace if xscale == "log" else np.linspace
            cuts = space(1, max(1, histogram.n_database), _N_CUTS)
            k = np.unique(np.rint(cuts).astype(int))
        values = histogram.evaluate(metric, k=np.asarray(k), ties=ties)
        band = None
        if confidence_level is not None:
            band = bootstrap_interval(values, confidence_level=confidence_level, random_state=0)
        display = cls(k, values.mean(axis=0), band=band, metric=metric, name=name)
        return display.plot(ax, xscale=xscale, title=title, **kwargs)

    def plot(self, ax=None, *, xscale="log", name=None, title=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        xscale : {"log", "linear"}, default="log"
            Scale of the numbers of ranks.

        name : str, default=None
            Name in the legend; None takes that of the display.

        title : str, default=None
            Title of the axes; None leaves it as it is.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display.
        """
        ax, name = self._axes(ax), self.name if name is None else name
        is_point = len(self.k) == 1
        style = {"label": name, "marker": "o" if is_point else None, **kwargs}
        (self.line_,) = ax.plot(self.k, self.values, **style)
        self.band_ = None
        if self.band is not None:
            # The band of a point has no width, and is seen by its edge.
            style = {"color": self.line_.get_color(), "alpha": 0.2, "linewidth": 4 * is_point}
            self.band_ = ax.fill_between(self.k, *self.band, **style)
        label = _SHORT.get(self.metric, self.metric.replace("_", " "))
        scale_of_counts(ax.xaxis, xscale)
        return self._finish(title, xlabel="ranks $k$", ylabel=f"{label} at $k$")
