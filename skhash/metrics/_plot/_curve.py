"""What the displays of curves share."""

from skhash._sklearn import check_matplotlib_support
from skhash.metrics._counting import hamming_histogram
from skhash.metrics._histogram import HammingHistogram
from skhash.metrics._plot._style import counted, draw_legend, use_safe_colors
from skhash.metrics._problem import RetrievalProblem, fitted_hasher

__all__ = ["CurveDisplay"]


class CurveDisplay:
    """What the displays of curves share: they are made of a histogram, and drawn on one axes."""

    @classmethod
    def from_estimator(cls, estimator, X, y, *, name=None, title=None, ax=None, **kwargs):
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
        display : object
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        problem = RetrievalProblem.from_estimator(estimator, X, y, asker="A display")
        if name is None:
            n_bits = counted(problem.n_bits, "bit", "bits")
            name = f"{type(fitted_hasher(estimator)).__name__}, {n_bits}"
        histogram = HammingHistogram(hamming_histogram(problem))
        return cls._from_histogram(histogram, name=name, title=title, ax=ax, **kwargs)

    @classmethod
    def from_codes(
        cls,
        query_codes,
        query_labels,
        database_codes,
        database_labels,
        *,
        n_bits=None,
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
        display : object
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        histogram = HammingHistogram.from_codes(
            query_codes, query_labels, database_codes, database_labels, n_bits=n_bits
        )
        return cls._from_histogram(histogram, name=name, title=title, ax=ax, **kwargs)

    def _axes(self, ax):
        """Keep the axes to draw on, and return them."""
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            ax = plt.subplots(layout="constrained")[1]
            use_safe_colors(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _finish(self, title, **settings):
        """Name axes and lines."""
        self.ax_.set(**settings)
        if title is not None:
            self.ax_.set_title(title)
        if self.ax_.get_legend_handles_labels()[1]:
            draw_legend(self.ax_)
        return self
