"""Metrics: a slow oracle over all orders of ties, reductions to scikit-learn, invariances."""

import doctest
import inspect
import pickle
import sys
import tracemalloc
from fractions import Fraction
from itertools import chain, pairwise, permutations, product

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import average_precision_score as sklearn_average_precision
from sklearn.metrics import ndcg_score as sklearn_ndcg

from skhash import metrics
from skhash.codes import pack_codes
from skhash.metrics import HammingHistogram, get_scorer_names

ALL_METRICS = {name: getattr(metrics, f"{name}_score") for name in get_scorer_names()}
OPTIONS = {
    "average_precision": {"convention": ("skhash", "authors")},
    "ndcg": {"gain": ("exponential", "linear")},
    "weighted_average_precision": {"convention": ("skhash", "authors")},
}
ALL_N_BITS = [1, 7, 8, 12, 48, 63, 64, 65, 256]
ALL_K = [None, 1, 2, 5, 100]

all_metrics = pytest.mark.parametrize("metric", ALL_METRICS)
all_k = pytest.mark.parametrize("k", ALL_K)
close = {"rtol": 0, "atol": 1e-12}


def make_problem(seed=0, *, n_queries=5, n_database=23, n_bits=4, n_labels=5, density=0.4):
    """Codes and label sets of queries and a database; few bits make many ties."""
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 2, (n_queries, n_bits), dtype=np.uint8),
        (rng.random((n_queries, n_labels)) < density).astype(np.uint8),
        rng.integers(0, 2, (n_database, n_bits), dtype=np.uint8),
        (rng.random((n_database, n_labels)) < density).astype(np.uint8),
    )


def make_ranking(relevance, distances):
    """One query and a database with the given relevances and Hamming distances."""
    n_labels, n_bits = max(relevance, default=0) + 1, max(distances) + 1
    fill = lambda counts, width: (np.arange(width) < np.asarray(counts)[:, None]).astype(np.uint8)  # noqa: E731
    query_labels = np.ones((1, n_labels), np.uint8)
    database_labels, database_codes = fill(relevance, n_labels), fill(distances, n_bits)
    return np.zeros((1, n_bits), np.uint8), query_labels, database_codes, database_labels


# The oracle: definitions on one order, written as in the papers, and all orders of the ties.


def dcg(relevance):
    return sum((2**r - 1) / np.log2(1 + p) for p, r in enumerate(relevance, 1))


def oracle_ndcg(relevance, k):
    return dcg(relevance[:k]) / dcg(sorted(relevance, reverse=True)[:k])


def oracle_acg(relevance, k):
    return sum(relevance[:k]) / len(relevance[:k])


def oracle_weighted_average_precision(relevance, k):
    n_relevant = sum(r > 0 for r in relevance)
    ranks = [p for p, r in enumerate(relevance[:k], 1) if r > 0]
    return sum(oracle_acg(relevance, p) for p in ranks) / min(k, n_relevant)


def oracle_average_precision(relevance, k):
    return oracle_weighted_average_precision([int(r > 0) for r in relevance], k)


def oracle_precision(relevance, k):
    return oracle_acg([int(r > 0) for r in relevance], k)


def oracle_recall(relevance, k):
    return sum(r > 0 for r in relevance[:k]) / sum(r > 0 for r in relevance)


def oracle_reciprocal_rank(relevance, k):
    return max([1 / p for p, r in enumerate(relevance[:k], 1) if r > 0], default=0)


ORACLES = {name: globals()[f"oracle_{name}"] for name in ALL_METRICS}


def all_orders(distances, relevance):
    """Relevances in rank order, for every order of the items at equal distance."""
    groups = [relevance[distances == d].tolist() for d in np.unique(distances)]
    for order in product(*map(permutations, groups)):
        yield list(chain(*order))


def oracle_score(metric, query_codes, query_labels, database_codes, database_labels, k):
    """Mean over queries of the mean over all orders."""
    scores = []
    for code, labels in zip(query_codes, query_labels, strict=True):
        relevance = (database_labels & labels).sum(axis=1)
        orders = all_orders((database_codes != code).sum(axis=1), relevance)
        values = [ORACLES[metric](r, len(r) if k is None else k) if any(r) else 0 for r in orders]
        scores.append(np.mean(values))
    return np.mean(scores)


@all_metrics
@pytest.mark.parametrize("k", [None, 1, 2, 3, 5, 6, 9])
@pytest.mark.parametrize("n_bits", [1, 2, 3])
def test_equals_mean_over_all_orders_of_ties(metric, k, n_bits):
    problem = make_problem(n_bits, n_queries=4, n_database=6, n_bits=n_bits, n_labels=4)
    expected = oracle_score(metric, *problem, k)
    score = ALL_METRICS[metric](*problem, k=k)
    assert type(score) is float
    assert expected > 0
    assert_allclose(score, expected, **close)


