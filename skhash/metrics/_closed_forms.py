"""Counts to metrics: what a table of distances and relevances says about a ranking.

A ranking is cut into *groups* of consecutive ranks. Within a group every order of the items is
equally likely. For the expectation over ties a group holds the items at equal distance. For the
best and the worst order a group holds the items of equal distance *and* equal relevance, and the
groups at one distance are sorted by relevance. No metric can tell the orders within such a group
apart. So each metric is written once, as an expectation.

Sorting ties by relevance is best (or worst), because in all of these metrics, and at any cut-off,
putting the more relevant of two neighbouring items first never lowers the value. The one exception
is the average over *found* items, whose denominator depends on the order too: see
:func:`_average_over_found`.
"""

import numpy as np

__all__ = ["METRICS", "OPTIONS", "evaluate", "fill_empty"]

# Bytes of the tables that are held at once, and how many tables of a batch there are.
_BATCH_BYTES, _TABLES = 2**26, 8
# Positions of a group at which the first relevant item is looked for at a time.
_BLOCK_POSITIONS = 256
# The ranks within which the authors of deep semantic ranking average.
_AUTHORS_K = 5000


def evaluate(metric, counts, *, k=None, radius=None, ties="mean", **options):
    """Evaluate a metric for every query.

    Parameters
    ----------
    metric : str
        Name of the metric in :data:`METRICS`.

    counts : ndarray of shape (n_queries, n_bits + 1, n_relevances), dtype int64
        Number of items at each distance and relevance.

    k : int, ndarray of shape (n_cuts,) or None, default=None
        Number of ranks to look at, or several; None is all.

    radius : int, ndarray of shape (n_cuts,) or None, default=None
        Largest distance to look at, or several, instead of a number of ranks.

    ties : {"mean", "best", "worst"}, default="mean"
        Order of items at equal distance.

    **options : dict
        What else the metric takes, see :data:`OPTIONS`.

    Returns
    -------
    values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
        Value per query; and per cut-off, if there is an array of them. NaN for a query without
        relevant items, see :func:`fill_empty`.
    """
    found = options.get("convention") == "authors"
    if found and k is None and radius is None:
        k = _AUTHORS_K
    name, cuts = ("k", k) if radius is None else ("radius", radius)
    values = np.empty((len(counts), np.size(cuts)))
    size = _batch_size(counts, ties, found)
    for rows in [slice(start, start + size) for start in range(0, len(counts), size)]:
        ranking = _Ranking(counts[rows], ties)
        most = ranking.largest_relevance() if metric in _UP_TO_RELEVANCE else 1
        for column, cut in enumerate(np.ravel(cuts)):
            value = METRICS[metric](ranking.cut(**{name: cut}), **options)
            # Rounding may go beyond the ends.
            values[rows, column] = np.clip(value, 0, most)
    values[~counts[:, :, 1:].any(axis=(1, 2))] = np.nan
    return values if np.ndim(cuts) else values[:, 0]


