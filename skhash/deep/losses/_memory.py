"""A memory of codes: the last batches as further items of a loss that compares samples."""

from dataclasses import dataclass, field
from numbers import Integral

import torch

from skhash._sklearn import Interval, InvalidParameterError
from skhash.deep.losses._base import HashingLoss, StartedLoss

__all__ = ["MEMORY_SIZE", "MemoryLoss", "StartedMemory"]

MEMORY_SIZE = Interval(Integral, 1, None, closed="left")


@dataclass
class MemoryLoss(HashingLoss):
    r"""A loss with a memory: samples are compared with those of the last batches too [1]_.

    A loss that compares the samples of a batch sees no more of them than the network can process
    at once. This one keeps codes and labels of the last batches, first in, first out, and gives
    them to the loss that it holds. Each sample of the batch is then compared with the other
    samples of the batch and with the remembered ones: lists are longer, and pairs and triplets are
    more.

    Parameters
    ----------
    loss : HashingLoss
        A loss that compares samples: :class:`RankingLoss`, :class:`SampledRankingLoss`,
        :class:`TieAwareNDCGLoss`, :class:`TieAwareAveragePrecisionLoss`,
        :class:`PairwiseLikelihoodLoss`, :class:`HashNetLoss`, :class:`SoftPairLoss`,
        :class:`TripletLikelihoodLoss`, or another one whose `takes_memory` is True. Its
        parameters are reached as ``loss__margin`` and the like.

    size : int
        Number of samples that are remembered. It is also the largest number of items that a sample
        is compared with: the other samples of the batch come first, and the memory fills up the
        rest. Batches that are longer than `size` are compared as a whole.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the loss compares no samples, or it has a memory
        already.

    See Also
    --------
    RankingLoss : Its `list_size` is short for a memory of this size.

    Notes
    -----
    Remembered codes are constants: gradients flow to the sample and to the items of its own batch.
    They are also stale: the network made them up to ``size / batch_size`` steps ago. The smaller
    the learning rate, the less that matters. The memory may hold an earlier view of a sample. It
    stays, as one more item that shares all labels.

    What is remembered are the relaxed codes of the loss (:meth:`HashingLoss.relax`). Terms of a
    single sample, such as penalties on quantisation and balance, are still those of the batch.

    The memory is empty when a training starts. Only training mode writes to it.

    References
    ----------
    .. [1] X. Wang, H. Zhang, W. Huang, M. R. Scott, "Cross-batch memory for embedding learning",
       CVPR 2020.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.losses import MemoryLoss, TripletLikelihoodLoss
    >>> labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> loss = MemoryLoss(TripletLikelihoodLoss(), size=1000).start(16, labels)
    >>> projection = torch.ones(3, 16, requires_grad=True)
    >>> loss(projection, labels, 0.0).backward()
    >>> loss.n_remembered
    3
    """

    loss: HashingLoss
    size: int = field(kw_only=True)

    _parameter_constraints = {"loss": [HashingLoss], "size": [MEMORY_SIZE]}

    def _validate(self):
        super()._validate()
        if not self.loss.takes_memory:
            raise InvalidParameterError(
                "The 'loss' parameter of MemoryLoss must be a loss that compares samples and has "
                "no memory yet: RankingLoss, SampledRankingLoss, TieAwareNDCGLoss, "
                "TieAwareAveragePrecisionLoss, PairwiseLikelihoodLoss, HashNetLoss, SoftPairLoss, "
                "TripletLikelihoodLoss, or another one whose takes_memory is True. "
                f"Got {self.loss!r} instead."
            )

    @property
    def needs_shared_labels(self):
        """Whether the loss learns nothing where no two samples share a label."""
        return self.loss.needs_shared_labels

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        # The loss that is held may have changed since it was validated.
        self._validate()
        return StartedMemory(self.loss.start(n_bits, labels), self.size, n_bits, labels)

    def batch_loss(self, projection, labels, progress, **tensors):
        """Return the loss of one batch without a memory, see :meth:`HashingLoss.batch_loss`."""
        return self.loss.batch_loss(projection, labels, progress, **tensors)


class StartedMemory(StartedLoss):
    """A started loss with a memory of codes and labels of the last batches, the newest first.

    Parameters
    ----------
    started : StartedLoss
        The loss without memory. It is taken apart: its tensors are kept here.

    size : int
        Number of samples that are remembered.

    n_bits : int
        Length of the codes.

    labels : tensor of shape (n_samples, n_labels)
        Says the number of labels, and the device.
    """

    def __init__(self, started, size, n_bits, labels):
        super().__init__(
            started.loss,
            **started.kept(),
            memory_codes=torch.zeros(size, n_bits, device=labels.device),
            memory_labels=torch.zeros(size, labels.shape[1], device=labels.device),
        )
        # A number, not a tensor: that of a GPU would have to be waited for at each step.
        self.n_remembered = 0

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, and remember it in training mode."""
        n_missing = max(0, len(self.memory_codes) - (len(labels) - 1))
        n_remembered = min(self.n_remembered, n_missing)
        kept = self.kept()
        kept["memory_codes"] = self.memory_codes[:n_remembered]
        kept["memory_labels"] = self.memory_labels[:n_remembered]
        loss = self.loss.batch_loss(projection, labels, progress, **kept)
        if self.training:
            self._remember(self.loss.relax(projection.detach(), progress), labels)
        return loss

    def _remember(self, codes, labels):
        """Put a batch at the front of the memory; what is beyond its size is forgotten."""
        size = len(self.memory_codes)
        self.memory_codes = torch.cat([codes.to(self.memory_codes), self.memory_codes])[:size]
        self.memory_labels = torch.cat([labels.to(self.memory_labels), self.memory_labels])[:size]
        self.n_remembered = min(self.n_remembered + len(codes), size)

    def extra_repr(self):
        """Show the hyper-parameters, and the size of the memory."""
        return f"{self.loss!r}, size={len(self.memory_codes)}"

    def get_extra_state(self):
        """Return what belongs into a state dict beside the tensors."""
        return self.n_remembered

    def set_extra_state(self, state):
        """Take over what a state dict has beside the tensors."""
        self.n_remembered = state
