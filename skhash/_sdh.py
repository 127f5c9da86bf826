"""Supervised discrete hashing (SDH): codes from which label sets follow linearly."""

import math
from numbers import Integral, Real

import numpy as np
from scipy.linalg import eigh

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

# Most bytes of kernel values that are kept.
_MOST_KEPT = 2**30

# Most passes over the bits in a turn, as in the authors' code.
_MAX_PASSES = 10


class SDHHasher(SampledPartsMixin, BaseHasher):
    r"""Supervised discrete hashing (SDH).

    Codes :math:`B \in \{-1, 1\}^{n \times r}` of the :math:`n` training samples should give the
    label sets by a linear map :math:`W`, and be given by the features through hash functions
    :math:`F`:

    .. math::

        \min_{B, W, P} \; \|Y - B W\|_F^2 + \lambda \|W\|_F^2
            + \nu \Bigl( \|B - F(X)\|_F^2 + \mu \|P\|_F^2 \Bigr),
        \quad F(x) = P^T \phi(x).

    :math:`Y` is the indicator matrix of the label sets, with entries 0 and 1, and :math:`\phi`
    are the kernel values of :math:`m` anchors, training samples drawn at random, and a 1,

    .. math:: \phi(x) = \bigl(e^{-\gamma \|x - z_1\|^2}, \dots, e^{-\gamma \|x - z_m\|^2}, 1\bigr).

    Codes start at random, and a turn takes three steps, none of which increases the objective:

    * :math:`B`, one bit at a time (discrete cyclic coordinate descent). With the other bits
      fixed, the objective is linear in bit :math:`k`, and its minimum is, with :math:`w_k` the
      rows of :math:`W`,

      .. math:: b_k = \operatorname{sign}\Bigl(Y w_k + \nu \, F_k(X)
          - \sum_{l \ne k} (w_k \cdot w_l) \, b_l\Bigr).

      Passes over the bits are repeated until one changes nothing, at most 10 times.
    * :math:`W = (B^T B + \lambda I)^{-1} B^T Y`.
    * :math:`P = (\Phi^T \Phi + \mu I)^{-1} \Phi^T B`.

    The code of any sample, of training samples too, is the sign of :math:`F(x)`.

    Parameters
    ----------
    n_bits : int, default=32
        Length :math:`r` of the codes.

    n_anchors : int, default=1000
        Number :math:`m` of anchors. If there are fewer training samples, all are anchors.

    gamma : float or "auto", default="auto"
        Parameter :math:`\gamma` of the kernel. "auto" is :math:`1 / (2 s)`, with :math:`s` the
        mean of :math:`\|x - z_j\|^2` over training samples and anchors.

    reg : float, default=1e-2
        Regularisation :math:`\mu` of the hash functions.

    reg_labels : float, default=1.0
        Regularisation :math:`\lambda` of the map from codes to labels.

    nu : float, default=1e-5
        Weight :math:`\nu` of the distance of codes from hash functions. The smaller, the more
        codes are decided by the labels alone.

    max_iter : int, default=5
        Most turns.

    tol : float, default=1e-5
        Stop when a turn lessens the objective by no more than this fraction.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the anchors, then the codes at the start.

    Attributes
    ----------
    coef_ : ndarray of shape (n_bits, n_anchors)
        Coefficients of the kernel values in :math:`F`, a row for each bit.

    intercept_ : ndarray of shape (n_bits,)
        Coefficients of the 1 in :math:`\phi`.

    anchors_ : ndarray of shape (n_anchors, n_features)
        The anchors :math:`z_j`.

    anchor_indices_ : ndarray of shape (n_anchors,)
        Their rows in the training set, ascending.

    gamma_ : float
        The :math:`\gamma` that was used.

    label_coef_ : ndarray of shape (n_labels, n_bits)
        :math:`W^T`, which gives label indicators from codes of -1 and 1.

    objective_ : ndarray of shape (n_iter + 1,)
        The objective at the start (:math:`W` and :math:`P` the best for random :math:`B`), and
        after each turn.

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
    KSHHasher : Hash functions of the same form, learnt from pairs of samples.
    CCAITQHasher : Linear hash functions by canonical correlations with the labels.

    Notes
    -----
    *Cost.* A turn takes :math:`O(n (m r + r^2 + r L))` with :math:`L` labels, after
    :math:`O(n m^2 + m^3)` once. Memory is :math:`O(n (m + r + L) + m^2)`. Where the :math:`n m`
    kernel values would take more than 1 GiB, they are computed anew whenever they are needed,
    twice in a turn and three times before the first: :math:`O(n m d)` with :math:`d` features each
    time, and memory is :math:`O(n (r + L) + m^2)`.

    *Label sets.* Each label is a target of its own, 0 or 1, and has the same weight:
    rows of :math:`Y` are not scaled by the number of their labels. With one class each this is
    the paper's encoding.

    *Differences.* This is the version with the :math:`l_2` loss. The paper has no :math:`\mu`; the
    authors' code has it, with the values that are the defaults here, and the 1 in :math:`\phi`.
    In its version of 2015 that code begins each turn's descent at codes of zeros, which may end
    above where the turn began; later it begins at the codes so far, as here. The code's width of
    the kernel, fixed for features of length 1, would here depend on the unit; and it stops when
    :math:`P` changes little, where here the objective does. The sign of 0 is 1.

    *Parts.* What `partial_fit` keeps between calls does not grow with the number of samples: at
    most 50,000 of them, drawn uniformly from all parts, with their label sets. The hasher is that
    of `fit` on these, in their order; which they are does not depend on the cuts. Each call learns
    anew, so few large parts take less time than many small ones. Attributes that hold rows of the
    training set count those of all parts. A call after `fit` starts anew.

    References
    ----------
    F. Shen, C. Shen, W. Liu, H. T. Shen, "Supervised discrete hashing", CVPR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import SDHHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = SDHHasher(n_bits=16, n_anchors=100, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "reg": [Interval(Real, 0, None, closed="neither")],
        "reg_labels": [Interval(Real, 0, None, closed="neither")],
        "nu": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _supervised = True
    _takes_blocks = True
    _row_attributes = ("anchor_indices_",)

    def __init__(
        self,
        n_bits=32,
        *,
        n_anchors=1000,
        gamma="auto",
        reg=1e-2,
        reg_labels=1.0,
        nu=1e-5,
        max_iter=5,
        tol=1e-5,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.gamma = gamma
        self.reg = reg
        self.reg_labels = reg_labels
        self.nu = nu
        self.max_iter = max_iter
        self.tol = tol
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @staticmethod
    def _upgraded(params):
        if "reg_projection" not in params:
            return params
        params = params | {"reg": params["reg_projection"], "reg_labels": params["reg"]}
        del params["reg_projection"]
        return params | ({"gamma": "auto"} if params["gamma"] is None else {})

    def _fit(self, X, Y):
        if not np.ptp(Y, axis=0).any():
            raise ValueError(f"y should vary over the training samples, got {len(Y)} equal rows.")
        rng = self._start_rng()
        self._set_kernel(X, draw_rows(len(X), self.n_anchors, rng))
        features = _Features(self._kernel, X, len(self.anchors_)).kept()
        codes = 2 * rng.randint(2, size=(self.n_bits, len(X)), dtype=np.int8) - 1
        problem = _Alternation(
            features, Y, codes, reg=self.reg, reg_labels=self.reg_labels, nu=self.nu
        )
        self.objective_ = np.array(self._alternate(problem))
        self.n_iter_ = len(self.objective_) - 1
        self.label_coef_ = problem.label_coef.T.astype(X.dtype)
        coef = problem.projection.T.astype(X.dtype)
        self.coef_, self.intercept_ = coef[:, :-1].copy(), coef[:, -1].copy()

    def _project(self, X):
        return self._kernel(X) @ self.coef_.T + self.intercept_

    def _set_kernel(self, X, indices):
        """Take the rows `indices` of `X` as anchors, and settle the width of the kernel."""
        self.anchor_indices_, self.anchors_ = indices, X[indices]
        self.gamma_ = kernel_width(self.gamma, X, self.anchors_)

    def _kernel(self, X):
        """Kernel values (n_samples, n_anchors) of `X`."""
        return rbf_kernel(X, self.anchors_, self.gamma_)

    def _alternate(self, problem):
        """Take turns until they no longer help; return the objective at each."""
        problem.update_label_coef()
        problem.update_projection()
        objective = [problem.objective()]
        for _ in range(self.max_iter):
            problem.update_codes()
            problem.update_label_coef()
            problem.update_projection()
            objective.append(problem.objective())
            if objective[-2] - objective[-1] <= self.tol * objective[-2]:
                break
        return objective


class _Features:
    """Kernel values of samples, and a 1, in blocks of rows: computed when they are asked for."""

    def __init__(self, kernel, X, n_anchors):
        self._kernel, self._X = kernel, X
        self.shape, self.dtype = (len(X), n_anchors + 1), X.dtype

    def __len__(self):
        return len(self._X)

    def __getitem__(self, rows):
        values = np.ones((len(range(len(self))[rows]), self.shape[1]), self.dtype)
        values[:, :-1] = self._kernel(self._X[rows])
        return values

    def kept(self):
        """Return all in an array, or as they are where that would be too large."""
        if math.prod(self.shape) * self.dtype.itemsize > _MOST_KEPT:
            return self
        values = np.empty(self.shape, self.dtype)
        for rows in row_blocks(len(self)):
            values[rows] = self[rows]
        return values


class _Alternation:
    """The objective of SDH, its three unknowns, and the steps that each minimise over one.

    `codes` is (n_bits, n_samples), a row for each bit, since bits are what is updated.
    """

    def __init__(self, features, Y, codes, *, reg, reg_labels, nu):
        self.features, self.targets = features, Y.astype(features.dtype)
        self.codes = codes.astype(features.dtype)
        self.reg, self.reg_labels, self.nu = reg, reg_labels, nu
        self._gram = cross_product(features, features)
        self._spectrum = eigh(self._gram)

    def update_label_coef(self):
        """Set W, (n_bits, n_labels), to its minimum: a ridge regression of labels on codes."""
        self._code_gram = cross_product(self.codes.T, self.codes.T)
        self._code_targets = cross_product(self.codes.T, self.targets)
        self.label_coef = _ridge(*eigh(self._code_gram), self._code_targets, self.reg_labels)

    def update_projection(self):
        """Set P, (n_anchors + 1, n_bits), to its minimum: a ridge regression on features."""
        self._feature_codes = cross_product(self.features, self.codes.T)
        self.projection = _ridge(*self._spectrum, self._feature_codes, self.reg)

    def update_codes(self):
        """Pass over the bits until none changes, or often enough."""
        dtype = self.codes.dtype
        pull = self.label_coef.astype(dtype) @ self.targets.T
        projection = self.projection.T.astype(dtype)
        for rows in row_blocks(len(self.features)):
            pull[:, rows] += dtype.type(self.nu) * (projection @ self.features[rows].T)
        coupling = (self.label_coef @ self.label_coef.T).astype(dtype)
        np.fill_diagonal(coupling, 0)
        for _ in range(_MAX_PASSES):
            changes = [self.update_bit(k, pull, coupling) for k in range(len(self.codes))]
            if not any(changes):
                break

    def update_bit(self, k, pull, coupling):
        """Set bit `k` of all samples to its minimum, the other bits fixed; say if any changed."""
        bit = np.where(pull[k] >= coupling[k] @ self.codes, 1, -1)
        changed = bool((bit != self.codes[k]).any())
        self.codes[k] = bit
        return changed

    def objective(self):
        """Return the objective, by the products of `codes` that the steps of W and P have left."""
        W, projection = self.label_coef, self.projection
        fit = self.targets.sum(dtype=np.float64) - 2 * np.vdot(W, self._code_targets)
        fit += np.vdot(W, self._code_gram @ W) + self.reg_labels * np.vdot(W, W)
        distance = self.codes.size - 2 * np.vdot(projection, self._feature_codes)
        distance += np.vdot(projection, self._gram @ projection)
        distance += self.reg * np.vdot(projection, projection)
        return float(fit + self.nu * distance)


def _ridge(squares, vectors, product, reg):
    """Solve ``(G + reg I) Z = product`` by the eigenvalues and vectors of the Gram `G`."""
    # An eigenvalue that rounding has made negative is 0.
    scale = np.maximum(squares, 0) + reg
    return vectors @ ((vectors.T @ product) / scale[:, None])
