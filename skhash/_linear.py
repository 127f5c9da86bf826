"""What HDML and MLH share: linear hash functions that descend along an upper bound of a loss."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from skhash._sklearn import Interval

# Where the penalty on the mean of a bit turns from quadratic to linear, as in the authors' code.
_MAX_MEAN = 0.5

# The parameters of the descent, for the table of a hasher.
DESCENT_CONSTRAINTS = {
    "balance": [Interval(Real, 0, None, closed="left")],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "random_state": ["random_state"],
}


class DescentMixin:
    """`_fit` and `_project` of ``W (x - mean_) / scale_ + b``, learnt by stochastic gradient.

    A subclass has the parameters of `DESCENT_CONSTRAINTS` and defines ``_label_draws(Y)``, an
    object with an array `anchors`, the samples that an epoch visits, and a method
    ``draw(anchors, size, rng)``; and ``_step(X, draws, weights, anchors, *drawn)``, which returns
    the bounds of a batch and the gradient of its objective.
    """

    def _fit(self, X, Y):
        rng = check_random_state(self.random_state)
        draws = self._label_draws(Y)
        self.mean_, self.scale_ = _mean_and_scale(X)
        weights = self._initial_weights(X, rng)
        velocity = np.zeros_like(weights)
        self.loss_curve_ = []
        for epoch in range(self.max_epochs):
            rate = self.learning_rate * (1 - epoch / self.max_epochs)
            loss = self._run_epoch(X, draws, weights, velocity, rate, rng)
            self.loss_curve_.append(float(loss))
        self._set_weights(weights)

    def _initial_weights(self, X, rng):
        """Random hyperplanes that halve the training samples, offsets in the last column."""
        weights = rng.standard_normal((self.n_bits, X.shape[1] + 1)).astype(X.dtype)
        weights[:, -1] = 0
        self._set_weights(weights)
        weights[:, -1] = -np.median(self._project(X), axis=0)
        return weights

    def _set_weights(self, weights):
        self.components_, self.intercept_ = weights[:, :-1].copy(), weights[:, -1].copy()

    def _run_epoch(self, X, draws, weights, velocity, rate, rng):
        """Visit every anchor once; return the mean bound over what was drawn for them."""
        order = rng.permutation(draws.anchors)
        total, n_bounds = 0.0, 0
        for anchors in np.array_split(order, -(-len(order) // self.batch_size)):
            drawn = draws.draw(anchors, self.batch_size, rng)
            bounds, gradient = self._step(X, draws, weights, anchors, *drawn)
            velocity *= self.momentum
            velocity -= rate * gradient
            weights += velocity
            total, n_bounds = total + bounds.sum(dtype=np.float64), n_bounds + len(bounds)
        return total / n_bounds if n_bounds else np.nan

    def _inputs(self, X):
        """Centred and scaled rows, with a column of ones for the offsets."""
        return np.hstack([(X - self.mean_) / self.scale_, np.ones((len(X), 1), X.dtype)])

    def _balance_gradient(self, f):
        """Gradient of the penalty on the mean of the projections `f`, a row of it for each."""
        mean = f.mean(axis=0)
        return self.balance / len(f) * np.clip(mean, -_MAX_MEAN, _MAX_MEAN)

    def _project(self, X):
        return (X - self.mean_) @ (self.components_.T / self.scale_) + self.intercept_


class LabelMembers:
    """Which samples carry each label of an indicator matrix.

    Attributes
    ----------
    counts : ndarray of shape (n_labels,)
        Number of samples that carry each label.
    """

    def __init__(self, Y):
        self.counts = Y.sum(axis=0, dtype=np.int64)
        self._starts = np.cumsum(self.counts) - self.counts
        # By label, then by sample.
        self._members = np.nonzero(Y.T)[1]

    def draw_sharing(self, own, anchors, rng):
        """For each anchor, draw one of the labels `own`, then another sample that carries it.

        Parameters
        ----------
        own : ndarray of shape (n_anchors, n_labels), dtype uint8
            Labels of the anchors that may be drawn, each carried by two samples or more.

        anchors : ndarray of shape (n_anchors,)
            Rows of the samples.

        rng : RandomState
            What draws.

        Returns
        -------
        samples : ndarray of shape (n_anchors,)
            Rows of what was drawn.
        """
        nth = (rng.random_sample(len(anchors)) * own.sum(axis=1)).astype(np.int64)
        label = (own.cumsum(axis=1) > nth[:, None]).argmax(axis=1)
        start, last = self._starts[label], self.counts[label] - 1
        place = (rng.random_sample(len(anchors)) * last).astype(np.int64)
        drawn = self._members[start + place]
        # Drawn from all but the last; in the anchor's own place the last one stands in.
        return np.where(drawn == anchors, self._members[start + last], drawn)


def _mean_and_scale(rows):
    """Mean of the rows, and the root mean square of their distance to it."""
    if (rows == rows[:1]).all():
        raise ValueError(
            f"X should vary over the training samples, got {len(rows)} equal rows: no hash "
            "function tells them apart."
        )
    return rows.mean(axis=0), np.sqrt(rows.var(axis=0).sum())


def signs(projection):
    """Bits as -1 and 1, in the dtype of the projection; 0 is the bit 1."""
    return np.where(projection >= 0, 1, -1).astype(projection.dtype)
