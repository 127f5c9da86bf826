"""Precision against recall by the Hamming radius, as a picture."""

import numpy as np

from skhash.metrics._plot._curve import CurveDisplay

__all__ = ["PrecisionRecallDisplay"]

# Share of the queries that have an item within a radius, below which it is left out.
_LEAST_FOUND = 0.5
# Least distance of numbered radii, in points of a 72th of an inch.
_LABEL_DISTANCE = 30
# Recall beyond which there is no room for a number on the right.
_RIGHT = 0.93
_HOLLOW = "some queries find nothing"


class PrecisionRecallDisplay(CurveDisplay):
    """Precision against recall within each Hamming radius, means over queries.

    A query that has no item within a radius has recall 0 there, but no precision: precision is the
    mean over the queries that have one. The curve begins at the first radius within which at least
    half of the queries have an item. Radii within which some queries have none are drawn hollow.
    Radii are numbered where there is room, in the colour of the curve.

    Parameters
    ----------
    precision : array-like of shape (n_radii,)
        Fraction of the items within each radius that are relevant: mean over the queries that have
        an item there, NaN where no query has. Multiplied by `found` it is the mean of
        :func:`precision_score`, where such queries have precision 0.

    recall : array-like of shape (n_radii,)
        Fraction of the relevant items that are within each radius.

    radius : array-like of shape (n_radii,)
        Hamming distances, ascending.

    found : array-like of shape (n_radii,), default=None
        Fraction of the queries that have an item within each radius. None: all have.

    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.

    figure_ : matplotlib Figure
        The figure of these.

    line_ : matplotlib Line2D
        The curve, with a marker at each radius within which all queries have an item.

    hollow_ : matplotlib Line2D
        Hollow markers at the other radii of the curve.

    labels_ : list of matplotlib Annotations
        Numbers of radii.

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

    def __init__(self, precision, recall, radius, *, found=None, name=None):
        self.precision, self.recall, self.radius = precision, recall, radius
        self.found, self.name = found, name

    @classmethod
    def _from_histogram(cls, histogram, *, name, title, ax, **kwargs):
        radius = np.arange(histogram.n_bits + 1)
        has_item = histogram.counts.sum(axis=2).cumsum(axis=1) > 0
        n_found = has_item.sum(axis=0)
        total = histogram.precision(radius=radius).sum(axis=0)
        precision = np.full(len(radius), np.nan)
        np.divide(total, n_found, out=precision, where=n_found > 0)
        recall = histogram.recall(radius=radius).mean(axis=0)
        display = cls(precision, recall, radius, found=has_item.mean(axis=0), name=name)
        return display.plot(ax, title=title, **kwargs)

    def plot(self, ax=None, *, name=None, title=None, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        name : str, default=None
            Name in the legend; None takes that of the display.

        title : str, default=None
            Title of the axes; None leaves it as it is.

        **kwargs
            Passed on to matplotlib's `plot`.

        Returns
        -------
        display : PrecisionRecallDisplay
            The display.
        """
        ax, name = self._axes(ax), self.name if name is None else name
        found = np.ones(len(self.radius)) if self.found is None else np.asarray(self.found)
        is_drawn = found >= _LEAST_FOUND
        curve = np.column_stack([self.recall, self.precision])[is_drawn]
        is_hollow = found[is_drawn] < 1
        style = {"label": name, "marker": "o", "markersize": 3.5, **kwargs}
        style = {"markevery": np.flatnonzero(~is_hollow).tolist(), **style}
        (self.line_,) = ax.plot(*curve.T, **style)
        self.hollow_ = self._add_hollow(curve[is_hollow])
        # Above the largest precision there is room for a number.
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.08))
        self.labels_ = self._add_labels(curve, np.asarray(self.radius)[is_drawn])
        xlabel = "recall within a Hamming radius (numbers)"
        return self._finish(title, xlabel=xlabel, ylabel="precision within it")

    def _add_hollow(self, points):
        """Draw hollow markers, and return them."""
        from matplotlib.lines import Line2D

        line, color = self.line_, self.line_.get_color()
        style = {"marker": line.get_marker(), "markersize": line.get_markersize() + 1}
        style |= {"markeredgecolor": color, "markerfacecolor": self.ax_.get_facecolor()}
        if len(points) and _HOLLOW not in self.ax_.get_legend_handles_labels()[1]:
            style["label"] = _HOLLOW
        # Of the cycle of the axes no colour is taken.
        zorder = line.get_zorder() + 0.1
        return self.ax_.add_line(Line2D(*points.T, linestyle="none", zorder=zorder, **style))

    def _add_labels(self, points, radius):
        """Write numbers beside radii, none near to another number; return them."""
        from matplotlib.text import Annotation

        ax, labels = self.ax_, []
        points_per_pixel = 72 / ax.figure.dpi
        taken = [text.xy for text in ax.texts if isinstance(text, Annotation)]
        taken = [ax.transData.transform(xy) * points_per_pixel for xy in taken]
        places = ax.transData.transform(points) * points_per_pixel
        for place, (x, y), r in zip(places, points, radius, strict=True):
            if all(np.hypot(*(place - other)) >= _LABEL_DISTANCE for other in taken):
                taken.append(place)
                labels.append(_annotate(ax, x, y, f"{r}", self.line_.get_color()))
        return labels


def _annotate(ax, x, y, text, color):
    """Write beside a point of a curve: above it on the right, or below it at the right end."""
    style = {"textcoords": "offset points", "fontsize": 8, "color": color}
    if x > _RIGHT:
        return ax.annotate(text, (x, y), (-4, -3), ha="right", va="top", **style)
    return ax.annotate(text, (x, y), (4, 3), ha="left", va="bottom", **style)