@settings(max_examples=40, deadline=None)
@given(
    items=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=5),
    k=st.integers(1, 6),
)
def test_equals_mean_over_all_orders_of_any_ranking(items, k):
    problem = make_ranking(*zip(*items, strict=True))
    for metric, score in ALL_METRICS.items():
        assert_allclose(score(*problem, k=k), oracle_score(metric, *problem, k), **close)


# Reductions: where another implementation, or another metric, gives the same number.


@all_k
@pytest.mark.parametrize("n_bits", [3, 40])
def test_ndcg_equals_scikit_learn(k, n_bits):
    problem = make_problem(n_bits, n_bits=n_bits, n_database=60)
    query_codes, query_labels, database_codes, database_labels = problem
    gains = 2.0 ** (query_labels.astype(int) @ database_labels.T) - 1
    distances = (query_codes[:, None] != database_codes).sum(axis=2)
    assert_allclose(
        metrics.ndcg_score(*problem, k=k), sklearn_ndcg(gains, -distances, k=k), **close
    )


def test_average_precision_equals_scikit_learn_without_ties():
    rng = np.random.default_rng(0)
    distances, relevance = rng.permutation(50), rng.integers(0, 3, 50)
    score = metrics.average_precision_score(*make_ranking(relevance, distances))
    assert_allclose(score, sklearn_average_precision(relevance > 0, -distances), **close)


@all_k
@pytest.mark.parametrize(
    ("weighted", "plain"),
    [("weighted_average_precision", "average_precision"), ("acg", "precision")],
)
def test_single_labels_need_no_weights(weighted, plain, k):
    query_codes, _, database_codes, _ = make_problem()
    eye, rng = np.eye(3, dtype=np.uint8), np.random.default_rng(1)
    query_labels, database_labels = eye[rng.integers(0, 3, 5)], eye[rng.integers(0, 3, 23)]
    problem = query_codes, query_labels, database_codes, database_labels
    assert_allclose(
        ALL_METRICS[weighted](*problem, k=k), ALL_METRICS[plain](*problem, k=k), **close
    )


@all_k
@pytest.mark.parametrize("metric", ["ndcg", "average_precision"])
def test_ideal_order_scores_one(metric, k):
    relevance = np.array([0, 3, 1, 2, 0, 2, 1, 1])
    problem = make_ranking(relevance, 3 - relevance)
    assert_allclose(ALL_METRICS[metric](*problem, k=k), 1, **close)
    worst = make_ranking(relevance, relevance)
    assert ALL_METRICS[metric](*worst, k=k) < 0.8


@pytest.mark.parametrize("k", [1, 3, 8])
def test_constant_codes_score_chance(k):
    relevance = np.array([0, 3, 1, 2, 0, 2, 0, 0])
    problem = make_ranking(relevance, np.zeros(8, int))
    assert_allclose(metrics.precision_score(*problem, k=k), 1 / 2, **close)
    assert_allclose(metrics.recall_score(*problem, k=k), k / 8, **close)
    assert_allclose(metrics.acg_score(*problem, k=k), 1, **close)


