"""Losses of lists of distances and relevances, computed by sorting and by soft histograms."""

import math
from numbers import Integral, Real

import torch
from torch.nn import functional

__all__ = [
    "TABLE_ELEMENTS",
    "ranking_loss",
    "tie_aware_average_precision_loss",
    "tie_aware_ndcg_loss",
]

# Elements of a table of levels, rows and items held at once: 64 MiB in float64.
TABLE_ELEMENTS = 2**23


def ranking_loss(distances, relevance, *, margin, weighting="ndcg"):
    r"""Weighted ranking hinge loss over all ordered pairs of each list, by sorting.

    For each row, with distances :math:`d` and relevances :math:`r`,

    .. math::

        \sum_{i, j:\, r_i > r_j} w(r_i, r_j) \, \max(0, \text{margin} + d_i - d_j).

    All pairs count, but they are not enumerated. The weights depend on nothing but the relevances.
    Value and gradient therefore follow from one sort of the distances, running sums of the weights
    per relevance level, and two binary searches per item. For `M` items of `L` distinct relevances
    this takes `O(M log M + M L)` instead of `O(M^2)`. See the user guide.

    Parameters
    ----------
    distances : tensor of shape (n_queries, n_items), floating
        Distances of each query to the items of its list. Gradients flow to it (first order;
        at a kink, ``d_j == margin + d_i``, the pair contributes none).

    relevance : tensor of shape (n_queries, n_items), integer
        Relevance of each item for the query, such as the number of shared labels; at least 0.

    margin : float
        How much nearer a more relevant item should be, in the unit of `distances`; at least 0.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        "ndcg" takes :math:`w = (2^{r_i} - 2^{r_j}) / Z`, with :math:`Z` the ideal DCG of the whole
        row (gain :math:`2^r - 1`, discount :math:`1 / \log_2(1 + \text{rank})`); "uniform" takes
        :math:`w = 1`.

    Returns
    -------
    loss : tensor of shape (n_queries,)
        The sum of each row, in the dtype of `distances`. It is 0 for a row in which no item is
        relevant, or all are equally relevant. No other normalisation is applied.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional, or `margin` or `relevance` is negative, or
        `weighting` is another name.

    TypeError
        If `distances` is not floating or `relevance` is not integer.

    References
    ----------
    F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for multi-label image
    retrieval", CVPR 2015, equations 3 to 5. The sort is known from T. Joachims, "Training linear
    SVMs in linear time", KDD 2006.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import ranking_loss
    >>> distances = torch.tensor([[1.0, 0.0, 3.0]], requires_grad=True)
    >>> loss = ranking_loss(
    ...     distances, torch.tensor([[2, 1, 0]]), margin=2.0, weighting="uniform"
    ... )
    >>> loss.sum().backward()
    >>> loss.detach(), distances.grad
    (tensor([3.]), tensor([[ 1., -1.,  0.]]))
    """
    _check_lists(distances, relevance)
    if not isinstance(margin, Real) or not 0 <= margin < math.inf:
        raise ValueError(f"margin should be a finite number, at least 0, got {margin!r}.")
    if weighting not in ("ndcg", "uniform"):
        raise ValueError(f"weighting should be 'ndcg' or 'uniform', got {weighting!r}.")
    if distances.numel() == 0:
        return distances.sum(1)
    dtype = _accumulator(distances)
    # Counted down from the largest of each row, gains are at most 1 however many labels there are,
    # and differences of gains still depend on two levels alone.
    relevance = relevance.long().contiguous()
    below_largest = relevance.amax(dim=1, keepdim=True) - relevance
    levels, ranks = torch.unique(below_largest, return_inverse=True)
    if weighting == "ndcg":
        powers = torch.exp2(-levels.to(dtype))
        pair_weights = (powers[:, None] - powers[None, :]).clamp_(min=0)
    else:
        pair_weights = (levels[:, None] < levels[None, :]).to(dtype)
    loss = _SortedHinge.apply(distances, ranks, pair_weights, float(margin))
    if weighting == "ndcg":
        ideal = _ideal_dcg(_scaled_gains(relevance, dtype))
        # A row without a relevant item has no pair; dividing its 0 by 1 keeps it 0.
        loss = loss / torch.where(ideal > 0, ideal, 1)
    return loss.to(distances.dtype)


