"""Losses of deep hashing: functions of a batch, with no knowledge of networks or loops.

:func:`ranking_loss` and :func:`tie_aware_ndcg_loss` are functions of distances and relevance. The
classes are what `DeepRankingHasher` takes as its loss: hyper-parameters of one paper's loss, and
its value on a batch of projections and labels. :class:`HashingLoss` says what such a class needs.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from torch import nn
from torch.nn import functional

# Sorted as Python does, constants among classes.
__all__ = [  # noqa: RUF022
    "CentralSimilarityLoss",
    "HashNetLoss",
    "HashingLoss",
    "HyP2Loss",
    "LOSSES",
    "OrthoHashLoss",
    "PairwiseLikelihoodLoss",
    "RankingLoss",
    "SampledRankingLoss",
    "SoftPairLoss",
    "StartedLoss",
    "TieAwareNDCGLoss",
    "TripletLikelihoodLoss",
    "get_loss",
    "ranking_loss",
    "tie_aware_ndcg_loss",
]

# Elements of a table of levels, rows and items held at once: 64 MiB in float64.
_TABLE_ELEMENTS = 2**23

# Sets of random centres that the best is taken from.
_CENTER_TRIES = 20

_CENTERS = StrOptions({"auto", "hadamard", "bernoulli"})
_POSITIVE = Interval(Real, 0, math.inf, closed="neither")
_NON_NEGATIVE = Interval(Real, 0, math.inf, closed="left")


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
        Distances of each query to the items of its list, between 0 and `n_bits`; others count as
        the nearer of these two. Gradients flow to it, at integers from one side.

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
    :math:`\delta((C_{d-1} + C_d + 1) / 2)`, instead of the mean of their discounts. The discount
    being convex, this is too small wherever a bin holds more than one item, also at integer
    distances. Interpolating the sum of the discounts costs as little and is exact there.

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
    _check_lists(distances, relevance)
    if not isinstance(n_bits, Integral) or n_bits < 1:
        raise ValueError(f"n_bits should be an integer, at least 1, got {n_bits!r}.")
    if distances.numel() == 0:
        return distances.sum(1)
    exact = distances.to(_accumulator(distances)).clamp(0, n_bits)
    gains = _scaled_gains(relevance, exact.dtype)
    lower = _whole(exact, n_bits - 1)
    shares = 1 - (exact - lower), exact - lower
    counts = _soft_histogram(lower, shares, n_bits + 1)
    gain_sums = _soft_histogram(lower, [gains * share for share in shares], n_bits + 1)
    dcg = (gain_sums * _mean_discounts(counts, distances.shape[1])).sum(1)
    ideal = _ideal_dcg(gains)
    # A row without a relevant item has nothing to lose; dividing its 0 by 1 keeps it finite.
    loss = torch.where(ideal > 0, 1 - dcg / torch.where(ideal > 0, ideal, 1), 0)
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


def _scaled_gains(relevance, dtype):
    """Gains ``2 ** r - 1``, divided per row by a power of two that keeps them at most 1."""
    # The factor drops out of the ratio of two DCGs, and many labels do not overflow.
    largest = relevance.amax(dim=1, keepdim=True).to(dtype)
    return torch.exp2(relevance.to(dtype) - largest) - torch.exp2(-largest)


def _whole(values, most):
    """Whole parts as indices between 0 and `most`; what is not a number becomes 0."""
    return values.detach().floor().nan_to_num(nan=0.0).clamp(0, most).long()


def _soft_histogram(lower, shares, n_bins):
    """Sum per bin of what each item puts into the bin `lower` and into the next one."""
    bins = shares[0].new_zeros(len(lower), n_bins)
    return bins.scatter_add(1, lower, shares[0]).scatter_add(1, lower + 1, shares[1])


def _mean_discounts(counts, n_items):
    """Mean discount of the ranks that each bin of (fractional) `counts` takes."""
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


class HashingLoss:
    """Base class of losses: hyper-parameters, from which each training is started.

    A subclass is a frozen dataclass of hyper-parameters, so that it has a readable `repr`, can be
    compared, pickled and copied, and one object serves any number of trainings. It defines
    `batch_loss`. One that needs tensors of its own for a training, such as learnt proxies, also
    defines `start`. What `DeepRankingHasher` needs is `start` alone: any object that has it will
    do. See the user guide for an example.
    """

    # As in scikit-learn's estimators; what is not listed is not validated.
    _parameter_constraints = {}

    # Whether samples are compared, so that some have to share a label. (Not annotated, and
    # therefore no hyper-parameter.)
    needs_shared_labels = False

    def __post_init__(self):
        validate_parameter_constraints(
            self._parameter_constraints, vars(self), caller_name=type(self).__name__
        )

    def start(self, n_bits, labels):
        """Return the loss of one training.

        Parameters
        ----------
        n_bits : int
            Length of the codes.

        labels : tensor of shape (n_samples, n_labels), floating
            Label indicator matrix of the training set, 0 and 1: for the number of labels and
            their frequencies. It is not to be kept.

        Returns
        -------
        started : torch.nn.Module
            Called as ``started(projection, labels, progress)``, see `batch_loss`, it returns a
            scalar. Its parameters, if there are any, are trained along with the network. Random
            tensors are drawn from torch's default generator.
        """
        del n_bits, labels
        return StartedLoss(self)

    def batch_loss(self, projection, labels, progress):
        """Return the loss of one batch.

        Parameters
        ----------
        projection : tensor of shape (n, n_bits), floating
            Output of the hash layer; codes are its signs.

        labels : tensor of shape (n, n_labels), floating
            Label indicator matrix of the batch, 0 and 1.

        progress : float
            Fraction of the training that is done, between 0 and 1.

        Returns
        -------
        loss : tensor of shape ()
            The value, through which gradients flow to `projection`.
        """
        raise NotImplementedError(f"{type(self).__name__} should define batch_loss.")


class StartedLoss(nn.Module):
    """A loss in one training: what it was started from, and the tensors that it keeps.

    Parameters
    ----------
    loss : HashingLoss
        Called as ``loss.batch_loss(projection, labels, progress, **tensors)``.

    **tensors : tensor or torch.nn.Parameter
        What the loss keeps through the training. Parameters are trained, other tensors are
        buffers.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import CentralSimilarityLoss
    >>> labels = torch.eye(3)
    >>> loss = CentralSimilarityLoss().start(8, labels)
    >>> loss.centers.shape
    torch.Size([3, 8])
    >>> bool(loss(100 * loss.centers, labels, 0.0) < 1e-6)
    True
    """

    def __init__(self, loss, **tensors):
        super().__init__()
        self.loss = loss
        self._kept = tuple(tensors)
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        kept = {name: getattr(self, name) for name in self._kept}
        return self.loss.batch_loss(projection, labels, progress, **kept)

    def extra_repr(self):
        """Show the hyper-parameters."""
        return repr(self.loss)


class _Remembering(StartedLoss):
    """A loss with a memory of the codes and labels of the last batches, the newest first."""

    def __init__(self, loss, n_bits, labels, **tensors):
        size = loss.list_size
        super().__init__(
            loss,
            **tensors,
            memory_codes=torch.zeros(size, n_bits, device=labels.device),
            memory_labels=torch.zeros(size, labels.shape[1], device=labels.device),
        )
        # A number, not a tensor: that of a GPU would have to be waited for at each step.
        self.n_remembered = 0

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, and remember it in training mode."""
        n_missing = max(0, len(self.memory_codes) - (len(labels) - 1))
        n_remembered = min(self.n_remembered, n_missing)
        kept = {name: getattr(self, name) for name in self._kept}
        kept["memory_codes"] = self.memory_codes[:n_remembered]
        kept["memory_labels"] = self.memory_labels[:n_remembered]
        loss = self.loss.batch_loss(projection, labels, progress, **kept)
        if self.training:
            self._remember(_relax(projection.detach()), labels)
        return loss

    def _remember(self, codes, labels):
        """Put a batch at the front of the memory; what is beyond its size is forgotten."""
        size = len(self.memory_codes)
        self.memory_codes = torch.cat([codes.to(self.memory_codes), self.memory_codes])[:size]
        self.memory_labels = torch.cat([labels.to(self.memory_labels), self.memory_labels])[:size]
        self.n_remembered = min(self.n_remembered + len(codes), size)

    def get_extra_state(self):
        """Return what belongs into a state dict beside the tensors."""
        return self.n_remembered

    def set_extra_state(self, state):
        """Take over what a state dict has beside the tensors."""
        self.n_remembered = state