@pytest.mark.parametrize("k", [None, 1000, 150_000])
@pytest.mark.parametrize("metric", ["average_precision", "weighted_average_precision", "ndcg"])
def test_accurate_in_a_large_database(metric, k):
    # Small groups far down the ranking, where differences of long sums lose most.
    rng = np.random.default_rng(0)
    n_database, n_bits = 200_000, 5
    H = np.zeros((1, n_bits + 1, 3), np.int64)
    H[0, [0, 3]] = rng.multinomial(n_database // 2 - 1, [0.6, 0.3, 0.1], size=2)
    H[0, [1, 2, 4, 5]] = np.eye(3, dtype=int)[[1, 2, 0, 2]]
    # One term per rank instead of the closed form.
    sizes, totals, relevant = H.sum(2)[0], (H @ [0, 1, 2])[0], H[..., 1:].sum(2)[0]
    starts = np.concatenate([[0], sizes.cumsum()[:-1]])
    group = np.repeat(np.arange(n_bits + 1), sizes)
    rank = np.arange(1, sizes.sum() + 1)
    if metric == "ndcg":
        gains = (H @ [0, 1, 3])[0]
        ideal_gains = np.repeat([3, 1, 0], H.sum(1)[0, ::-1])
        discounts = 1 / np.log2(1 + rank)
        expected = ((gains / sizes)[group] * discounts)[:k].sum() / (ideal_gains * discounts)[
            :k
        ].sum()
    else:
        sums = relevant if metric == "average_precision" else totals
        own = np.divide(sums, relevant, out=np.zeros(n_bits + 1), where=relevant > 0)
        others = (sums - own)[group] * (rank - starts[group] - 1) / np.maximum(sizes - 1, 1)[group]
        before = (sums.cumsum() - sums)[group]
        terms = (relevant / sizes)[group] * (before + own[group] + others) / rank
        expected = terms[:k].sum() / min(k or n_database, relevant.sum())
    assert_allclose(HammingHistogram(H).evaluate(metric, k=k), expected, rtol=1e-12)


@pytest.mark.parametrize("metric", ["average_precision", "weighted_average_precision"])
def test_accurate_where_all_relevant_items_come_last(metric):
    # Harmonic numbers of neighbouring ranks differ by little, a long way down most of all.
    n_others, counts = 200_000, [3, 2, 1]
    H = np.zeros((1, 33, 3), np.int64)
    H[0, 0, 0], H[0, 1:] = n_others, counts
    total = 3 if metric == "average_precision" else 4
    own = Fraction(total, 3)
    terms = [
        (total * group + own + position * (total - own) / 5)
        / (n_others + 6 * group + position + 1)
        for group, position in product(range(32), range(6))
    ]
    expected = float(sum(terms) / 2 / (3 * 32))
    wide = np.finfo(np.longdouble).nmant > np.finfo(float).nmant
    assert_allclose(HammingHistogram(H).evaluate(metric), expected, rtol=1e-11 if wide else 1e-7)


# Invariances: one table for all metrics.


def permute_database(rng, query_codes, query_labels, database_codes, database_labels):
    order = rng.permutation(len(database_codes))
    return query_codes, query_labels, database_codes[order], database_labels[order]


def permute_queries(rng, query_codes, query_labels, *database):
    order = rng.permutation(len(query_codes))
    return query_codes[order], query_labels[order], *database


def repeat_queries(rng, query_codes, query_labels, *database):  # noqa: ARG001
    return np.tile(query_codes, (3, 1)), np.tile(query_labels, (3, 1)), *database


def permute_bits(rng, query_codes, query_labels, database_codes, database_labels):
    order = rng.permutation(query_codes.shape[1])
    return query_codes[:, order], query_labels, database_codes[:, order], database_labels


def flip_bits(rng, query_codes, query_labels, database_codes, database_labels):
    mask = rng.integers(0, 2, query_codes.shape[1], dtype=np.uint8)
    return query_codes ^ mask, query_labels, database_codes ^ mask, database_labels


def duplicate_bits(rng, query_codes, query_labels, database_codes, database_labels):  # noqa: ARG001
    return np.tile(query_codes, 2), query_labels, np.tile(database_codes, 2), database_labels


def add_constant_bits(rng, query_codes, query_labels, database_codes, database_labels):
    constant = rng.integers(0, 2, 70, dtype=np.uint8)
    add = lambda codes: np.hstack([codes, np.tile(constant, (len(codes), 1))])  # noqa: E731
    return add(query_codes), query_labels, add(database_codes), database_labels


def permute_labels(rng, query_codes, query_labels, database_codes, database_labels):
    order = rng.permutation(query_labels.shape[1])
    return query_codes, query_labels[:, order], database_codes, database_labels[:, order]


def add_absent_labels(rng, query_codes, query_labels, database_codes, database_labels):
    one_sided = rng.integers(0, 2, (len(query_labels), 70), dtype=np.uint8)
    absent = np.zeros((len(database_labels), 70), np.uint8)
    query_labels, database_labels = (
        np.hstack(pair) for pair in [(query_labels, one_sided), (database_labels, absent)]
    )
    return query_codes, query_labels, database_codes, database_labels


def as_booleans(rng, *problem):  # noqa: ARG001
    return tuple(array.astype(bool) for array in problem)


def as_floats(rng, *problem):  # noqa: ARG001
    return tuple(array.astype(np.float32) for array in problem)


def as_lists(rng, *problem):  # noqa: ARG001
    return tuple(array.tolist() for array in problem)


def as_fortran(rng, *problem):  # noqa: ARG001
    return tuple(np.asfortranarray(array) for array in problem)


def as_sparse_labels(rng, query_codes, query_labels, database_codes, database_labels):  # noqa: ARG001
    return (
        query_codes,
        sparse.csr_array(query_labels),
        database_codes,
        sparse.coo_matrix(database_labels.astype(float)),
    )


INVARIANCES = [
    permute_database,
    permute_queries,
    repeat_queries,
    permute_bits,
    flip_bits,
    duplicate_bits,
    add_constant_bits,
    permute_labels,
    add_absent_labels,
    as_booleans,
    as_floats,
    as_lists,
    as_fortran,
    as_sparse_labels,
]


# Other tests run these lines too, and coverage would double its time.
@pytest.mark.no_cover
@all_metrics
@all_k
@pytest.mark.parametrize("change", INVARIANCES, ids=lambda change: change.__name__)
def test_invariance(metric, k, change):
    problem = make_problem(3)
    changed = change(np.random.default_rng(0), *problem)
    score = ALL_METRICS[metric]
    assert_allclose(score(*changed, k=k), score(*problem, k=k), **close)


@all_metrics
@pytest.mark.parametrize("n_bits", ALL_N_BITS)
def test_packed_codes_score_as_bits(metric, n_bits):
    query_codes, query_labels, database_codes, database_labels = make_problem(3, n_bits=n_bits)
    problem = [query_codes, query_labels, database_codes, database_labels]
    packed = [pack_codes(query_codes), query_labels, pack_codes(database_codes), database_labels]
    score, options = ALL_METRICS[metric], {"k": 5, "n_bits": n_bits}
    assert score(*packed, **options) == score(*problem, k=5)
    weights = np.random.default_rng(0).random(query_codes.shape)
    options["query_weights"] = weights
    assert score(*packed, **options) == score(*problem, k=5, query_weights=weights)
    classes = np.arange(5) % 3, np.arange(len(database_codes)) % 3
    sides = [packed[0], classes[0], packed[2], classes[1]]
    expected = score(query_codes, classes[0], database_codes, classes[1])
    assert score(*sides, n_bits=n_bits) == expected


@pytest.mark.parametrize("n_bits", ALL_N_BITS)
def test_packed_codes_count_as_bits(n_bits):
    query_codes, query_labels, database_codes, database_labels = make_problem(3, n_bits=n_bits)
    packed = [pack_codes(query_codes), query_labels, pack_codes(database_codes), database_labels]
    count = HammingHistogram.from_codes
    expected = count(query_codes, query_labels, database_codes, database_labels)
    assert count(*packed, n_bits=n_bits) == expected
    of_set = HammingHistogram.leave_one_out
    expected = of_set(database_codes, database_labels)
    assert of_set(packed[2], database_labels, n_bits=n_bits) == expected


@pytest.mark.parametrize("side", [0, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:, :1], "{}: codes of n_bits=12 take 2 bytes each"),
        (lambda c: c.astype(int), "{} must be a 2D uint8 array of packed codes"),
        (lambda c: c[:0], r"Found array with 0 sample\(s\)"),
        (lambda c: c | 1, "{} must be padded with zeros beyond n_bits=12"),
    ],
)
def test_error_on_packed_codes(side, change, message):
    packed = list(make_problem(3, n_bits=12))
    packed[0], packed[2] = pack_codes(packed[0]), pack_codes(packed[2])
    packed[side] = change(packed[side])
    name = ["query_codes", "", "database_codes"][side]
    for call in (metrics.ndcg_score, HammingHistogram.from_codes):
        with pytest.raises(ValueError, match=message.format(name)):
            call(*packed, n_bits=12)


