"""Asymmetric search and ranking: the bits of a query have weights, the database is binary."""

from functools import partial

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import DeepRankingHasher, ITQHasher, LSHHasher, metrics
from skhash.codes import pack_codes, weighted_hamming_distances
from skhash.metrics import average_precision_score, make_retrieval_scorer, ndcg_score


def make_codes(n_queries=7, n_database=60, n_bits=13, n_labels=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, (n_queries, n_bits)), rng.integers(0, 2, (n_database, n_bits))
    labels = (rng.random((n, n_labels)) < 0.4 for n in (n_queries, n_database))
    # Few distinct weights, so that distances are tied.
    weights = rng.integers(0, 3, (n_queries, n_bits)) / 2
    query_labels, database_labels = (Y.astype(np.uint8) for Y in labels)
    return codes[0], query_labels, codes[1], database_labels, weights


def make_rows(n=120, seed=0):
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, 4)) < 0.4).astype(np.uint8)
    return Y @ rng.normal(size=(4, 10)) + 0.5 * rng.normal(size=(n, 10)), Y


# Distances.


def test_weighted_distances_equal_a_loop():
    codes, _, database, _, weights = make_codes()
    distances = weighted_hamming_distances(pack_codes(codes), pack_codes(database), weights)
    for i, j in np.ndindex(distances.shape):
        assert distances[i, j] == weights[i][codes[i] != database[j]].sum()


@pytest.mark.parametrize("n_bits", [1, 8, 64, 300])
def test_weights_are_rounded_a_little(n_bits):
    rng = np.random.default_rng(1)
    codes, database = rng.integers(0, 2, (4, n_bits)), rng.integers(0, 2, (9, n_bits))
    weights = np.abs(rng.normal(size=(4, n_bits)))
    distances = weighted_hamming_distances(pack_codes(codes), pack_codes(database), weights)
    expected = (weights[:, None] * (codes[:, None] != database)).sum(axis=2)
    assert_allclose(distances, expected, atol=n_bits * weights.max() * 2.0**-14)


def test_equal_codes_have_equal_distances():
    rng = np.random.default_rng(2)
    codes, weights = rng.integers(0, 2, (5, 48)), rng.random((5, 48))
    database = np.repeat(rng.integers(0, 2, (1, 48)), 20_000, axis=0)
    distances = weighted_hamming_distances(pack_codes(codes), pack_codes(database), weights)
    assert (distances == distances[:, :1]).all()


def test_weights_of_zero_and_one():
    codes, _, database, _, weights = make_codes()
    packed = pack_codes(codes), pack_codes(database)
    assert not weighted_hamming_distances(*packed, np.zeros_like(weights)).any()
    hamming = (codes[:, None] != database).sum(axis=2)
    assert_array_equal(weighted_hamming_distances(*packed, np.ones_like(weights)), hamming)


def test_error_on_weights():
    codes, _, database, _, weights = make_codes()
    packed = pack_codes(codes), pack_codes(database)
    with pytest.raises(ValueError, match=r"weights should be at least 0, got -1"):
        weighted_hamming_distances(*packed, weights - 1)
    with pytest.raises(ValueError, match=r"7 codes of 2 bytes, got shape \(7, 8\)"):
        weighted_hamming_distances(*packed, weights[:, :8])
    with pytest.raises(ValueError, match=r"7 codes of 2 bytes, got shape \(6, 13\)"):
        weighted_hamming_distances(*packed, weights[1:])
    with pytest.raises(ValueError, match="NaN"):
        weighted_hamming_distances(*packed, np.full_like(weights, np.nan))


# Metrics.


def distances_of(codes, database, weights):
    return (weights[:, None] * (codes[:, None] != database)).sum(axis=2)


def expected_over_orders(value, distances, relevance, n_draws=4000):
    """The mean of a metric over random orders of the items at equal distance, one query."""
    rng = np.random.default_rng(0)
    orders = (np.lexsort((rng.random(len(distances)), distances)) for _ in range(n_draws))
    return np.mean([value(relevance[order]) for order in orders])


@pytest.mark.parametrize("k", [1, 5, 12])
def test_precision_is_the_mean_over_the_orders_of_ties(k):
    codes, query_labels, database, labels, weights = make_codes(3, 12)
    score = metrics.precision_score(
        codes, query_labels, database, labels, k=k, query_weights=weights
    )
    distances, relevance = distances_of(codes, database, weights), query_labels @ labels.T
    expected = [
        expected_over_orders(lambda r: (r[:k] > 0).mean(), *query)
        for query in zip(distances, relevance, strict=True)
    ]
    assert score == pytest.approx(np.mean(expected), abs=0.02)


@pytest.mark.parametrize("name", metrics.get_scorer_names())
@pytest.mark.parametrize("k", [None, 1, 10, 59, 60, 100])
@pytest.mark.parametrize("ties", ["mean", "best", "worst"])
def test_weights_of_one_are_hamming_distances(name, k, ties):
    *problem, weights = make_codes()
    score = getattr(metrics, f"{name}_score")
    ones = np.ones_like(weights)
    assert score(*problem, k=k, ties=ties, query_weights=ones) == pytest.approx(
        score(*problem, k=k, ties=ties), abs=1e-12
    )


def test_weighted_ranking_without_ties():
    codes, query_labels, database, labels, _ = make_codes(4, 30, n_bits=40)
    # Whole numbers up to the precision of the weights, so that nothing is rounded.
    weights = 2.0 ** -np.random.default_rng(0).permuted(
        np.tile(np.arange(40) % 14, (4, 1)), axis=1
    )
    distances = distances_of(codes, database, weights)
    assert all(len(np.unique(row)) == 30 for row in distances)
    score = average_precision_score(codes, query_labels, database, labels, query_weights=weights)
    relevant = np.take_along_axis(query_labels @ labels.T > 0, distances.argsort(axis=1), axis=1)
    precision = relevant.cumsum(axis=1) / np.arange(1, 31)
    assert score == pytest.approx(((precision * relevant).sum(1) / relevant.sum(1)).mean())


