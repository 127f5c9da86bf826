"""Spectral hashing: eigenfunctions of the Laplacian along the principal components."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from skhash._blocks import row_blocks
from skhash._eigen import leading_eigenvectors, mean_and_covariance
from skhash._parts import MOST_KEPT, Sample, Sums
from skhash.base import BaseHasher, PartialFitMixin


class SpectralHasher(PartialFitMixin, BaseHasher):
    r"""Spectral hashing: eigenfunctions of the Laplacian along the principal components.

    Codes that are balanced, uncorrelated and alike for neighbours are the signs of the smoothest
    eigenvectors of the neighbour graph's Laplacian, but these are known at the training samples
    only. If samples were uniform on a box whose sides are the principal components :math:`v_j`,
    the eigenvectors would tend to eigenfunctions known everywhere. Along one side they are

    .. math::

        \Phi_{jk}(x) = \sin\Bigl(\frac{\pi}{2}
            + \frac{k \pi}{u_j - l_j} \bigl(v_j \cdot (x - \mu) - l_j\bigr)\Bigr),
        \quad
        \lambda_{jk} = \Bigl(\frac{k \pi}{u_j - l_j}\Bigr)^2,
        \quad k = 1, 2, \dots,

    with :math:`l_j` and :math:`u_j` the least and the greatest :math:`v_j \cdot (x - \mu)` of the
    training samples. The bits are the signs of the `n_bits` eigenfunctions with the least
    :math:`\lambda_{jk}`, over all directions :math:`j` and modes :math:`k`. The longer a side, the
    more bits it has; mode :math:`k` cuts it at :math:`k` places.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes, any: there are as many modes as are asked for.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    Attributes
    ----------
    components_ : ndarray of shape (n_directions, n_features)
        Principal directions :math:`v_j`, that of greatest variance first. They number
        ``min(n_bits, n_samples, n_features)``, and not all need to have bits.

    mean_ : ndarray of shape (n_features,)
        Mean :math:`\mu` of the training samples.

    lower_ : ndarray of shape (n_directions,)
        Lower ends :math:`l_j` of the directions' ranges.

    upper_ : ndarray of shape (n_directions,)
        Upper ends :math:`u_j` of the directions' ranges.

    directions_ : ndarray of shape (n_bits,), integer
        Row of `components_` on which each bit depends.

    modes_ : ndarray of shape (n_bits,), integer
        Mode :math:`k` of each bit.

    eigenvalues_ : ndarray of shape (n_bits,)
        Eigenvalues :math:`\lambda_{jk}` of the bits, ascending. Of equal ones that of the
        direction of greater variance comes first.

    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database: the training set, or what `set_database` was given.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8, or None
        Packed label sets of the database.

    classes_ : ndarray of shape (n_labels,), or None
        Labels, see :class:`skhash.base.BaseHasher`.

    n_features_in_ : int
        Number of features seen in `fit`.

    See Also
    --------
    ITQHasher : The signs of the principal components themselves, rotated.

    Notes
    -----
    As in the authors' code, eigenfunctions that are products of those along several directions
    are left out (their bits would be functions of other bits), and so is the constant one. A
    sample beyond the range of the training samples falls on the periodic continuation.

    The authors' code lengthens the ranges by a rounding error at both ends, so that none is
    empty. Here the slack is one rounding error of double precision in units of the longest range,
    so that codes do not depend on the unit of the features. A value of exactly 0 is the bit 1.

    With `partial_fit`, what is kept between calls does not grow with the number of samples: sums
    over all of them, of which the principal components are, and at most 50,000 of them, drawn
    uniformly from all parts. Up to that number the hasher is that of `fit` on all parts. Beyond it
    the ranges are those of the samples kept, a little shorter than of all. The cuts decide
    nothing. A call after `fit` starts anew.

    References
    ----------
    Y. Weiss, A. Torralba, R. Fergus, "Spectral hashing", NIPS 2008.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import SpectralHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = SpectralHasher(n_bits=16).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.4
    True
    """

    _takes_blocks = True

    def __init__(self, n_bits=32, *, n_neighbors=5):
        self.n_bits = n_bits
        self.n_neighbors = n_neighbors

    @staticmethod
    def _saved_types():
        return Sample, Sums, _Parts

    def _fit(self, X, Y):  # noqa: ARG002
        if (X.min(axis=0) == X.max(axis=0)).all():
            raise ValueError(f"X should vary over the training samples, got {len(X)} equal rows.")
        self._learn(X, *_principal_components(X, self.n_bits))

    def _learn_part(self, X, Y, first):
        # No parameter draws: the same rows are kept in each process.
        parts = _Parts(Sample.empty(0), None) if first else self._parts
        self._parts = parts = parts.updated(X)
        rows = parts.sample.rows
        if parts.sample.n_seen == len(rows):
            self._fit(rows, Y)
        else:
            components = leading_eigenvectors(parts.sums.xx, self.n_bits)[1]
            self._learn(rows, parts.sums.mean.astype(rows.dtype), components.astype(rows.dtype))

    def _learn(self, X, mean, components):
        """Take a mean and directions, and learn their ranges and modes from rows."""
        self.mean_, self.components_ = mean, components
        lower, upper = _ranges(X, mean, components)
        self.directions_, self.modes_ = _smoothest_modes(upper - lower, self.n_bits)
        frequencies = np.pi * self.modes_ / (upper - lower)[self.directions_]
        self.eigenvalues_ = (frequencies**2).astype(X.dtype)
        self.lower_, self.upper_ = lower.astype(X.dtype), upper.astype(X.dtype)

    def _project(self, X):
        along = (X - self.mean_) @ self.components_.T - self.lower_
        # Only directions that have bits are sure not to be too short to divide by.
        lengths = (self.upper_ - self.lower_)[self.directions_]
        angles = along[:, self.directions_]
        angles *= (np.pi * self.modes_).astype(lengths.dtype) / lengths
        # sin(pi / 2 + angle), without the rounding of the sum.
        return np.cos(angles, out=angles)


def _principal_components(X, n):
    """Mean of the rows, and their `n` leading principal directions, or as many as there are."""
    if len(X) >= X.shape[1]:
        # The eigenvectors of the covariance cost O(n d^2) once, in memory independent of n.
        mean, covariance = mean_and_covariance(X)
        components = leading_eigenvectors(covariance, n)[1]
    else:
        pca = PCA(min(n, len(X)), svd_solver="full").fit(X.astype(np.float64, copy=False))
        mean, components = pca.mean_, pca.components_
    return mean.astype(X.dtype), components.astype(X.dtype)


def _ranges(X, mean, components):
    """Least and greatest value along each direction, in double precision, with a little slack."""
    along = ((X[rows] - mean) @ components.T for rows in row_blocks(len(X)))
    ends = [(block.min(axis=0), block.max(axis=0)) for block in along]
    lower = np.min([lower for lower, _ in ends], axis=0).astype(np.float64)
    upper = np.max([upper for _, upper in ends], axis=0).astype(np.float64)
    slack = np.finfo(np.float64).eps * (upper - lower).max()
    return lower - slack, upper + slack


def _smoothest_modes(lengths, n_bits):
    """Directions and modes of the `n_bits` least eigenvalues on sides of these `lengths`."""
    # Mode k of side j is among them only if no more than n_bits modes of the longest side precede
    # it: k / lengths[j] <= n_bits / lengths.max(). The one more is room for rounding.
    n_modes = np.minimum(n_bits, n_bits * lengths / lengths.max() + 1).astype(int)
    directions = np.repeat(np.arange(len(lengths)), n_modes)
    modes = np.concatenate([np.arange(1, n + 1) for n in n_modes])
    first = np.argsort(modes / lengths[directions], kind="stable")[:n_bits]
    return directions[first], modes[first]


@dataclass(frozen=True)
class _Parts:
    """Sums over all parts, and a sample of them."""

    sample: Sample
    sums: Sums | None

    def updated(self, X):
        """Return the parts and one more."""
        sums = Sums.of(X, None)
        sums = sums if self.sums is None else self.sums + sums
        return _Parts(self.sample.updated(X, MOST_KEPT), sums)
