"""Balance and correlation of bits, and shared codes, as pictures."""

import numpy as np

from skhash._sklearn import check_matplotlib_support
from skhash.codes import check_packed_codes, pack_codes
from skhash.metrics._plot._bits import (
    correlation,
    count_ones,
    covariance,
    effective_bits,
    sharing,
)
from skhash.metrics._plot._style import (
    CORRELATION_COLORS,
    counted,
    scale_of_counts,
    use_safe_colors,
)
from skhash.metrics._problem import as_codes, fitted_hasher

__all__ = ["CodeDiagnosticsDisplay"]


class CodeDiagnosticsDisplay:
    r"""Balance and correlation of bits, and how many samples share a code.

    Good codes have bits that are 1 for half of the samples, are not correlated, and tell samples
    apart. With :math:`\lambda_i` the eigenvalues of the covariance matrix of the bits, the
    *effective number of bits* is the participation ratio
    :math:`(\sum_i \lambda_i)^2 / \sum_i \lambda_i^2` [1]_: `n_bits` for uncorrelated bits of equal
    variance, 1 if all bits say the same. It is that of the distribution which the samples are
    drawn from. In a sample, independent bits are a little correlated by chance. So numerator and
    denominator are unbiased estimates [2]_, and their ratio is held between 1 and the number of
    bits that vary. Below 4 samples it is the ratio of the sample.

    Parameters
    ----------
    balance : array-like of shape (n_bits,)
        Fraction of samples for which each bit is 1.

    correlation : array-like of shape (n_bits, n_bits)
        Correlation of the bits; 0 where a bit is constant, also with itself.

    n_sharing : array-like of shape (n_codes,)
        Number of samples of each code that occurs, descending. Where there is one code, or all
        samples differ, a sentence says so instead of a curve.

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

    .. [2] T. Himeno and T. Yamada, "Estimations for some functions of covariance matrix in high
           dimension under non-normality and its applications", Journal of Multivariate Analysis
           130, 2014.

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

        Raises
        ------
        ValueError
            If `X` is None and the database is empty.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        hasher = fitted_hasher(estimator)
        if X is None and not len(hasher.database_codes_):
            raise ValueError(
                f"The database of this {type(hasher).__name__} is empty. Pass X, or call "
                "set_database first."
            )
        if X is None:
            return cls.from_codes(hasher.database_codes_, n_bits=hasher.n_bits, axes=axes)
        return cls.from_codes(estimator.transform(X), axes=axes)

    @classmethod
    def from_codes(cls, codes, *, n_bits=None, axes=None):
        """Draw for codes.

        Parameters
        ----------
        codes : array-like of shape (n_samples, n_bits)
            Codes, 0 or 1, of at least one sample; or packed codes, with `n_bits`.

        n_bits : int, default=None
            Number of bits of a code, where codes are packed, see :func:`skhash.codes.pack_codes`.
            None: they are not.

        axes : array-like of 3 matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : CodeDiagnosticsDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_codes")
        if n_bits is None:
            codes = as_codes(codes, "codes")
            packed, n_bits = pack_codes(codes), codes.shape[1]
        else:
            packed = check_packed_codes(codes, "codes", n_bits)
        ones, n_samples = count_ones(packed, n_bits), len(packed)
        display = cls(
            np.diag(ones) / n_samples,
            correlation(covariance(ones, n_samples)),
            sharing(packed),
            effective_bits(ones, n_samples),
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
            for ax in axes:
                use_safe_colors(ax)
        self.axes_ = np.ravel(axes)
        if len(self.axes_) != 3:
            raise ValueError(f"axes should be 3 Axes, got {len(self.axes_)}.")
        self.figure_ = self.axes_[0].figure
        self._plot_balance(self.axes_[0])
        self._plot_correlation(self.axes_[1])
        self._plot_sharing(self.axes_[2])
        return self

    def _plot_balance(self, ax):
        # One outline: the edges of hundreds of bars would leave little of them.
        ax.stairs(self.balance, np.arange(len(self.balance) + 1) - 0.5, fill=True)
        ax.axhline(0.5, color=ax.xaxis.label.get_color(), linestyle=":", linewidth=1)
        ax.set(xlabel="bit", ylabel="samples with a 1", ylim=(0, 1))
        ax.set_title("balance", fontsize="medium")
        _number_bits(ax.xaxis)

    def _plot_correlation(self, ax):
        from matplotlib.colors import LinearSegmentedColormap

        cmap = LinearSegmentedColormap.from_list("correlation", CORRELATION_COLORS)
        image = ax.imshow(self.correlation, cmap=cmap, vmin=-1, vmax=1)
        # Short numbers, which stay beside the bar where no layout makes room for them.
        self.figure_.colorbar(image, ax=ax, ticks=[-1, 0, 1])
        n_bits = counted(len(self.balance), "bit", "bits")
        title = f"correlation: {self.n_effective:.1f} of {n_bits} effective"
        ax.set_title(title, fontsize="medium")
        ax.set(xlabel="bit", ylabel="bit")
        if not self.n_effective:
            _say(ax, "all bits are constant")
        _number_bits(ax.xaxis)
        _number_bits(ax.yaxis)

    def _plot_sharing(self, ax):
        n_samples, n_codes = int(np.sum(self.n_sharing)), len(self.n_sharing)
        samples = counted(n_samples, "sample", "samples")
        ax.set_title(f"{counted(n_codes, 'code', 'codes')} of {samples}", fontsize="medium")
        if n_codes in (1, n_samples):
            _say(ax, "all samples share one code" if n_codes < n_samples else "no code is shared")
            ax.set_axis_off()
            return
        ax.plot(np.arange(1, n_codes + 1), self.n_sharing, drawstyle="steps-mid")
        ax.set(xlabel="code, from the most frequent", ylabel="samples that have it")
        scale_of_counts(ax.xaxis)
        scale_of_counts(ax.yaxis)


def _number_bits(axis):
    """Let the ticks of an axis be bits, not places between them."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _say(ax, text):
    """Write in the middle of axes."""
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes)
