"""Binary reconstructive embeddings (BRE): codes whose distances are those of the samples."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils.extmath import row_norms

from skhash._anchors import draw_rows
from skhash._blocks import row_blocks
from skhash._parts import SampledPartsMixin
from skhash._sklearn import Interval
from skhash.base import BaseHasher

# A cosine below which rounding decides what a coefficient moves.
_LEAST_COSINE = 1e-9


class BREHasher(SampledPartsMixin, BaseHasher):
    r"""Binary reconstructive embeddings: codes whose distances are those of the samples (BRE).

    With :math:`\hat x = (x - \mu) / \|x - \mu\|`, bit :math:`k` of a sample is :math:`[f_k(x) \ge
    0]` with

    .. math:: f_k(x) = \sum_{q=1}^s W_{kq} \, \hat z_{kq} \cdot \hat x,

    where :math:`z_{k1}, \dots, z_{ks}` are the anchors of the bit, training samples drawn at
    random (equation 1 of the paper). The Hamming distance of two codes, divided by their length
    :math:`b`, should be the distance of the samples, over a set :math:`N` of pairs (equation 3):

    .. math::

        \min_W \sum_{(i, j) \in N} \Bigl( d_{ij} - \frac{1}{b} \|h(x_i) - h(x_j)\|_H \Bigr)^2.

    With label sets (the paper's supervised setting), :math:`d_{ij}` is 0 for samples that share a
    label and 1 for others. Without (``y=None``), it is half the squared Euclidean distance
    :math:`\|\hat x_i - \hat x_j\|^2 / 2`, divided by its greatest value over the pairs.

    Coordinate descent minimises this without relaxation. A coefficient :math:`W_{kq}` changes bit
    :math:`k` of sample :math:`i` at one value of it, so that the objective is constant between
    :math:`n` values, and the best of the intervals between them is found exactly. An iteration
    does this for one coefficient of each bit, drawn at random.

    Parameters
    ----------
    n_bits : int, default=32
        Length :math:`b` of the codes.

    n_anchors : int, default=50
        Number :math:`s` of anchors of each bit. If there are fewer samples, all are anchors.

    n_pair_samples : int or None, default=1000
        Number :math:`n` of training samples that are learnt from, drawn at random. If there are
        fewer training samples, or with None, all are. Memory is :math:`O(n^2)`.

    n_partners : int, default=50
        Number of random samples with which each makes a pair. From :math:`n - 1`, all pairs are
        learnt from.

    max_iter : int, default=200
        Most iterations.

    tol : float, default=1e-4
        Stop when an iteration lessens the objective by no more than this fraction.

    n_neighbors : int, default=5
        Number of neighbours that vote in `predict`, and the default of `kneighbors`.

    random_state : int, RandomState instance or None, default=None
        Draws samples, pairs, anchors, the coefficients at the start and those that change.

    Attributes
    ----------
    components_ : ndarray of shape (n_bits, n_features)
        :math:`\sum_q W_{kq} \hat z_{kq}`, a row for each bit.

    mean_ : ndarray of shape (n_features,)
        Mean :math:`\mu` of the training samples.

    coef_ : ndarray of shape (n_bits, n_anchors)
        Coefficients :math:`W`.

    anchor_indices_ : ndarray of shape (n_bits, n_anchors)
        Rows of the anchors in the training set.

    objective_ : ndarray of shape (n_iter + 1,)
        The objective at the start and after each iteration, divided by the number of pairs.

    n_iter_ : int
        Number of iterations.

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
    MLHHasher : A hinge-like loss of pairs, by stochastic gradient.
    KSHHasher : Inner products of codes in place of distances, one bit after another.

    Notes
    -----
    *Coordinates.* With the other bits fixed, the objective is a constant less
    :math:`\sum c_{ij} [h_k(x_i) \ne h_k(x_j)]`, a cut of the graph of pairs. As :math:`W_{kq}`
    grows, a pair is cut, or no longer, where its first sample changes, and the other way round
    where its second does. One sort of the :math:`n` values and sums over the pairs thus give all
    :math:`n + 1` objectives, in :math:`O(n \log n + |N|)`.

    *Unsupervised, with labels.* ``fit(X)`` learns from distances; ``set_database(X, y)`` then
    gives the database its labels.

    *Procedure.* The paper allows any kernel in place of the inner product. Linear hash functions
    of centred rows of length 1, 50 anchors, 1,000 samples with 50 random partners each, random
    coefficients at the start, the middle of the best interval as the new coefficient and distances
    divided by the greatest one are those of the authors' code. A pair that is drawn twice counts
    once here, a coefficient stays where no interval is better, and iterations stop when they
    lessen the objective little (there by 1e-6 of the sum). A projection of 0 is the bit 1.

    *Parts.* What `partial_fit` keeps between calls does not grow with the number of samples: at
    most 50,000 of them, drawn uniformly from all parts, with their label sets. The hasher is that
    of `fit` on these, in their order; which they are does not depend on the cuts. Each call learns
    anew, so few large parts take less time than many small ones. Attributes that hold rows of the
    training set count those of all parts. A call after `fit` starts anew.

    References
    ----------
    B. Kulis, T. Darrell, "Learning to hash with binary reconstructive embeddings", NIPS 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skhash import BREHasher
    >>> X, y = load_digits(return_X_y=True)
    >>> hasher = BREHasher(n_bits=16, max_iter=50, random_state=0).fit(X[200:], y[200:])
    >>> hasher.score(X[:200], y[:200]) > 0.7
    True
    """

    _parameter_constraints: dict = {
        **BaseHasher._parameter_constraints,
        "n_anchors": [Interval(Integral, 1, None, closed="left")],
        "n_pair_samples": [Interval(Integral, 2, None, closed="left"), None],
        "n_partners": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }
    _takes_blocks = True
    _learns_from_any_labels = True
    _row_attributes = ("anchor_indices_",)

    def __init__(
        self,
        n_bits=32,
        *,
        n_anchors=50,
        n_pair_samples=1000,
        n_partners=50,
        max_iter=200,
        tol=1e-4,
        n_neighbors=5,
        random_state=None,
    ):
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.n_pair_samples = n_pair_samples
        self.n_partners = n_partners
        self.max_iter = max_iter
        self.tol = tol
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _fit(self, X, Y):
        if (X.min(axis=0) == X.max(axis=0)).all():
            raise _no_distances(len(X))
        rng = self._start_rng()
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
        rows = draw_rows(len(X), self.n_pair_samples, rng)
        # In double precision, so that a coefficient may be large beside the others.
        directions = self._directions(X[rows]).astype(np.float64)
        kernel = directions @ directions.T
        pairs = _draw_pairs(len(rows), self.n_partners, rng)
        distances = _half_squares(kernel, pairs) if Y is None else _share_none(Y[rows], pairs)
        size = min(self.n_anchors, len(rows))
        anchors = np.stack([rng.permutation(len(rows))[:size] for _ in range(self.n_bits)])
        descent = _Descent(kernel, anchors, rng.standard_normal(anchors.shape), pairs, distances)
        self.objective_ = descent.run(self.max_iter, self.tol, rng)
        self.n_iter_ = len(self.objective_) - 1
        self.anchor_indices_, self.coef_ = rows[anchors], descent.coef
        self.components_ = _combinations(descent.coef, directions, anchors).astype(X.dtype)

    def _directions(self, X):
        """Centred rows, scaled to length 1."""
        rows = X - self.mean_
        lengths = row_norms(rows)[:, None]
        return rows / np.where(lengths > 0, lengths, 1)

    def _project(self, X):
        return self._directions(X) @ self.components_.T


def _draw_pairs(n, n_partners, rng):
    """Distinct pairs (2, n_pairs) of `n` samples: of each with random ones, or all there are."""
    if n_partners >= n - 1:
        return np.stack(np.triu_indices(n, 1))
    first = np.repeat(np.arange(n), n_partners)
    second = rng.randint(n - 1, size=len(first))
    second += second >= first
    pairs = np.unique(np.minimum(first, second) * n + np.maximum(first, second))
    return np.stack(np.divmod(pairs, n))


def _half_squares(kernel, pairs):
    """Halved squared distances of pairs of rows of length 1, the greatest scaled to 1."""
    distances = 1 - kernel[tuple(pairs)]
    # Rows that are all the same differ by rounding.
    if distances.max() <= np.sqrt(np.finfo(np.float64).eps):
        raise _no_distances(len(kernel))
    return distances / distances.max()


def _share_none(Y, pairs):
    """Return 0 for pairs that share a label, 1 for others, or raise if all are alike."""
    first, second = pairs
    apart = np.concatenate(
        [~(Y[first[block]] & Y[second[block]]).any(axis=1) for block in row_blocks(len(first))]
    )
    if apart.all() or not apart.any():
        which = "None" if apart.all() else "All"
        raise ValueError(
            f"{which} of the {len(apart)} pairs that BREHasher drew share a label: y should tell "
            "some samples apart and not others. Without y, fit(X) learns from the distances of X; "
            "more pairs come from n_partners and n_pair_samples."
        )
    return apart.astype(np.float64)


def _no_distances(n_samples):
    return ValueError(
        f"X should vary over the training samples, got {n_samples} rows that are equal, or equal "
        "but for their length after centring: no distance tells them apart."
    )


def _combinations(coef, rows, anchors):
    """Sum the rows of the anchors of each bit, weighted by its coefficients."""
    return np.stack([own @ rows[indices] for own, indices in zip(coef, anchors, strict=True)])


class _Descent:
    """Coefficients, what they project to, and what the codes leave of the distances.

    Parameters
    ----------
    kernel : ndarray of shape (n, n)
        Cosines of the samples.

    anchors : ndarray of shape (n_bits, n_anchors)
        Samples that are the anchors of each bit.

    coef : ndarray of shape (n_bits, n_anchors)
        Coefficients, which change in place.

    pairs : ndarray of shape (2, n_pairs)
        Samples of each pair.

    distances : ndarray of shape (n_pairs,)
        Distances that codes should have.
    """

    def __init__(self, kernel, anchors, coef, pairs, distances):
        self.kernel, self.anchors, self.coef, self.pairs = kernel, anchors, coef, pairs
        self.projection = _combinations(coef, kernel, anchors)
        self.bits = self.projection >= 0
        self.residue = distances - sum(self.differ(bit) for bit in self.bits) / len(coef)

    def differ(self, bit):
        """Whether `bit` differs between the samples of each pair, as 0 or 1."""
        return (bit[self.pairs[0]] != bit[self.pairs[1]]).astype(np.float64)

    def objective(self):
        """Mean squared difference of the two distances over the pairs."""
        return float(np.mean(self.residue**2))

    def run(self, max_iter, tol, rng):
        """Iterate; return the objective at the start and after each iteration."""
        objective = [self.objective()]
        for _ in range(max_iter):
            for k, q in enumerate(rng.randint(self.coef.shape[1], size=len(self.coef))):
                self.update(k, q)
            objective.append(self.objective())
            if objective[-2] - objective[-1] <= tol * objective[-2]:
                break
        return np.array(objective)

    def update(self, k, q):
        """Set coefficient `q` of bit `k` to the best there is, if it is better than today's."""
        n_bits, own = len(self.coef), self.differ(self.bits[k])
        # What the objective loses, times the number of pairs, where the bit differs.
        gains = (2 * (self.residue + own / n_bits) - 1 / n_bits) / n_bits
        column = self.kernel[self.anchors[k, q]]
        step = _best_step(self.projection[k], column, self.pairs, gains)
        moved = self.projection[k] + step * column
        change = self.differ(moved >= 0) - own
        # Rounding may leave a sample on the other side. Threads of BLAS would only slow this down.
        if np.sum(change * gains) > 0:
            self.coef[k, q] += step
            self.projection[k], self.bits[k] = moved, moved >= 0
            self.residue -= change / n_bits


def _best_step(projection, column, pairs, gains):
    """Return the multiple of `column` to add to `projection` whose signs gain most.

    Parameters
    ----------
    projection, column : ndarray of shape (n,)
        What the signs are of, and what is added to it.

    pairs : ndarray of shape (2, n_pairs)
        Samples of each pair.

    gains : ndarray of shape (n_pairs,)
        What a pair of different signs gains.

    Returns
    -------
    step : float
        The middle of the best interval, 0 if no sign can change.
    """
    moves = np.abs(column) > _LEAST_COSINE
    if not moves.any():
        return 0.0
    cuts = np.full(len(column), np.inf)
    cuts[moves] = -projection[moves] / column[moves]
    order, n = np.argsort(cuts), np.count_nonzero(moves)
    # Far below all cuts, the sign of what moves is that of -column.
    sign = np.where(moves, -np.sign(column), np.where(projection >= 0, 1, -1))
    cuts = cuts[order[:n]]
    total = _cut_values(order, sign, pairs, gains)[: n + 1]
    outside = (cuts[-1] - cuts[0]) / n or 1.0
    ends = np.concatenate([[cuts[0] - outside], cuts, [cuts[-1] + outside]])
    # Between equal cuts there is no value to take.
    total[np.diff(ends) <= 0] = -np.inf
    best = total.argmax()
    return (ends[best] + ends[best + 1]) / 2


def _cut_values(order, sign, pairs, gains):
    """Return what pairs of different signs gain, less a constant, as signs flip in order."""
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first, second = rank[pairs]
    # A pair of equal signs differs from its first flip until its second, others the other way.
    toggles = gains * (sign[pairs[0]] * sign[pairs[1]])
    changes = np.bincount(np.minimum(first, second), toggles, len(order))
    changes -= np.bincount(np.maximum(first, second), toggles, len(order))
    return np.concatenate([[0], np.cumsum(changes)])
