"""Losses of pairs: samples that share a label against samples that share none."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from skhash._sklearn import StrOptions
from skhash.deep.losses._base import (
    NON_NEGATIVE,
    POSITIVE,
    HashingLoss,
    masked_mean,
    of_items,
    pair_losses,
    products,
    quantization,
)

__all__ = ["HashNetLoss", "PairwiseLikelihoodLoss", "SoftPairLoss"]


@dataclass(kw_only=True)
class PairwiseLikelihoodLoss(HashingLoss):
    r"""Pairwise likelihood of DPSH, with a penalty on quantisation [1]_.

    .. math::

        \operatorname{mean}_{i \ne j} \bigl[ \log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij} \bigr]
        + \text{quantization} \cdot \operatorname{mean} (|t| - 1)^2,
        \qquad \theta_{ij} = t_i \cdot t_j / 2,

    where :math:`s_{ij}` is 1 if two samples of the batch share a label, else 0. The relaxed code
    is the projection :math:`t` itself.

    Parameters
    ----------
    quantization : float, default=0.1
        Weight of the squared distance to the nearer of -1 and 1, the mean over all entries. The
        authors' weight :math:`\eta`, 10 to 100, multiplies a sum over entries, and stands beside a
        sum over pairs of the whole training set. With thousands of samples that amounts to 0.02 to
        0.5 here.

    Raises
    ------
    ValueError
        If `quantization` is negative or not finite.

    Notes
    -----
    The authors pair each sample of a batch with the last output for every sample of the training
    set. Here pairs are those of the batch, unless :class:`MemoryLoss` adds remembered samples:
    ``MemoryLoss(PairwiseLikelihoodLoss(), size=len(X))`` comes near to what the authors do.

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
    takes_memory = True
    _parameter_constraints = {"quantization": [NON_NEGATIVE]}

    def relax(self, projection, progress):
        """Return the projection, see :meth:`HashingLoss.relax`."""
        del progress
        return projection

    def batch_loss(self, projection, labels, progress, *, memory_codes=None, memory_labels=None):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        logits = products(projection, memory_codes) / 2
        similar = products(labels, memory_labels) > 0
        loss = pair_losses(logits, similar).sum() / max(1, logits.numel())
        return loss + self.quantization * quantization(projection)


@dataclass(kw_only=True)
class HashNetLoss(HashingLoss):
    r"""Weighted pairwise likelihood of HashNet, with continuation [1]_.

    .. math::

        \operatorname{mean}_{i \ne j} w_{ij}
        \bigl[ \log(1 + e^{\theta_{ij}}) - s_{ij} \theta_{ij} \bigr],
        \qquad \theta_{ij} = \alpha \, h_i \cdot h_j, \qquad h = \tanh(\beta t),

    where :math:`s_{ij}` is 1 if two samples of the batch share a label, else 0. A similar pair
    weighs :math:`w = J |S| / |S_1|`, where :math:`J` is the number of shared labels divided by
    the number of labels that either has, and a dissimilar one :math:`|S| / |S_0|`. Of the
    :math:`|S|` pairs, :math:`|S_1|` are similar and :math:`|S_0|` dissimilar, so both kinds count
    equally. In training :math:`\beta = \sqrt{1 + \text{growth} \cdot \text{progress}}` rises,
    and the relaxed codes approach signs.

    Parameters
    ----------
    alpha : float or "auto", default="auto"
        Slope of the likelihood as a function of the inner product, above 0. "auto" is
        ``10 / n_bits``, as in the authors' code.

    growth : float, default=50.0
        How far the slope of the relaxation rises: to ``sqrt(1 + growth)``, which is about 7 by
        default. The authors add 0.005 to the radicand in each of 10,000 steps, 50 in all.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    Weights are those of the paper. The authors' code has one constant for each data set in place
    of :math:`|S| / |S_1|`, and no :math:`J`. Similar and dissimilar pairs are counted anew in each
    batch.

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
    takes_memory = True
    _parameter_constraints = {
        "alpha": [POSITIVE, StrOptions({"auto"})],
        "growth": [NON_NEGATIVE],
    }

    def relax(self, projection, progress):
        """Return relaxed codes that approach signs, see :meth:`HashingLoss.relax`."""
        return torch.tanh(math.sqrt(1 + self.growth * progress) * projection)

    def batch_loss(self, projection, labels, progress, *, memory_codes=None, memory_labels=None):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        codes = self.relax(projection, progress)
        shared = products(labels, memory_labels)
        alpha = 10 / projection.shape[1] if self.alpha == "auto" else self.alpha
        similar = shared > 0
        losses = pair_losses(alpha * products(codes, memory_codes), similar)
        own, items = _sizes(labels, memory_labels)
        jaccard = shared / (own + items - shared).clamp(min=1)
        return masked_mean(jaccard * losses, similar) + masked_mean(losses, ~similar)


@dataclass(kw_only=True)
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
        Logit of a hard pair whose codes are equal, the largest one; above 0.

    soft_weight : float, default=0.1
        Weight of the pairs that are partly similar, the authors' :math:`\gamma`.

    quantization : float, default=0.1
        Weight of the distance of the entries to the nearer of -1 and 1, the authors'
        :math:`\alpha`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    Defaults, and the factor `n_bits` of soft pairs, are those of the authors' code. Their code
    also counts each sample with itself as a pair; this loss does not.

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
    takes_memory = True
    _parameter_constraints = {
        "scale": [POSITIVE],
        "soft_weight": [NON_NEGATIVE],
        "quantization": [NON_NEGATIVE],
    }

    def relax(self, projection, progress):
        """Return the soft signs, see :meth:`HashingLoss.relax`."""
        del progress
        return functional.softsign(projection)

    def batch_loss(self, projection, labels, progress, *, memory_codes=None, memory_labels=None):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        n_bits, codes = projection.shape[1], self.relax(projection, progress)
        shared = products(labels, memory_labels)
        cosines = products(codes, memory_codes) / n_bits
        own, items = _sizes(labels, memory_labels)
        product_of_sizes = own * items
        # By Cauchy and Schwarz the sets are equal: no root that might be rounded is compared.
        same = (shared > 0) & (shared.square() == product_of_sizes)
        hard = pair_losses(self.scale * cosines, same)
        target = shared / product_of_sizes.clamp(min=1).sqrt()
        soft = self.soft_weight * n_bits * ((cosines + 1) / 2 - target).square()
        losses = torch.where(same | (shared == 0), hard, soft)
        loss = losses.sum() / max(1, losses.numel())
        return loss + self.quantization * (codes.abs() - 1).abs().mean()


def _sizes(labels, memory_labels):
    """Return numbers of labels: those of each sample as a column, and those of its items."""
    sizes = labels.sum(1)
    of_memory = None if memory_labels is None else memory_labels.sum(1)
    return sizes[:, None], of_items(sizes, of_memory)
