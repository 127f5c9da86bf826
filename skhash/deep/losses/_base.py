"""What losses have in common: parameters, how a training starts, and small functions."""

import copy
import math
from numbers import Real

import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn import functional

from skhash._sklearn import Interval, validate_parameter_constraints

# Sorted as Python does, constants among classes.
__all__ = [  # noqa: RUF022
    "HashingLoss",
    "NON_NEGATIVE",
    "POSITIVE",
    "StartedLoss",
    "cosines",
    "imbalance",
    "masked_mean",
    "of_items",
    "others",
    "pair_losses",
    "products",
    "quantization",
    "signs",
]

POSITIVE = Interval(Real, 0, math.inf, closed="neither")
NON_NEGATIVE = Interval(Real, 0, math.inf, closed="left")


class HashingLoss(BaseEstimator):
    """Base class of losses: hyper-parameters, from which each training is started.

    A subclass is a dataclass of hyper-parameters. It therefore has a readable `repr`, can be
    compared, pickled and copied, and one object serves any number of trainings. It defines
    `batch_loss`. If it needs tensors of its own in a training, such as learnt proxies, it also
    defines `start`.

    `DeepRankingHasher` calls nothing but `start`, so any object with this method is a loss. See
    the user guide for an example.

    Attributes
    ----------
    needs_shared_labels : bool
        Whether the loss compares samples, and learns nothing where no two samples share a label.
        False unless the subclass says otherwise.

    takes_memory : bool
        Whether `batch_loss` takes the codes and labels of remembered samples as `memory_codes`
        and `memory_labels`, so that :class:`MemoryLoss` can hold the loss. False unless the
        subclass says otherwise.
    """

    # As in scikit-learn's estimators; what is not listed is not validated.
    _parameter_constraints = {}

    # Without annotations, since annotated names are the hyper-parameters of a dataclass.
    needs_shared_labels = False
    takes_memory = False

    def __post_init__(self):
        self._validate()

    def _validate(self):
        """Raise if a parameter is out of its range."""
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )

    def set_params(self, **params):
        """Set and validate parameters; trainings that have started keep theirs.

        Parameters
        ----------
        **params : dict
            Values by name. ``loss__margin`` is the parameter `margin` of the parameter `loss`.

        Returns
        -------
        self : HashingLoss
            The loss.

        Raises
        ------
        ValueError
            If there is no parameter of a name, or a value is out of its range. The loss is then
            unchanged.
        """
        # A copy goes first: if it raises, the loss and what it holds are left as they were.
        BaseEstimator.set_params(copy.deepcopy(self), **params)._validate()
        return super().set_params(**params)

    def start(self, n_bits, labels):
        """Return the loss of one training.

        Parameters
        ----------
        n_bits : int
            Length of the codes.

        labels : tensor of shape (n_samples, n_labels), floating
            Label indicator matrix of the training set, 0 and 1. It says how many labels there
            are and how frequent they are. The started loss should not keep it.

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

    def relax(self, projection, progress):
        """Return relaxed codes, which a memory keeps: ``2 * sigmoid(projection) - 1``.

        Parameters
        ----------
        projection : tensor of shape (n, n_bits), floating
            Output of the hash layer.

        progress : float
            Fraction of the training that is done, between 0 and 1.

        Returns
        -------
        codes : tensor of shape (n, n_bits)
            A differentiable stand-in for the signs.
        """
        del progress
        return torch.tanh(projection / 2)


class StartedLoss(nn.Module):
    """A loss in one training: a copy of its hyper-parameters, and the tensors that it keeps.

    Parameters
    ----------
    loss : HashingLoss
        Called as ``loss.batch_loss(projection, labels, progress, **tensors)``. It is copied, so
        that parameters which are set later do not change this training.

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
        self.loss = copy.copy(loss)
        self._kept = tuple(tensors)
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def kept(self):
        """Return the tensors that the loss keeps, by name."""
        return {name: getattr(self, name) for name in self._kept}

    def forward(self, projection, labels, progress):
        """Return the loss of one batch, see :meth:`HashingLoss.batch_loss`."""
        return self.loss.batch_loss(projection, labels, progress, **self.kept())

    def extra_repr(self):
        """Show the hyper-parameters."""
        return repr(self.loss)


def others(matrix):
    """Drop the diagonal of a square matrix: what each sample has with the other samples."""
    n = len(matrix)
    # Without its first entry the flattened matrix ends each run of n + 1 on a diagonal entry.
    return matrix.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def products(rows, memory=None, *, items=None):
    """Inner products of each row with the other items and, behind them, with a memory.

    The items are the rows themselves, or another form of each.
    """
    own = others(rows @ (rows if items is None else items).T)
    if memory is None or not len(memory):
        return own
    return torch.cat([own, rows @ memory.to(rows).T], dim=1)


def of_items(values, of_memory=None):
    """Lay out one value of each sample, and of each item, like :func:`products`."""
    n = len(values)
    own = others(values.expand(n, n))
    if of_memory is None:
        return own
    return torch.cat([own, of_memory.to(values).expand(n, -1)], dim=1)


def masked_mean(values, counted):
    """Mean of the `values` where `counted`; 0 if none is."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def imbalance(codes):
    """Half the squared norm of the mean code: 0 if each bit is as often 1 as 0."""
    return codes.mean(dim=0).square().sum() / 2


def signs(codes):
    """Signs of the codes, 1 for 0, whose gradient goes straight through to the codes."""
    hard = torch.where(codes >= 0, 1.0, -1.0).to(codes.dtype)
    return codes + (hard - codes).detach()


def quantization(codes):
    """Mean squared distance of the entries to the nearer of -1 and 1."""
    return (codes.abs() - 1).square().mean()


def pair_losses(logits, similar):
    """Negative log-likelihood of each pair, similar with probability ``sigmoid(logits)``."""
    similar = similar.to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, similar, reduction="none")


def cosines(a, b):
    """Cosines between the rows of `a` and those of `b`."""
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T
