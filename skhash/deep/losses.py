"""Ranking losses: pure functions of distances and relevance, with no knowledge of networks."""

import math
from numbers import Real

import torch
from torch.nn import functional

__all__ = ["ranking_loss"]

# Elements of a (levels, rows, items) table held at once: 64 MiB in float64.
_TABLE_ELEMENTS = 2**23


def ranking_loss(distances, relevance, *, margin, weighting="ndcg"):
    r"""Weighted ranking hinge loss over all ordered pairs of each list, by sorting.

    For each row, with distances :math:`d` and relevances :math:`r`,

    .. math::

        \sum_{i, j:\, r_i > r_j} w(r_i, r_j) \, \max(0, \text{margin} + d_i - d_j).

    Every pair counts, but none is enumerated. As the weights depend on nothing but the relevances,
    value and gradient follow from one sort of the distances, running sums of the weights per
    relevance level, and two binary searches per item: `O(M log M + M L)` for `M` items of `L`
    distinct relevances, instead of `O(M^2)`. See the user guide.

    Parameters
    ----------
    distances : tensor of shape (n_queries, n_items), floating
        Distances of each query to the items of its list. Gradients flow to it (first order;
        at a kink, ``d_j == margin + d_i``, the pair contributes none).

    relevance : tensor of shape (n_queries, n_items), integer
        Relevance of each item for the query, such as the number of shared labels; at least 0.

    margin : float
        By how much a more relevant item is to be nearer, in the unit of `distances`; at least 0.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        "ndcg" takes :math:`w = (2^{r_i} - 2^{r_j}) / Z`, with :math:`Z` the ideal DCG of the whole
        row (gain :math:`2^r - 1`, discount :math:`1 / \log_2(1 + \text{rank})`); "uniform" takes
        :math:`w = 1`.

    Returns
    -------
    loss : tensor of shape (n_queries,)
        The sum of each row, in the dtype of `distances`; 0 for a row in which no item is relevant
        (or all are equally relevant). No other normalisation is applied.

    Raises
    ------
    ValueError
        If the shapes differ or are not two-dimensional, or `margin` is negative, or `relevance`
        is, or `weighting` is none of the names.

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
    levels, ranks = torch.unique(relevance, return_inverse=True)
    dtype = _accumulator(distances)
    if weighting == "ndcg":
        gains = torch.exp2(levels.to(dtype)) - 1
        pair_weights = (gains[:, None] - gains[None, :]).clamp_(min=0)
    else:
        pair_weights = (levels[:, None] > levels[None, :]).to(dtype)
    loss = _SortedHinge.apply(distances, ranks, pair_weights, float(margin))
    if weighting == "ndcg":
        ideal = _ideal_dcg(gains[ranks])
        # A row without a relevant item has no pair; dividing its 0 by 1 keeps it 0.
        loss = loss / torch.where(ideal > 0, ideal, 1)
    return loss.to(distances.dtype)


def _check_lists(distances, relevance):
    """Raise unless `distances` and `relevance` are lists of one shape and the right kinds."""
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
    """Return the dtype for running sums: float64, which Apple's GPUs lack."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _ideal_dcg(gains):
    """DCG of each row in its best order."""
    ranks = torch.arange(1, gains.shape[1] + 1, device=gains.device, dtype=gains.dtype)
    return gains.sort(dim=1, descending=True).values @ (1 / torch.log2(1 + ranks))


class _SortedHinge(torch.autograd.Function):
    """Sum over ordered pairs of ``pair_weights[rank_i, rank_j] * [margin + d_i - d_j]_+``."""

    @staticmethod
    def forward(ctx, distances, ranks, pair_weights, margin):
        """Compute the value of each row and, as it comes at no extra sort, the gradient."""
        exact = distances.detach().to(pair_weights.dtype).contiguous()
        n_rows = max(1, _TABLE_ELEMENTS // (exact.shape[1] * len(pair_weights)))
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
    """Value (n_rows,) and gradient (n_rows, n_items) of the pair sum, by sorting each row."""
    distances, order = distances.sort(dim=1)
    ranks = ranks.gather(1, order)
    # Item i as the more relevant one has its partners among the first n_nearer[i] items. As these
    # numbers ascend, item j has its own among the last n_farther[j], those that reach beyond it;
    # searching for d_j - margin instead could disagree about a pair by rounding.
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