def test_error_on_packed_codes_without_their_length():
    packed = [pack_codes(side) for side in make_problem(3, n_bits=12)]
    with pytest.raises(ValueError, match=r"0 and 1, got .*packed codes go with n_bits"):
        metrics.ndcg_score(*packed)
    with pytest.raises(ValueError, match="'n_bits' parameter of ndcg_score must be an int"):
        metrics.ndcg_score(*packed, n_bits=1.5)


@all_metrics
def test_is_sensitive_to_codes_and_labels(metric):
    # What keeps the table above honest: a metric of nothing is invariant to everything.
    query_codes, query_labels, database_codes, database_labels = problem = make_problem(3)
    score = ALL_METRICS[metric]
    others = [
        (1 - query_codes, query_labels, database_codes, database_labels),
        (query_codes, 1 - query_labels, database_codes, database_labels),
        (query_codes, query_labels, database_codes[::-1], database_labels),
    ]
    assert all(abs(score(*other, k=5) - score(*problem, k=5)) > 1e-3 for other in others)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_database=st.integers(1, 40), k=st.integers(1, 50))
def test_order_of_the_database_never_matters(seed, n_database, k):
    problem = make_problem(seed, n_database=n_database)
    shuffled = permute_database(np.random.default_rng(seed), *problem)
    for score in ALL_METRICS.values():
        assert score(*shuffled, k=k) == score(*problem, k=k)


