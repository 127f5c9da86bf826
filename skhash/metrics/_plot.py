"""Displays: what a ranking is worth, what codes are like, and what is found, as pictures."""

import textwrap
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_array

from skhash._search import nearest
from skhash._sklearn import (
    Interval,
    StrOptions,
    check_matplotlib_support,
    validate_params,
)
from skhash.codes import as_bits, pack_codes, unpack_codes
from skhash.metrics._closed_forms import METRICS
from skhash.metrics._fitted import fitted_hasher, packed_problem
from skhash.metrics._histogram import HammingHistogram, pack_problem
from skhash.metrics._ranking import bootstrap_interval

__all__ = [
    "CodeDiagnosticsDisplay",
    "PrecisionRecallDisplay",
    "RankingCurveDisplay",
    "RetrievalDisplay",
]

_SHORT = {"acg": "ACG", "average_precision": "average precision", "ndcg": "NDCG"}
_N_CUTS = 50
_WRONG = "#c62828"


class _CurveDisplay:
    """What the displays of curves share: they are made of a histogram, and drawn on one axes."""

    @classmethod
    def from_estimator(cls, estimator, X, Y, *, name=None, ax=None, **kwargs):
        """Draw for the queries `X` over the database of a fitted hasher.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them.

        Y : {array-like, sparse matrix} of shape (n_queries, n_labels) or (n_queries,)
            Their label sets, in any form that the hasher's `fit` accepts.

        name : str, default=None
            Name in the legend; None is the class of the estimator.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : object
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        packed, n_bits = packed_problem(estimator, X, Y)
        name = type(estimator).__name__ if name is None else name
        histogram = HammingHistogram.from_packed(*packed, n_bits=n_bits)
        return cls._from_histogram(histogram, name=name, ax=ax, **kwargs)

    @classmethod
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        name=None,
        ax=None,
        **kwargs,
    ):
        """Draw for codes and label sets.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 or 1.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels)
            Label indicators of the queries.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to rank.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels)
            Label indicators of the items to rank.

        name : str, default=None
            Name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : object
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        packed, n_bits = pack_problem(query_codes, query_labels, database_codes, database_labels)
        histogram = HammingHistogram.from_packed(*packed, n_bits=n_bits)
        return cls._from_histogram(histogram, name=name, ax=ax, **kwargs)

    def _axes(self, ax):
        """Keep the axes to draw on, and return them."""
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        self.ax_ = plt.subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        return self.ax_

    def _finish(self, name, **settings):
        """Name axes and lines."""
        self.ax_.set(**settings)
        if name is not None:
            self.ax_.legend()
        return self