def tie_aware_ndcg_loss(distances, relevance, *, n_bits):
    r"""One minus tie-aware NDCG of each list, relaxed to real-valued distances.

    Items are counted in a soft histogram: an item at distance 2.3 is 0.7 of an item in the bin at
    2 and 0.3 of one in the bin at 3. With :math:`c_d` items in bin :math:`d`, :math:`C_d` of them
    up to it, and :math:`G_d` the sum of their gains :math:`2^r - 1`,

    .. math::

        1 - \frac{1}{Z} \sum_{d=0}^{n_\text{bits}} \frac{G_d}{c_d}
        \bigl( D(C_d) - D(C_{d-1}) \bigr), \qquad
        D(x) = \sum_{p=1}^{\lfloor x \rfloor} \delta(p)
        + (x - \lfloor x \rfloor) \, \delta(\lfloor x \rfloor + 1),

    where :math:`\delta(p) = 1 / \log_2(1 + p)` is the discount of rank :math:`p`, and :math:`Z`
    the ideal DCG. Where all distances are integers this is exactly one minus
    :func:`skhash.metrics.ndcg_score`, the expectation over all orders of items at equal distance.

    Parameters
    ----------
    distances : tensor of shape (n_queries, n_items), floating
        Distances of each query to the items of its list, between 0 and `n_bits`. Smaller ones
        count as 0 and larger ones as `n_bits`. Gradients flow to it, at integers from one side.

    relevance : tensor of shape (n_queries, n_items), integer
        Relevance of each item for the query, such as the number of shared labels; at least 0.

    n_bits : int
        Length of the codes, the largest distance.

    Returns
    -------
    loss : tensor of shape (n_queries,)
        Between 0 and 1, in the dtype of `distances`; 0 for a row in which no item is relevant.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional, or `n_bits` is not an integer of at least
        1, or `relevance` is negative.

    TypeError
        If `distances` is not floating or `relevance` is not integer.

    Notes
    -----
    He et al. [1]_ take the discount of each bin at the mean rank of its items,
    :math:`\delta((C_{d-1} + C_d + 1) / 2)`, instead of the mean of their discounts. Since the
    discount is convex, this is too small wherever a bin holds more than one item, also at integer
    distances. Interpolating the sum of the discounts costs as little, and is exact at integers.

    References
    ----------
    .. [1] K. He, F. Cakir, S. A. Bargal, S. Sclaroff, "Hashing as tie-aware learning to rank",
       CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import tie_aware_ndcg_loss
    >>> from skhash.metrics import ndcg_score
    >>> distances = torch.tensor([[0.0, 1.0, 1.0]], requires_grad=True)
    >>> loss = tie_aware_ndcg_loss(distances, torch.tensor([[0, 1, 0]]), n_bits=2)
    >>> loss.sum().backward()
    >>> loss.detach()
    tensor([0.4345])
    >>> print(f"{1 - ndcg_score([[0, 0]], [[1]], [[0, 0], [0, 1], [1, 0]], [[0], [1], [0]]):.4f}")
    0.4345
    """
    _check_lists(distances, relevance, n_bits)
    if distances.numel() == 0:
        return distances.sum(1)
    gains = _scaled_gains(relevance, _accumulator(distances))
    counts, gain_sums = _soft_histograms(distances, gains, n_bits)
    dcg = (gain_sums * _mean_discounts(counts, distances.shape[1])).sum(1)
    ideal = _ideal_dcg(gains)
    # A row without a relevant item has nothing to lose; dividing its 0 by 1 keeps it finite.
    loss = torch.where(ideal > 0, 1 - dcg / torch.where(ideal > 0, ideal, 1), 0)
    return _between_0_and_1(loss).to(distances.dtype)


