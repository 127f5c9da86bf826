"""The loss of proxies: each label has a learnt vector, which its samples approach."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import nn
from torch.nn import functional

from skhash._sklearn import Interval, StrOptions
from skhash.deep.losses._base import (
    NON_NEGATIVE,
    HashingLoss,
    StartedLoss,
    cosines,
    masked_mean,
)

__all__ = ["HyP2Loss"]


@dataclass(kw_only=True)
class HyP2Loss(HashingLoss):
    r"""Learnt proxies of the labels, and irrelevant pairs kept apart (HyP\ :sup:`2`) [1]_.

    .. math::

        \operatorname{mean}_{y_{il} = 1} \bigl( 1 - \cos(t_i, p_l) \bigr)
        + \operatorname{mean}_{y_{il} = 0} \max(0, \cos(t_i, p_l) - \zeta)
        + \beta \operatorname{mean}_{i, j} \max(0, \cos(t_i, t_j) - \zeta),

    where :math:`p_l` is the proxy of label :math:`l`, trained along with the network, and
    :math:`y_{il}` is 1 if sample :math:`i` has the label, else 0. The last mean is over those
    pairs of the batch that share no label and of which both have several labels: such samples lie
    between many proxies, which alone cannot keep them apart. A mean over nothing is 0.

    Parameters
    ----------
    beta : float, default=0.5
        Weight of the pairs, at least 0.

    threshold : float or "auto", default="auto"
        The cosine :math:`\zeta`, from -1 to 1, above which an irrelevant sample or proxy is too
        near. "auto" is ``1 - 2 * d / n_bits``, where `d` is the largest distance that can be kept
        between the codes of all labels, see the notes.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The authors look `d` up in a table of the best known linear codes of ``2 ** k`` words,
    ``k = ceil(log2(n_labels))``. Here it is the Griesmer bound, the largest `d` with
    ``sum(ceil(d / 2**i) for i in range(k)) <= n_bits``. No linear code has a larger distance, and
    for few labels the best codes mostly have this one or one less. Where `n_bits` is too small to
    tell the labels apart, :math:`\zeta` is 1.

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
        "beta": [NON_NEGATIVE],
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
        similarities = cosines(projection, proxies)
        loss = masked_mean(1 - similarities, labels > 0)
        loss = loss + masked_mean(functional.relu(similarities - threshold), labels == 0)
        several = labels.sum(1) > 1
        apart = (labels @ labels.T == 0) & several & several[:, None]
        too_near = functional.relu(cosines(projection, projection) - threshold)
        return loss + self.beta * masked_mean(too_near, apart)


def _griesmer_distance(n_labels, n_bits):
    """Bound on the smallest distance within a linear code of at least `n_labels` words."""
    k = math.ceil(math.log2(n_labels))
    distance = n_bits
    while sum(-(-distance // 2**i) for i in range(k)) > n_bits:
        distance -= 1
    return distance