@all_metrics
def test_k_beyond_the_database_means_all_of_it(metric):
    problem, score = make_problem(), ALL_METRICS[metric]
    assert score(*problem, k=23) == score(*problem, k=24) == score(*problem, k=10**9)
    assert score(*problem, k=np.int64(23)) == score(*problem)
    # Recall sees the end of the ranking least: all of it is 1.
    assert score(*problem, k=4) != score(*problem)


@all_metrics
@all_k
def test_query_without_relevant_item_scores_zero(metric, k):
    query_codes, query_labels, *database = make_problem()
    score = ALL_METRICS[metric]
    assert score(query_codes, np.zeros_like(query_labels), *database, k=k) == 0
    half = np.vstack([query_labels, np.zeros_like(query_labels)])
    expected = score(query_codes, query_labels, *database, k=k) / 2
    assert_allclose(score(np.tile(query_codes, (2, 1)), half, *database, k=k), expected, **close)


@all_metrics
def test_many_shared_labels_do_not_overflow(metric):
    # Gains of 2 ** 2000 overflow a float; the ratio that NDCG is does not.
    problem = make_ranking([2000, 1990, 0], [0, 1, 2])
    assert np.isfinite(ALL_METRICS[metric](*problem))
    assert_allclose(metrics.ndcg_score(*problem), 1, **close)
    reverse = make_ranking([1990, 2000], [0, 1])
    discount = 1 / np.log2(3)
    assert_allclose(
        metrics.ndcg_score(*reverse), (2**-10 + discount) / (1 + 2**-10 * discount), **close
    )


def test_few_shared_labels_do_not_vanish_beside_many():
    queries = np.zeros((2, 4), np.uint8)
    database_labels = np.zeros((2, 2000), np.uint8)
    database_labels[0], database_labels[1, 0] = 1, 1
    query_labels = np.ones((2, 2000), np.uint8)
    query_labels[1, 1:] = 0
    database = [[1, 0, 0, 0], [1, 1, 0, 0]], database_labels
    assert_allclose(metrics.ndcg_score(queries, query_labels, *database), 1, **close)


# The histogram.


def pack_problem(problem):
    return [pack_codes(array) for array in problem]


def count_packed(*packed, **options):
    return HammingHistogram.from_packed(*packed, **options).counts


@pytest.mark.parametrize("n_bits", ALL_N_BITS)
@pytest.mark.parametrize("n_labels", [1, 8, 38, 81])
def test_histogram_counts_pairs(n_bits, n_labels):
    problem = make_problem(n_bits=n_bits, n_labels=n_labels, n_database=50)
    query_codes, query_labels, database_codes, database_labels = problem
    H = count_packed(*pack_problem(problem), n_bits=n_bits)
    assert H.shape == (5, n_bits + 1, query_labels.sum(axis=1).max() + 1)
    assert H.dtype == np.int64
    expected = np.zeros_like(H)
    distances = (query_codes[:, None] != database_codes).sum(axis=2)
    relevance = query_labels.astype(int) @ database_labels.T
    np.add.at(expected, (np.arange(5)[:, None], distances, relevance), 1)
    assert_array_equal(H, expected)


@pytest.mark.parametrize("n_bits", ALL_N_BITS)
def test_histograms_add_up_over_database_parts(n_bits):
    query_codes, query_labels, *database = pack_problem(make_problem(n_bits=n_bits))
    count = lambda *part: count_packed(query_codes, query_labels, *part, n_bits=n_bits)  # noqa: E731
    cuts = [0, 1, 9, 9, 23]
    parts = [count(*(side[start:stop] for side in database)) for start, stop in pairwise(cuts)]
    assert_array_equal(sum(parts), count(*database))
    assert parts[1].sum() == 5 * 8


def test_histogram_of_no_queries_is_empty():
    query_codes, query_labels, *database = pack_problem(make_problem())
    assert count_packed(query_codes[:0], query_labels[:0], *database, n_bits=4).size == 0


def peak_bytes(function):
    """What a function returns, and the most memory that it held."""
    tracemalloc.start()
    result = function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(("working_memory", "n_database"), [(0, 300), (0.1, 70_000), (1, 70_000)])
