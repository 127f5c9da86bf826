"""How good a ranking by Hamming distance is, exactly averaged over ties."""

from skhash.metrics._histogram import HammingHistogram
from skhash.metrics._intervals import (
    PairedDifference,
    bootstrap_interval,
    paired_difference,
)
from skhash.metrics._plot import (
    CodeDiagnosticsDisplay,
    PrecisionRecallDisplay,
    RankingCurveDisplay,
    RetrievalDisplay,
)
from skhash.metrics._ranking import (
    acg_score,
    average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
    reciprocal_rank_score,
    weighted_average_precision_score,
)
from skhash.metrics._scorer import (
    get_scorer,
    get_scorer_names,
    get_scorers,
    make_retrieval_scorer,
)
from skhash.metrics._shards import evaluate_shards

__all__ = [
    "CodeDiagnosticsDisplay",
    "HammingHistogram",
    "PairedDifference",
    "PrecisionRecallDisplay",
    "RankingCurveDisplay",
    "RetrievalDisplay",
    "acg_score",
    "average_precision_score",
    "bootstrap_interval",
    "evaluate_shards",
    "get_scorer",
    "get_scorer_names",
    "get_scorers",
    "make_retrieval_scorer",
    "ndcg_score",
    "paired_difference",
    "precision_score",
    "recall_score",
    "reciprocal_rank_score",
    "weighted_average_precision_score",
]