def _relax(projection):
    """Relaxed codes: ``2 * sigmoid(t) - 1``."""
    return torch.tanh(projection / 2)


def _others(matrix):
    """Drop the diagonal of a square matrix: what each sample has with the others."""
    n = len(matrix)
    # Without its first entry the flattened matrix ends each run of n + 1 on a diagonal entry.
    return matrix.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def _mean(values, counted):
    """Mean of the `values` where `counted`; 0 if none is."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def _imbalance(codes):
    """Half the squared norm of the mean code: 0 if each bit is as often 1 as 0."""
    return codes.mean(dim=0).square().sum() / 2


def _quantization(codes):
    """Mean squared distance of the entries to the nearer of -1 and 1."""
    return (codes.abs() - 1).square().mean()


def _pairs(codes, labels):
    """Inner products and numbers of shared labels of each sample with the others."""
    return _others(codes @ codes.T), _others(labels @ labels.T)


def _query_weights(labels, weight_of_label):
    """Weights of labels, from their numbers of samples, scaled to a mean of 1 over queries.

    A query weighs as much as its labels together.
    """
    counts = labels.sum(0)
    weights = torch.where(counts > 0, weight_of_label(counts.clamp(min=1)), 0)
    total = (labels @ weights).sum()
    return weights * (labels.any(1).sum() / total.clamp(min=torch.finfo(total.dtype).tiny))


def _pair_losses(logits, similar):
    """Negative log-likelihood of each pair, similar with probability ``sigmoid(logits)``."""
    similar = similar.to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, similar, reduction="none")


class _ListwiseLoss(HashingLoss):
    """A function of the list of each sample of the batch: distances and relevance of items.

    A subclass has `balance`, `class_weight`, `list_size` and `_list_losses`.
    """

    _parameter_constraints = {
        "balance": [_NON_NEGATIVE],
        "class_weight": [StrOptions({"balanced"}), None],
        "list_size": [Interval(Integral, 1, None, closed="left"), None],
    }
    needs_shared_labels = True
    # Whether the losses of lists grow with their length, and are to be divided by it.
    _grows = False

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        tensors = {}
        if self.class_weight == "balanced":
            tensors["label_weights"] = _query_weights(labels, torch.reciprocal)
        if self.list_size is None:
            return StartedLoss(self, **tensors)
        return _Remembering(self, n_bits, labels, **tensors)

    def batch_loss(
        self,
        projection,
        labels,
        progress,
        *,
        label_weights=None,
        memory_codes=None,
        memory_labels=None,
    ):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        n_bits = projection.shape[1]
        codes = _relax(projection)
        distances = _others((n_bits - codes @ codes.T) / 2)
        relevance = _others((labels @ labels.T).long())
        if memory_codes is not None and len(memory_codes):
            farther = (n_bits - codes @ memory_codes.to(codes).T) / 2
            distances = torch.cat([distances, farther], dim=1)
            more = (labels @ memory_labels.to(labels).T).long()
            relevance = torch.cat([relevance, more], dim=1)
        losses = self._list_losses(distances, relevance, n_bits)
        if label_weights is not None:
            losses = losses * (labels @ label_weights)
        n_queries = labels.any(dim=1).sum().clamp(min=1)
        loss = losses.sum() / (n_queries * (max(1, distances.shape[1]) if self._grows else 1))
        return loss + self.balance * _imbalance(codes)


@dataclass(frozen=True, kw_only=True)
class RankingLoss(_ListwiseLoss):
    r"""Weighted ranking hinge of DSRH, over all pairs of each list [1]_.

    .. math::

        \frac{1}{Q M} \sum_q \sum_{i, j:\, r_i > r_j} w(r_i, r_j) \,
        \max(0, \text{margin} + d_i - d_j) \; + \; \frac{\text{balance}}{2} \|\bar h\|^2

    with :math:`h = 2 \sigma(t) - 1`, :math:`d = (n_\text{bits} - h_q \cdot h_x) / 2`, :math:`r`
    the number of shared labels, :math:`Q` the number of samples of the batch that have a label,
    :math:`M` the length of the list and :math:`\bar h` the mean of the batch. See
    :func:`ranking_loss`.

    Parameters
    ----------
    margin : float or "auto", default="auto"
        By how many bits a more relevant item is to be nearer, above 0. "auto" is 5 at 64 bits, as
        the authors', in proportion at others.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        Weights of the pairs: by their effect on NDCG, or all 1.

    balance : float, default=0.1
        Weight of the penalty on bits that are not balanced. The authors' is 1, beside a loss that
        is summed over the batch where this one is averaged.

    class_weight : {"balanced"}, default=None
        Weights of the queries. None: all 1. "balanced": a label that holds for :math:`n_l` of
        :math:`n` training samples that have any of :math:`L` labels adds :math:`n / (L n_l)` to
        the weight of each of them, so that as queries the samples of rare labels count as much as
        those of frequent ones. The mean weight is 1.

    list_size : int, default=None
        Most items of a list. None takes the other samples of the batch. A number fills the list
        up with codes of the last batches, see the notes.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors draw lists of three items; here all pairs count, exactly, by sorting. What they do
    is :class:`SampledRankingLoss`.

    With `list_size`, codes and labels of the last batches are kept in a memory [2]_, first in,
    first out, and stand in the lists as constants: gradients flow to the query and to the items
    of its own batch. What is remembered is stale, made by the network as it was up to
    ``list_size / batch_size`` steps ago; the smaller the learning rate, the less that matters. An
    item of the memory may be an earlier view of the query itself: it stays, as one more item that
    shares all labels. A batch longer than `list_size` keeps its own lists whole. The memory is
    empty at the start, and only training mode writes to it.

    References
    ----------
    .. [1] F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for
       multi-label image retrieval", CVPR 2015.
    .. [2] X. Wang, H. Zhang, W. Huang, M. R. Scott, "Cross-batch memory for embedding learning",
       CVPR 2020.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import RankingLoss
    >>> labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> loss = RankingLoss(list_size=1000).start(16, labels)
    >>> projection = torch.ones(3, 16, requires_grad=True)
    >>> loss(projection, labels, 0.0).backward()
    >>> loss.n_remembered
    3
    """

    margin: float | str = "auto"
    weighting: str = "ndcg"
    balance: float = 0.1
    class_weight: str | None = None
    list_size: int | None = None

    _parameter_constraints = {
        "margin": [_POSITIVE, StrOptions({"auto"})],
        "weighting": [StrOptions({"ndcg", "uniform"})],
        **_ListwiseLoss._parameter_constraints,
    }
    _grows = True

    def _list_losses(self, distances, relevance, n_bits):
        margin = 5 * n_bits / 64 if self.margin == "auto" else self.margin
        return ranking_loss(distances, relevance, margin=margin, weighting=self.weighting)


@dataclass(frozen=True, kw_only=True)
class SampledRankingLoss(HashingLoss):
    r"""Weighted ranking hinge of DSRH as its authors train it: on lists of three items [1]_.

    .. math::

        \sum_q u_q \sum_{i, j:\, r_i > r_j} \frac{2^{r_i} - 2^{r_j}}{Z} \,
        \max(0, \text{margin} + d_i - d_j) \; + \; \frac{\text{balance}}{2} \|\bar h\|^2

    where the list of a query :math:`q` is drawn at random from the other samples of the batch:
    one of those that share most labels with it, one of those that share fewer, and one that
    shares none. Where most is 1 there is none that shares fewer, and the list is one pair. The
    rest is as in :class:`RankingLoss`, but the loss is a sum over queries and not a mean.

    Parameters
    ----------
    margin : float or "auto", default="auto"
        By how many bits a more relevant item is to be nearer, above 0. "auto" is 5 at 64 bits, as
        the authors', in proportion at others.

    balance : float, default=1.0
        Weight of the penalty on bits that are not balanced.

    n_repeats : int or None, default=3000
        The authors repeat a query, for each of its labels, ``floor(n_repeats / n_l) + 1`` times,
        where `n_l` training samples have the label. Here that number, scaled to a mean of 1, is
        its weight :math:`u_q`, which is the same in the mean over batches, and leaves no sample
        beside its own copies. None weighs all alike.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    See Also
    --------
    RankingLoss : All pairs of longer lists, at about the same cost.

    References
    ----------
    .. [1] F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for
       multi-label image retrieval", CVPR 2015, and its authors' code.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import SampledRankingLoss
    >>> labels = torch.eye(2)[[0, 0, 1]]
    >>> loss = SampledRankingLoss(margin=3, balance=0, n_repeats=None).start(4, labels)
    >>> alike = torch.ones(3, 4)  # two queries have a pair, at equal distance
    >>> loss(alike, labels, 0.0)
    tensor(6.)
    """

    margin: float | str = "auto"
    balance: float = 1.0
    n_repeats: int | None = 3000

    _parameter_constraints = {
        "margin": [_POSITIVE, StrOptions({"auto"})],
        "balance": [_NON_NEGATIVE],
        "n_repeats": [Interval(Integral, 0, None, closed="left"), None],
    }
    needs_shared_labels = True

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        del n_bits
        repeats = 0 if self.n_repeats is None else self.n_repeats
        weigh = lambda counts: torch.floor(repeats / counts) + 1  # noqa: E731
        label_weights = None if self.n_repeats is None else _query_weights(labels, weigh)
        return StartedLoss(self, label_weights=label_weights)

    def batch_loss(self, projection, labels, progress, *, label_weights):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        n_bits = projection.shape[1]
        margin = 5 * n_bits / 64 if self.margin == "auto" else self.margin
        codes = _relax(projection)
        relevance = _others((labels @ labels.T).long())
        items, there = _draw_three(relevance)
        distances = _others((n_bits - codes @ codes.T) / 2).gather(1, items)
        # What is not there is irrelevant, and so far away that it never pays.
        distances = torch.where(there, distances, n_bits + margin + 1)
        drawn = torch.where(there, relevance.gather(1, items), 0)
        losses = ranking_loss(distances, drawn, margin=margin)
        if label_weights is not None:
            losses = losses * (labels @ label_weights)
        return losses.sum() + self.balance * _imbalance(codes)


def _draw_three(relevance):
    """Draw from each row an item of the largest, a smaller and no relevance; and if there is."""
    if not relevance.numel():
        nothing = torch.zeros(len(relevance), 0, dtype=torch.long, device=relevance.device)
        return nothing, nothing.bool()
    largest = relevance.amax(dim=1, keepdim=True)
    relevant = relevance > 0
    kinds = torch.stack(
        [relevant & (relevance == largest), relevant & (relevance < largest), ~relevant]
    )
    keys = torch.rand(kinds.shape, device=relevance.device)
    return torch.where(kinds, keys, -1).argmax(dim=2).T, kinds.any(dim=2).T


@dataclass(frozen=True, kw_only=True)
class TieAwareNDCGLoss(_ListwiseLoss):
    r"""One minus tie-aware NDCG, through a soft histogram of distances [1]_.

    .. math::

        \frac{1}{Q} \sum_q \bigl( 1 - \text{NDCG}(d_q, r_q) \bigr)
        \; + \; \frac{\text{balance}}{2} \|\bar h\|^2

    with :math:`h = 2 \sigma(t) - 1`, :math:`d = (n_\text{bits} - h_q \cdot h_x) / 2`, :math:`r`
    the number of shared labels, :math:`Q` the number of samples of the batch that have a label
    and :math:`\bar h` the mean of the batch. See :func:`tie_aware_ndcg_loss`, also for what
    differs from the authors' relaxation.

    Parameters
    ----------
    balance : float, default=0.0
        Weight of the penalty on bits that are not balanced. The authors have none.

    class_weight : {"balanced"}, default=None
        Weights of the queries: all 1, or as in :class:`RankingLoss`.

    list_size : int, default=None
        Most items of a list. None takes the other samples of the batch, as the authors do. A
        number fills the list up with codes of the last batches, as in :class:`RankingLoss`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    References
    ----------
    .. [1] K. He, F. Cakir, S. A. Bargal, S. Sclaroff, "Hashing as tie-aware learning to rank",
       CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import TieAwareNDCGLoss
    >>> labels = torch.eye(2)[[0, 0, 1, 1]]
    >>> loss = TieAwareNDCGLoss().start(8, labels)
    >>> codes = torch.tensor([1.0, -1.0])[[0, 0, 1, 1]][:, None].expand(4, 8)
    >>> bool(loss(100 * codes, labels, 0.0) == 0)
    True
    """

    balance: float = 0.0
    class_weight: str | None = None
    list_size: int | None = None

    def _list_losses(self, distances, relevance, n_bits):
        return tie_aware_ndcg_loss(distances, relevance, n_bits=n_bits)


@dataclass(frozen=True, kw_only=True)
class PairwiseLikelihoodLoss(HashingLoss):
    r"""Pairwise likelihood of DPSH, with a penalty on quantisation [1]_.

    .. math::

        \operatorname{mean}_{i \ne j} \bigl[ \log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij} \bigr]
        + \text{quantization} \cdot \operatorname{mean} (|t| - 1)^2,
        \qquad \theta_{ij} = t_i \cdot t_j / 2,

    where :math:`s_{ij}` is 1 if two samples of the batch share a label, else 0. The projection
    :math:`t` itself is the relaxed code.

    Parameters
    ----------
    quantization : float, default=0.1
        Weight of the distance to the nearer of -1 and 1, the mean over all entries. The authors'
        :math:`\eta`, 10 to 100, multiplies a sum over entries beside a sum over pairs of the
        whole training set: with thousands of samples it amounts to 0.02 to 0.5 here.

    Raises
    ------
    ValueError
        If `quantization` is negative or not finite.

    Notes
    -----
    The authors pair each sample of a batch with the last output for every sample of the training
    set; here pairs are those of the batch.

    References
    ----------
    .. [1] W.-J. Li, S. Wang, W.-C. Kang, "Feature learning based deep supervised hashing with
       pairwise labels", IJCAI 2016.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import PairwiseLikelihoodLoss
    >>> labels = torch.eye(2)
    >>> loss = PairwiseLikelihoodLoss().start(4, labels)
    >>> apart = torch.tensor([[1.0], [-1.0]]).expand(2, 4)  # theta is -2, the signs are codes
    >>> torch.isclose(loss(apart, labels, 0.0), torch.tensor(-2.0).exp().log1p())
    tensor(True)
    """

    quantization: float = 0.1

    needs_shared_labels = True
    _parameter_constraints = {"quantization": [_NON_NEGATIVE]}

    def batch_loss(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        products, shared = _pairs(projection, labels)
        loss = _pair_losses(products / 2, shared > 0).sum() / max(1, products.numel())
        return loss + self.quantization * _quantization(projection)


@dataclass(frozen=True, kw_only=True)
class HashNetLoss(HashingLoss):
    r"""Weighted pairwise likelihood of HashNet, with continuation [1]_.

    .. math::

        \operatorname{mean}_{i \ne j} w_{ij}
        \bigl[ \log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij} \bigr],
        \qquad \theta_{ij} = \alpha \, h_i \cdot h_j, \qquad h = \tanh(\beta t),

    where :math:`s_{ij}` is 1 if two samples of the batch share a label, else 0. A similar pair
    weighs :math:`w = J |S| / |S_1|`, where :math:`J` is the number of shared labels divided by
    the number of labels that either has, and a dissimilar one :math:`|S| / |S_0|`: of
    :math:`|S|` pairs, :math:`|S_1|` are similar and :math:`|S_0|` dissimilar, and both kinds
    count as much. In training :math:`\beta = \sqrt{1 + \text{growth} \cdot \text{progress}}`
    rises, and the relaxed codes approach signs.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Slope of the likelihood in the inner product, above 0. "auto" is ``10 / n_bits``, as in
        the authors' code.

    growth : float, default=50.0
        How far the slope of the relaxation rises: to ``sqrt(1 + growth)``, about 7. The authors
        rise by 0.005 in each of 10,000 steps, which is 50.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    Weights are those of the paper. The authors' code has one constant for each data set in place
    of :math:`|S| / |S_1|`, and no :math:`J`. Pairs are counted in each batch.

    References
    ----------
    .. [1] Z. Cao, M. Long, J. Wang, P. S. Yu, "HashNet: deep learning to hash by continuation",
       ICCV 2017.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import HashNetLoss
    >>> labels = torch.eye(2)[[0, 0, 1]]
    >>> loss = HashNetLoss().start(4, labels)
    >>> projection = torch.tensor([[0.5], [0.5], [-0.5]]).expand(3, 4)
    >>> early, late = (loss(projection, labels, progress) for progress in (0.0, 1.0))
    >>> bool(late < early)
    True
    """

    alpha: float | str = "auto"
    growth: float = 50.0

    needs_shared_labels = True
    _parameter_constraints = {
        "alpha": [_POSITIVE, StrOptions({"auto"})],
        "growth": [_NON_NEGATIVE],
    }

    def batch_loss(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        codes = torch.tanh(math.sqrt(1 + self.growth * progress) * projection)
        products, shared = _pairs(codes, labels)
        alpha = 10 / projection.shape[1] if self.alpha == "auto" else self.alpha
        similar = shared > 0
        losses = _pair_losses(alpha * products, similar)
        sizes = labels.sum(1)
        jaccard = shared / (_others(sizes[:, None] + sizes) - shared).clamp(min=1)
        return _mean(jaccard * losses, similar) + _mean(losses, ~similar)


@dataclass(frozen=True, kw_only=True)
class SoftPairLoss(HashingLoss):
    r"""Hard and soft pairs of IDHN [1]_.

    .. math::

        \operatorname{mean}_{i \ne j} \ell_{ij}
        + \text{quantization} \cdot \operatorname{mean} \bigl| |h| - 1 \bigr|,
        \qquad h = \frac{t}{1 + |t|},

    where, for two label sets of similarity
    :math:`s_{ij} = |y_i \cap y_j| / \sqrt{|y_i| |y_j|}`,

    .. math::

        \ell_{ij} = \begin{cases}
        \log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij}, \quad
        \theta_{ij} = \text{scale} \cdot h_i \cdot h_j / n_\text{bits}
        & \text{if } s_{ij} \text{ is 0 or 1,} \\
        \text{soft\_weight} \cdot n_\text{bits} \,
        \bigl( (h_i \cdot h_j + n_\text{bits}) / (2 n_\text{bits}) - s_{ij} \bigr)^2
        & \text{else.}
        \end{cases}

    Parameters
    ----------
    scale : float, default=5.0
        Largest logit of a hard pair, above 0.

    soft_weight : float, default=0.1
        Weight of the pairs that are partly similar, the authors' :math:`\gamma`.

    quantization : float, default=0.1
        Weight of the distance to the nearer of -1 and 1, the authors' :math:`\alpha`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    Defaults, and the factor `n_bits` of soft pairs, are those of the authors' code. It counts
    each sample with itself as a pair; this does not.

    References
    ----------
    .. [1] Z. Zhang, Q. Zou, Y. Lin, L. Chen, S. Wang, "Improved deep hashing with soft pairwise
       similarity for multi-label image retrieval", IEEE Transactions on Multimedia 22(2), 2020
       (online 2019).

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import SoftPairLoss
    >>> labels = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])  # similarity 1 / 2
    >>> loss = SoftPairLoss(quantization=0).start(2, labels)
    >>> loss(torch.tensor([[9.0, 9.0], [9.0, -9.0]]), labels, 0.0)  # half of the bits agree
    tensor(0.)
    """

    scale: float = 5.0
    soft_weight: float = 0.1
    quantization: float = 0.1

    needs_shared_labels = True
    _parameter_constraints = {
        "scale": [_POSITIVE],
        "soft_weight": [_NON_NEGATIVE],
        "quantization": [_NON_NEGATIVE],
    }

    def batch_loss(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        n_bits = projection.shape[1]
        codes = functional.softsign(projection)
        products, shared = _pairs(codes, labels)
        cosines = products / n_bits
        sizes = labels.sum(1)
        product_of_sizes = _others(torch.outer(sizes, sizes))
        # By Cauchy and Schwarz the sets are equal: no root that might be rounded is compared.
        same = (shared > 0) & (shared.square() == product_of_sizes)
        hard = _pair_losses(self.scale * cosines, same)
        target = shared / product_of_sizes.clamp(min=1).sqrt()
        soft = self.soft_weight * n_bits * ((cosines + 1) / 2 - target).square()
        losses = torch.where(same | (shared == 0), hard, soft)
        loss = losses.sum() / max(1, losses.numel())
        return loss + self.quantization * (codes.abs() - 1).abs().mean()


@dataclass(frozen=True, kw_only=True)
class TripletLikelihoodLoss(HashingLoss):
    r"""Triplet likelihood of DTSH, for label sets [1]_.

    .. math::

        \operatorname{mean}_q \operatorname{mean}_{p, n:\, r_{qp} > r_{qn}}
        \log \bigl( 1 + e^{-(\theta_{qp} - \theta_{qn} - \text{margin})} \bigr)
        + \text{quantization} \cdot \operatorname{mean} (|t| - 1)^2,
        \qquad \theta_{ij} = t_i \cdot t_j / 2,

    where :math:`r` is the number of shared labels and the projection :math:`t` itself is the
    relaxed code. Every sample of the batch is a query, all triplets count, and the mean over
    queries is over those that have a triplet.

    Parameters
    ----------
    margin : float or "auto", default="auto"
        By how much a more relevant item is to be more alike, at least 0. "auto" is
        ``n_bits / 2``, as in the authors' code.

    quantization : float, default=0.1
        Weight of the distance to the nearer of -1 and 1, the mean over all entries.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors have single labels, where these are the triplets of a positive and a negative
    item; they draw some from the last outputs for the whole training set. Their gradient of the
    quantisation, 400 times the difference beside a sum over 22,500 triplets an image, amounts to
    about 0.2 here at 48 bits.

    A batch of n samples has up to n\ :sup:`3` triplets. Value and gradient are computed together,
    for as many queries at a time as keep tables within 2\ :sup:`23` entries (one query at least),
    so memory does not grow beyond that.

    References
    ----------
    .. [1] X. Wang, Y. Shi, K. M. Kitani, "Deep supervised hashing with triplet labels",
       ACCV 2016.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import TripletLikelihoodLoss
    >>> labels = torch.eye(2)[[0, 0, 1]]
    >>> loss = TripletLikelihoodLoss(margin=0).start(4, labels)
    >>> alike = torch.ones(3, 4)  # each triplet is as likely as its opposite
    >>> torch.isclose(loss(alike, labels, 0.0), torch.tensor(2.0).log())
    tensor(True)
    """

    margin: float | str = "auto"
    quantization: float = 0.1

    needs_shared_labels = True
    _parameter_constraints = {
        "margin": [_NON_NEGATIVE, StrOptions({"auto"})],
        "quantization": [_NON_NEGATIVE],
    }

    def batch_loss(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        margin = projection.shape[1] / 2 if self.margin == "auto" else self.margin
        products, shared = _pairs(projection, labels)
        losses, has_triplet = _TripletLikelihood.apply(products / 2, shared, float(margin))
        return _mean(losses, has_triplet) + self.quantization * _quantization(projection)


class _TripletLikelihood(torch.autograd.Function):
    """Mean of ``softplus(margin + s_n - s_p)`` over triplets of each row, and if it has any."""

    @staticmethod
    def forward(ctx, similarities, relevance, margin):
        """Compute the value of each row and, as it comes at little cost, the gradient."""
        n_rows = max(1, _TABLE_ELEMENTS // max(1, similarities.shape[1] ** 2))
        parts = [
            _triplet_likelihood(s, r, margin)
            for s, r in zip(
                similarities.detach().split(n_rows), relevance.split(n_rows), strict=True
            )
        ]
        value, gradient, n_triplets = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(gradient)
        has_triplet = n_triplets > 0
        ctx.mark_non_differentiable(has_triplet)
        return value, has_triplet

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output, _):
        """Scale the gradient of each row; only `similarities` has one."""
        (gradient,) = ctx.saved_tensors
        return grad_output[:, None] * gradient, None, None


def _triplet_likelihood(similarities, relevance, margin):
    """Value (n_rows,), gradient (n_rows, n_items) and number of triplets (n_rows,) of rows."""
    triplets = relevance[:, :, None] > relevance[:, None, :]
    n_triplets = triplets.sum((1, 2))
    likelihoods = similarities[:, :, None] - similarities[:, None, :]
    likelihoods = functional.logsigmoid(likelihoods.sub_(margin)).mul_(triplets)
    scale = n_triplets.clamp(min=1).to(likelihoods.dtype)
    value = -likelihoods.sum((1, 2)) / scale
    # The derivative is the probability of the opposite, which is 0 where there is no triplet.
    slopes = likelihoods.expm1_()
    gradient = (slopes.sum(2) - slopes.sum(1)) / scale[:, None]
    return value, gradient, n_triplets


def _label_codes(n_labels, n_bits, kind):
    """Draw one code of -1 and 1 for each label, far from each other; shape (n_labels, n_bits)."""
    order = 2 ** math.ceil(math.log2(n_bits))
    if kind == "auto":
        kind = "hadamard" if n_labels <= 2 * order else "bernoulli"
    if kind == "hadamard":
        return _hadamard_codes(n_labels, n_bits, order)
    best, least = None, math.inf
    for _ in range(_CENTER_TRIES if n_labels**2 <= _TABLE_ELEMENTS else 1):
        codes = _random_signs(n_labels, n_bits)
        largest = _others(codes @ codes.T).amax() if n_labels > 1 else -math.inf
        if best is None or largest < least:
            best, least = codes, largest
    return best


def _hadamard_codes(n_labels, n_bits, order):
    """Draw rows of a Hadamard matrix and, where they do not suffice, of its negative."""
    if n_labels > 2 * order:
        raise ValueError(
            f"Codes of {n_bits} bits have at most {2 * order} Hadamard centers, but there are "
            f"{n_labels} labels; 'auto' or 'bernoulli' would do."
        )
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    rows = matrix if n_labels <= order else torch.cat([matrix, -matrix])
    return rows[torch.randperm(len(rows))[:n_labels]][:, torch.randperm(order)[:n_bits]]


def _random_signs(*shape):
    """Draw -1 and 1 with probability one half each."""
    return 2.0 * torch.randint(2, shape) - 1


@dataclass(frozen=True, kw_only=True)
class CentralSimilarityLoss(HashingLoss):
    r"""Central similarity quantisation (CSQ): a fixed code for each set of labels [1]_.

    .. math::

        \operatorname{mean} \operatorname{BCE}
        \Bigl( \frac{1 + h}{2}, \frac{1 + c}{2} \Bigr)
        + \text{quantization} \cdot \operatorname{mean} (|h| - 1)^2, \qquad h = \tanh t,

    where BCE is the binary cross entropy and :math:`c` the centre of a sample: for one label its
    own, for several the majority of theirs in each bit, equal numbers being decided by a random
    code. Samples without a label have no centre and count only in the second term.

    Parameters
    ----------
    centers : {"auto", "hadamard", "bernoulli"}, default="auto"
        Centres of the labels. "hadamard": random rows of a Hadamard matrix, half of whose bits
        differ. "bernoulli": random bits. "auto" takes Hadamard where labels are not too many, at
        most twice the next power of 2 from `n_bits`.

    quantization : float, default=0.05
        Weight of the distance to the nearer of -1 and 1, as in the authors' code.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are too many labels for "hadamard".

    Notes
    -----
    The authors take the first rows of the matrix, in which few labels leave many bits equal, and
    have a Hadamard matrix only where `n_bits` is a power of 2. Here rows are random, and other
    numbers of bits are random columns of the next larger matrix: centres differ in more than
    ``n_bits - order / 2`` bits or just as many. Of 20 random draws by "bernoulli" the one whose
    nearest centres are farthest apart is taken; the authors draw until a distance is reached.
    Their code, unlike the paper, adds a pairwise likelihood with weight 0.2; this does not.

    References
    ----------
    .. [1] L. Yuan, T. Wang, X. Zhang, F. E. H. Tay, Z. Jie, W. Liu, J. Feng, "Central similarity
       quantization for efficient image and video retrieval", CVPR 2020.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import CentralSimilarityLoss
    >>> labels = torch.eye(10)
    >>> started = CentralSimilarityLoss().start(16, labels)
    >>> distances = (16 - started.centers @ started.centers.T) / 2
    >>> distances.unique()
    tensor([0., 8.])
    """

    centers: str = "auto"
    quantization: float = 0.05

    _parameter_constraints = {"centers": [_CENTERS], "quantization": [_NON_NEGATIVE]}

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        centers = _label_codes(labels.shape[1], n_bits, self.centers).to(labels.device)
        return StartedLoss(self, centers=centers, ties=_random_signs(n_bits).to(labels.device))

    def batch_loss(self, projection, labels, progress, *, centers, ties):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        votes = labels @ centers.to(labels)
        targets = torch.where(votes == 0, ties.to(votes), votes) > 0
        # The probability (1 + tanh(t)) / 2 is sigmoid(2 t).
        losses = _pair_losses(2 * projection, targets).mean(1)
        loss = _mean(losses, labels.any(1))
        return loss + self.quantization * _quantization(torch.tanh(projection))


@dataclass(frozen=True, kw_only=True)
class OrthoHashLoss(HashingLoss):
    r"""Cosine to fixed binary orthogonal codes of the labels (OrthoHash) [1]_.

    .. math::

        -\operatorname{mean}_i \sum_l \frac{y_{il}}{|y_i|}
        \log \frac{e^{z_{il}}}{\sum_k e^{z_{ik}}}, \qquad
        z_{il} = \text{scale} \cdot \bigl( \cos(t_i, o_l) - \text{margin} \cdot y_{il} \bigr),

    where :math:`o_l` is the code of label :math:`l` and :math:`y_{il}` is 1 if sample :math:`i`
    has it, else 0. The mean is over samples that have a label. As codes have equal length, one
    cosine asks for the right signs and for entries of equal size, which quantise well.

    Parameters
    ----------
    margin : float, default=0.2
        By how much the cosine to a label of the sample is to exceed others, at least 0.

    scale : float, default=8.0
        Factor of the cosines, above 0.

    targets : {"auto", "hadamard", "bernoulli"}, default="auto"
        Codes of the labels, drawn as the centres of :class:`CentralSimilarityLoss`. The authors'
        default is "bernoulli", once drawn.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are too many labels for "hadamard".

    Notes
    -----
    Defaults of `margin` and `scale` are those of the authors' code. The authors also put batch
    normalisation behind the hash layer, for bits that are balanced; that is for the network.

    References
    ----------
    .. [1] J. T. Hoe, K. W. Ng, T. Zhang, C. S. Chan, Y.-Z. Song, T. Xiang, "One loss for all:
       deep hashing with a single cosine similarity based learning objective", NeurIPS 2021.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import OrthoHashLoss
    >>> labels = torch.eye(4)
    >>> started = OrthoHashLoss(scale=50).start(8, labels)
    >>> bool(started(started.targets, labels, 0.0) < 1e-6)
    True
    """

    margin: float = 0.2
    scale: float = 8.0
    targets: str = "auto"

    _parameter_constraints = {
        "margin": [_NON_NEGATIVE],
        "scale": [_POSITIVE],
        "targets": [_CENTERS],
    }

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        targets = _label_codes(labels.shape[1], n_bits, self.targets)
        return StartedLoss(self, targets=targets.to(labels.device))

    def batch_loss(self, projection, labels, progress, *, targets):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        cosines = _cosines(projection, targets.to(projection))
        log_shares = functional.log_softmax(self.scale * (cosines - self.margin * labels), dim=1)
        weights = labels / labels.sum(1, keepdim=True).clamp(min=1)
        return _mean(-(weights * log_shares).sum(1), labels.any(1))


def _cosines(a, b):
    """Cosines between the rows of `a` and those of `b`."""
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


@dataclass(frozen=True, kw_only=True)
class HyP2Loss(HashingLoss):
    r"""Learnt proxies of the labels, and irrelevant pairs kept apart (HyP\ :sup:`2`) [1]_.

    .. math::

        \operatorname{mean}_{y_{il} = 1} \bigl( 1 - \cos(t_i, p_l) \bigr)
        + \operatorname{mean}_{y_{il} = 0} \max(0, \cos(t_i, p_l) - \zeta)
        + \beta \operatorname{mean}_{i, j} \max(0, \cos(t_i, t_j) - \zeta),

    where :math:`p_l` is the proxy of label :math:`l`, trained along with the network, and
    :math:`y_{il}` is 1 if sample :math:`i` has it, else 0. The last mean is over pairs of the
    batch that share no label and of which both have several: proxies alone cannot keep apart two
    samples that lie between many of them. A mean over nothing is 0.

    Parameters
    ----------
    beta : float, default=0.5
        Weight of the pairs, at least 0.

    threshold : float or "auto", default="auto"
        The cosine :math:`\zeta`, from -1 to 1, above which what is irrelevant is too near. "auto"
        is ``1 - 2 * d / n_bits``, where `d` is the largest smallest distance between codes for so
        many labels, see the notes.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors look `d` up in a table of the best known linear codes of ``2 ** k`` words,
    ``k = ceil(log2(n_labels))``. Here it is the Griesmer bound, the largest `d` with
    ``sum(ceil(d / 2**i) for i in range(k)) <= n_bits``: no linear code has a larger one, and for
    few labels most have this one or one less. Where `n_bits` does not suffice to tell the labels
    apart, :math:`\zeta` is 1.

    References
    ----------
    .. [1] C. Xu, Z. Chai, Z. Xu, C. Yuan, Y. Fan, J. Wang, "HyP\ :sup:`2` loss: beyond
       hypersphere metric space for multi-label image retrieval", ACM Multimedia 2022.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import HyP2Loss
    >>> started = HyP2Loss().start(48, torch.zeros(100, 38))
    >>> {name: tuple(proxies.shape) for name, proxies in started.named_parameters()}
    {'proxies': (38, 48)}
    """

    beta: float = 0.5
    threshold: float | str = "auto"

    _parameter_constraints = {
        "beta": [_NON_NEGATIVE],
        "threshold": [Interval(Real, -1, 1, closed="both"), StrOptions({"auto"})],
    }

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        n_labels = labels.shape[1]
        proxies = math.sqrt(2 / n_labels) * torch.randn(n_labels, n_bits)
        return StartedLoss(self, proxies=nn.Parameter(proxies.to(labels.device)))

    def batch_loss(self, projection, labels, progress, *, proxies):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        threshold = self.threshold
        if threshold == "auto":
            threshold = 1 - 2 * _griesmer_distance(*proxies.shape) / projection.shape[1]
        cosines = _cosines(projection, proxies)
        loss = _mean(1 - cosines, labels > 0)
        loss = loss + _mean(functional.relu(cosines - threshold), labels == 0)
        several = labels.sum(1) > 1
        apart = (labels @ labels.T == 0) & several & several[:, None]
        too_near = functional.relu(_cosines(projection, projection) - threshold)
        return loss + self.beta * _mean(too_near, apart)


def _griesmer_distance(n_labels, n_bits):
    """Bound on the smallest distance within a linear code of at least `n_labels` words."""
    k = math.ceil(math.log2(n_labels))
    distance = n_bits
    while sum(-(-distance // 2**i) for i in range(k)) > n_bits:
        distance -= 1
    return distance


LOSSES = {
    "ranking": RankingLoss,
    "dsrh": SampledRankingLoss,
    "tie_aware_ndcg": TieAwareNDCGLoss,
    "dpsh": PairwiseLikelihoodLoss,
    "hashnet": HashNetLoss,
    "idhn": SoftPairLoss,
    "dtsh": TripletLikelihoodLoss,
    "csq": CentralSimilarityLoss,
    "orthohash": OrthoHashLoss,
    "hyp2": HyP2Loss,
}
"""Classes of losses by the name that `DeepRankingHasher` takes."""


def get_loss(loss):
    """Return a loss by its name, or the loss itself.

    Parameters
    ----------
    loss : str or object with a method `start`
        A name of :data:`LOSSES`, which stands for the loss with its defaults, or a
        :class:`HashingLoss` or another object that has its `start`.

    Returns
    -------
    loss : object with a method `start`
        The loss.

    Raises
    ------
    ValueError
        If there is no loss of that name.

    TypeError
        If `loss` is neither a string nor an object with a method `start`.

    Examples
    --------
    >>> from skhash.deep.losses import get_loss
    >>> get_loss("csq")
    CentralSimilarityLoss(centers='auto', quantization=0.05)
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            names = ", ".join(map(repr, LOSSES))
            raise ValueError(f"loss should be one of {names}, or an object, got {loss!r}.")
        return LOSSES[loss]()
    if isinstance(loss, type) or not callable(getattr(loss, "start", None)):
        got = f"the class {loss.__name__}" if isinstance(loss, type) else repr(loss)
        raise TypeError(
            "loss should be a name or an object with a method start(n_bits, labels), such as "
            f"RankingLoss(), got {got}."
        )
    return loss
