"""Iterative quantisation, on principal (ITQ) or canonical (CCA-ITQ) directions."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd
from sklearn.utils import check_random_state

from skhash._blocks import map_blocks, row_blocks
from skhash._eigen import leading_eigenvectors, signed
from skhash._parts import Sample, Sums
from skhash._sklearn import Interval
from skhash.base import BaseHasher, PartialFitMixin


class _RotatedHasher(PartialFitMixin, BaseHasher):
    """Directions that a subclass finds in `_directions`, rotated to be near their own signs."""

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_rotation_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _takes_blocks = True

    @staticmethod
    def _saved_types():
        return Sums, Sample

    def _fit(self, X, Y):
        self._start()
        self._learn(X, Y)
        # They are for more parts to come, and would make a copy or a pickle large.
        del self._sums, self._sample

    def _has_parts(self):
        return hasattr(self, "_sums")

    def _learn_part(self, X, Y, first):
        if first:
            self._start()
        self._learn(X, Y)

    def _start(self):
        """Forget what was learnt, and settle what is drawn at random."""
        rng = check_random_state(self.random_state)
        self._rotation_seed, seed = rng.randint(np.iinfo(np.int32).max, size=2)
        self._sums, self._sample = None, Sample.empty(seed)

    def _learn(self, X, Y):
        """Add samples to what was learnt from, and learn directions and rotation of all."""
        sums = Sums.of(X, Y)
        self._sums = sums if self._sums is None else self._sums + sums
        self._sample = self._sample.updated(X, self.n_rotation_samples)
        self.mean_, directions = self._directions(self._sums)
        dtype = self._sample.rows.dtype
        self.mean_, directions = self.mean_.astype(dtype), directions.astype(dtype)
        rotation, self.quantization_errors_ = _itq_rotation(
            map_blocks(lambda rows: (rows - self.mean_) @ directions.T, self._sample.rows),
            self.n_bits,
            self.max_iter,
            self.tol,
            np.random.RandomState(self._rotation_seed),
        )
        self.n_iter_ = len(self.quantization_errors_)
        self.components_ = rotation.T @ directions

    def _project(self, X):
        return (X - self.mean_) @ self.components_.T

    def _pad(self, n_directions, what):
        """Warn once if the directions are fewer than the bits."""
        if self.n_bits > n_directions:
            warnings.warn(
                f"n_bits={self.n_bits} is more than the {n_directions} {what}; they are padded "
                "with zeros and rotated, so that bits are correlated.",
                stacklevel=8,
            )


class ITQHasher(_RotatedHasher):
    r"""Iterative quantisation of the principal components.

    The `n_bits` leading principal components :math:`V` are rotated by the orthogonal :math:`R`
    that brings them nearest to the vertices of the hypercube,

    .. math:: \min_{B, R} \|B - V R\|_F^2, \quad B \in \{-1, 1\}^{n \times c}, \; R^T R = I,

    by turns: :math:`B = \operatorname{sign}(V R)`, then :math:`R` from the singular value
    decomposition of :math:`V^T B` (orthogonal Procrustes). The error never increases.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes. Above the number of principal components, a warning is given, and
        they are padded with zeros before the rotation, which spreads them over all bits.

    max_iter : int, default=50
        Most turns.

    tol : float, default=0
        Stop when a turn lessens the quantisation error by no more than this fraction.

    n_rotation_samples : int, default=50000
        Most training samples that the rotation is learnt from, drawn at random. The directions
        are learnt from all.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial rotation, and the samples that it is learnt from.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Rotated principal directions, a row for each bit.

    mean_ : ndarray of shape (n_features,)
        Mean of the training samples.

    quantization_errors_ : ndarray of shape (n_iter,)
        Mean of :math:`\|b - v R\|^2` over the samples of the rotation, before each turn, with
        :math:`V` scaled to a root mean square of 1 (codes do not depend on its scale).

    n_iter_ : int
        Number of turns.

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
    CCAITQHasher : The same, on directions learnt from label sets.

    Notes
    -----
    With `partial_fit`, what is kept between calls does not grow with the number of samples: sums
    over all of them, and `n_rotation_samples` of them. After the last part the hasher is that of
    `fit` on all parts in their order, to rounding. Each call learns the directions and the
    rotation anew, so few large parts take less time than many small ones. A call after `fit`
    starts anew.

    References
    ----------
    Y. Gong, S. Lazebnik, "Iterative quantization: a Procrustean approach to learning binary
    codes", CVPR 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import ITQHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = ITQHasher(n_bits=16, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.6
    True
    """

    def __init__(
        self,
        n_bits=32,
        *,
        max_iter=50,
        tol=0.0,
        n_rotation_samples=50000,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.max_iter = max_iter
        self.tol = tol
        self.n_rotation_samples = n_rotation_samples
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _directions(self, sums):
        _check_varies(sums.xx, "X", sums.n_samples)
        variances, vectors = leading_eigenvectors(sums.xx, self.n_bits)
        # Directions whose variance rounding alone would decide are none.
        rank = np.count_nonzero(variances > 10 * np.finfo(sums.dtype).eps * variances[0])
        self._pad(rank, "principal components of X")
        return sums.mean, vectors[:rank]


class CCAITQHasher(_RotatedHasher):
    r"""Iterative quantisation of the canonical directions of features and label sets (CCA-ITQ).

    The directions :math:`w` are those in feature space of the canonical correlation analysis of
    the features and the label indicators,

    .. math::

        C_{xy} (C_{yy} + \rho_y I)^{-1} C_{yx} w = \lambda^2 (C_{xx} + \rho_x I) w,

    each multiplied by its canonical correlation :math:`\lambda`, then rotated as in
    :class:`ITQHasher`. They number at most ``min(n_features, n_labels)``; for more bits they are
    padded with zeros before the rotation, which spreads them over all bits.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes. Above the number of canonical directions, a warning is given.

    reg : float, default=0.1
        Regularisation :math:`\rho_x`, in units of the mean variance of the features.

    reg_labels : float, default=1.0
        Regularisation :math:`\rho_y`, in units of the mean variance of the label indicators. The
        larger, the less a rare label counts as much as a frequent one.

    max_iter : int, default=50
        Most turns of ITQ.

    tol : float, default=0
        Stop when a turn lessens the quantisation error by no more than this fraction.

    n_rotation_samples : int, default=50000
        Most training samples that the rotation is learnt from, drawn at random. The directions
        are learnt from all.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial rotation, and the samples that it is learnt from.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Rotated canonical directions, a row for each bit.

    correlations_ : ndarray of shape (n_directions,)
        Regularised canonical correlations, descending.

    mean_ : ndarray of shape (n_features,)
        Mean of the training samples.

    quantization_errors_ : ndarray of shape (n_iter,)
        Mean of :math:`\|b - v R\|^2` over the samples of the rotation, before each turn, with
        :math:`V` scaled to a root mean square of 1 (codes do not depend on its scale).

    n_iter_ : int
        Number of turns.

    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database: the training set, or what `set_database` was given.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8
        Packed label sets of the database.

    classes_ : ndarray of shape (n_labels,)
        Labels, see :class:`skhash.base.BaseHasher`.

    n_features_in_ : int
        Number of features seen in `fit`.

    See Also
    --------
    ITQHasher : The same without label sets.

    Notes
    -----
    With `partial_fit`, what is kept between calls does not grow with the number of samples: sums
    over all of them, and `n_rotation_samples` of them. After the last part the hasher is that of
    `fit` on all parts in their order, to rounding. Each call learns the directions and the
    rotation anew, so few large parts take less time than many small ones. A call after `fit`
    starts anew.

    References
    ----------
    Y. Gong, S. Lazebnik, A. Gordo, F. Perronnin, "Iterative quantization: a Procrustean approach
    to learning binary codes for large-scale image retrieval", TPAMI 2013, section 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import CCAITQHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = CCAITQHasher(n_bits=8, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.7
    True
    """

    _parameter_constraints: dict = {
        **_RotatedHasher._parameter_constraints,
        "reg": [Interval(Real, 0, None, closed="neither")],
        "reg_labels": [Interval(Real, 0, None, closed="neither")],
    }
    _supervised = True

    def __init__(
        self,
        n_bits=32,
        *,
        reg=0.1,
        reg_labels=1.0,
        max_iter=50,
        tol=0.0,
        n_rotation_samples=50000,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.reg = reg
        self.reg_labels = reg_labels
        self.max_iter = max_iter
        self.tol = tol
        self.n_rotation_samples = n_rotation_samples
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _directions(self, sums):
        _check_varies(sums.xx, "X", sums.n_samples)
        _check_varies(sums.yy, "y", sums.n_samples)
        directions, correlations = _canonical_directions(sums, self.reg, self.reg_labels)
        self.correlations_ = correlations.astype(sums.dtype)
        self._pad(len(directions), "canonical directions of X and Y")
        keep = slice(self.n_bits)
        return sums.mean, directions[keep] * correlations[keep, None]


def _check_varies(covariance, name, n_samples):
    """Raise if all rows are the same: rounding alone would decide the directions."""
    if not covariance.any():
        raise ValueError(
            f"{name} should vary over the training samples, got {n_samples} equal rows."
        )


def _canonical_directions(sums, reg, reg_labels):
    """Return the canonical directions of X and Y, a row each, and their correlations."""
    factor_x = _regularised_cholesky(sums.xx, reg)
    factor_y = _regularised_cholesky(sums.yy, reg_labels)
    whitened = solve_triangular(factor_x, sums.xy, lower=True)
    whitened = solve_triangular(factor_y, whitened.T, lower=True).T
    left, correlations, _ = svd(whitened, full_matrices=False)
    # Label indicators that sum to a constant (one class each) lose a direction to centring.
    rank = max(1, np.count_nonzero(correlations > np.finfo(sums.dtype).eps * max(whitened.shape)))
    return signed(solve_triangular(factor_x.T, left[:, :rank]).T), correlations[:rank]


def _regularised_cholesky(covariance, reg):
    """Lower Cholesky factor of ``covariance + reg * mean variance * I``."""
    mean_variance = np.trace(covariance) / len(covariance)
    return cholesky(covariance + reg * mean_variance * np.eye(len(covariance)), lower=True)


def _itq_rotation(V, n_bits, max_iter, tol, rng):
    """Rotation (n_directions, n_bits) with orthonormal rows that brings ``V @ R`` near its signs.

    With fewer directions than bits this is what padding `V` with zero columns and rotating in
    `n_bits` dimensions gives, without the zeros. Returns the rotation and the errors.
    """
    # Codes depend on V up to scale, the error does not: fix it so that entries are about 1.
    scale = np.sqrt(np.mean(V**2, dtype=np.float64)).astype(V.dtype)
    V = V / max(scale, np.finfo(V.dtype).tiny)
    rotation = svd(rng.standard_normal((n_bits, n_bits)))[0][: V.shape[1]].astype(V.dtype)
    norms, errors = np.square(V, dtype=np.float64).sum() / len(V), []
    for _ in range(max_iter):
        pull = _product_with_signs(V, rotation)
        # The sum of |V R| is that of B * (V R), which is that of R * (V' B).
        errors.append(norms + n_bits - 2 * np.vdot(rotation, pull) / len(V))
        if len(errors) > 1 and errors[-2] - errors[-1] <= tol * errors[-2]:
            break
        left, _, right = svd(pull, full_matrices=False)
        rotation = (left @ right).astype(V.dtype, copy=False)
    return rotation, np.array(errors)


def _product_with_signs(V, rotation):
    """``V.T @ sign(V @ rotation)``, a block of rows at a time to stay in the cache."""
    product = np.zeros_like(rotation, dtype=np.float64)
    for rows in row_blocks(len(V)):
        signs = V[rows] @ rotation
        np.copysign(1, signs, out=signs)
        product += V[rows].T @ signs
    return product