def test_histogram_in_blocks_within_working_memory(working_memory, n_database, n_jobs):
    packed = pack_problem(make_problem(n_queries=4, n_database=n_database, n_bits=12))
    options = {"n_bits": 12, "n_jobs": n_jobs}
    expected, unbounded = peak_bytes(lambda: count_packed(*packed, **options))
    # Beside the temporaries: the words and labels of the database, and what joblib holds.
    n_bytes = working_memory * 2**20 + n_database * (8 + 1) + 2**17

    def count_in_context():
        with sklearn.config_context(working_memory=working_memory):
            return count_packed(*packed, **options)

    count_in_blocks = lambda: count_packed(*packed, working_memory=working_memory, **options)  # noqa: E731
    for count in (count_in_blocks, count_in_context):
        H, peak = peak_bytes(count)
        assert_array_equal(H, expected)
        assert peak <= n_bytes
    assert unbounded > n_bytes or n_database == 300


@all_metrics
def test_batches_of_queries_do_not_matter(metric):
    problem, score = make_problem(n_queries=150, n_bits=65), ALL_METRICS[metric]
    expected, unbounded = peak_bytes(lambda: score(*problem, k=9))
    for working_memory in (0, 0.1):
        with sklearn.config_context(working_memory=working_memory):
            value, peak = peak_bytes(lambda: score(*problem, k=9))
        assert_allclose(value, expected, **close)
        assert peak < unbounded / 2


def test_wide_table_counts_beyond_16_bit_indices():
    # 257 * 201 cells do not fit 16-bit indices, and are more than the items of a short block.
    problem = make_problem(n_queries=3, n_database=500, n_bits=256, n_labels=200, density=1)
    query_codes, _, database_codes, _ = problem
    database_codes[:9] = 1 - query_codes[1]
    H = count_packed(*pack_problem(problem), n_bits=256)
    distances = (query_codes[:, None] != database_codes).sum(axis=2)
    assert H.shape == (3, 257, 201)
    assert_array_equal(H[:, :, 200], [np.bincount(row, minlength=257) for row in distances])
    assert H[1, 256, 200] == 9
    assert H.sum() == 1500


@pytest.mark.parametrize("n_database", [20_000, 20_001])
@pytest.mark.parametrize("n_bits", [8, 64, 300])
@pytest.mark.parametrize("n_shared", [0, 1, 2, 9])
def test_histogram_of_many_items(n_database, n_bits, n_shared):
    # Items are counted two at a time where few distances and relevances are in use.
    rng = np.random.default_rng(0)
    query_codes, query_labels, database_codes, database_labels = problem = make_problem(
        n_queries=4, n_database=n_database, n_bits=n_bits, n_labels=12
    )
    query_labels[:] = np.arange(12) < n_shared
    # Two queries at the ends of the distances, and two label sets.
    query_codes[1], query_codes[2], query_labels[2:, -1] = 0, 1, 1
    database_codes[rng.integers(n_database, size=9)] = 1
    H = count_packed(*pack_problem(problem), n_bits=n_bits)
    expected = np.zeros_like(H)
    relevance = query_labels.astype(int) @ database_labels.T
    for table, code, shared in zip(expected, query_codes, relevance, strict=True):
        np.add.at(table, ((database_codes != code).sum(axis=1), shared), 1)
    assert_array_equal(H, expected)


# Errors.


def spoil(index, change):
    """Return a problem one of whose four arrays is changed."""
    problem = list(make_problem())
    problem[index] = change(problem[index])
    return problem


SIDES = ["query_codes", "query_labels", "database_codes", "database_labels"]


@all_metrics
@pytest.mark.parametrize("index", range(4))
def test_error_on_other_values_than_bits(metric, index):
    for change in [lambda a: a * 2, lambda a: a - 0.5, lambda a: a.astype(int) - 1]:
        with pytest.raises(ValueError, match=f"{SIDES[index]} must hold only 0 and 1"):
            ALL_METRICS[metric](*spoil(index, change))


@all_metrics
@pytest.mark.parametrize("index", range(4))
def test_error_on_nan_and_empty_input(metric, index):
    with pytest.raises(ValueError, match=f"Input {SIDES[index]} contains NaN"):
        ALL_METRICS[metric](*spoil(index, lambda a: np.where(a == 1, np.nan, a)))
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)|inconsistent numbers"):
        ALL_METRICS[metric](*spoil(index, lambda a: a[:0]))
    with pytest.raises(ValueError, match=r"Found array with 0 feature\(s\)|shape \(\d+, 0\)"):
        ALL_METRICS[metric](*spoil(index, lambda a: a[:, :0]))