def _batch_size(counts, ties, found):
    """Return the number of queries whose tables fit."""
    n_columns = counts.shape[1] * (1 if ties == "mean" else counts.shape[2])
    if found:
        # A column for every number of relevant items that a group may have among the ranks.
        n_columns = max(n_columns, counts[:1].sum())
    return max(1, int(_BATCH_BYTES // (_TABLES * 8 * n_columns)))


def fill_empty(values, empty):
    """Give queries without relevant items the value that a policy names.

    Parameters
    ----------
    values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
        Values of :func:`evaluate`; changed in place.

    empty : {0, 1, "nan", "raise"}
        The policy.

    Returns
    -------
    values : ndarray of shape (n_queries,) or (n_queries, n_cuts)
        The same array.

    Raises
    ------
    ValueError
        If `empty` is "raise" and there is such a query.
    """
    is_empty = np.isnan(values)
    if empty == "raise" and is_empty.any():
        rows = np.flatnonzero(is_empty.any(axis=tuple(range(1, values.ndim))))
        raise ValueError(
            f"{len(rows)} of {len(values)} queries have no relevant item in the database, the "
            f"first is query {rows[0]}. Leave them out, or give them a value by empty=0, empty=1 "
            "or empty='nan'."
        )
    if empty in (0, 1):
        values[is_empty] = empty
    return values


class _Ranking:
    """Groups of consecutive ranks whose items have no order, one row a query.

    Parameters
    ----------
    counts : ndarray of shape (n_queries, n_bits + 1, n_relevances), dtype int64
        Number of items at each distance and relevance.

    ties : {"mean", "best", "worst"}
        "mean" makes a group of each distance. The others make a group of each distance and
        relevance, in descending ("best") or ascending order.

    Attributes
    ----------
    sizes : ndarray of shape (n_queries, n_groups), dtype int64
        Items of each group, in the order of the ranking.

    n_relevant : ndarray of shape (n_queries, n_groups)
        Those of them that are relevant.
    """

    def __init__(self, counts, ties):
        self.counts, self.ties = counts, ties
        self.sizes = self.total(np.ones(counts.shape[2], dtype=np.int64))
        self.n_relevant = self.total((self.relevances > 0).astype(np.int64))

    @property
    def relevances(self):
        """Relevance of each column of the table."""
        return np.arange(self.counts.shape[2])

    def largest_relevance(self):
        """Return the largest relevance of an item, for each query."""
        return (self.relevances * self.counts.any(axis=1)).max(axis=1)

    def total(self, worth):
        """Return the total over each group of what an item of each relevance is worth.

        Parameters
        ----------
        worth : ndarray of shape (n_relevances,) or (n_queries, n_relevances)
            Worth of an item by relevance.

        Returns
        -------
        totals : ndarray of shape (n_queries, n_groups)
        """
        if self.ties == "mean":
            return (self.counts @ worth[..., None])[..., 0]
        totals = self.counts * (worth if worth.ndim == 1 else worth[:, None])
        return totals[..., :: -1 if self.ties == "best" else 1].reshape(len(totals), -1)

    def cut(self, *, k=None, radius=None):
        """Cut the ranking after `k` ranks, or after the distance `radius`."""
        if radius is not None:
            return _Cut(self, self.counts[:, : radius + 1].sum(axis=(1, 2)))
        n_items = self.sizes.sum(axis=1)
        return _Cut(self, n_items if k is None else np.minimum(n_items, k))


class _Cut:
    """The first ranks of a ranking.

    Parameters
    ----------
    ranking : _Ranking
        The ranking.

    n_ranks : ndarray of shape (n_queries,)
        Number of ranks to look at, of each query.

    Attributes
    ----------
    starts : ndarray of shape (n_queries, n_groups)
        Ranks before each group, at most `n_ranks`.

    stops : ndarray of shape (n_queries, n_groups)
        Ranks up to its end, at most `n_ranks`.
    """

    def __init__(self, ranking, n_ranks):
        self.ranking, self.n_ranks = ranking, n_ranks
        stops = ranking.sizes.cumsum(axis=1)
        self.starts = np.minimum(stops - ranking.sizes, n_ranks[:, None])
        self.stops = np.minimum(stops, n_ranks[:, None])

    def expect(self, totals, weigh=None):
        """Return the expected sum over the ranks of a quantity with these totals per group.

        All orders are equally likely, so each rank of a group expects the mean of the group.
        `weigh` gives the weights of an array of ranks; None weighs each by 1.
        """
        shares = self.stops - self.starts if weigh is None else self.sum_ranks(weigh)
        return (_divide(totals, self.ranking.sizes) * shares).sum(axis=1)

    def sum_ranks(self, weigh):
        """Return the sum of the weights of the ranks that each group takes."""
        sums = _sum_first(weigh, self.n_ranks.max(initial=0))
        return (sums[self.stops] - sums[self.starts]).astype(float)


def _sum_first(weigh, n_ranks):
    """Return the sums of the weights of the first 0, 1, ..., `n_ranks` ranks."""
    # The widest float there is: far down a long database, neighbouring sums share most of their
    # digits, and their difference would lose them.
    sums = np.zeros(n_ranks + 1, dtype=np.longdouble)
    np.cumsum(weigh(np.arange(1, n_ranks + 1)), out=sums[1:])
    return sums


def _log_discount(ranks):
    """Discount of the cumulative gain."""
    return 1 / np.log2(1 + ranks)


def _reciprocal(ranks):
    """Weight of a rank in the mean of the items up to it."""
    return 1 / ranks


def _ndcg(cut, gain="exponential"):
    """Normalised discounted cumulative gain per query."""
    counts = cut.ranking.counts.sum(axis=1, keepdims=True)
    gains = cut.ranking.relevances if gain == "linear" else _exponential_gains(counts[:, 0])
    dcg = cut.expect(cut.ranking.total(gains), _log_discount)
    # The ideal order is the best order of a ranking without distances.
    ideal = _Ranking(counts, "best")
    ideal_dcg = _Cut(ideal, cut.n_ranks).expect(ideal.total(gains), _log_discount)
    return _divide(dcg, ideal_dcg)


def _exponential_gains(counts):
    """Gains ``2 ** r - 1`` per query, scaled so that those of many labels do not overflow.

    The scale is a power of two, the same for all gains of a query. It drops out of the ratio of
    two sums.
    """
    relevance = np.arange(counts.shape[1])
    largest = np.where(counts > 0, relevance, 0).max(axis=1, keepdims=True)
    return np.exp2(np.minimum(relevance - largest, 0)) - np.exp2(-largest.astype(float))


def _acg(cut):
    """Average cumulative gain per query."""
    return _divide(cut.expect(cut.ranking.total(cut.ranking.relevances)), cut.n_ranks)


def _precision(cut):
    """Precision per query."""
    return _divide(cut.expect(cut.ranking.n_relevant), cut.n_ranks)


def _recall(cut):
    """Recall per query."""
    return _divide(cut.expect(cut.ranking.n_relevant), cut.ranking.n_relevant.sum(axis=1))


def _average_precision(cut, convention="skhash"):
    """Average precision per query."""
    return _average_at_relevant(cut, np.minimum(cut.ranking.relevances, 1), convention)


def _weighted_average_precision(cut, convention="skhash"):
    """Average precision weighted by relevance, per query."""
    return _average_at_relevant(cut, cut.ranking.relevances, convention)


def _average_at_relevant(cut, worth, convention):
    """Average over relevant ranks of the mean worth of the items up to that rank."""
    if convention == "authors":
        return _average_over_found(cut, worth)
    n_relevant = cut.ranking.n_relevant.sum(axis=1)
    return _divide(_sum_at_relevant(cut, worth), np.minimum(n_relevant, cut.n_ranks))


def _sum_at_relevant(cut, worth):
    """Sum over relevant ranks of the mean worth of the items up to that rank.

    In a group of n items, m of them relevant with total S, that stands behind s items with
    total S_b, an item at position j is relevant with probability m / n. It then contributes
    S / m itself, and each of the j - 1 before it (S - S / m) / (n - 1), so that rank s + j
    expects ``m / n * (S_b + S / m + (j - 1) * (S - S / m) / (n - 1)) / (s + j)``. Since
    ``(j - 1) / (s + j) = 1 - (s + 1) / (s + j)``, the sum over j needs harmonic numbers only.
    """
    totals, n_relevant = cut.ranking.total(worth), cut.ranking.n_relevant
    own = _divide(totals, n_relevant)
    slope = _divide(totals - own, cut.ranking.sizes - 1)
    before = totals.cumsum(axis=1) - totals
    sums = (before + own - slope * (cut.starts + 1)) * cut.sum_ranks(_reciprocal)
    sums += slope * (cut.stops - cut.starts)
    return (_divide(n_relevant, cut.ranking.sizes) * sums).sum(axis=1)


def _average_over_found(cut, worth):
    """Average as :func:`_sum_at_relevant`, divided by the relevant items among the ranks.

    Only the group at one distance that the cut-off goes through, if any, makes the denominator
    depend on the order. Given the number x of its relevant items that are among the ranks, the
    denominator is fixed, and what was said of sorting holds: the best order has the x most
    relevant ones first, the worst has the x least relevant ones last. So the value is known for
    every x, and the extremes are those over x. For the expectation, x is hypergeometric.
    """
    split = _Split(cut)
    values = _divide(
        _sum_at_relevant(split.whole, worth)[:, None] + split.add(worth),
        split.whole.expect(split.whole.ranking.n_relevant)[:, None] + split.found,
    )
    if cut.ranking.ties == "mean":
        return (values * split.chances()).sum(axis=1)
    if cut.ranking.ties == "best":
        return np.where(split.is_possible, values, -np.inf).max(axis=1)
    return np.where(split.is_possible, values, np.inf).min(axis=1)


class _Split:
    """The group at one distance that a cut-off goes through, and the whole groups before it.

    Of a group of n items, m of them relevant, the first t are among the ranks; with n = t = 0
    where the cut-off falls between two groups. Columns stand for x = 0, 1, ... of the relevant
    items among those t.

    Parameters
    ----------
    cut : _Cut
        The first ranks of a ranking.
    """

    def __init__(self, cut):
        self.ties, counts = cut.ranking.ties, cut.ranking.counts
        sizes = counts.sum(axis=2)
        stops = sizes.cumsum(axis=1)
        is_split = (stops > cut.n_ranks[:, None]) & (stops - sizes < cut.n_ranks[:, None])
        n_whole = np.where(stops <= cut.n_ranks[:, None], stops, 0).max(axis=1)
        self.whole = _Cut(cut.ranking, n_whole)
        self.counts = (counts * is_split[:, :, None]).sum(axis=1)
        self.n, self.m = (self.counts[:, start:].sum(axis=1)[:, None] for start in (0, 1))
        self.s, self.t = n_whole[:, None], (cut.n_ranks - n_whole)[:, None]
        fewest, most = np.maximum(0, self.t - self.n + self.m), np.minimum(self.m, self.t)
        self.found = np.arange(most.max(initial=0) + 1)
        self.is_possible = (fewest <= self.found) & (self.found <= most)

    def add(self, worth):
        """Return what the t items add to the sum at relevant ranks, for each x."""
        before = self.whole.expect(self.whole.ranking.total(worth))[:, None]
        sums = _sum_first(_reciprocal, (self.s + self.t).max(initial=0))
        if self.ties == "mean":
            return self._add_unordered(worth, before, sums)
        return self._add_sorted(worth, before, sums)

    def _add_unordered(self, worth, before, sums):
        """Return the expectation: given x, the t items are a group of t, x of them relevant."""
        own = _divide(self.counts @ worth.astype(float), self.m[:, 0])[:, None]
        slope = own * _divide(self.found - 1, self.t - 1)
        harmonic = (sums[self.s + self.t] - sums[self.s]).astype(float)
        added = (before + own - slope * (self.s + 1)) * harmonic + slope * self.t
        return added * _divide(self.found, self.t)

    def _add_sorted(self, worth, before, sums):
        """Return the extremes: x items, a relevance at a time, behind s or s + t - x others."""
        is_best = self.ties == "best"
        rank = self.s + np.zeros_like(self.found) if is_best else self.s + self.t - self.found
        rank, total, added = np.where(self.is_possible, rank, self.s), before, 0.0
        left = np.where(self.is_possible, self.found, 0)
        for level in np.arange(1, len(worth))[:: -1 if is_best else 1]:
            taken = np.minimum(left, self.counts[:, level, None])
            harmonic = (sums[rank + taken] - sums[rank]).astype(float)
            # Rank s + j holds the j-th of them: its mean is (total + j * worth) / (s + j).
            added = added + (total - rank * worth[level]) * harmonic + taken * worth[level]
            total, rank, left = total + taken * worth[level], rank + taken, left - taken
        return added

    def chances(self):
        """Return the probability of each x: from the ratios of neighbours, then normalised."""
        x, odds = self.found[:-1], np.zeros(self.is_possible.shape)
        up = (self.m - x) * (self.t - x)
        down = (x + 1) * (self.n - self.m - self.t + x + 1)
        is_step = self.is_possible[:, 1:] & self.is_possible[:, :-1]
        odds[:, 1:] = np.log(np.divide(up, down, out=np.ones(up.shape), where=is_step))
        odds = np.where(self.is_possible, odds.cumsum(axis=1), -np.inf)
        chances = np.exp(odds - odds.max(axis=1, keepdims=True))
        return chances / chances.sum(axis=1, keepdims=True)


def _reciprocal_rank(cut):
    """Reciprocal of the rank of the first relevant item, per query.

    In the first group that has relevant items, m of n, position j + 1 is relevant with
    probability m / (n - j) if none of the j before it is. The sum over j has no closed form; it
    is taken until it is certain that one was met.
    """
    first = (cut.ranking.n_relevant > 0).argmax(axis=1)[:, None]
    take = lambda groups: np.take_along_axis(groups, first, axis=1)  # noqa: E731
    n, m, start = take(cut.ranking.sizes), take(cut.ranking.n_relevant), take(cut.starts)
    n_ranks, values, none_met = cut.n_ranks[:, None], np.zeros(len(n)), np.ones(len(n))
    alive, position = np.flatnonzero((m > 0) & (start < n_ranks)), np.arange(_BLOCK_POSITIONS)
    while len(alive):
        chance = m[alive] / np.maximum(n[alive] - position, m[alive])
        none_after = none_met[alive, None] * np.cumprod(1 - chance, axis=1)
        none_before = np.hstack([none_met[alive, None], none_after[:, :-1]])
        ranks = start[alive] + position + 1
        terms = np.where(ranks <= n_ranks[alive], none_before * chance / ranks, 0)
        values[alive] += terms.sum(axis=1)
        none_met[alive] = none_after[:, -1]
        position += _BLOCK_POSITIONS
        is_open = (none_met[alive] > 1e-17) & (ranks[:, -1] < n_ranks[alive, 0])
        alive = alive[is_open]
    return values


METRICS = {
    "acg": _acg,
    "average_precision": _average_precision,
    "ndcg": _ndcg,
    "precision": _precision,
    "recall": _recall,
    "reciprocal_rank": _reciprocal_rank,
    "weighted_average_precision": _weighted_average_precision,
}
# Those whose largest value is the largest relevance, and not 1.
_UP_TO_RELEVANCE = {"acg", "weighted_average_precision"}

# The options that a metric takes beside the parameters of all, and the values of each. The first
# value is the default.
OPTIONS = {
    "average_precision": {"convention": ("skhash", "authors")},
    "ndcg": {"gain": ("exponential", "linear")},
    "weighted_average_precision": {"convention": ("skhash", "authors")},
}


def _divide(numerator, denominator):
    """Return the quotient, 0 where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)
