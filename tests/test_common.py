from sklearn.utils.estimator_checks import parametrize_with_checks

from skhash import CCAITQHasher, DeepRankingHasher, ITQHasher, LSHHasher

HASHERS = [
    LSHHasher(n_bits=4),
    ITQHasher(n_bits=2),
    CCAITQHasher(n_bits=1),
    DeepRankingHasher(n_bits=4, hidden_size=8, max_epochs=2, batch_size=16, device="cpu"),
]


@parametrize_with_checks(HASHERS)
def test_estimator(estimator, check):
    check(estimator)
