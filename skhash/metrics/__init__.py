"""How good a ranking by Hamming distance is, exactly averaged over ties."""

from skhash.metrics._ranking import (
    acg_score,
    average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
    weighted_average_precision_score,
)
from skhash.metrics._scorer import make_retrieval_scorer

__all__ = [
    "acg_score",
    "average_precision_score",
    "make_retrieval_scorer",
    "ndcg_score",
    "precision_score",
    "recall_score",
    "weighted_average_precision_score",
]
