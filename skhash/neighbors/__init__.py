"""Exact search in Hamming space, and its graphs for scikit-learn."""

from skhash.neighbors._hamming import HammingNeighbors
from skhash.neighbors._transformer import HammingNeighborsTransformer

__all__ = ["HammingNeighbors", "HammingNeighborsTransformer"]
