"""Losses of centres: each label has a fixed code, which its samples approach."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from skhash._sklearn import StrOptions
from skhash.deep.losses._base import (
    NON_NEGATIVE,
    POSITIVE,
    HashingLoss,
    StartedLoss,
    cosines,
    masked_mean,
    others,
    pair_losses,
    quantization,
)
from skhash.deep.losses._lists import TABLE_ELEMENTS

__all__ = ["CentralSimilarityLoss", "OrthoHashLoss"]

# Sets of random centres that the best is taken from.
_CENTER_TRIES = 20

_CENTERS = StrOptions({"auto", "hadamard", "bernoulli"})


def _label_codes(n_labels, n_bits, kind):
    """Draw a code of -1 and 1 for each label, far from the others; shape (n_labels, n_bits)."""
    order = 2 ** math.ceil(math.log2(n_bits))
    if kind == "auto":
        kind = "hadamard" if n_labels <= 2 * order else "bernoulli"
    if kind == "hadamard":
        return _hadamard_codes(n_labels, n_bits, order)
    best, least = None, math.inf
    for _ in range(_CENTER_TRIES if n_labels**2 <= TABLE_ELEMENTS else 1):
        codes = _random_signs(n_labels, n_bits)
        largest = others(codes @ codes.T).amax() if n_labels > 1 else -math.inf
        if best is None or largest < least:
            best, least = codes, largest
    return best


def _hadamard_codes(n_labels, n_bits, order):
    """Draw rows of a Hadamard matrix; if they are too few, of its negative as well."""
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


@dataclass(kw_only=True)
class CentralSimilarityLoss(HashingLoss):
    r"""Central similarity quantisation (CSQ): a fixed code for each set of labels [1]_.

    .. math::

        \operatorname{mean} \operatorname{BCE}
        \Bigl( \frac{1 + h}{2}, \frac{1 + c}{2} \Bigr)
        + \text{quantization} \cdot \operatorname{mean} (|h| - 1)^2, \qquad h = \tanh t,

    where BCE is the binary cross entropy and :math:`c` the centre of a sample. A sample of one
    label has the centre of this label. One of several labels takes the majority of their centres
    in each bit; a random code decides where both values are equally frequent. Samples without a
    label have no centre and count only in the second term.

    Parameters
    ----------
    centers : {"auto", "hadamard", "bernoulli"}, default="auto"
        Centres of the labels. "hadamard": random rows of a Hadamard matrix, which differ from each
        other in half of the bits. "bernoulli": random bits. "auto" takes "hadamard" where rows
        suffice: for up to ``2 * order`` labels, where `order` is the least power of 2 that is not
        below `n_bits`.

    quantization : float, default=0.05
        Weight of the squared distance to the nearer of -1 and 1. The default is that of the
        authors' code.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are too many labels for "hadamard".

    Notes
    -----
    The authors take the first rows of the matrix; with few labels, many bits of these are equal.
    They have a Hadamard matrix only where `n_bits` is a power of 2. Here rows are random. For
    other numbers of bits, columns are drawn from the matrix of the next power of 2, `order`: any
    two centres then differ in at least ``n_bits - order / 2`` bits.

    "bernoulli" takes the best of 20 random draws, in which the nearest centres are farthest apart.
    The authors draw until a distance is reached. Their code, unlike the paper, adds a pairwise
    likelihood with weight 0.2; this loss does not.

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

    _parameter_constraints = {"centers": [_CENTERS], "quantization": [NON_NEGATIVE]}

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
        losses = pair_losses(2 * projection, targets).mean(1)
        loss = masked_mean(losses, labels.any(1))
        return loss + self.quantization * quantization(torch.tanh(projection))


@dataclass(kw_only=True)
class OrthoHashLoss(HashingLoss):
    r"""Cosine to fixed binary orthogonal codes of the labels (OrthoHash) [1]_.

    .. math::

        -\operatorname{mean}_i \sum_l \frac{y_{il}}{|y_i|}
        \log \frac{e^{z_{il}}}{\sum_k e^{z_{ik}}}, \qquad
        z_{il} = \text{scale} \cdot \bigl( \cos(t_i, o_l) - \text{margin} \cdot y_{il} \bigr),

    where :math:`o_l` is the code of label :math:`l` and :math:`y_{il}` is 1 if sample :math:`i`
    has the label, else 0. The mean is over samples that have a label. The cosine to a code of -1
    and 1 is largest where the signs are right and the entries are of equal size, so that little is
    lost by taking signs.

    Parameters
    ----------
    margin : float, default=0.2
        How much larger the cosine to a label of the sample should be than to others, at least 0.

    scale : float, default=8.0
        Factor of the cosines, above 0.

    targets : {"auto", "hadamard", "bernoulli"}, default="auto"
        Codes of the labels, drawn as the centres of :class:`CentralSimilarityLoss`. The authors
        take "bernoulli" by default, and a single draw.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are too many labels for "hadamard".

    Notes
    -----
    Defaults of `margin` and `scale` are those of the authors' code. The authors also put batch
    normalisation behind the hash layer, so that bits are balanced. That is a part of the network,
    not of this loss.

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
        "margin": [NON_NEGATIVE],
        "scale": [POSITIVE],
        "targets": [_CENTERS],
    }

    def start(self, n_bits, labels):
        """Return the loss of one training, see :meth:`HashingLoss.start`."""
        targets = _label_codes(labels.shape[1], n_bits, self.targets)
        return StartedLoss(self, targets=targets.to(labels.device))

    def batch_loss(self, projection, labels, progress, *, targets):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        del progress
        similarities = cosines(projection, targets.to(projection))
        log_shares = functional.log_softmax(
            self.scale * (similarities - self.margin * labels), dim=1
        )
        weights = labels / labels.sum(1, keepdim=True).clamp(min=1)
        return masked_mean(-(weights * log_shares).sum(1), labels.any(1))