class RankingCurveDisplay(_CurveDisplay):
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
    ['ITQHasher', 'LSHHasher']
    """

    def __init__(self, k, values, *, band=None, metric="ndcg", name=None):
        self.k, self.values, self.band = k, values, band
        self.metric, self.name = metric, name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        Y,
        *,
        metric="ndcg",
        k=None,
        ties="mean",
        confidence_level=None,
        name=None,
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

        Y : {array-like, sparse matrix} of shape (n_queries, n_labels) or (n_queries,)
            Their label sets, in any form that the hasher's `fit` accepts.

        metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
                "weighted_average_precision"}, default="ndcg"
            The metric.

        k : array-like of shape (n_cuts,), default=None
            Numbers of ranks; None is up to 50 from 1 to the size of the database, in about equal
            ratios.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        confidence_level : float, default=None
            Probability of a band by the bootstrap over queries, see :func:`bootstrap_interval`;
            None draws none.

        name : str, default=None
            Name in the legend; None is the class of the estimator.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.
        """
        return super().from_estimator(
            estimator,
            X,
            Y,
            metric=metric,
            k=k,
            ties=ties,
            confidence_level=confidence_level,
            name=name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        metric="ndcg",
        k=None,
        ties="mean",
        confidence_level=None,
        name=None,
        ax=None,
        **kwargs,
    ):
        """Draw for codes and label sets.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 or 1.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels)
            Label indicators of the queries.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to rank.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels)
            Label indicators of the items to rank.

        metric : {"acg", "average_precision", "ndcg", "precision", "recall", "reciprocal_rank", \
                "weighted_average_precision"}, default="ndcg"
            The metric.

        k : array-like of shape (n_cuts,), default=None
            Numbers of ranks; None is up to 50 from 1 to the size of the database, in about equal
            ratios.

        ties : {"mean", "best", "worst"}, default="mean"
            Order of the items at equal distance.

        confidence_level : float, default=None
            Probability of a band by the bootstrap over queries, see :func:`bootstrap_interval`;
            None draws none.

        name : str, default=None
            Name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display, drawn.
        """
        return super().from_codes(
            query_codes,
            query_labels,
            database_codes,
            database_labels,
            metric=metric,
            k=k,
            ties=ties,
            confidence_level=confidence_level,
            name=name,
            ax=ax,
            **kwargs,
        )

    @classmethod
    @validate_params(
        {
            "metric": [StrOptions(set(METRICS))],
            "k": ["array-like", None],
            "ties": [StrOptions({"mean", "best", "worst"})],
            "confidence_level": [Interval(Real, 0, 1, closed="neither"), None],
        },
        prefer_skip_nested_validation=True,
    )
    def _from_histogram(
        cls,
        histogram,
        *,
        name,
        ax,
        metric,
        k,
        ties,
        confidence_level,
        **kwargs,
    ):
        if k is None:
            cuts = np.geomspace(1, max(1, histogram.n_database), _N_CUTS)
            k = np.unique(np.rint(cuts).astype(int))
        values = getattr(histogram, metric)(np.asarray(k), ties=ties)
        band = None
        if confidence_level is not None:
            band = bootstrap_interval(values, confidence_level=confidence_level, random_state=0)
        display = cls(k, values.mean(axis=0), band=band, metric=metric, name=name)
        return display.plot(ax, **kwargs)

    def plot(self, ax=None, *, name=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        name : str, default=None
            Name in the legend; None takes that of the display.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : RankingCurveDisplay
            The display.
        """
        ax, name = self._axes(ax), self.name if name is None else name
        (self.line_,) = ax.plot(self.k, self.values, **{"label": name, **kwargs})
        self.band_ = None
        if self.band is not None:
            color = self.line_.get_color()
            self.band_ = ax.fill_between(self.k, *self.band, color=color, alpha=0.2, linewidth=0)
        label = _SHORT.get(self.metric, self.metric.replace("_", " "))
        return self._finish(name, xlabel="ranks $k$", ylabel=f"{label} at $k$", xscale="log")


class PrecisionRecallDisplay(_CurveDisplay):
    """Precision against recall within each Hamming radius, means over queries.

    A query that has no item within a radius has precision 0 there, so that short radii of long
    codes lie at the lower left.

    Parameters
    ----------
    precision : array-like of shape (n_radii,)
        Fraction of the items within each radius that are relevant.

    recall : array-like of shape (n_radii,)
        Fraction of the relevant items that are within each radius.

    radius : array-like of shape (n_radii,)
        Hamming distances.

    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.

    figure_ : matplotlib Figure
        The figure of these.

    line_ : matplotlib Line2D
        The curve, a marker at each radius.

    See Also
    --------
    RankingCurveDisplay : A metric against the number of ranks.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn.datasets import load_digits
    >>> from skhash import ITQHasher
    >>> from skhash.metrics import PrecisionRecallDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = ITQHasher(16, random_state=0).fit(X[300:], y[300:])
    >>> display = PrecisionRecallDisplay.from_estimator(hasher, X[:300], y[:300])
    >>> bool(display.recall[-1] == 1)
    True
    """

    def __init__(self, precision, recall, radius, *, name=None):
        self.precision, self.recall, self.radius, self.name = precision, recall, radius, name

    @classmethod
    def _from_histogram(cls, histogram, *, name, ax, **kwargs):
        radius = np.arange(histogram.n_bits + 1)
        precision = histogram.precision(radius=radius).mean(axis=0)
        recall = histogram.recall(radius=radius).mean(axis=0)
        return cls(precision, recall, radius, name=name).plot(ax, **kwargs)

    def plot(self, ax=None, *, name=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        name : str, default=None
            Name in the legend; None takes that of the display.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : PrecisionRecallDisplay
            The display.
        """
        ax, name = self._axes(ax), self.name if name is None else name
        style = {"label": name, "marker": ".", **kwargs}
        (self.line_,) = ax.plot(self.recall, self.precision, **style)
        return self._finish(
            name,
            xlabel="recall within a Hamming radius",
            ylabel="precision within it",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )


class CodeDiagnosticsDisplay:
    r"""Balance and correlation of bits, and how many samples share a code.

    Good codes have bits that are 1 for half of the samples, are not correlated, and tell samples
    apart. With :math:`\lambda_i` the eigenvalues of the covariance matrix of the bits, the
    *effective number of bits* is the participation ratio
    :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` [1]_: `n_bits` for uncorrelated bits of equal
    variance, 1 if all bits say the same.

    Parameters
    ----------
    balance : array-like of shape (n_bits,)
        Fraction of samples for which each bit is 1.

    correlation : array-like of shape (n_bits, n_bits)
        Correlation of the bits; 0 where a bit is constant, also with itself.

    n_sharing : array-like of shape (n_codes,)
        Number of samples of each code that occurs, descending.

    n_effective : float
        Effective number of bits; 0 if all bits are constant.

    Attributes
    ----------
    axes_ : ndarray of 3 matplotlib Axes
        Where it was drawn: balance, correlation, samples by code.

    figure_ : matplotlib Figure
        The figure of these.

    References
    ----------
    .. [1] P. Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement",
           bioRxiv 214262, 2017.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from sklearn.datasets import load_digits
    >>> from skhash import ITQHasher
    >>> from skhash.metrics import CodeDiagnosticsDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> display = CodeDiagnosticsDisplay.from_estimator(ITQHasher(16, random_state=0).fit(X))
    >>> bool(8 < display.n_effective < 16)
    True
    """

    def __init__(self, balance, correlation, n_sharing, n_effective):
        self.balance, self.correlation = balance, correlation
        self.n_sharing, self.n_effective = n_sharing, n_effective

    @classmethod
    def from_estimator(cls, estimator, X=None, *, axes=None):
        """Draw for the codes of samples, or of the database of a fitted hasher.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_samples, ...), default=None
            Samples; None takes the database.

        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : CodeDiagnosticsDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        hasher = fitted_hasher(estimator)
        if X is None:
            return cls.from_codes(unpack_codes(hasher.database_codes_, hasher.n_bits), axes=axes)
        return cls.from_codes(estimator.transform(X), axes=axes)

    @classmethod
    def from_codes(cls, codes, *, axes=None):
        """Draw for codes.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes, 0 or 1, of at least one sample.

        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : CodeDiagnosticsDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        codes = check_array(codes, dtype=None, input_name="codes")
        codes = as_bits(codes, "codes", "Threshold a projection with `>= 0` first.")
        packed, bits = pack_codes(codes), codes.astype(np.float64)
        covariance = np.atleast_2d(np.cov(bits, rowvar=False, bias=True))
        total = np.trace(covariance)
        n_effective = total**2 / (covariance**2).sum() if total else 0.0
        _, n_sharing = np.unique(packed, axis=0, return_counts=True)
        display = cls(
            bits.mean(axis=0),
            _correlation(covariance),
            np.sort(n_sharing)[::-1],
            float(n_effective),
        )
        return display.plot(axes)

    def plot(self, axes=None):
        """Draw the three panels.

        Parameters
        ----------
        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : CodeDiagnosticsDisplay
            The display.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if axes is None:
            axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")[1]
        self.axes_ = np.asarray(axes)
        self.figure_ = self.axes_[0].figure
        self._plot_balance(self.axes_[0])
        self._plot_correlation(self.axes_[1])
        self._plot_sharing(self.axes_[2])
        return self

    def _plot_balance(self, ax):
        ax.bar(
            np.arange(len(self.balance)), self.balance, width=1, edgecolor="white", linewidth=0.3
        )
        ax.axhline(0.5, color="black", linestyle=":", linewidth=1)
        ax.set(title="balance", xlabel="bit", ylabel="samples with a 1", ylim=(0, 1))

    def _plot_correlation(self, ax):
        image = ax.imshow(
            self.correlation, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
        )
        self.figure_.colorbar(image, ax=ax, shrink=0.9)
        n_bits = len(self.balance)
        ax.set(
            title=f"correlation: {self.n_effective:.1f} of {n_bits} bits effective",
            xlabel="bit",
            ylabel="bit",
        )

    def _plot_sharing(self, ax):
        n_samples, n_codes = np.sum(self.n_sharing), len(self.n_sharing)
        ax.plot(np.arange(1, n_codes + 1), self.n_sharing, drawstyle="steps-mid")
        ax.set(
            title=f"{n_codes:,} codes of {n_samples:,} samples",
            xlabel="code, from the most frequent",
            ylabel="samples that have it",
            xscale="log",
        )
        # Powers of two, written out: often no code is shared by ten.
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:,.0f}")


class RetrievalDisplay:
    """Query images beside what is found for them; shared labels named, wrong results framed.

    Results are in the order of `kneighbors`: by Hamming distance, and at equal distance in the
    order of the database. Their distance is written above them.

    Parameters
    ----------
    queries : sequence of images
        One image a row of the figure: an array of shape (height, width, 3), (3, height, width) or
        (height, width), or the path of a file.

    query_labels : sequence of lists of str
        Names of the labels of each query.

    results : sequence of sequences of images
        What is found for each query, the nearest first.

    distances : array-like of shape (n_queries, n_results)
        Hamming distances of the results.

    shared_labels : sequence of sequences of lists of str
        Names of the labels that each result shares with its query; none if it is wrong.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_queries, 1 + n_results)
        Where it was drawn.

    figure_ : matplotlib Figure
        The figure of these.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from skhash import LSHHasher
    >>> from skhash.datasets import make_digit_scenes
    >>> from skhash.metrics import RetrievalDisplay
    >>> images, Y = make_digit_scenes(100, return_X_y=True, random_state=0)
    >>> rows = images.reshape(100, -1) / 255
    >>> hasher = LSHHasher(16, random_state=0).fit(rows[3:], Y[3:])
    >>> display = RetrievalDisplay.from_estimator(
    ...     hasher, rows[:3], Y[:3], query_images=images[:3], database_images=images[3:])
    >>> display.axes_.shape
    (3, 6)
    """

    def __init__(self, queries, query_labels, results, distances, shared_labels):
        self.queries, self.query_labels = queries, query_labels
        self.results, self.distances, self.shared_labels = results, distances, shared_labels

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        Y,
        *,
        database_images,
        query_images=None,
        n_results=5,
        label_names=None,
        axes=None,
    ):
        """Draw what a fitted hasher finds in its database.

        Parameters
        ----------
        estimator : estimator
            Fitted hasher, or a :class:`~sklearn.pipeline.Pipeline` that ends in one.

        X : array-like of shape (n_queries, ...)
            Queries, as the estimator's `transform` takes them; a row of the figure each.

        Y : {array-like, sparse matrix} of shape (n_queries, n_labels) or (n_queries,)
            Their label sets.

        database_images : sequence of n_database images
            Images of the database, in its order: arrays, or paths of files.

        query_images : sequence of n_queries images, default=None
            Images of the queries; None if `X` are images itself.

        n_results : int, default=5
            Number of results of each query.

        label_names : sequence of n_labels str, default=None
            Names of the labels; None is the classes or columns of `Y`.

        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are not as many images as queries and items of the database.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        packed, _ = packed_problem(estimator, X, Y)
        classes = fitted_hasher(estimator).classes_
        return cls._from_packed(
            packed,
            query_images=X if query_images is None else query_images,
            database_images=database_images,
            n_results=n_results,
            label_names=classes if label_names is None else label_names,
            n_labels=len(classes),
            axes=axes,
        )

    @classmethod
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        query_images,
        database_images,
        n_results=5,
        label_names=None,
        axes=None,
    ):
        """Draw what is found by codes.

        Parameters
        ----------
        query_codes : array-like of shape (n_queries, n_bits)
            Codes of the queries, 0 or 1.

        query_labels : {array-like, sparse matrix} of shape (n_queries, n_labels)
            Label indicators of the queries.

        database_codes : array-like of shape (n_database, n_bits)
            Codes of the items to be found.

        database_labels : {array-like, sparse matrix} of shape (n_database, n_labels)
            Label indicators of the items to be found.

        query_images : sequence of n_queries images
            Images of the queries: arrays, or paths of files.

        database_images : sequence of n_database images
            Images of the database.

        n_results : int, default=5
            Number of results of each query.

        label_names : sequence of n_labels str, default=None
            Names of the labels; None is their column numbers.

        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there are not as many images as codes, or codes and labels are malformed.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        packed, _ = pack_problem(query_codes, query_labels, database_codes, database_labels)
        n_labels = (
            query_labels.shape[1] if hasattr(query_labels, "shape") else len(query_labels[0])
        )
        return cls._from_packed(
            packed,
            query_images=query_images,
            database_images=database_images,
            n_results=n_results,
            label_names=np.arange(n_labels) if label_names is None else label_names,
            n_labels=n_labels,
            axes=axes,
        )

    @classmethod
    @validate_params(
        {"n_results": [Interval(Integral, 1, None, closed="left")]},
        prefer_skip_nested_validation=True,
    )
    def _from_packed(
        cls, packed, *, query_images, database_images, n_results, label_names, n_labels, axes
    ):
        codes, labels, database_codes, database_labels = packed
        _check_images(query_images, codes, "query_images", "queries")
        _check_images(database_images, database_codes, "database_images", "items of the database")
        if len(label_names) != n_labels:
            raise ValueError(
                f"label_names should name the {n_labels} labels, got {len(label_names)} names."
            )
        distances, found = nearest(codes, database_codes, n_results)
        shared = labels[:, None] & database_labels[found]

        def names(label_set):
            return [str(label_names[i]) for i in np.flatnonzero(unpack_codes(label_set, n_labels))]

        display = cls(
            [query_images[i] for i in range(len(codes))],
            [names(label_set[None]) for label_set in labels],
            [[database_images[i] for i in row] for row in found],
            distances,
            [[names(label_set[None]) for label_set in row] for row in shared],
        )
        return display.plot(axes)

    def plot(self, axes=None):
        """Draw the images.

        Parameters
        ----------
        axes : array-like of matplotlib Axes of shape (n_queries, 1 + n_results), default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : RetrievalDisplay
            The display.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_rows, n_columns = np.shape(self.distances)[0], 1 + np.shape(self.distances)[1]
        if axes is None:
            size = (1.7 * n_columns, 2.2 * n_rows)
            axes = plt.subplots(
                n_rows, n_columns, figsize=size, squeeze=False, layout="constrained"
            )[1]
        self.axes_ = np.asarray(axes).reshape(n_rows, n_columns)
        self.figure_ = self.axes_[0, 0].figure
        for row in range(n_rows):
            _show(self.axes_[row, 0], self.queries[row], "query", self.query_labels[row])
            for ax, image, distance, shared in zip(
                self.axes_[row, 1:],
                self.results[row],
                self.distances[row],
                self.shared_labels[row],
                strict=True,
            ):
                _show(ax, image, f"distance {distance}", shared, is_wrong=not shared)
        return self


def _correlation(covariance):
    """Return correlations, 0 where a variance is 0."""
    deviations = np.sqrt(np.diag(covariance))
    products = np.outer(deviations, deviations)
    return np.divide(covariance, products, out=np.zeros_like(covariance), where=products > 0)


def _check_images(images, codes, name, what):
    """Raise unless there is an image for each code."""
    if len(images) != len(codes):
        raise ValueError(f"{name} should be the {len(codes)} {what}, got {len(images)} images.")


def _show(ax, image, title, labels, *, is_wrong=False):
    """Show one image with its labels below, in a frame if it is wrong."""
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] != 3:
        image = image.transpose(1, 2, 0)
    if not isinstance(image, np.ndarray):
        from PIL import Image

        with Image.open(image) as file:
            image = np.asarray(file.convert("RGB"))
    ax.imshow(image, cmap="gray")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=9)
    text = ", ".join(labels) or ("none shared" if is_wrong else "no label")
    ax.set_xlabel("\n".join(textwrap.wrap(text, 20)), fontsize=8)
    for spine in ax.spines.values():
        spine.set(visible=is_wrong, color=_WRONG, linewidth=3)
