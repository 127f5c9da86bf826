"""Locality-sensitive hashing by random hyperplanes."""

import numpy as np
from sklearn.utils import check_random_state

from skhash.base import BaseHasher


class LSHHasher(BaseHasher):
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

    def __init__(self, n_bits=32, *, center=True, n_neighbors=5, random_state=None):
        self.n_bits = n_bits
        self.center = center
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _fit(self, X, Y):  # noqa: ARG002
        rng = check_random_state(self.random_state)
        self.mean_ = (X.mean(axis=0, dtype=np.float64) * self.center).astype(X.dtype)
        self.components_ = rng.standard_normal((self.n_bits, X.shape[1])).astype(X.dtype)

    def _project(self, X):
        return (X - self.mean_) @ self.components_.T
