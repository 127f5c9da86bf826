"""Displays: what a ranking is worth, what codes are like, and what is found, as pictures."""

from skhash.metrics._plot._code_diagnostics import CodeDiagnosticsDisplay
from skhash.metrics._plot._precision_recall import PrecisionRecallDisplay
from skhash.metrics._plot._ranking_curve import RankingCurveDisplay
from skhash.metrics._plot._retrieval import RetrievalDisplay

__all__ = [
    "CodeDiagnosticsDisplay",
    "PrecisionRecallDisplay",
    "RankingCurveDisplay",
    "RetrievalDisplay",
]
