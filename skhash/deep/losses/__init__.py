"""Losses of deep hashing: functions of a batch, with no knowledge of networks or loops.

:func:`ranking_loss` and :func:`tie_aware_ndcg_loss` are functions of distances and relevance. The
classes are what `DeepRankingHasher` takes as its loss. Each has the hyper-parameters of one
paper's loss, and its value on a batch of projections and labels. :class:`HashingLoss` says what
such a class needs. :class:`MemoryLoss` adds remembered samples to any loss that compares
samples.
"""

from skhash.deep.losses._base import HashingLoss, StartedLoss
from skhash.deep.losses._centers import CentralSimilarityLoss, OrthoHashLoss
from skhash.deep.losses._composed import NestedLoss, SequentialLoss
from skhash.deep.losses._lists import (
    ranking_loss,
    tie_aware_average_precision_loss,
    tie_aware_ndcg_loss,
)
from skhash.deep.losses._listwise import (
    RankingLoss,
    SampledRankingLoss,
    TieAwareAveragePrecisionLoss,
    TieAwareNDCGLoss,
)
from skhash.deep.losses._memory import MemoryLoss
from skhash.deep.losses._pairwise import HashNetLoss, PairwiseLikelihoodLoss, SoftPairLoss
from skhash.deep.losses._proxies import HyP2Loss
from skhash.deep.losses._registry import (
    LOSSES,
    SAVED_LOSSES,
    check_learnable,
    choose_loss,
    get_loss,
    start_loss,
)
from skhash.deep.losses._triplet import TripletLikelihoodLoss

# Sorted as Python does, constants among classes.
__all__ = [  # noqa: RUF022
    "CentralSimilarityLoss",
    "HashNetLoss",
    "HashingLoss",
    "HyP2Loss",
    "LOSSES",
    "MemoryLoss",
    "NestedLoss",
    "OrthoHashLoss",
    "PairwiseLikelihoodLoss",
    "RankingLoss",
    "SAVED_LOSSES",
    "SampledRankingLoss",
    "SequentialLoss",
    "SoftPairLoss",
    "StartedLoss",
    "TieAwareAveragePrecisionLoss",
    "TieAwareNDCGLoss",
    "TripletLikelihoodLoss",
    "check_learnable",
    "choose_loss",
    "get_loss",
    "ranking_loss",
    "start_loss",
    "tie_aware_average_precision_loss",
    "tie_aware_ndcg_loss",
]
