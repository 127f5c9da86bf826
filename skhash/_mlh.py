"""Minimal loss hashing: linear hash functions from similar and dissimilar pairs (MLH)."""

from itertools import product
from numbers import Real

import numpy as np
from sklearn.utils import gen_batches

from skhash._linear import DESCENT_CONSTRAINTS, DescentMixin, LabelMembers, signs
from skhash._sklearn import Interval, StrOptions
from skhash.base import BaseHasher

# Rows of label sets that are compared with as many others at once.
_BLOCK_ROWS = 2**10


class MLHHasher(DescentMixin, BaseHasher):
    r"""Minimal loss hashing: a linear hash function from similar and dissimilar pairs (MLH).

    The code is :math:`h(x) = \operatorname{sign} f(x)`, with

    .. math:: f(x) = W (x - \mu) / s, \quad \|w_k\| = 1 \text{ for each row of } W.

    Two samples are similar if they share a label. The hinge-like loss of a pair (equation 4 of
    the paper) grows where the codes of similar samples differ in :math:`\rho` bits or more, or
    those of dissimilar samples in :math:`\rho` bits or fewer:

    .. math::

        \ell(h, g) = \begin{cases}
            [\|h - g\|_H - \rho + 1]_+ & \text{similar} \\
            \lambda \, [\rho - \|h - g\|_H + 1]_+ & \text{dissimilar.}
        \end{cases}

    This is piecewise constant in :math:`W`. Stochastic gradient descent minimises an upper bound
    that is continuous and piecewise linear, as in a structured support vector machine with latent
    variables (equation 8): the maximum over all pairs of codes of loss and agreement, minus the
    agreement of the own codes,

    .. math::

        \max_{\tilde h, \tilde g} \bigl[ \epsilon \, \ell(\tilde h, \tilde g)
            + \tilde h \cdot f + \tilde g \cdot f' \bigr] - \|f\|_1 - \|f'\|_1.

    Its gradient with respect to :math:`f` is :math:`\tilde h - h`, so that a step is that of a
    perceptron (equation 14): it moves projections towards the own codes and away from those that
    have a large loss.

    Parameters
    ----------
    n_bits : int, default=32
        Length :math:`c` of the codes.

    rho : float or "auto", default="auto"
        Radius :math:`\rho` of the loss, in bits. "auto" is :math:`c / 3`.

    dissimilar_weight : float, default=1.0
        Weight :math:`\lambda` of the loss of dissimilar pairs.

    loss_scale : float, default=0.1
        Weight :math:`\epsilon` of the loss beside the agreement of codes and projections. The
        smaller, the tighter is the bound, and the fewer are the pairs that have a gradient.

    max_epochs : int, default=50
        Number of passes over the samples.

    batch_size : int, default=50
        Most samples of a step, each in at most one similar and one dissimilar pair.

    learning_rate : float, default=0.5
        Step size of the first epoch; it falls linearly, to reach 0 after the last one.

    momentum : float, default=0.9
        Share of the last step that is added to the next one.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws the initial hash function and the pairs.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        Weights :math:`W`, a row of length 1 for each bit.

    mean_ : ndarray of shape (n_features,)
        Mean :math:`\mu` of the training samples.

    scale_ : float
        Root mean square :math:`s` of the distance of the training samples to their mean, so that
        `loss_scale` and `learning_rate` have no unit.

    rho_ : float
        The :math:`\rho` that was used.

    loss_curve_ : list of max_epochs floats
        Mean upper bound of the loss over the pairs of an epoch, divided by :math:`\epsilon`,
        while it learns.

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
    HDMLHasher : The same bound, of a loss of triplets.
    BREHasher : Pairs whose distances are to be reproduced.
    LSHHasher : The hash function that learning starts from.

    Notes
    -----
    *Inference.* The paper finds the maximum for any function of the Hamming distance by sorting
    bits, in :math:`O(c \log c)`. This loss is the greater of 0 and a linear function of the
    distance, and two maxima may be taken in either order. Without loss the own codes are best,
    and with the linear function the bits do not depend on each other. So the bound is, for
    similar pairs,

    .. math::

        \Bigl[ \epsilon (1 - \rho) + \sum_b \max \bigl( |f_b + f'_b|, \; |f_b - f'_b| + \epsilon
        \bigr) - |f_b| - |f'_b| \Bigr]_+ ,

    and with :math:`\epsilon \lambda (1 + \rho)` and :math:`- \epsilon \lambda` in place of
    :math:`\epsilon (1 - \rho)` and :math:`\epsilon` for dissimilar ones: exact in :math:`O(c)`.

    *Pairs.* An epoch visits each sample once, in random order. For a similar pair, one of its
    labels is drawn that other samples carry, then one of these; for a dissimilar pair, one of
    `batch_size` random samples that share no label with it. A sample that has no such partner
    sits out that pair. The paper draws pairs from all; similar ones would then be few where there
    are many classes.

    *Procedure.* As in the paper, :math:`W` starts as random hyperplanes through the mean, as in
    :class:`LSHHasher`, its rows are brought back to length 1 after each step, and steps are those
    of mini-batches with a momentum of 0.9. As in the authors' code, there are no offsets and the
    learning rate falls linearly. That code scales the loss to be at most 1 and decays weights in
    place of rows of length 1; the paper's form is kept here. The paper chooses :math:`\epsilon`,
    :math:`\lambda` and :math:`\rho` on a validation set, with :math:`\rho` linear in the length of
    the codes: :class:`sklearn.model_selection.GridSearchCV` does that. It trains for up to 2,000
    epochs of 100,000 pairs. A projection of 0 is the bit 1.

    *Large training sets.* Epochs visit samples of the whole training set in random order, so there
    is no `partial_fit`. A memory-mapped array is read a batch at a time, at random places. Where
    that is slow, or the samples come in parts, draw some of them, fit on these, and give the
    database all with `set_database` or `add_to_database`.

    References
    ----------
    M. Norouzi, D. J. Fleet, "Minimal loss hashing for compact binary codes", ICML 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import MLHHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = MLHHasher(n_bits=16, max_epochs=20, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "rho": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "dissimilar_weight": [Interval(Real, 0, None, closed="neither")],
        "loss_scale": [Interval(Real, 0, None, closed="neither")],
        **DESCENT_CONSTRAINTS,
    }
    _supervised = True
    _takes_blocks = True

    def __init__(
        self,
        n_bits=32,
        *,
        rho="auto",
        dissimilar_weight=1.0,
        loss_scale=0.1,
        max_epochs=50,
        batch_size=50,
        learning_rate=0.5,
        momentum=0.9,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.rho = rho
        self.dissimilar_weight = dissimilar_weight
        self.loss_scale = loss_scale
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _fit(self, X, Y):
        self.rho_ = self.n_bits / 3 if self.rho == "auto" else float(self.rho)
        super()._fit(X, Y)

    @staticmethod
    def _label_draws(Y):
        return _PairedLabels(Y)

    def _initial_weights(self, X, rng):
        weights = rng.standard_normal((self.n_bits, X.shape[1])).astype(X.dtype)
        self._constrain(weights)
        return weights

    def _constrain(self, weights):
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)

    def _set_weights(self, weights):
        self.components_ = weights

    def _step(self, X, labels, weights, anchors, first, second, similar):  # noqa: ARG002
        """Bounds of the pairs of a batch, and the gradient of their mean."""
        inputs = self._standardized(X[np.concatenate([anchors, second])])
        f = inputs @ weights.T
        pairs = np.stack([first, len(anchors) + np.arange(len(second))])
        # Of the loss and f / loss_scale, which is 1 / loss_scale times the bound.
        bounds, codes = _loss_adjusted_inference(
            *f[pairs] / self.loss_scale, similar, self.rho_, self.dissimilar_weight
        )
        gradient = np.zeros_like(f)
        # A sample is in a similar and in a dissimilar pair.
        np.add.at(gradient, pairs, (codes - signs(f[pairs])) / max(1, len(similar)))
        return bounds, gradient.T @ inputs

    def _project(self, X):
        return (X - self.mean_) @ (self.components_.T / self.scale_)


class _PairedLabels:
    """Label sets as similar pairs, which share a label, and dissimilar ones.

    Attributes
    ----------
    anchors : ndarray of shape (n_samples,)
        The samples, all of them.
    """

    def __init__(self, Y):
        self._Y, self._members = Y, LabelMembers(Y)
        self._shared = (self._members.counts > 1).astype(np.uint8)
        self.anchors = np.arange(len(Y))
        if not self._shared.any():
            raise ValueError(
                "MLHHasher learns from pairs of samples that share a label, but no two of the "
                f"{len(Y)} samples do. Pass label sets that overlap, or take a hasher that needs "
                "none, such as ITQHasher."
            )
        blocks = list(gen_batches(len(Y), _BLOCK_ROWS))
        if not any(self._share_none(*pair).any() for pair in product(blocks, blocks)):
            raise ValueError(
                f"Every two of the {len(Y)} samples share a label: y should tell some apart, for "
                "MLHHasher learns from pairs that share none too."
            )

    def draw(self, anchors, size, rng):
        """Draw a similar and a dissimilar partner for each anchor that has them.

        Parameters
        ----------
        anchors : ndarray of shape (n_anchors,)
            Rows of the samples.

        size : int
            Number of samples among which dissimilar partners are looked for.

        rng : RandomState
            What draws.

        Returns
        -------
        first : ndarray of shape (n_pairs,)
            Places of the first samples of the pairs in `anchors`; similar pairs come first.

        second : ndarray of shape (n_pairs,)
            Rows of the second samples.

        similar : ndarray of shape (n_pairs,), bool
            Whether the two share a label.
        """
        own = self._Y[anchors] & self._shared
        with_similar = np.flatnonzero(own.any(axis=1))
        similar = self._members.draw_sharing(own[with_similar], anchors[with_similar], rng)
        pool = rng.randint(len(self._Y), size=size)
        # A sample without labels shares none with itself.
        apart = self._share_none(anchors, pool) & (anchors[:, None] != pool)
        with_dissimilar = np.flatnonzero(apart.any(axis=1))
        place = np.where(apart, rng.random_sample(apart.shape), -1).argmax(axis=1)
        return (
            np.concatenate([with_similar, with_dissimilar]),
            np.concatenate([similar, pool[place[with_dissimilar]]]),
            np.repeat([True, False], [len(with_similar), len(with_dissimilar)]),
        )

    def _share_none(self, rows, others):
        """Whether samples share no label with others, an array of shape (n_rows, n_others)."""
        # Products of floats go through BLAS, and are exact for counts.
        return self._Y[rows].astype(np.float32) @ self._Y[others].T.astype(np.float32) == 0


def _loss_adjusted_inference(f, g, similar, rho, dissimilar_weight):
    """Codes that maximise the loss of pairs plus their agreement with the projections.

    Parameters
    ----------
    f, g : ndarray of shape (n_pairs, n_bits)
        Projections of the two samples of each pair.

    similar : ndarray of shape (n_pairs,), bool
        Whether they are similar.

    rho, dissimilar_weight : float
        Parameters of the loss.

    Returns
    -------
    bound : ndarray of shape (n_pairs,)
        The maximum, minus the agreement of the projections with their own signs.

    codes : ndarray of shape (2, n_pairs, n_bits)
        Codes of -1 and 1 that reach it. Minus the own signs this is the gradient of `bound`.
    """
    weight = dissimilar_weight
    start = np.where(similar, 1 - rho, weight * (1 + rho)).astype(f.dtype)
    rise = np.where(similar, 1, -weight).astype(f.dtype)[:, None]
    # Of the four pairs of one bit: the best with equal bits, and the best with different ones.
    equal, different = f + g, f - g
    differ = np.abs(different) + rise > np.abs(equal)
    score = np.where(differ, np.abs(different) + rise, np.abs(equal)) - np.abs(f) - np.abs(g)
    bound = start + score.sum(axis=1)
    code = signs(np.where(differ, different, equal))
    best = np.stack([code, np.where(differ, -code, code)])
    return np.maximum(bound, 0), np.where(bound[:, None] > 0, best, signs(np.stack([f, g])))
