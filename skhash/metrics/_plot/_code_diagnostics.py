"""Balance and correlation of bits, and shared codes, as pictures."""

import numpy as np

from skhash._sklearn import check_matplotlib_support
from skhash.codes import pack_codes
from skhash.metrics._problem import as_codes, fitted_hasher

__all__ = ["CodeDiagnosticsDisplay"]


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
        codes = as_codes(codes, "codes", n_bits)
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


def _correlation(covariance):
    """Return correlations, 0 where a variance is 0."""
    deviations = np.sqrt(np.diag(covariance))
    products = np.outer(deviations, deviations)
    return np.divide(covariance, products, out=np.zeros_like(covariance), where=products > 0)