def tie_aware_average_precision_loss(distances, relevance, *, n_bits):
    r"""One minus the average precision of each list, ties taken in expectation, relaxed [1]_.

    An item of relaxed distance `d` is shared between the bins of the whole distances below and
    above it, as in :func:`tie_aware_ndcg_loss`. With :math:`c_d` the items of bin :math:`d`,
    :math:`c_d^+` the relevant ones, and their running sums :math:`C_d` and :math:`C_d^+`, the
    loss is

    .. math::

        1 - \frac{1}{C_{n_\text{bits}}^+} \sum_d
        c_d^+ \, \frac{C_{d-1}^+ + C_d^+ + 1}{C_{d-1} + C_d + 1}.

    It is the average precision at whole distances that all differ. Where items are tied, it takes
    the precision at the mean rank of the bin for the mean of the precisions at its ranks.

    Parameters
    ----------
    distances : tensor of shape (n_queries, n_items), floating
        Distances of each query to the items of its list, between 0 and `n_bits`. Smaller ones
        count as 0 and larger ones as `n_bits`. Gradients flow to it, at integers from one side.

    relevance : tensor of shape (n_queries, n_items), integer
        Relevance of each item for the query; it is relevant if this is above 0.

    n_bits : int
        Length of the codes, the largest distance.

    Returns
    -------
    loss : tensor of shape (n_queries,)
        Between 0 and 1, in the dtype of `distances`; 0 for a row in which no item is relevant.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional, or `n_bits` is not an integer of at least
        1, or `relevance` is negative.

    TypeError
        If `distances` is not floating or `relevance` is not integer.

    References
    ----------
    .. [1] K. He, F. Cakir, S. A. Bargal, S. Sclaroff, "Hashing as tie-aware learning to rank",
       CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import tie_aware_average_precision_loss
    >>> distances = torch.tensor([[0.0, 1.0, 2.0]], requires_grad=True)
    >>> loss = tie_aware_average_precision_loss(distances, torch.tensor([[0, 1, 1]]), n_bits=2)
    >>> loss.sum().backward()
    >>> loss.detach()  # one minus the mean of 1/2 and 2/3
    tensor([0.4167])
    """
    _check_lists(distances, relevance, n_bits)
    if distances.numel() == 0:
        return distances.sum(1)
    relevant = (relevance > 0).to(_accumulator(distances))
    counts, hits = _soft_histograms(distances, relevant, n_bits)
    # Twice the mean of the ranks before the first and at the last item of a bin, and 1.
    ranks, found = (2 * bins.cumsum(1) - bins + 1 for bins in (counts, hits))
    n_relevant = relevant.sum(1)
    loss = 1 - (hits * found / ranks).sum(1) / n_relevant.clamp(min=1)
    return _between_0_and_1(torch.where(n_relevant > 0, loss, 0)).to(distances.dtype)


def _check_lists(distances, relevance, n_bits=1):
    """Raise unless `distances` and `relevance` are lists of one shape and the right kinds."""
    if not isinstance(n_bits, Integral) or n_bits < 1:
        raise ValueError(f"n_bits should be an integer, at least 1, got {n_bits!r}.")
    if distances.ndim != 2 or distances.shape != relevance.shape:
        raise ValueError(
            "distances and relevance should both have shape (n_queries, n_items), "
            f"got {tuple(distances.shape)} and {tuple(relevance.shape)}."
        )
    if not distances.is_floating_point():
        raise TypeError(f"distances should be floating, got {distances.dtype}.")
    if relevance.is_floating_point() or relevance.is_complex():
        raise TypeError(f"relevance should be integer, got {relevance.dtype}.")
    if relevance.numel() and relevance.min() < 0:
        raise ValueError(f"relevance should be at least 0, got {relevance.min().item()}.")


