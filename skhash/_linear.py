"""What MLH and HDML share: linear hash functions that descend along an upper bound of a loss."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state

from skhash._blocks import row_blocks
from skhash._sklearn import Interval

# The parameters of the descent, for the table of a hasher.
DESCENT_CONSTRAINTS = {
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "random_state": ["random_state"],
}


class DescentMixin:
    """`_fit` of the weights of hash functions by stochastic gradient with momentum.

    A subclass has the parameters of `DESCENT_CONSTRAINTS` and defines

    * ``_label_draws(Y)``: an object with an array `anchors`, the samples that an epoch visits,
      and a method ``draw(anchors, size, rng)``;
    * ``_initial_weights(X, rng)``, and ``_set_weights(weights)``, which makes them attributes;
    * ``_step(X, draws, weights, anchors, *drawn)``: the bounds of a batch, and the gradient of
      its objective.
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
            self._constrain(weights)
            total, n_bounds = total + bounds.sum(dtype=np.float64), n_bounds + len(bounds)
        return total / n_bounds if n_bounds else np.nan

    def _constrain(self, weights):
        """Bring the weights back, in place, to where they should stay: by default anywhere."""

    def _standardized(self, X):
        """Rows less their mean, with a root mean square of 1 in the training set."""
        return (X - self.mean_) / self.scale_


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
    """Mean of the rows, and the root mean square of their distance to it, summed in float64."""
    if all((rows[block] == rows[:1]).all() for block in row_blocks(len(rows))):
        raise ValueError(
            f"X should vary over the training samples, got {len(rows)} equal rows: no hash "
            "function tells them apart."
        )
    mean = rows.mean(axis=0, dtype=np.float64)
    squares = (((rows[block] - mean) ** 2).sum(axis=0) for block in row_blocks(len(rows)))
    variances = sum(squares) / len(rows)
    return mean.astype(rows.dtype), rows.dtype.type(np.sqrt(variances.sum()))


def signs(projection):
    """Bits as -1 and 1, in the dtype of the projection; 0 is the bit 1."""
    return np.where(projection >= 0, 1, -1).astype(projection.dtype)
