"""Losses of losses: of the first bits of a code as well as of all, and one after another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

import torch

from skhash._sklearn import Interval, InvalidParameterError
from skhash.deep.losses._base import HashingLoss

__all__ = ["NestedLoss", "SequentialLoss", "StartedHeads"]


@dataclass
class NestedLoss(HashingLoss):
    r"""A loss of codes of several lengths at once: the first bits are a good shorter code [1]_.

    .. math::

        \sum_l w_l \, \text{loss}(t_{1 \ldots l}) \; / \; \sum_l w_l

    where :math:`t_{1 \ldots l}` are the first :math:`l` columns of the projection.
    :meth:`skhash.DeepRankingHasher.shorten` then gives a hasher of one of the lengths without
    another training.

    Parameters
    ----------
    loss : HashingLoss
        The loss of the codes of each length.

    lengths : sequence of int, default=(16, 32, 48)
        Lengths, ascending. The last one is that of the whole code, `n_bits` of the hasher.

    weights : sequence of float, default=None
        Weights of the lengths, above 0. None gives all of them the same.

    Raises
    ------
    ValueError
        If a parameter is out of its range; in `start`, if the last length is not `n_bits`.

    Notes
    -----
    What a loss keeps in a training, such as a memory or the centres of labels, it keeps once for
    each length.

    References
    ----------
    .. [1] A. Kusupati et al., "Matryoshka representation learning", NeurIPS 2022.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import NestedLoss, TieAwareNDCGLoss
    >>> labels = torch.eye(2)[[0, 0, 1, 1]]
    >>> loss = NestedLoss(TieAwareNDCGLoss(), lengths=(4, 8)).start(8, labels)
    >>> codes = torch.ones(4, 8)
    >>> codes[2:, :4] = -1  # the last four bits say nothing
    >>> bool(loss(100 * codes, labels, 0.0) < 1e-6)
    True
    """

    loss: HashingLoss
    lengths: Sequence = field(default=(16, 32, 48), kw_only=True)
    weights: Sequence | None = field(default=None, kw_only=True)

    _parameter_constraints = {
        "loss": [HashingLoss],
        "lengths": ["array-like"],
        "weights": ["array-like", None],
    }

    def _validate(self):
        super()._validate()
        lengths = list(self.lengths)
        whole = all(isinstance(length, Integral) and length > 0 for length in lengths)
        if not whole or not lengths or sorted(set(lengths)) != lengths:
            raise InvalidParameterError(
                "The 'lengths' parameter of NestedLoss must be ascending ints above 0. "
                f"Got {self.lengths!r} instead."
            )
        if self.weights is None:
            return
        weights = list(self.weights)
        positive = all(isinstance(weight, Real) and weight > 0 for weight in weights)
        if not positive or len(weights) != len(lengths):
            raise InvalidParameterError(
                "The 'weights' parameter of NestedLoss must be a number above 0 for each of the "
                f"{len(lengths)} lengths. Got {self.weights!r} instead."
            )

    @property
    def needs_shared_labels(self):
        """Whether the loss learns nothing where no two samples share a label."""
        return self.loss.needs_shared_labels

    def shorten(self, n_bits):
        """Return the loss of the first bits alone.

        Parameters
        ----------
        n_bits : int
            Length of the shorter codes, at most the last of the lengths.

        Returns
        -------
        loss : HashingLoss
            Of the lengths up to `n_bits`; the loss that is held if there is no other length.
        """
        lengths = [length for length in self.lengths if length < n_bits] + [n_bits]
        if len(lengths) == 1:
            return self.loss
        weights = None if self.weights is None else self.weights[: len(lengths)]
        return NestedLoss(self.loss, lengths=tuple(lengths), weights=weights)

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        lengths = [int(length) for length in self.lengths]
        if lengths[-1] != n_bits:
            raise ValueError(
                f"The last of the lengths of NestedLoss should be n_bits={n_bits}, the length of "
                f"the whole code, got lengths={self.lengths!r}."
            )
        weights = [1.0] * len(lengths) if self.weights is None else self.weights
        shares = [float(weight) / sum(weights) for weight in weights]
        return _StartedNested([self.loss.start(n, labels) for n in lengths], lengths, shares)


class _StartedNested(torch.nn.Module):
    """A nested loss in one training: a started loss for each length."""

    def __init__(self, parts, lengths, shares):
        super().__init__()
        self.parts, self.lengths, self.shares = torch.nn.ModuleList(parts), lengths, shares

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        return sum(
            share * part(projection[:, :length], labels, progress)
            for part, length, share in zip(self.parts, self.lengths, self.shares, strict=True)
        )


class StartedHeads(torch.nn.Module):
    """The loss of several heads in one training: the mean of those of each.

    Parameters
    ----------
    parts : sequence of torch.nn.Module
        A started loss for each head.
    """

    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, whose projections stand one after the other."""
        projections = projection.chunk(len(self.parts), dim=1)
        losses = [
            part(p, labels, progress) for part, p in zip(self.parts, projections, strict=True)
        ]
        return sum(losses) / len(losses)


@dataclass
class SequentialLoss(HashingLoss):
    """One loss, and from some point of the training on another.

    A loss that learns fast from random weights can so precede one that ends better.

    Parameters
    ----------
    first : HashingLoss
        The loss at the start.

    last : HashingLoss
        The loss at the end.

    switch : float, default=2/3
        Fraction of the training, above 0 and below 1, after which `last` follows `first`. Each
        is told how far its own part of the training is.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import CentralSimilarityLoss, RankingLoss, SequentialLoss
    >>> labels = torch.eye(2)[[0, 0, 1, 1]]
    >>> loss = SequentialLoss(RankingLoss(), CentralSimilarityLoss()).start(8, labels)
    >>> projection = torch.linspace(-1, 1, 32).view(4, 8)
    >>> ranking = RankingLoss().start(8, labels)
    >>> bool(loss(projection, labels, 0.3) == ranking(projection, labels, 0.0))
    True
    """

    first: HashingLoss
    last: HashingLoss
    switch: float = field(default=2 / 3, kw_only=True)

    _parameter_constraints = {
        "first": [HashingLoss],
        "last": [HashingLoss],
        "switch": [Interval(Real, 0, 1, closed="neither")],
    }

    @property
    def needs_shared_labels(self):
        """Whether one of the losses learns nothing where no two samples share a label."""
        return self.first.needs_shared_labels or self.last.needs_shared_labels

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        parts = [loss.start(n_bits, labels) for loss in (self.first, self.last)]
        return _StartedSequence(*parts, self.switch)


class _StartedSequence(torch.nn.Module):
    """A sequence of two losses in one training."""

    def __init__(self, first, last, switch):
        super().__init__()
        self.first, self.last, self.switch = first, last, switch

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        if progress < self.switch:
            return self.first(projection, labels, progress / self.switch)
        return self.last(projection, labels, (progress - self.switch) / (1 - self.switch))
