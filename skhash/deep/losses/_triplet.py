"""The loss of triplets: a query, a more and a less relevant item."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from skhash._sklearn import StrOptions
from skhash.deep.losses._base import (
    NON_NEGATIVE,
    HashingLoss,
    masked_mean,
    products,
    quantization,
)
from skhash.deep.losses._lists import TABLE_ELEMENTS

__all__ = ["TripletLikelihoodLoss"]


@dataclass(kw_only=True)
class TripletLikelihoodLoss(HashingLoss):
    r"""Triplet likelihood of DTSH, for label sets [1]_.

    .. math::

        \operatorname{mean}_q \operatorname{mean}_{p, n:\, r_{qp} > r_{qn}}
        \log \bigl( 1 + e^{-(\theta_{qp} - \theta_{qn} - \text{margin})} \bigr)
        + \text{quantization} \cdot \operatorname{mean} (|t| - 1)^2,
        \qquad \theta_{ij} = t_i \cdot t_j / 2,

    where :math:`r` is the number of shared labels and the relaxed code is the projection
    :math:`t` itself. Every sample of the batch is a query, and all its triplets count. The mean
    over queries is over those that have a triplet.

    Parameters
    ----------
    margin : float or "auto", default="auto"
        How much larger :math:`\theta` should be for a more relevant item, at least 0. "auto" is
        ``n_bits / 2``, as in the authors' code.

    quantization : float, default=0.1
        Weight of the squared distance to the nearer of -1 and 1, the mean over all entries.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors have single labels: a triplet is a query, an item of its label and one of another.
    They draw some triplets from the last outputs for the whole training set. Their quantisation
    term has a gradient of 400 times the difference, beside a sum over 22,500 triplets an image.
    That amounts to a weight of about 0.2 here at 48 bits.

    A batch of n samples has up to n\ :sup:`3` triplets, and n m\ :sup:`2` if :class:`MemoryLoss`
    compares each sample with m items. Value and gradient are computed together, for as many
    queries at a time as keep tables within 2\ :sup:`23` entries (one query at least). Working
    memory does not grow beyond that.

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
    takes_memory = True
    _parameter_constraints = {
        "margin": [NON_NEGATIVE, StrOptions({"auto"})],
        "quantization": [NON_NEGATIVE],
    }

    def relax(self, projection, progress):
        """Return the projection, see :meth:`HashingLoss.relax`."""
        del progress
        return projection

    def batch_loss(self, projection, labels, progress, *, memory_codes=None, memory_labels=None):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        margin = projection.shape[1] / 2 if self.margin == "auto" else self.margin
        similarities = products(projection, memory_codes) / 2
        shared = products(labels, memory_labels)
        losses, has_triplet = _TripletLikelihood.apply(similarities, shared, float(margin))
        return masked_mean(losses, has_triplet) + self.quantization * quantization(projection)


class _TripletLikelihood(torch.autograd.Function):
    """Mean of ``softplus(margin + s_n - s_p)`` over triplets of rows, and if a row has any."""

    @staticmethod
    def forward(ctx, similarities, relevance, margin):
        """Compute the value of each row, and the gradient, which costs little more."""
        n_rows = max(1, TABLE_ELEMENTS // max(1, similarities.shape[1] ** 2))
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
