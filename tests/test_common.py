import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash.neighbors import HammingNeighbors, HammingNeighborsTransformer
from skhash.utils import check_hasher


class ThresholdedNeighbors(HammingNeighbors):
    """The checks feed floats, which HammingNeighbors refuses: they are no codes."""

    def fit(self, X, Y=None):
        return super().fit(validate_data(self, X) > 0, Y)


class ThresholdedTransformer(HammingNeighborsTransformer):
    """The same of the transformer."""

    def fit(self, X, y=None):
        return super().fit(validate_data(self, X) > 0, y)

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(validate_data(self, X, reset=False) > 0)


NEIGHBORS = [
    ThresholdedNeighbors(n_neighbors=2),
    ThresholdedTransformer(n_neighbors=2),
    ThresholdedTransformer(radius=1, mode="connectivity"),
]
HASHERS = [
    LSHHasher(n_bits=4),
    ITQHasher(n_bits=1),
    CCAITQHasher(n_bits=1),
    HDMLHasher(n_bits=2, max_epochs=3),
    MLHHasher(n_bits=2, max_epochs=3),
    BREHasher(n_bits=2, n_anchors=5, max_iter=3),
    KSHHasher(n_bits=2, n_anchors=5),
    SDHHasher(n_bits=2, n_anchors=5),
    SpectralHasher(n_bits=2),
    DeepRankingHasher(n_bits=4, hidden_size=8, max_epochs=2, batch_size=16, device="cpu"),
]


@parametrize_with_checks([*HASHERS, *NEIGHBORS])
def test_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("hasher", HASHERS, ids=lambda hasher: type(hasher).__name__)
def test_hasher(hasher):
    check_hasher(hasher)