def _accumulator(tensor):
    """Return the dtype for running sums: float64, or float32 on Apple's GPUs, which lack it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _ideal_dcg(gains):
    """Return the DCG of each row in its best order."""
    ranks = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    return gains.sort(dim=1, descending=True).values @ (1 / torch.log2(1 + ranks))


def _scaled_gains(relevance, dtype):
    """Return gains ``2 ** r - 1``, divided per row by a power of two that keeps them at most 1."""
    # The factor drops out of the ratio of two DCGs, and many labels do not overflow.
    largest = relevance.amax(dim=1, keepdim=True).to(dtype)
    return torch.exp2(relevance.to(dtype) - largest) - torch.exp2(-largest)


def _between_0_and_1(loss):
    """Take off what rounding has put beyond the ends; the gradient stays as it is."""
    return loss + (loss.clamp(0, 1) - loss).detach()


def _whole(values, most):
    """Return whole parts as indices between 0 and `most`; NaN becomes 0."""
    return values.detach().floor().nan_to_num(nan=0.0).clamp(0, most).long()


def _soft_histograms(distances, worth, n_bits):
    """Return the number and the total worth of the items of each bin, (n_queries, n_bits + 1)."""
    exact = distances.to(worth.dtype).clamp(0, n_bits)
    lower = _whole(exact, n_bits - 1)
    # What each item puts into the bin below it, and into the next one.
    shares = 1 - (exact - lower), exact - lower
    empty = exact.new_zeros(len(exact), n_bits + 1)
    return tuple(
        empty.scatter_add(1, lower, shares[0] * values).scatter_add(
            1, lower + 1, shares[1] * values
        )
        for values in (1, worth)
    )


def _mean_discounts(counts, n_items):
    """Return the mean discount of the ranks that each bin of (fractional) `counts` takes."""
    ranks = torch.arange(1, n_items + 2, device=counts.device, dtype=counts.dtype)
    discounts = 1 / torch.log2(1 + ranks)
    sums = functional.pad(discounts.cumsum(0), (1, 0))

    def discount_sum(x):
        whole = _whole(x, n_items)
        return sums[whole] + (x - whole) * discounts[whole]

    stops = counts.cumsum(1)
    starts = stops - counts
    # An empty bin takes the discount of the rank at which it stands, the limit of the others.
    least = torch.finfo(counts.dtype).eps ** 0.5
    means = (discount_sum(stops) - discount_sum(starts)) / counts.clamp(min=least)
    return torch.where(counts < least, discounts[_whole(starts, n_items)], means)


class _SortedHinge(torch.autograd.Function):
    """Sum over ordered pairs of ``pair_weights[rank_i, rank_j] * [margin + d_i - d_j]_+``."""

    @staticmethod
    def forward(ctx, distances, ranks, pair_weights, margin):
        """Compute the value of each row, and the gradient, which needs no further sort."""
        exact = distances.detach().to(pair_weights.dtype).contiguous()
        n_rows = max(1, TABLE_ELEMENTS // (exact.shape[1] * len(pair_weights)))
        parts = [
            _sorted_hinge(d, r, pair_weights, margin)
            for d, r in zip(exact.split(n_rows), ranks.split(n_rows), strict=True)
        ]
        value, gradient = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(gradient)
        ctx.dtype = distances.dtype
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        """Scale the gradient of each row; only `distances` has one."""
        (gradient,) = ctx.saved_tensors
        return (grad_output[:, None] * gradient).to(ctx.dtype), None, None, None


def _sorted_hinge(distances, ranks, pair_weights, margin):
    """Return value (n_rows,) and gradient (n_rows, n_items) of the pair sum by sorting rows."""
    distances, order = distances.sort(dim=1)
    ranks = ranks.gather(1, order)
    # The less relevant partners of item i are among the first n_nearer[i] items. These numbers
    # ascend, so the more relevant partners of item j are among the last n_farther[j] items, those
    # that reach beyond j. A search for d_j - margin could disagree about a pair by rounding.
    n_nearer = torch.searchsorted(distances, distances + margin)
    positions = torch.arange(ranks.shape[1], device=ranks.device).repeat(len(ranks), 1)
    n_farther = ranks.shape[1] - torch.searchsorted(n_nearer, positions, right=True)
    pull = _partner_weights(ranks, pair_weights, n_nearer)
    push = _partner_weights(ranks.flip(1), pair_weights.T, n_farther.flip(1)).flip(1)
    gradient = pull - push
    # The pairs that count are linear in the distances: the gradient gives the value too.
    value = margin * pull.sum(1) + (distances * gradient).sum(1)
    return value, torch.zeros_like(distances).scatter_(1, order, gradient)


def _partner_weights(ranks, pair_weights, n_partners):
    """Sum ``pair_weights[rank of item, rank of partner]`` over the first n_partners of its row."""
    n_levels = len(pair_weights)
    # A partner of weight 0 before the first item has the running sums start at 0.
    partners = functional.pad(ranks, (1, 0), value=n_levels)
    weights = functional.pad(pair_weights, (0, 1)).gather(
        1, partners.view(1, -1).expand(n_levels, -1)
    )
    running = weights.view(n_levels, *partners.shape).cumsum_(2)
    rows = torch.arange(len(ranks), device=ranks.device)[:, None]
    return running[ranks, rows, n_partners]
