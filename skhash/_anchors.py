"""Kernel values of anchors, and sums over samples, a block of rows at a time."""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from skhash._blocks import row_blocks


def draw_rows(n_samples, size, rng):
    """Sorted indices of `size` samples, or of all if they are fewer or `size` is None."""
    if size is None or size >= n_samples:
        return np.arange(n_samples)
    return np.sort(rng.permutation(n_samples)[:size])


def rbf_kernel(X, anchors, gamma):
    """Kernel values (n_samples, n_anchors), exact to rounding far from the origin too."""
    # An expanded square loses digits far from the origin: move it to an anchor.
    origin = anchors[0]
    values = euclidean_distances(X - origin, anchors - origin, squared=True)
    values *= -gamma
    return np.exp(values, out=values)


def kernel_width(gamma, X, anchors):
    """Return `gamma`, or for "auto" ``1 / (2 s)`` with `s` the mean squared distance to anchors.

    The mean is over all rows and all anchors. ValueError is raised if it is no scale.
    """
    scale = _mean_squared_distance(X, anchors)
    return 1 / (2 * scale) if gamma == "auto" else gamma


def _mean_squared_distance(X, anchors):
    """Return the mean of the squared distances of all rows to all anchors, or raise."""
    origin = anchors[0]
    total, mean = 0.0, np.zeros(X.shape[1])
    for rows in row_blocks(len(X)):
        Z = (X[rows] - origin).astype(np.float64, copy=False)
        total += np.vdot(Z, Z) / len(X)
        mean += Z.sum(axis=0) / len(X)
    Z = (anchors - origin).astype(np.float64, copy=False)
    value = total + np.vdot(Z, Z) / len(Z) - 2 * mean @ Z.mean(axis=0)
    if not 0 < value < np.inf:
        raise ValueError(
            "X should vary over the training samples, within the range of floats: the mean of "
            f"their squared distances to the anchors is {value}."
        )
    return float(value)


def cross_product(left, right):
    """``left^T right`` in double precision, a block of rows at a time; `left` may be sparse."""
    total = 0
    for rows in row_blocks(len(right)):
        block = right[rows]
        # Blocks of some are computed when they are asked for.
        other = block if left is right else left[rows]
        total = total + other.T.astype(np.float64) @ block.astype(np.float64)
    return total