@all_metrics
@pytest.mark.parametrize("index", range(4))
def test_error_on_inconsistent_lengths_and_widths(metric, index):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ALL_METRICS[metric](*spoil(index, lambda a: a[1:]))
    # Batches of one query would otherwise never see the surplus of the other array.
    with (
        sklearn.config_context(working_memory=0),
        pytest.raises(ValueError, match="inconsistent numbers of samples"),
    ):
        ALL_METRICS[metric](*spoil(index, lambda a: a[1:]))
    kind = ["bits", "labels"][index % 2]
    with pytest.raises(ValueError, match=rf"same number of {kind}: .*shape\[1\] == "):
        ALL_METRICS[metric](*spoil(index, lambda a: a[:, 1:]))


@all_metrics
@pytest.mark.parametrize("index", [1, 3])
def test_error_on_labels_that_are_no_label_sets(metric, index):
    score, name = ALL_METRICS[metric], SIDES[index]
    for one_dimensional in [lambda a: a[:, 0], lambda a: ["cat"] * len(a)]:
        with pytest.raises(ValueError, match=r"both be 1D class labels, got arrays of .*\d,\)"):
            score(*spoil(index, one_dimensional))
    with pytest.raises(ValueError, match=f"{name} should be an indicator .* got an array of"):
        score(*spoil(index, lambda a: a[:, :, None]))
    with pytest.raises(ValueError, match=f"Unknown label type: continuous. {name} should be"):
        score(*spoil(index, lambda a: a[:, 0] + 0.5))
    with pytest.raises(ValueError, match=f"{name} must hold only 0 and 1"):
        score(*spoil(index, lambda a: sparse.csr_array(3 * a)))


@all_metrics
def test_error_on_codes_of_another_dimension_or_sparse(metric):
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        ALL_METRICS[metric](*spoil(0, lambda a: a[:, 0]))
    with pytest.raises(ValueError, match=r"'query_codes' parameter .* must be an array-like"):
        ALL_METRICS[metric](*spoil(0, sparse.csr_array))


@all_metrics
@pytest.mark.parametrize("k", [0, -1, 2.0, "all"])
def test_error_on_k(metric, k):
    with pytest.raises(ValueError, match=r"'k' parameter of .*_score must be an int"):
        ALL_METRICS[metric](*make_problem(), k=k)


def test_histogram_errors():
    packed = pack_problem(make_problem(n_bits=12, n_labels=20))
    with pytest.raises(ValueError, match="n_bits=17 take 3 bytes each"):
        count_packed(*packed, n_bits=17)
    with pytest.raises(ValueError, match="query_codes and database_codes must have as many bytes"):
        count_packed(packed[0][:, :1], *packed[1:], n_bits=12)
    with pytest.raises(ValueError, match="query_labels and database_labels must have as many"):
        count_packed(*packed[:3], packed[3][:, :1], n_bits=12)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        count_packed(*packed[:3], packed[3][:-1], n_bits=12)
    with pytest.raises(ValueError, match="database_codes must be a 2D uint8 array"):
        count_packed(*packed[:2], packed[2].astype(int), packed[3], n_bits=12)
    for index, name in [(0, "query_codes"), (2, "database_codes")]:
        dirty = [array.copy() for array in packed]
        dirty[index][-1, -1] |= 8
        with pytest.raises(
            ValueError, match=rf"{name} must be padded with zeros beyond n_bits=12"
        ):
            count_packed(*dirty, n_bits=12)


# Class labels, weights, and what a function says of itself.


def one_hot(query_classes, database_classes):
    classes = np.union1d(query_classes, database_classes)
    return [(side[:, None] == classes).astype(int) for side in (query_classes, database_classes)]


@pytest.mark.parametrize("dtype", [int, str])
@all_metrics
def test_class_labels_equal_their_one_hot_matrix(metric, dtype):
    query_codes, _, database_codes, _ = make_problem()
    rng = np.random.default_rng(0)
    # The queries have a class that the database lacks, and the other way round.
    classes = rng.integers(1, 5, 5).astype(dtype), rng.integers(0, 4, 23).astype(dtype)
    assert "4" in classes[0].astype(str)
    queries, database = one_hot(*classes)
    score = ALL_METRICS[metric]
    expected = score(query_codes, queries, database_codes, database, k=6)
    assert expected > 0
    assert score(query_codes, classes[0], database_codes, classes[1], k=6) == expected
    lists = [side.tolist() for side in classes]
    assert score(query_codes, lists[0], database_codes, lists[1], k=6) == expected


