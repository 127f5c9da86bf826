"""Losses by name."""

from skhash.deep.losses._centers import CentralSimilarityLoss, OrthoHashLoss
from skhash.deep.losses._listwise import RankingLoss, SampledRankingLoss, TieAwareNDCGLoss
from skhash.deep.losses._memory import MemoryLoss
from skhash.deep.losses._pairwise import HashNetLoss, PairwiseLikelihoodLoss, SoftPairLoss
from skhash.deep.losses._proxies import HyP2Loss
from skhash.deep.losses._triplet import TripletLikelihoodLoss

__all__ = ["LOSSES", "SAVED_LOSSES", "get_loss"]

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

SAVED_LOSSES = (*LOSSES.values(), MemoryLoss)
"""Classes of losses that the file of a hasher can hold."""


def get_loss(loss):
    """Return a loss by its name, or the loss itself.

    Parameters
    ----------
    loss : str or object with a method `start`
        A name of :data:`LOSSES`, which stands for the loss with its defaults; or a
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
