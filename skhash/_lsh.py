"""Locality-sensitive hashing by random hyperplanes."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import check_random_state

from skhash._parts import rng_at
from skhash.base import BaseHasher, PartialFitMixin


class LSHHasher(PartialFitMixin, BaseHasher):
    r"""Locality-sensitive hashing by random hyperplanes.

    Bit :math:`b` of a sample is :math:`[w_b \cdot (x - \mu) \ge 0]` with :math:`w_b` standard
    normal. Two samples at angle :math:`\theta` (about the mean :math:`\mu`) differ in a bit with
    probability :math:`\theta / \pi`. The unsupervised, data-independent baseline.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes.

    center : bool, default=True
        Whether to subtract the mean of the training samples. Without, samples that are all
        positive, such as activations, share most bits.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the hyperplanes.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Normals of the hyperplanes.

    mean_ : ndarray of shape (n_features,)
        What is subtracted: the mean of the training samples, or zeros.

    database_codes_ : ndarray of shape (n_database, ceil(n_bits / 8)), dtype uint8
        Packed codes of the database: the training set, or what `set_database` was given.

    database_labels_ : ndarray of shape (n_database, ceil(n_labels / 8)), dtype uint8, or None
        Packed label sets of the database.

    classes_ : ndarray of shape (n_labels,), or None
        Labels, see :class:`skhash.base.BaseHasher`.

    n_features_in_ : int
        Number of features seen in `fit`.

    Notes
    -----
    With `partial_fit`, the mean is that of all parts. After the last part the hasher is that of
    `fit` on all parts, to rounding. A call after `fit` starts anew.

    References
    ----------
    M. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, section 3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import LSHHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = LSHHasher(n_bits=16, random_state=0).fit(X[200:], y[200:])
    >>> hasher.transform(X[:200]).shape
    (200, 16)
    >>> hasher.score(X[:200], y[:200]) > 0.4
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "center": ["boolean"],
        "random_state": ["random_state"],
    }
    _takes_blocks = True

    def __init__(self, n_bits=32, *, center=True, n_neighbors=5, random_state=None):
        self.n_bits = n_bits
        self.center = center
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @staticmethod
    def _saved_types():
        return (_Parts,)

    def _fit(self, X, Y):  # noqa: ARG002
        self._learn(
            X.mean(axis=0, dtype=np.float64), X.dtype, check_random_state(self.random_state)
        )

    def _learn_part(self, X, Y, first):  # noqa: ARG002
        rng = check_random_state(self.random_state) if first else rng_at(self._parts.state)
        parts = _Parts.empty(rng.get_state(), X) if first else self._parts
        self._parts = parts.updated(X)
        self._learn(self._parts.mean, self._parts.dtype, rng)

    def _learn(self, mean, dtype, rng):
        """Centre at a mean, and draw hyperplanes."""
        self.mean_ = (mean * self.center).astype(dtype)
        self.components_ = rng.standard_normal((self.n_bits, len(mean))).astype(dtype)

    def _project(self, X):
        return (X - self.mean_) @ self.components_.T


@dataclass(frozen=True)
class _Parts:
    """The mean of all parts, and the state of the random numbers that hyperplanes are of."""

    state: tuple
    n_samples: int
    dtype: np.dtype
    mean: np.ndarray

    @classmethod
    def empty(cls, state, X):
        """Start, with the dtype and the features of `X`."""
        return cls(state, 0, X.dtype, np.zeros(X.shape[1]))

    def updated(self, X):
        """Return the parts and one more."""
        n_samples = self.n_samples + len(X)
        step = X.mean(axis=0, dtype=np.float64) - self.mean
        return _Parts(
            self.state,
            n_samples,
            np.result_type(self.dtype, X.dtype),
            self.mean + len(X) / n_samples * step,
        )
