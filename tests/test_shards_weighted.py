"""Weighted bits and a database in shards: each value is that of one pass, to the last bit."""

from functools import partial

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from test_metrics import ALL_METRICS, OPTIONS
from test_shards import CUTS, all_cuts, in_shards, make_large_problem, open_saved

from skhash.codes import pack_codes
from skhash.metrics import HammingHistogram, evaluate_shards

K = [1, 20, 199, 1000]
WEIGHTS = {
    # Few distinct weights tie many items, the others hardly any; without weight all are tied.
    "few": np.random.default_rng(0).integers(0, 3, (40, 12)) / 2,
    "all": np.random.default_rng(1).random((40, 12)),
    "none": np.zeros((40, 12)),
}


def one_pass(metric, problem, **params):
    """The values of each query, of the function that averages them."""
    rows = np.eye(len(problem[0]))
    return np.array([ALL_METRICS[metric](*problem, **params, sample_weight=row) for row in rows])


@all_cuts
@pytest.mark.parametrize("metric", ALL_METRICS)
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_every_metric_equals_one_pass(weights, metric, ends):
    *queries, codes, labels = problem = make_large_problem()
    shards = in_shards((codes, labels), ends)
    for options in [{}, *({name: v[-1]} for name, v in OPTIONS.get(metric, {}).items())]:
        for ties in ["mean", "best", "worst"]:
            params = {"query_weights": weights, "ties": ties, **options}
            values = evaluate_shards(*queries, shards, metric, k=K, **params)
            for k, column in zip(K, values.T, strict=True):
                assert column.mean() == ALL_METRICS[metric](*problem, k=k, **params)


def test_values_of_each_query_and_of_several_metrics():
    *queries, codes, labels = problem = make_large_problem(density=0.1)
    shards = in_shards((codes, labels), CUTS["7"])
    params = {"query_weights": WEIGHTS["few"], "empty": "nan"}
    values = evaluate_shards(*queries, shards, [*ALL_METRICS], k=50, **params)
    assert list(values) == list(ALL_METRICS)
    for metric, found in values.items():
        assert_array_equal(found, one_pass(metric, problem, k=50, **params))
        assert_array_equal(found, evaluate_shards(*queries, shards, metric, k=50, **params))
        cut = evaluate_shards(*queries, shards, [metric], k=[3, 50], **params)[metric]
        assert_array_equal(cut[:, 0], one_pass(metric, problem, k=3, **params))
        assert_array_equal(cut[:, 1], found)
    assert np.isnan(values["recall"]).any()


def test_weights_of_one_are_hamming_distances():
    *queries, codes, labels = problem = make_large_problem()
    shards = in_shards((codes, labels), CUTS["2"])
    ones = np.ones(queries[0].shape)
    for metric in ALL_METRICS:
        values = evaluate_shards(*queries, shards, metric, query_weights=ones, k=[20, 200])
        expected = HammingHistogram.from_codes(*problem).evaluate(metric, k=[20, 200])
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_order_of_shards_does_not_matter():
    *queries, codes, labels = make_large_problem()
    shards = in_shards((codes, labels), CUTS["uneven"])
    rank = partial(evaluate_shards, *queries, metric="ndcg", query_weights=WEIGHTS["few"], k=30)
    expected = rank(shards)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(shards))
        assert_array_equal(rank([shards[number] for number in order]), expected)


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential", "lists"])
def test_backends(backend, tmp_path):
    *queries, codes, labels = problem = make_large_problem()
    shards = in_shards((codes, labels), CUTS["uneven"])
    for number, (some, their_labels) in enumerate(shards):
        np.save(tmp_path / f"codes{number}.npy", some)
        np.save(tmp_path / f"labels{number}.npy", their_labels)
    paths = [partial(open_saved, tmp_path, number) for number in range(len(shards))]
    params = {"query_weights": WEIGHTS["all"], "k": 60}
    with parallel_config(backend=backend, n_jobs=2):
        values = evaluate_shards(*queries, paths, "average_precision", **params)
    assert_array_equal(values, one_pass("average_precision", problem, **params))


@pytest.mark.parametrize("working_memory", [0, 0.05, None])
def test_packed_classes_and_memory(working_memory):
    codes, _, database, _ = make_large_problem()
    rng = np.random.default_rng(0)
    classes = np.array(["ant", "bee", "cow", "dog"])
    y = rng.choice(classes[:3], len(codes)), rng.choice(classes, len(database))
    params = {"query_weights": WEIGHTS["few"], "k": 20}
    expected = one_pass("ndcg", (codes, y[0], database, y[1]), **params)
    params |= {"working_memory": working_memory}
    shards = in_shards((pack_codes(database), y[1]), CUTS["7"])
    values = evaluate_shards(pack_codes(codes), y[0], shards, "ndcg", n_bits=12, **params)
    assert_array_equal(values, expected)
    sets = [pack_codes(labels[:, None] == classes) for labels in y]
    shards = in_shards((database, sets[1]), CUTS["7"])
    values = evaluate_shards(codes, sets[0], shards, "ndcg", n_labels=4, **params)
    assert_array_equal(values, expected)


# Errors.


def test_errors():
    *queries, codes, labels = make_large_problem(density=0.1)
    shards, weights = in_shards((codes, labels), CUTS["7"]), WEIGHTS["few"]
    rank = partial(evaluate_shards, *queries)
    known = {"query_weights": weights, "k": 10}
    for metric in ("map", ["ndcg", "map"], []):
        with pytest.raises(ValueError, match=r"metric.*(must be|should be).*'ndcg'"):
            rank(shards, metric, **known)
    with pytest.raises(TypeError, match=r"evaluate_shards\('recall'\) got an unexpected option"):
        rank(shards, ["ndcg", "recall"], gain="linear", **known)
    with pytest.raises(ValueError, match="The 'gain' option of evaluate_shards"):
        rank(shards, "ndcg", gain="log", **known)
    for k in (0, None, [], [1, 0], 1.5):
        with pytest.raises(ValueError, match=r"^The 'k' parameter|^k must be an int"):
            rank(shards, "ndcg", query_weights=weights, k=k)
    with pytest.raises(ValueError, match="The 'query_weights' parameter"):
        rank(shards, "ndcg", query_weights=None, k=1)
    with pytest.raises(ValueError, match="a least weight of -1"):
        rank(shards, "ndcg", query_weights=weights - 1, k=1)
    with pytest.raises(ValueError, match=r"query_weights should .* of shape \(40, 12\)"):
        rank(shards, "ndcg", query_weights=weights[1:], k=1)
    with pytest.raises(ValueError, match="of 40 queries have no relevant item"):
        rank(shards, "ndcg", empty="raise", **known)
    with pytest.raises(ValueError, match="Found no items in shards"):
        rank([(codes[:0], labels[:0])] * 2, "ndcg", **known)


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky"])
def test_errors_say_which_shard(backend):
    *queries, codes, labels = make_large_problem()
    shards = in_shards((codes, labels), CUTS["7"])
    shards[4] = codes, labels[1:]
    with (
        parallel_config(backend=backend, n_jobs=2),
        pytest.raises(ValueError, match="inconsistent numbers") as raised,
    ):
        evaluate_shards(*queries, shards, "ndcg", query_weights=WEIGHTS["few"], k=3)
    assert "This is of shards[4]." in raised.value.__notes__
