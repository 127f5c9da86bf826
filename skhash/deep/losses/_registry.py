"""Losses by name, and the start of one by a training."""

import numpy as np
import torch

from skhash.deep.losses._centers import CentralSimilarityLoss, OrthoHashLoss
from skhash.deep.losses._composed import NestedLoss, SequentialLoss, StartedHeads
from skhash.deep.losses._listwise import (
    RankingLoss,
    SampledRankingLoss,
    TieAwareAveragePrecisionLoss,
    TieAwareNDCGLoss,
)
from skhash.deep.losses._memory import MemoryLoss
from skhash.deep.losses._pairwise import HashNetLoss, PairwiseLikelihoodLoss, SoftPairLoss
from skhash.deep.losses._proxies import HyP2Loss
from skhash.deep.losses._triplet import TripletLikelihoodLoss

__all__ = ["LOSSES", "SAVED_LOSSES", "check_learnable", "choose_loss", "get_loss", "start_loss"]

LOSSES = {
    "ranking": RankingLoss,
    "dsrh": SampledRankingLoss,
    "tie_aware_ndcg": TieAwareNDCGLoss,
    "tie_aware_average_precision": TieAwareAveragePrecisionLoss,
    "dpsh": PairwiseLikelihoodLoss,
    "hashnet": HashNetLoss,
    "idhn": SoftPairLoss,
    "dtsh": TripletLikelihoodLoss,
    "csq": CentralSimilarityLoss,
    "orthohash": OrthoHashLoss,
    "hyp2": HyP2Loss,
}
"""Classes of losses by the name that `DeepRankingHasher` takes."""

SAVED_LOSSES = (*LOSSES.values(), MemoryLoss, NestedLoss, SequentialLoss)
"""Classes of losses that the file of a hasher can hold."""


def get_loss(loss):
    """Return a loss by its name, or the loss itself.

    Parameters
    ----------
    loss : str or object with a method `start`
        A name of `LOSSES`, which stands for the loss with its defaults; or a
        :class:`HashingLoss`, or any other object that has a method `start` like it.

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


def choose_loss(loss, has_features, several_labels):
    """Return `loss`, "auto" replaced by the choice for labels and what the network starts from.

    Parameters
    ----------
    loss : str or object with a method `start`
        As :func:`get_loss` takes it, or "auto".

    has_features : bool
        Whether the head reads features that mean something from the start.

    several_labels : bool
        Whether samples have several labels, and not each one class.

    Returns
    -------
    loss : str or object with a method `start`
        For "auto", :class:`TieAwareNDCGLoss` on such features, and :class:`CentralSimilarityLoss`
        where each sample has one class. From random weights the first learns too slowly, and
        :class:`RankingLoss` goes before it.
    """
    if loss != "auto":
        return loss
    if not has_features:
        return SequentialLoss(RankingLoss(), TieAwareNDCGLoss())
    return TieAwareNDCGLoss() if several_labels else CentralSimilarityLoss()


def check_learnable(loss, labels):
    """Raise if label sets say nothing that a loss can learn from.

    Parameters
    ----------
    loss : str or object with a method `start`
        As :func:`get_loss` takes it.

    labels : ndarray of shape (n_samples, n_labels), dtype uint8
        Label indicators of the samples that are learnt from.

    Raises
    ------
    ValueError
        If no sample has a label, or all have the same; or no two samples share one, and the loss
        compares samples.
    """
    most = labels.sum(axis=0, dtype=np.int64).max()
    if most < 1:
        raise ValueError(
            "No training sample has a label, so there is nothing to learn; got y of shape "
            f"{labels.shape} without a 1."
        )
    if not np.ptp(labels, axis=0).any():
        raise ValueError(
            f"y should vary over the training samples, got {len(labels)} equal rows: no loss "
            "learns from samples of one class, or of the same labels."
        )
    if most < 2 and getattr(get_loss(loss), "needs_shared_labels", False):
        raise ValueError(
            "No pair of the training samples shares a label, so there is nothing to rank for "
            f"loss={loss!r}; got y of shape {labels.shape} in which each label holds for at "
            "most one sample."
        )


def start_loss(loss, n_bits, labels, device, n_heads=1):
    """Start a loss for one training.

    Parameters
    ----------
    loss : str or object with a method `start`
        As :func:`get_loss` takes it.

    n_bits : int
        Length of the codes.

    labels : ndarray of shape (n_samples, n_labels), dtype uint8
        Label indicators of the samples that are learnt from.

    device : torch.device
        Where the network is.

    n_heads : int, default=1
        Number of heads of the network. Each is trained by the loss on its own.

    Returns
    -------
    started : torch.nn.Module
        In training mode, on the device.

    Raises
    ------
    TypeError
        If what `start` returns is no module.

    ValueError
        If it is the module of an earlier training, and has tensors.
    """
    labels = torch.tensor(labels, dtype=torch.float32)
    parts = [_start(loss, n_bits, labels) for _ in range(n_heads)]
    started = parts[0] if n_heads == 1 else StartedHeads(parts)
    return started.to(device).train()


def _start(loss, n_bits, labels):
    """Return the loss of one training of one head, or raise."""
    started = get_loss(loss).start(n_bits, labels)
    if not isinstance(started, torch.nn.Module):
        raise TypeError(
            f"The method start of loss={loss!r} should return a torch.nn.Module, got "
            f"{type(started).__name__}."
        )
    # What has no tensors, such as a loss that starts as itself, may serve any number of trainings.
    if started.state_dict():
        if getattr(started, "_has_started", False):
            raise ValueError(
                f"The method start of loss={loss!r} should return a new module for each training, "
                "got one with tensors that an earlier training has changed."
            )
        started._has_started = True
    return started
