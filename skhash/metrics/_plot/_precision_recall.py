"""Precision against recall by the Hamming radius, as a picture."""

import numpy as np

from skhash.metrics._plot._curve import CurveDisplay

__all__ = ["PrecisionRecallDisplay"]


class PrecisionRecallDisplay(CurveDisplay):
    """Precision against recall within each Hamming radius, means over queries.

    A query that has no item within a radius has precision 0 there. So the short radii of long
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
