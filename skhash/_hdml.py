"""Hamming distance metric learning: linear hash functions from triplets (HDML)."""

from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skhash._blocks import map_blocks
from skhash._linear import DESCENT_CONSTRAINTS, DescentMixin, LabelMembers, signs
from skhash._sklearn import Interval
from skhash.base import BaseHasher

# Rows of label sets whose products with all labels are held at once.
_BLOCK_ROWS = 2**13

# Where the penalty on the mean of a bit turns from quadratic to linear, as in the authors' code.
_MAX_MEAN = 0.5


class HDMLHasher(DescentMixin, BaseHasher):
    r"""Hamming distance metric learning: a linear hash function that ranks triplets.

    The code is :math:`h(x) = \operatorname{sign} f(x)`, with

    .. math:: f(x) = W (x - \mu) / s + b.

    In a triplet :math:`(x, x^+, x^-)` the sample :math:`x` shares more labels with :math:`x^+`
    than with :math:`x^-`, so its code should be nearer to that of :math:`x^+`, by a margin
    :math:`\rho`:

    .. math::

        \ell(h, h^+, h^-) = [\rho + m(h, h^+, h^-)]_+, \quad
        m(h, h^+, h^-) = \|h - h^+\|_H - \|h - h^-\|_H.

    This is piecewise constant in :math:`W`. Stochastic gradient descent minimises an upper bound
    that is continuous and piecewise linear, as in a structured support vector machine with latent
    variables: the maximum over all codes :math:`(g, g^+, g^-)` of loss and agreement, minus the
    agreement of the own codes,

    .. math::

        \max_{g, g^+, g^-} \bigl[ \ell(g, g^+, g^-) + g \cdot f + g^+ \cdot f^+ + g^- \cdot f^-
        \bigr] - \|f\|_1 - \|f^+\|_1 - \|f^-\|_1,

    with weight decay :math:`\lambda / 2 \, (\|W\|_F^2 + \|b\|^2)` and a penalty
    :math:`\beta / 2 \, \|\bar f\|^2` on the mean of :math:`f` over a batch, which keeps bits
    balanced. The gradient with respect to :math:`f` is :math:`g - h`.

    Parameters
    ----------
    n_bits : int, default=32
        Length of the codes.

    margin : float, default=1
        Margin :math:`\rho` of the loss, in bits.

    balance : float, default=4.0
        Weight :math:`\beta` of the penalty on unbalanced bits. It is linear beyond a mean of 0.5.
        If it is too small, the same code for all samples, which loses no more than the margin,
        is the optimum on labels that the features tell little about.

    max_epochs : int, default=100
        Number of passes over the samples that have a triplet.

    batch_size : int, default=100
        Most triplets of a step, and number of samples among which each has its :math:`x^-`
        searched.

    learning_rate : float, default=0.3
        Step size of the first epoch; it falls linearly, to reach 0 after the last one.

    momentum : float, default=0.9
        Share of the last step that is added to the next one.

    weight_decay : float, default=3e-3
        Weight :math:`\lambda` of the squared norm of the hash function.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial hash function and the triplets.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Weights :math:`W`, a row for each bit.

    intercept_ : ndarray of shape (n_bits,)
        Offsets :math:`b`.

    mean_ : ndarray of shape (n_features,)
        Mean :math:`\mu` of the training samples.

    scale_ : float
        Root mean square :math:`s` of the distance of the training samples to their mean. With
        one scale for all features, rates and weights of the penalties have no unit, and the
        features keep their proportions.

    loss_curve_ : list of max_epochs floats
        Mean upper bound of the loss over the triplets of an epoch, while it learns and without
        the penalties; NaN if no batch had a triplet. Triplets get harder as codes get better.

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
    MLHHasher : The same bound, of a loss of pairs.
    CCAITQHasher : Label sets by canonical correlations, without triplets.
    DeepRankingHasher : A ranking loss over whole lists, on a deep network.

    Notes
    -----
    *Inference.* The loss is the greater of 0 and :math:`\rho + m`, and two maxima may be taken in
    either order. Without loss the own codes are best, and with :math:`\rho + m` the bits do not
    depend on each other. So the bound is

    .. math::

        \Bigl[ \rho + \sum_b \max_{g_b, g_b^+, g_b^-} \bigl( m_b + g_b f_b + g_b^+ f_b^+ +
        g_b^- f_b^- - |f_b| - |f_b^+| - |f_b^-| \bigr) \Bigr]_+

    with :math:`m_b \in \{-1, 0, 1\}`: exact in :math:`O(c)` for :math:`c` bits, where the dynamic
    program of the paper, which fits any function of :math:`m`, takes :math:`O(c^2)`.

    *Triplets.* An epoch visits each sample that shares more labels with one sample than with
    another, in random order. For :math:`x^+`, one of its labels is drawn, then another sample that
    carries the label; a label that no or every other sample carries ranks nothing and is left
    out. Then, as in the authors' code, :math:`x^-` is the sample with the nearest code among
    `batch_size` random ones, here of those that share fewer labels with :math:`x` than
    :math:`x^+` does; where there is none, :math:`x` sits out the step. With one class each this is
    what they do. Memory is linear in the number of samples.

    *Differences.* As in the authors' code, which departs from the paper there, rows of :math:`W`
    are not normalised after each step; weight decay bounds them. What that code calls a margin of
    1, its default, is :math:`\rho = 2` here: its loss is 1 where :math:`x^-` is one bit farther
    than :math:`x^+`, and 0 from two bits on. Unlike there, the learning rate falls linearly (an
    option there, whose default adapts it to the loss), bits that have become constant are not
    drawn anew (the penalty on the mean weighs more instead: there 1), the momentum is the same
    throughout (halved in the first epochs there), a projection of 0 is the bit 1, and there are
    fewer epochs at a higher rate (2,000 and more there, at 1e-3 on pixels with a mean squared
    norm of about 100, which is 0.1 here). The paper also ranks by an asymmetric distance of a
    real-valued query to codes; here search is by Hamming distance, as for all hashers. Hidden
    layers are left to :class:`DeepRankingHasher`.

    *Large training sets.* Epochs visit samples of the whole training set in random order, so there
    is no `partial_fit`. A memory-mapped array is read a batch at a time, at random places. Where
    that is slow, or the samples come in parts, draw some of them, fit on these, and give the
    database all with `set_database` or `add_to_database`.

    References
    ----------
    M. Norouzi, D. J. Fleet, R. Salakhutdinov, "Hamming distance metric learning", NIPS 2012.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import HDMLHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = HDMLHasher(n_bits=16, max_epochs=20, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "margin": [Interval(Real, 0, None, closed="neither")],
        "balance": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        **DESCENT_CONSTRAINTS,
    }
    _supervised = True
    _takes_blocks = True

    def __init__(
        self,
        n_bits=32,
        *,
        margin=1,
        balance=4.0,
        max_epochs=100,
        batch_size=100,
        learning_rate=0.3,
        momentum=0.9,
        weight_decay=3e-3,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.margin = margin
        self.balance = balance
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @staticmethod
    def _label_draws(Y):
        return _RankedLabels(Y)

    def _initial_weights(self, X, rng):
        """Random hyperplanes that halve the training samples, offsets in the last column."""
        weights = rng.standard_normal((self.n_bits, X.shape[1] + 1)).astype(X.dtype)
        weights[:, -1] = 0
        self._set_weights(weights)
        weights[:, -1] = -np.median(map_blocks(self._project, X), axis=0)
        return weights

    def _set_weights(self, weights):
        self.components_, self.intercept_ = weights[:, :-1].copy(), weights[:, -1].copy()

    def _step(self, X, labels, weights, anchors, positives, pool):
        """Bounds of the triplets of a batch, and the gradient of its objective."""
        n = len(anchors)
        inputs = self._inputs(X[np.concatenate([anchors, positives, pool])])
        f = inputs @ weights.T
        allowed = labels.share_fewer(anchors, positives, pool)
        keep, hardest = _hardest_negatives(f[:n], f[2 * n :], allowed)
        rows = np.stack([keep, n + keep, 2 * n + hardest])
        bounds, codes = _loss_augmented_inference(*f[rows], self.margin)
        gradient = np.zeros_like(f)
        # A sample of the pool can be the negative of several anchors.
        np.add.at(gradient, rows, (codes - signs(f[rows])) / max(1, len(keep)))
        mean = f[:n].mean(axis=0)
        gradient[:n] += self.balance / n * np.clip(mean, -_MAX_MEAN, _MAX_MEAN)
        return bounds, gradient.T @ inputs + self.weight_decay * weights

    def _inputs(self, X):
        """Centred and scaled rows, with a column of ones for the offsets."""
        return np.hstack([self._standardized(X), np.ones((len(X), 1), X.dtype)])

    def _project(self, X):
        return (X - self.mean_) @ (self.components_.T / self.scale_) + self.intercept_


class _RankedLabels:
    """Label sets as the order they give: more shared labels come first.

    Attributes
    ----------
    anchors : ndarray of shape (n_anchors,)
        Samples that share more labels with one other sample than with another.
    """

    def __init__(self, Y):
        by_sample = sparse.csr_array(Y, dtype=np.int64)
        self._Y, self._members = Y, LabelMembers(Y)
        counts = self._members.counts
        if counts.max() < 2:
            raise ValueError(
                "No two samples share a label: there is nothing to rank. Pass label sets that "
                "overlap, or take a hasher that needs none, such as ITQHasher."
            )
        self.anchors = np.flatnonzero(_shares_unequally(by_sample))
        if not len(self.anchors):
            raise ValueError(
                "Every sample shares as many labels with one sample as with any other: no triplet "
                "exists. Pass label sets that differ, or take a hasher that needs none, such as "
                "ITQHasher."
            )
        self._ranks = ((counts > 1) & (counts < len(Y))).astype(np.uint8)

    def draw(self, anchors, size, rng):
        """Draw a positive for each anchor, and a pool of `size` samples for the negatives."""
        return self.draw_positives(anchors, rng), rng.randint(len(self._Y), size=size)

    def draw_positives(self, anchors, rng):
        """For each anchor, draw one of its labels, then another sample that carries it."""
        return self._members.draw_sharing(self._Y[anchors] & self._ranks, anchors, rng)

    def share_fewer(self, anchors, positives, pool):
        """Whether an anchor shares fewer labels with a sample of the pool than with its positive.

        An array of shape (n_anchors, n_pool).
        """
        # Products of floats go through BLAS, and are exact for counts.
        own, other = self._Y[anchors].astype(np.float32), self._Y[pool].astype(np.float32)
        shared = np.einsum("ij,ij->i", own, self._Y[positives])
        return own @ other.T < shared[:, None]


def _shares_unequally(Y):
    """Whether a sample of sparse integer `Y` shares more labels with one other than with another.

    The number of shared labels varies over the others if and only if their number times the sum
    of its squares is above the square of its sum; both follow from sums over the labels.
    """
    n_others, together, counts = Y.shape[0] - 1, (Y.T @ Y).tocsr(), Y.sum(axis=0)
    unequal = np.empty(Y.shape[0], bool)
    for block in gen_batches(Y.shape[0], _BLOCK_ROWS):
        own, size = Y[block], Y[block].sum(axis=1)
        total = own @ counts - size
        squares = (own @ together).multiply(own).sum(axis=1) - size**2
        unequal[block] = n_others * squares > total**2
    return unequal


def _hardest_negatives(anchors, pool, allowed):
    """Rows of anchors with an allowed sample in the pool, and the one with the nearest code."""
    agreement = signs(anchors) @ signs(pool).T
    hardest = np.where(allowed, agreement, -np.inf).argmax(axis=1)
    keep = np.flatnonzero(allowed.any(axis=1))
    return keep, hardest[keep]


def _loss_augmented_inference(f, f_pos, f_neg, margin):
    """Codes that maximise the triplet loss plus their agreement with the projections.

    Parameters
    ----------
    f, f_pos, f_neg : ndarray of shape (n_triplets, n_bits)
        Projections of the samples of each triplet.

    margin : float
        Margin of the loss.

    Returns
    -------
    bound : ndarray of shape (n_triplets,)
        The maximum, minus the agreement of the projections with their own signs.

    codes : ndarray of shape (3, n_triplets, n_bits)
        Codes of -1 and 1 that reach it. Minus the own signs this is the gradient of `bound`.
    """
    own = np.stack([f, f_pos, f_neg])
    # Of the eight triples of one bit: the best with both as near, with the positive farther
    # (adds a bit to the loss) and with the negative farther (takes one off).
    both, pos_farther, neg_farther = f_pos + f_neg, f - f_pos + f_neg, f + f_pos - f_neg
    scores = np.stack([np.abs(f) + np.abs(both), np.abs(pos_farther) + 1, np.abs(neg_farther) - 1])
    bound = margin + (scores.max(axis=0) - np.abs(own).sum(axis=0)).sum(axis=1)
    both, pos_farther, neg_farther = map(signs, (both, pos_farther, neg_farther))
    choices = np.array(
        [
            [signs(f), both, both],
            [pos_farther, -pos_farther, pos_farther],
            [neg_farther, neg_farther, -neg_farther],
        ]
    )
    best = np.take_along_axis(choices, scores.argmax(axis=0)[None, None], axis=0)[0]
    return np.maximum(bound, 0), np.where(bound[:, None] > 0, best, signs(own))
