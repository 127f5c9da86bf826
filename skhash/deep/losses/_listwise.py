"""Losses of lists: each sample of the batch ranks the others, and those of a memory."""

from dataclasses import dataclass
from numbers import Integral, Real

import torch

from skhash._sklearn import Interval, StrOptions
from skhash.deep.losses._base import (
    NON_NEGATIVE,
    POSITIVE,
    HashingLoss,
    StartedLoss,
    imbalance,
    products,
    signs,
)
from skhash.deep.losses._lists import (
    ranking_loss,
    tie_aware_average_precision_loss,
    tie_aware_ndcg_loss,
)
from skhash.deep.losses._memory import MEMORY_SIZE, StartedMemory

__all__ = [
    "RankingLoss",
    "SampledRankingLoss",
    "TieAwareAveragePrecisionLoss",
    "TieAwareNDCGLoss",
]


def _margin_in_bits(margin, n_bits):
    """Return the margin; "auto" is that of the authors, in proportion to the length of codes."""
    return 5 * n_bits / 64 if margin == "auto" else margin


def _query_weights(labels, weight_of_label):
    """Return weights of labels; the weight of a query is their sum over its labels.

    They follow from the number of samples that have the label, and are scaled so that the mean
    weight of the queries is 1.
    """
    counts = labels.sum(0)
    weights = torch.where(counts > 0, weight_of_label(counts.clamp(min=1)), 0)
    total = (labels @ weights).sum()
    return weights * (labels.any(1).sum() / total.clamp(min=torch.finfo(total.dtype).tiny))


class _ListwiseLoss(HashingLoss):
    """Base class of losses that are a function of the list of each sample of the batch.

    A list is the distances and the relevance of items. A subclass has the parameters `balance`,
    `class_weight` and `list_size`, and the method `_list_losses`.
    """

    _parameter_constraints = {
        "balance": [NON_NEGATIVE],
        "class_weight": [StrOptions({"balanced"}), None],
        "list_size": [MEMORY_SIZE, None],
    }
    needs_shared_labels = True
    # Whether the loss of a list grows with its length, and is divided by it.
    _grows = False

    @property
    def takes_memory(self):
        """Whether :class:`MemoryLoss` can hold the loss: not if `list_size` asks for a memory."""
        return self.list_size is None

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        tensors = {}
        if self.class_weight == "balanced":
            tensors["label_weights"] = _query_weights(labels, torch.reciprocal)
        started = StartedLoss(self, **tensors)
        if self.list_size is None:
            return started
        return StartedMemory(started, self.list_size, n_bits, labels)

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
        codes = self.relax(projection, progress)
        relevance = products(labels, memory_labels).long()
        losses = self._query_losses(codes, memory_codes, relevance)
        if label_weights is not None:
            losses = losses * (labels @ label_weights)
        n_queries = labels.any(dim=1).sum().clamp(min=1)
        loss = losses.sum() / (n_queries * (max(1, relevance.shape[1]) if self._grows else 1))
        return loss + self.balance * imbalance(codes)

    def _query_losses(self, codes, memory_codes, relevance):
        """Return the loss of the list of each sample."""
        n_bits = codes.shape[1]
        return self._list_losses((n_bits - products(codes, memory_codes)) / 2, relevance, n_bits)


@dataclass(kw_only=True)
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
        How many bits nearer a more relevant item should be, above 0. "auto" is 5 at 64 bits, as
        the authors have it, and in proportion at other lengths.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        Weights of the pairs: by their effect on NDCG, or all 1.

    balance : float, default=0.1
        Weight of the penalty on bits that are not balanced. The authors take 1, with a loss that
        is summed over the batch; this one is averaged.

    class_weight : {"balanced"}, default=None
        Weights of the queries. None: all 1. "balanced": a label that holds for :math:`n_l` of
        :math:`n` training samples that have any of :math:`L` labels adds :math:`n / (L n_l)` to
        the weight of each of them. The queries of a rare label then count as much, in sum, as
        those of a frequent one. The mean weight is 1.

    list_size : int, default=None
        Largest number of items of a list. None takes the other samples of the batch. A number
        fills the list up with remembered codes of the last batches:
        ``RankingLoss(list_size=5000)`` is short for ``MemoryLoss(RankingLoss(), size=5000)``, see
        :class:`MemoryLoss`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors draw lists of three items; :class:`SampledRankingLoss` does the same. Here all
    pairs of a list count, exactly, by sorting.

    References
    ----------
    .. [1] F. Zhao, Y. Huang, L. Wang, T. Tan, "Deep semantic ranking based hashing for
       multi-label image retrieval", CVPR 2015.

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
        "margin": [POSITIVE, StrOptions({"auto"})],
        "weighting": [StrOptions({"ndcg", "uniform"})],
        **_ListwiseLoss._parameter_constraints,
    }
    _grows = True

    def _list_losses(self, distances, relevance, n_bits):
        margin = _margin_in_bits(self.margin, n_bits)
        return ranking_loss(distances, relevance, margin=margin, weighting=self.weighting)