@pytest.mark.parametrize("name", metrics.get_scorer_names())
@pytest.mark.parametrize("k", [None, 20])
@pytest.mark.parametrize("ties", ["mean", "best", "worst"])
def test_weighted_scores_do_not_depend_on_the_memory(name, k, ties):
    *problem, weights = make_codes(40, 300)
    score = partial(getattr(metrics, f"{name}_score"), *problem, k=k, ties=ties)
    expected = score(query_weights=weights)
    with sklearn.config_context(working_memory=0.1):
        assert score(query_weights=weights) == expected


def test_error_on_weights_of_queries():
    *problem, weights = make_codes()
    with pytest.raises(ValueError, match=r"radius=2 is a number of bits.*Give k"):
        ndcg_score(*problem, radius=2, query_weights=weights)
    with pytest.raises(ValueError, match=r"query_weights should .* of shape \(7, 13\), got .*6"):
        ndcg_score(*problem, query_weights=weights[1:])
    with pytest.raises(ValueError, match="a least weight of -1"):
        ndcg_score(*problem, query_weights=weights - 1)


# Hashers.


def fitted(X, Y):
    params = {"hidden_size": 16, "max_epochs": 2, "device": "cpu", "random_state": 0}
    deep = DeepRankingHasher(12, encoding="signs", **params)
    return [deep.fit(X, Y), ITQHasher(8, random_state=0).fit(X, Y)]


def test_asymmetric_neighbors_are_those_of_a_sort():
    X, Y = make_rows()
    for hasher in fitted(X[:100], Y[:100]):
        codes, database = hasher.transform(X[100:]), hasher.transform(X[:100])
        weights = hasher.bit_weights(X[100:])
        distances, indices = hasher.kneighbors(X[100:], 100, asymmetric=True)
        expected = weighted_hamming_distances(pack_codes(codes), pack_codes(database), weights)
        for row, order in enumerate(np.argsort(expected, axis=1, kind="stable")):
            assert_array_equal(indices[row], order)
            assert_array_equal(distances[row], expected[row][order])
        few = hasher.kneighbors(X[100:], 7, return_distance=False, asymmetric=True)
        assert_array_equal(few, indices[:, :7])


def test_weights_are_those_of_the_relaxed_code():
    X, Y = make_rows()
    deep, itq = fitted(X, Y)
    assert_allclose(deep.bit_weights(X), np.abs(deep.relaxed_codes(X)))
    assert_allclose(itq.bit_weights(X), np.abs(itq.project(X)))


def test_asymmetric_scores_agree():
    X, Y = make_rows()
    for hasher in fitted(X[:100], Y[:100]):
        codes, database = hasher.transform(X[100:]), hasher.transform(X[:100])
        weights = hasher.bit_weights(X[100:])
        expected = ndcg_score(codes, Y[100:], database, Y[:100], k=100, query_weights=weights)
        assert hasher.score(X[100:], Y[100:], asymmetric=True) == expected
        scorer = make_retrieval_scorer("ndcg", k=100, asymmetric=True)
        assert scorer(hasher, X[100:], Y[100:]) == expected
        assert expected != hasher.score(X[100:], Y[100:])


@pytest.mark.parametrize("protocol", ["database", "leave_one_out"])
def test_asymmetric_scorer_of_a_pipeline(protocol):
    X, Y = make_rows()
    scorer = make_retrieval_scorer("ndcg", k=10, protocol=protocol, asymmetric=True)
    assert "asymmetric=True" in repr(scorer)
    pipeline = make_pipeline(StandardScaler(), make_pipeline(LSHHasher(16, random_state=0)))
    scores = cross_val_score(pipeline, X, Y, cv=2, scoring=scorer)
    plain = cross_val_score(
        pipeline, X, Y, cv=2, scoring=make_retrieval_scorer("ndcg", k=10, protocol=protocol)
    )
    assert np.isfinite(scores).all()
    assert (scores != plain).all()


class FarFromItself(LSHHasher):
    """A sample as an item is the last in the ranking of itself as a query."""

    def encode_database(self, X):
        return 1 - self.transform(X)


@pytest.mark.parametrize("hasher", [LSHHasher(10, random_state=0), FarFromItself(10)])
@pytest.mark.parametrize("name", ["ndcg", "recall"])
@pytest.mark.parametrize("k", [5, 28, None])
def test_asymmetric_leave_one_out_leaves_the_query_out(hasher, name, k):
    X, Y = make_rows(30)
    hasher.fit(X, Y)
    scorer = make_retrieval_scorer(name, k=k, protocol="leave_one_out", asymmetric=True)
    codes, items, weights = hasher.transform(X), hasher.encode_database(X), hasher.bit_weights(X)
    score = partial(getattr(metrics, f"{name}_score"), k=k)
    values = []
    for row in range(30):
        others = np.arange(30) != row
        query = codes[[row]], Y[[row]], items[others], Y[others]
        values.append(score(*query, query_weights=weights[[row]]))
    assert scorer(hasher, X, Y) == pytest.approx(np.mean(values))


def test_error_on_an_asymmetric_radius():
    with pytest.raises(ValueError, match=r"radius=2 is a number of bits.*Give k"):
        make_retrieval_scorer("precision", radius=2, asymmetric=True)
