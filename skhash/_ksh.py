"""Supervised hashing with kernels (KSH): codes whose inner products are the labels' similarity."""

import math
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.linalg import eigh, get_blas_funcs

from skhash._anchors import (
    cross_product,
    draw_rows,
    kernel_width,
    rbf_kernel,
)
from skhash._blocks import row_blocks
from skhash._parts import SampledPartsMixin
from skhash._sklearn import Interval, StrOptions
from skhash.base import BaseHasher
from skhash.codes import pack_codes

# Most times that a step is halved in search of one that gains, as in the authors' code.
_MAX_HALVINGS = 50


class KSHHasher(SampledPartsMixin, BaseHasher):
    r"""Supervised hashing with kernels (KSH).

    Bit :math:`k` of a sample is :math:`[a_k \cdot \bar\kappa(x) \ge 0]`, where
    :math:`\bar\kappa` are the kernel values of :math:`m` anchors, training samples drawn at
    random, less their mean :math:`\mu_j` over the training samples:

    .. math::

        \bar\kappa_j(x) = \exp\bigl(-\gamma \|x - z_j\|^2\bigr) - \mu_j.

    The codes
    :math:`b_k \in \{-1, 1\}^l` of :math:`l` labelled training samples should have the similarity
    :math:`S` of their label sets as inner products, divided by the number of bits :math:`r`:

    .. math:: \min_{a_1, \dots, a_r} \Bigl\| r S - \sum_{k=1}^r b_k b_k^T \Bigr\|_F^2, \quad
        b_k = \operatorname{sign}(\bar K a_k), \; S_{ij} \in [-1, 1].

    Bits are learnt one after another, each from what the ones before it have left over,
    :math:`R_{k-1} = r S - \sum_{i<k} b_i b_i^T`, by maximising :math:`b_k^T R_{k-1} b_k`. First
    the sign is left out, which gives the generalised eigenvector of the greatest eigenvalue of

    .. math:: \bar K^T R_{k-1} \bar K a = \lambda \, \bar K^T \bar K a, \quad
        a^T \bar K^T \bar K a = l.

    From there, Nesterov's accelerated gradient maximises :math:`\varphi^T R_{k-1} \varphi` with
    the sigmoid :math:`\varphi = 2 / (1 + \exp(-\bar K a)) - 1` in place of the sign. Its result is
    kept only if :math:`b_k^T R_{k-1} b_k` is greater than at the eigenvector.

    Parameters
    ----------
    n_bits : int, default=32
        Length :math:`r` of the codes.

    n_anchors : int, default=300
        Number :math:`m` of anchors. If there are fewer training samples, all are anchors.

    gamma : float or "auto", default="auto"
        Parameter :math:`\gamma` of the kernel. "auto" is :math:`1 / (2 s)`, with :math:`s` the
        mean of :math:`\|x - z_j\|^2` over training samples and anchors.

    n_labeled : int or None, default=2000
        Number :math:`l` of training samples whose label sets are learnt from, drawn at random. If
        there are fewer training samples, or with None, all are.

    similarity : {"any", "graded"}, default="any"
        Similarity :math:`S_{ij}` of the label sets :math:`A` and :math:`B` of two samples.

        * "any": 1 if they share a label, else -1.
        * "graded": :math:`2 \, |A \cap B| / \sqrt{|A| |B|} - 1`.

        A sample without labels has -1 with all samples, itself included; any other sample has 1
        with itself. With one class each, the two are the same.

    max_iter : int, default=500
        Most gradient steps for a bit.

    tol : float, default=1e-2
        Stop when a step changes :math:`\varphi^T R_{k-1} \varphi / l` by no more than this.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the anchors, then the labelled samples.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_anchors)
        Directions :math:`a_k`, a row for each bit.

    anchors_ : ndarray of shape (n_anchors, n_features)
        The anchors :math:`z_j`.

    anchor_indices_ : ndarray of shape (n_anchors,)
        Their rows in the training set, ascending.

    labeled_indices_ : ndarray of shape (n_labeled,)
        Rows of the labelled samples in the training set, ascending.

    gamma_ : float
        The :math:`\gamma` that was used, as in :func:`sklearn.metrics.pairwise.rbf_kernel`.

    mean_ : ndarray of shape (n_anchors,)
        Means :math:`\mu_j` of the kernel over the training samples.

    objective_ : ndarray of shape (n_bits + 1,)
        :math:`\|R_k\|_F^2 / (r l)^2` after :math:`k` bits, from :math:`k = 0`. A bit lowers it if
        :math:`b_k^T R_{k-1} b_k > l^2 / 2`.

    smoothed_ : ndarray of shape (n_bits,), dtype bool
        Whether the gradient steps were kept, or the eigenvector.

    n_iter_ : int
        The largest number of gradient steps of a bit.

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
    CCAITQHasher : Label sets by canonical correlations, with linear hash functions.
    DeepRankingHasher : A ranking loss over whole lists, on a deep network.

    Notes
    -----
    *Cost.* No matrix of :math:`l \times l` is made. Either similarity is a product
    :math:`S = G C G^T`. With "graded", :math:`G = [U, 1]` has a column for each label and one
    more, :math:`U` being the label indicators with rows of unit length, and :math:`C` is diagonal,
    :math:`2, \dots, 2, -1`. With "any", :math:`G` says which of the :math:`u` distinct label sets
    a sample has, and :math:`C` is their similarity, :math:`u^2` floats of the type of `X`: 80 MB
    in single precision for 4,500 distinct sets, twice that in double. So
    :math:`\bar K^T S \bar K` is computed once, from :math:`G^T \bar K`, and each bit takes
    :math:`O(m^2)` off it; and a product of :math:`R_k` and a vector takes :math:`O(l L + l r)`
    with :math:`L` labels, or :math:`O(l r + u^2)`. A gradient step takes two products with
    :math:`\bar K`, however often its size is halved, for projections are linear in :math:`a`.
    Besides :math:`C`, memory is :math:`O(l m + l r + m^2)`.

    *Differences.* Where the paper and the authors' code leave :math:`\bar K^T \bar K` as it is,
    directions of it which rounding alone would decide (those of equal or almost equal anchors)
    are left out. A projection of 0 is the bit 1. Eigenvectors are signed such that their greatest
    coefficient is positive. Label sets are an extension; with one class each, :math:`S` is that
    of the paper.

    *Objective.* A bit changes :math:`\|R\|_F^2` by :math:`l^2 - 2 b_k^T R_{k-1} b_k`. That is
    negative where features tell the labels and bits are as many as these need. One bit cannot
    tell ten classes apart, and no bit fits labels that the features tell nothing about: there
    bits raise it. As in the paper, there are `n_bits` of them all the same.

    *Parts.* What `partial_fit` keeps between calls does not grow with the number of samples: at
    most 50,000 of them, drawn uniformly from all parts, with their label sets. The hasher is that
    of `fit` on these, in their order; which they are does not depend on the cuts. Each call learns
    anew, so few large parts take less time than many small ones. Attributes that hold rows of the
    training set count those of all parts. A call after `fit` starts anew.

    References
    ----------
    W. Liu, J. Wang, R. Ji, Y.-G. Jiang, S.-F. Chang, "Supervised hashing with kernels", CVPR 2012.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import KSHHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = KSHHasher(n_bits=16, n_anchors=100, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_labeled": [Interval(Integral, 2, None, closed="left"), None],
        "similarity": [StrOptions({"any", "graded"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _supervised = True
    _takes_blocks = True
    _row_attributes = "anchor_indices_", "labeled_indices_"

    def __init__(
        self,
        n_bits=32,
        *,
        n_anchors=300,
        gamma="auto",
        n_labeled=2000,
        similarity="any",
        max_iter=500,
        tol=1e-2,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.gamma = gamma
        self.n_labeled = n_labeled
        self.similarity = similarity
        self.max_iter = max_iter
        self.tol = tol
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _fit(self, X, Y):
        rng = self._start_rng()
        self._set_kernel(X, draw_rows(len(X), self.n_anchors, rng))
        self.labeled_indices_ = labeled = draw_rows(len(X), self.n_labeled, rng)
        similarity = _SIMILARITIES[self.similarity](Y[labeled], X.dtype)
        kernel = np.empty((len(labeled), len(self.anchors_)), X.dtype)
        for rows in row_blocks(len(kernel)):
            kernel[rows] = self._kernel(X[labeled[rows]])
        self._fit_bits(kernel, similarity)

    def _project(self, X):
        return self._kernel(X) @ self.coef_.T

    def _set_kernel(self, X, indices):
        """Take the rows `indices` of `X` as anchors; learn width and mean of the kernel."""
        self.anchor_indices_, self.anchors_ = indices, X[indices]
        self.gamma_ = kernel_width(self.gamma, X, self.anchors_)
        self.mean_, total = 0.0, np.zeros(len(indices))
        for rows in row_blocks(len(X)):
            total += self._kernel(X[rows]).sum(axis=0, dtype=np.float64)
        self.mean_ = (total / len(X)).astype(X.dtype)

    def _kernel(self, X):
        """Kernel values (n_samples, n_anchors) of `X`, less their mean."""
        values = rbf_kernel(X, self.anchors_, self.gamma_)
        values -= self.mean_
        return values

    def _fit_bits(self, kernel, similarity):
        """Learn a direction for each bit from the kernel values of the labelled samples."""
        residue = _Residue(similarity, self.n_bits, kernel)
        self.coef_ = np.empty((self.n_bits, kernel.shape[1]), kernel.dtype)
        self.smoothed_ = np.empty(self.n_bits, bool)
        self.objective_ = np.empty(self.n_bits + 1)
        self.objective_[0] = self.n_bits**2 * similarity.squared_norm
        self.n_iter_ = 0
        for k in range(self.n_bits):
            first = residue.top_direction().astype(kernel.dtype)
            last, n_iter = _accelerated_gradient(kernel, residue, first, self.max_iter, self.tol)
            codes = [_signs(kernel @ a) for a in (first, last)]
            gains = [residue.quadratic(b) for b in codes]
            self.smoothed_[k] = best = int(gains[1] > gains[0])
            self.coef_[k] = (first, last)[best]
            self.objective_[k + 1] = self.objective_[k] + len(kernel) ** 2 - 2 * gains[best]
            self.n_iter_ = max(self.n_iter_, n_iter)
            residue.deflate(codes[best])
        self.objective_ /= (self.n_bits * len(kernel)) ** 2


class _Similarity:
    """The matrix ``S = G C G^T`` by its factors: a sparse `G`, and `C`, a vector if diagonal."""

    def __init__(self, basis, core, squared_norm):
        self.basis, self.basis_t = basis, basis.T.tocsr()
        self.core = core
        self._symv = get_blas_funcs("symv", (core,))
        self.squared_norm = squared_norm

    def times_core(self, V):
        """``C V``, in the precision of `C`: a copy of `C` in another would be as large."""
        V = V.astype(self.core.dtype, copy=False)
        if self.core.ndim == 1:
            return (self.core * V.T).T
        # Reading the matrix is what takes time, and symv reads half of it.
        return self._symv(1.0, self.core.T, V, lower=True) if V.ndim == 1 else self.core @ V


class _Residue:
    """What the bits so far leave of the target: ``R = r S - sum_k b_k b_k^T``.

    It also keeps ``W^T K^T R K W``, where `W` makes the columns of ``K W`` orthonormal: in these
    coordinates the generalised eigenproblem is an ordinary one.
    """

    def __init__(self, similarity, n_bits, kernel):
        self._S, self._n_bits, self._kernel = similarity, n_bits, kernel
        self._codes, self._n_codes = np.empty((n_bits, len(kernel)), kernel.dtype), 0
        self._whitener = _whitener(kernel)
        factor = cross_product(similarity.basis, kernel) @ self._whitener
        self._whitened = n_bits * (factor.T @ similarity.times_core(factor))

    def product(self, y):
        """``R y``."""
        codes = self._codes[: self._n_codes]
        target = self._S.basis @ (self._n_bits * self._S.times_core(self._S.basis_t @ y))
        return target.astype(y.dtype, copy=False) - (codes @ y) @ codes

    def quadratic(self, y):
        """``y^T R y``, a float."""
        sums, inner = self._S.basis_t @ y, self._codes[: self._n_codes] @ y
        return self._n_bits * _dot(sums, self._S.times_core(sums)) - _dot(inner, inner)

    def deflate(self, b):
        """Take ``b b^T`` off."""
        self._codes[self._n_codes] = b
        self._n_codes += 1
        direction = (cross_product(b[:, None], self._kernel) @ self._whitener)[0]
        self._whitened -= np.outer(direction, direction)

    def top_direction(self):
        """Return the `a` of greatest ``a^T K^T R K a`` among those with ``a^T K^T K a = l``."""
        last = len(self._whitened) - 1
        _, vector = eigh(self._whitened, subset_by_index=[last, last])
        direction = np.sqrt(len(self._kernel)) * (self._whitener @ vector[:, 0])
        return direction * np.sign(direction[np.abs(direction).argmax()])


def _share_any(Y, dtype):
    """Similarity 1 of label sets that share a label and -1 of others, by distinct sets."""
    _check_some_share(Y)
    _, first, group = np.unique(pack_codes(Y), axis=0, return_index=True, return_inverse=True)
    sets = Y[first].astype(dtype)
    core = sets @ sets.T
    np.greater(core, 0, out=core)
    core *= 2
    core -= 1
    if core.min() > 0:
        raise ValueError(
            f"Every two of the {len(Y)} labelled samples share a label: y should tell some apart. "
            "similarity='graded' compares label sets that all share a label."
        )
    n = len(Y)
    basis = sparse.csr_array((np.ones(n), (np.arange(n), group)), shape=(n, len(sets)))
    return _Similarity(basis, core, float(n) ** 2)


def _share_graded(Y, dtype):  # noqa: ARG001
    """Similarity ``2 cos - 1`` of label sets, by labels."""
    _check_some_share(Y)
    if not np.ptp(Y, axis=0).any():
        raise ValueError(
            f"All {len(Y)} labelled samples have the same labels: y should tell some apart."
        )
    lengths = np.sqrt(np.maximum(Y.sum(axis=1, dtype=np.float64), 1))
    unit = sparse.diags_array(1 / lengths) @ sparse.csr_array(Y, dtype=np.float64)
    basis = sparse.hstack([unit, sparse.csr_array(np.ones((len(Y), 1)))], format="csr")
    core = np.append(np.full(Y.shape[1], 2.0), -1.0)
    gram = core[:, None] * (basis.T @ basis).toarray()
    return _Similarity(basis, core, (gram * gram.T).sum())


_SIMILARITIES = {"any": _share_any, "graded": _share_graded}


def _check_some_share(Y):
    """Raise if no two label sets share a label: the only advice would be to scatter codes."""
    if Y.sum(axis=0, dtype=np.int64).max() < 2:
        raise ValueError(
            "KSHHasher learns from pairs of samples that share a label, but no two of the "
            f"{len(Y)} labelled samples do. Pass more samples of each label, or raise n_labeled."
        )


def _whitener(kernel):
    """Matrix `W` for which the columns of ``K W`` are orthonormal, and span those of `K`.

    Directions of `K` too short to be told from rounding, of `K` or of its Gram matrix, are left
    out.
    """
    squares, vectors = eigh(cross_product(kernel, kernel))
    n_anchors = kernel.shape[1]
    least = max(
        (n_anchors * np.finfo(kernel.dtype).eps) ** 2, n_anchors * np.finfo(np.float64).eps
    )
    keep = squares > least * squares[-1]
    return vectors[:, keep] / np.sqrt(squares[keep])


def _accelerated_gradient(kernel, residue, start, max_iter, tol):
    """Maximise ``phi^T R phi``, ``phi = phi(K a)``, from `start`; return `a` and the steps.

    Nesterov's method with the step size of the authors' code, which is halved where it does not
    suffice, and never grows.
    """
    a = before = start
    p = p_before = kernel @ start
    least_change = tol * len(kernel)
    value, rate, weight, next_weight = residue.quadratic(_sigmoid(p)), 1.0, 0.0, 1.0
    for n_iter in range(1, max_iter + 1):  # noqa: B007
        momentum = (weight - 1) / next_weight
        probe, p_probe = a + momentum * (a - before), p + momentum * (p - p_before)
        phi = _sigmoid(p_probe)
        pull = residue.product(phi)
        gradient = kernel.T @ (pull * (1 - phi**2))
        p_gradient = kernel @ gradient
        last_value = value
        value, rate = _ascend(
            residue, p_probe, p_gradient, _dot(phi, pull), _dot(gradient, gradient), rate
        )
        if value is None:
            break
        before, a = a, probe + rate * gradient
        p_before, p = p, p_probe + rate * p_gradient
        weight, next_weight = next_weight, (1 + math.sqrt(1 + 4 * next_weight**2)) / 2
        if abs(value - last_value) <= least_change:
            break
    return a, n_iter


def _ascend(residue, projection, step, value, slope, rate):
    """Halve `rate` until the step gains half of what its slope promises; None if it never does."""
    for _ in range(_MAX_HALVINGS + 1):
        reached = residue.quadratic(_sigmoid(projection + rate * step))
        if reached >= value + rate * slope / 2:
            return reached, rate
        rate /= 2
    return None, rate


def _sigmoid(p):
    """``2 / (1 + exp(-p)) - 1``, without overflow."""
    return np.tanh(p / 2)


def _signs(p):
    """Signs of `p`, in its type; that of 0 is 1."""
    return np.where(p >= 0, 1, -1).astype(p.dtype)


def _dot(a, b):
    """Inner product in double precision."""
    return float(a.astype(np.float64, copy=False) @ b.astype(np.float64, copy=False))