@dataclass(kw_only=True)
class SampledRankingLoss(HashingLoss):
    r"""Weighted ranking hinge of DSRH as its authors train it: on lists of three items [1]_.

    .. math::

        \sum_q u_q \sum_{i, j:\, r_i > r_j} \frac{2^{r_i} - 2^{r_j}}{Z} \,
        \max(0, \text{margin} + d_i - d_j) \; + \; \frac{\text{balance}}{2} \|\bar h\|^2

    The list of a query :math:`q` is drawn at random from the other samples of the batch: one of
    those that share the most labels with it, one of those that share fewer, and one that shares
    none. Where the most is 1, no sample shares fewer, and the list is one pair. The rest is as in
    :class:`RankingLoss`, but the loss is a sum over queries and not a mean.

    Parameters
    ----------
    margin : float or "auto", default="auto"
        How many bits nearer a more relevant item should be, above 0. "auto" is 5 at 64 bits, as
        the authors have it, and in proportion at other lengths.

    balance : float, default=1.0
        Weight of the penalty on bits that are not balanced.

    n_repeats : int or None, default=3000
        The authors repeat a query, for each of its labels, ``floor(n_repeats / n_l) + 1`` times,
        where `n_l` training samples have the label. Here the number of copies, scaled to a mean of
        1, is the weight :math:`u_q` of the query. In the mean over batches that is the same, and
        no batch holds copies of a sample. None gives all queries the same weight.

    weighting : {"ndcg", "uniform"}, default="ndcg"
        Weights of the pairs, as in :class:`RankingLoss`.

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
    weighting: str = "ndcg"

    _parameter_constraints = {
        "margin": [POSITIVE, StrOptions({"auto"})],
        "balance": [NON_NEGATIVE],
        "n_repeats": [Interval(Integral, 0, None, closed="left"), None],
        "weighting": [StrOptions({"ndcg", "uniform"})],
    }
    needs_shared_labels = True
    takes_memory = True

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        del n_bits
        if self.n_repeats is None:
            return StartedLoss(self)
        repeat = lambda counts: torch.floor(self.n_repeats / counts) + 1  # noqa: E731
        return StartedLoss(self, label_weights=_query_weights(labels, repeat))

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
        n_bits, codes = projection.shape[1], self.relax(projection, progress)
        margin = _margin_in_bits(self.margin, n_bits)
        relevance = products(labels, memory_labels).long()
        items, there = _draw_three(relevance)
        distances = ((n_bits - products(codes, memory_codes)) / 2).gather(1, items)
        # What is not there is irrelevant, and so far away that it never pays.
        distances = torch.where(there, distances, n_bits + margin + 1)
        drawn = torch.where(there, relevance.gather(1, items), 0)
        losses = ranking_loss(distances, drawn, margin=margin, weighting=self.weighting)
        if label_weights is not None:
            losses = losses * (labels @ label_weights)
        return losses.sum() + self.balance * imbalance(codes)


def _draw_three(relevance):
    """Draw an item of the largest, of a smaller and of no relevance from each row.

    Return the items and whether there are such, both of shape (n_rows, 3).
    """
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


class _TieAwareLoss(_ListwiseLoss):
    """Base class of losses of a soft histogram of distances, to relaxed codes and to signs."""

    _parameter_constraints = {
        "straight_through": [Interval(Real, 0, 1, closed="both")],
        **_ListwiseLoss._parameter_constraints,
    }

    def _query_losses(self, codes, memory_codes, relevance):
        share = self.straight_through
        parts = []
        if share < 1:
            parts.append((1 - share) * super()._query_losses(codes, memory_codes, relevance))
        if share > 0:
            parts.append(share * self._losses_to_signs(codes, memory_codes, relevance))
        return sum(parts)

    def _losses_to_signs(self, codes, memory_codes, relevance):
        """Return the loss of the list of each sample, its items binary and itself relaxed."""
        n_bits = codes.shape[1]
        memory = None if memory_codes is None else signs(memory_codes)
        inner = products(codes, memory, items=signs(codes))
        return self._list_losses((n_bits - inner) / 2, relevance, n_bits)


@dataclass(kw_only=True)
class TieAwareNDCGLoss(_TieAwareLoss):
    r"""One minus tie-aware NDCG, through a soft histogram of distances [1]_.

    .. math::

        \frac{1}{Q} \sum_q \bigl( 1 - (1 - s) \, \text{NDCG}(d_q, r_q)
        - s \, \text{NDCG}(d'_q, r_q) \bigr) \; + \; \frac{\text{balance}}{2} \|\bar h\|^2

    with :math:`h = 2 \sigma(t) - 1`, :math:`d = (n_\text{bits} - h_q \cdot h_x) / 2`,
    :math:`d' = (n_\text{bits} - h_q \cdot \text{sign}(h_x)) / 2`, :math:`r` the number of shared
    labels, :math:`Q` the number of samples of the batch that have a label and :math:`\bar h` the
    mean of the batch. See :func:`tie_aware_ndcg_loss`, also for what differs from the authors'
    relaxation.

    Parameters
    ----------
    straight_through : float, default=0.5
        The share :math:`s`, between 0 and 1, of the lists whose items are the signs of their
        relaxed codes: what a search compares a query with. The gradient goes straight through the
        signs to the relaxed codes. The authors have none, 0.

    balance : float, default=0.0
        Weight of the penalty on bits that are not balanced. The authors have none.

    class_weight : {"balanced"}, default=None
        Weights of the queries: all 1, or as in :class:`RankingLoss`.

    list_size : int, default=None
        Largest number of items of a list. None takes the other samples of the batch, as the
        authors do. A number fills the list up with remembered codes of the last batches, as in
        :class:`RankingLoss`.

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

    straight_through: float = 0.5
    balance: float = 0.0
    class_weight: str | None = None
    list_size: int | None = None

    def _list_losses(self, distances, relevance, n_bits):
        return tie_aware_ndcg_loss(distances, relevance, n_bits=n_bits)


@dataclass(kw_only=True)
class TieAwareAveragePrecisionLoss(_TieAwareLoss):
    r"""One minus tie-aware average precision, through a soft histogram of distances [1]_.

    As :class:`TieAwareNDCGLoss`, with average precision in place of NDCG: an item is relevant if
    it shares a label with the query. See :func:`tie_aware_average_precision_loss`.

    Parameters
    ----------
    straight_through : float, default=0.5
        Share of the lists whose items are the signs of their relaxed codes, as in
        :class:`TieAwareNDCGLoss`. The authors have none, 0.

    balance : float, default=0.0
        Weight of the penalty on bits that are not balanced. The authors have none.

    class_weight : {"balanced"}, default=None
        Weights of the queries: all 1, or as in :class:`RankingLoss`.

    list_size : int, default=None
        Largest number of items of a list, as in :class:`RankingLoss`.

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
    >>> from skhash.deep.losses import TieAwareAveragePrecisionLoss
    >>> labels = torch.eye(2)[[0, 0, 1, 1]]
    >>> loss = TieAwareAveragePrecisionLoss().start(8, labels)
    >>> codes = torch.tensor([1.0, -1.0])[[0, 0, 1, 1]][:, None].expand(4, 8)
    >>> bool(loss(100 * codes, labels, 0.0) == 0)
    True
    """

    straight_through: float = 0.5
    balance: float = 0.0
    class_weight: str | None = None
    list_size: int | None = None

    def _list_losses(self, distances, relevance, n_bits):
        return tie_aware_average_precision_loss(distances, relevance, n_bits=n_bits)
