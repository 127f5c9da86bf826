"""Iterative quantisation, on principal (ITQ) or canonical (CCA-ITQ) directions."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.linalg import cholesky, solve_triangular, svd
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skhash.base import BaseHasher


class _RotatedHasher(BaseHasher):
    """Directions that a subclass finds in `_directions`, rotated to be near their own signs."""

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, Y):
        _check_varies(X, "X")
        self.mean_, directions = self._directions(X, Y)
        rng = check_random_state(self.random_state)
        rotation, self.quantization_errors_ = _itq_rotation(
            (X - self.mean_) @ directions.T, self.n_bits, self.max_iter, self.tol, rng
        )
        self.n_iter_ = len(self.quantization_errors_)
        self.components_ = rotation.T @ directions

    def _project(self, X):
        return (X - self.mean_) @ self.components_.T


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
        Length of the codes, at most ``min(n_samples, n_features)``.

    max_iter : int, default=50
        Most turns.

    tol : float, default=0
        Stop when a turn lessens the quantisation error by no more than this fraction.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial rotation.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Rotated principal directions, a row for each bit.

    mean_ : ndarray of shape (n_features,)
        Mean of the training samples.

    quantization_errors_ : ndarray of shape (n_iter,)
        Mean of :math:`\|b - v R\|^2` over the training samples, before each turn's rotation, with
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

    def __init__(self, n_bits=32, *, max_iter=50, tol=0.0, n_neighbors=5, random_state=None):
        self.n_bits = n_bits
        self.max_iter = max_iter
        self.tol = tol
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _directions(self, X, Y):  # noqa: ARG002
        n_samples, n_features = X.shape
        if self.n_bits > min(X.shape):
            raise ValueError(
                f"n_bits={self.n_bits} should be at most min(n_samples, n_features), the number "
                f"of principal components; got n_samples={n_samples}, n_features={n_features}. "
                "LSHHasher takes any n_bits."
            )
        # The eigenvectors of the covariance cost O(n d^2) once, in memory independent of n.
        solver = "covariance_eigh" if n_samples >= n_features else "full"
        pca = PCA(self.n_bits, svd_solver=solver).fit(X)
        return pca.mean_, pca.components_


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

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial rotation.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Rotated canonical directions, a row for each bit.

    correlations_ : ndarray of shape (n_directions,)
        Regularised canonical correlations, descending.

    mean_ : ndarray of shape (n_features,)
        Mean of the training samples.

    quantization_errors_ : ndarray of shape (n_iter,)
        Mean of :math:`\|b - v R\|^2` over the training samples, before each turn's rotation, with
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
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.reg = reg
        self.reg_labels = reg_labels
        self.max_iter = max_iter
        self.tol = tol
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _directions(self, X, Y):
        _check_varies(Y, "Y")
        mean = X.mean(axis=0)
        directions, self.correlations_ = _canonical_directions(
            X - mean, Y, self.reg, self.reg_labels
        )
        n_directions = len(directions)
        if self.n_bits > n_directions:
            warnings.warn(
                f"n_bits={self.n_bits} is more than the {n_directions} canonical directions of X "
                "and Y; they are padded with zeros and rotated, so that bits are correlated.",
                stacklevel=6,
            )
        keep = slice(self.n_bits)
        return mean, directions[keep] * self.correlations_[keep, None]


def _check_varies(rows, name):
    """Raise if all rows are the same: rounding alone would decide the directions."""
    if (rows == rows[:1]).all():
        raise ValueError(
            f"{name} should vary over the training samples, got {len(rows)} equal rows."
        )


def _canonical_directions(X, Y, reg, reg_labels):
    """Return the canonical directions of centred X, a row each, and their correlations."""
    Y = Y.astype(X.dtype) - Y.mean(axis=0, dtype=X.dtype)
    factor_x = _regularised_cholesky(X.T @ X / len(X), reg)
    factor_y = _regularised_cholesky(Y.T @ Y / len(X), reg_labels)
    whitened = solve_triangular(factor_x, X.T @ Y / len(X), lower=True)
    whitened = solve_triangular(factor_y, whitened.T, lower=True).T
    left, correlations, _ = svd(whitened, full_matrices=False)
    # Label indicators that sum to a constant (one class each) lose a direction to centring.
    rank = max(1, np.count_nonzero(correlations > np.finfo(X.dtype).eps * max(whitened.shape)))
    directions = solve_triangular(factor_x.T, left[:, :rank]).T
    return directions.astype(X.dtype, copy=False), correlations[:rank].astype(X.dtype, copy=False)


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
    V = V / max(np.sqrt(np.mean(V**2)), np.finfo(V.dtype).tiny)
    rotation = svd(rng.standard_normal((n_bits, n_bits)))[0][: V.shape[1]].astype(V.dtype)
    norms, errors = np.vdot(V, V) / len(V), []
    for _ in range(max_iter):
        rotated = V @ rotation
        errors.append(norms + n_bits - 2 * np.abs(rotated).sum(axis=1).mean())
        if len(errors) > 1 and errors[-2] - errors[-1] <= tol * errors[-2]:
            break
        left, _, right = svd(
            V.T @ np.where(rotated >= 0, 1, -1).astype(V.dtype), full_matrices=False
        )
        rotation = left @ right
    return rotation, np.array(errors)