@all_metrics
@pytest.mark.parametrize("empty", [0, 1, "nan"])
def test_integer_weights_repeat_queries(metric, empty):
    query_codes, query_labels, *database = make_problem()
    query_labels[1] = 0
    score, weights = ALL_METRICS[metric], [2, 3, 0, 1, 5]
    repeated = (np.repeat(side, weights, axis=0) for side in (query_codes, query_labels))
    expected = score(*repeated, *database, k=7, empty=empty)
    problem = query_codes, query_labels, *database
    unweighted = score(*problem, k=7, empty=empty)
    value = score(*problem, k=7, empty=empty, sample_weight=weights)
    assert type(value) is float
    assert_allclose(value, expected, **close)
    assert abs(value - unweighted) > 1e-3
    assert_allclose(
        score(*problem, k=7, empty=empty, sample_weight=np.full(5, 0.3)), unweighted, **close
    )


@all_metrics
def test_weights_of_queries_that_are_left_out(metric):
    query_codes, query_labels, *database = make_problem()
    query_labels[[1, 3]] = 0
    score, problem = ALL_METRICS[metric], (query_codes, query_labels, *database)
    assert np.isnan(score(*problem, empty="nan", sample_weight=[0, 1, 0, 1, 0]))
    alone = score(query_codes[:1], query_labels[:1], *database)
    assert score(*problem, empty="nan", sample_weight=[1, 1, 0, 1, 0]) == alone


@all_metrics
def test_errors_of_weights(metric):
    score, problem = ALL_METRICS[metric], make_problem()
    for weights, message in [
        ([1, 2], r"sample_weight.shape == \(2,\), expected \(5,\)"),
        (np.ones((5, 2)), "Sample weights must be 1D"),
        ([1, 2, -1, 1, 1], "Negative values in data passed to `sample_weight`"),
        ([0] * 5, "at least one non-zero"),
        ([1, np.nan, 1, 1, 1], "sample_weight contains NaN"),
        ("all", "'sample_weight' parameter of .*_score must be an array-like or None"),
    ]:
        with pytest.raises(ValueError, match=message):
            score(*problem, sample_weight=weights)


@all_metrics
def test_signatures_name_the_parameters(metric):
    options = list(OPTIONS.get(metric, {}))
    function, method = ALL_METRICS[metric], getattr(HammingHistogram, metric)
    of_queries = ["sample_weight", "query_weights"]
    names = [*SIDES, "k", "radius", "ties", "empty", *options, *of_queries, "n_bits"]
    parameters = inspect.signature(function).parameters
    assert list(parameters) == names
    kinds = [parameter.kind for parameter in parameters.values()]
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    assert kinds == [positional] * 4 + [keyword] * (len(names) - 4)
    defaults = {"k": None, "radius": None, "ties": "mean", "empty": 0}
    defaults |= {"sample_weight": None, "query_weights": None, "n_bits": None}
    defaults |= {name: values[0] for name, values in OPTIONS.get(metric, {}).items()}
    assert {name: parameters[name].default for name in names[4:]} == defaults
    of_method = inspect.signature(method).parameters
    assert list(of_method) == ["self", "k", *names[5:-3]]
    assert [p.kind for p in of_method.values()] == [positional] * 2 + [keyword] * (len(names) - 8)
    for each, name in [(function, f"{metric}_score"), (method, f"HammingHistogram.{metric}")]:
        assert each.__qualname__ == name
        assert each.__name__ == name.split(".")[-1]
        assert each.__module__.startswith("skhash.metrics.")
        assert pickle.loads(pickle.dumps(each)) is each
        for parameter in inspect.signature(each).parameters:
            assert parameter == "self" or f"\n{parameter} : " in each.__doc__


@all_metrics
def test_examples_of_functions_and_methods_are_run(metric):
    function, method = ALL_METRICS[metric], getattr(HammingHistogram, metric)
    for each in (function, method):
        module = sys.modules[each.__module__]
        tests = {test.name: test for test in doctest.DocTestFinder().find(module)}
        assert tests[f"{module.__name__}.{each.__qualname__}"].examples


def test_errors_of_parameters_that_do_not_exist():
    problem = make_problem()
    with pytest.raises(TypeError, match="unexpected keyword argument 'gain'"):
        metrics.acg_score(*problem, gain="linear")
    with pytest.raises(TypeError, match="missing a required argument: 'database_labels'"):
        metrics.acg_score(*problem[:3])
    with pytest.raises(ValueError, match="'gain' parameter of ndcg_score must be a str among"):
        metrics.ndcg_score(*problem, gain="log")


def test_public_names_are_sorted_and_documented():
    assert metrics.__all__ == sorted(metrics.__all__)
    assert {f"{name}_score" for name in ALL_METRICS} < set(metrics.__all__)
    for name in metrics.__all__:
        assert "Examples\n" in getattr(metrics, name).__doc__
