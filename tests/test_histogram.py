"""The histogram: every metric, cut-off and order of ties by enumeration; parts, files, errors."""

import pickle
from itertools import product

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.metrics import ndcg_score as sklearn_ndcg
from test_metrics import (
    ALL_METRICS,
    INVARIANCES,
    OPTIONS,
    ORACLES,
    all_orders,
    make_problem,
    make_ranking,
    one_hot,
    oracle_acg,
    pack_problem,
)

from skhash import metrics
from skhash.metrics import HammingHistogram, bootstrap_interval, paired_difference

close = {"rtol": 1e-12, "atol": 1e-12}
all_metrics = pytest.mark.parametrize("metric", ALL_METRICS)
all_ties = pytest.mark.parametrize("ties", ["mean", "best", "worst"])


def count(problem, **options):
    return HammingHistogram.from_codes(*problem, **options)


# Enumeration: the definitions on every order of the ties.


def oracle_linear_ndcg(relevance, k):
    discounts = 1 / np.log2(1 + np.arange(1, len(relevance[:k]) + 1))
    return relevance[:k] @ discounts / (sorted(relevance, reverse=True)[:k] @ discounts)


def oracle_found(relevance, k):
    """Weighted average precision by the script of the authors of deep semantic ranking."""
    ranks = [p for p, r in enumerate(relevance[:k], 1) if r > 0]
    return np.mean([oracle_acg(relevance, p) for p in ranks]) if ranks else 0


def oracle_found_unweighted(relevance, k):
    return oracle_found([int(r > 0) for r in relevance], k)


CASES = {
    **{name: (name, {}, oracle) for name, oracle in ORACLES.items()},
    "linear_ndcg": ("ndcg", {"gain": "linear"}, oracle_linear_ndcg),
    "found": ("average_precision", {"convention": "authors"}, oracle_found_unweighted),
    "weighted_found": ("weighted_average_precision", {"convention": "authors"}, oracle_found),
}
all_cases = pytest.mark.parametrize("case", CASES)


def by_enumeration(oracle, problem, *, k=None, radius=None, ties="mean"):
    """The mean, best or worst of a definition over all orders of the ties, for each query."""
    values, summary = [], {"mean": np.mean, "best": np.max, "worst": np.min}[ties]
    query_codes, query_labels, database_codes, database_labels = problem
    for code, labels in zip(query_codes, query_labels, strict=True):
        distances = (database_codes != code).sum(axis=1)
        relevance = (database_labels & labels).sum(axis=1)
        n_ranks = k or len(relevance) if radius is None else (distances <= radius).sum()
        orders = all_orders(distances, relevance) if n_ranks and relevance.any() else []
        values.append(summary([oracle(order, n_ranks) for order in orders] or [0]))
    return values


@all_cases
@all_ties
@pytest.mark.parametrize("n_bits", [1, 2, 3])
def test_equals_enumeration(case, ties, n_bits):
    metric, options, oracle = CASES[case]
    problem = make_problem(n_bits, n_queries=5, n_database=6, n_bits=n_bits, n_labels=4)
    problem[1][-1] = 0
    method = getattr(count(problem), metric)
    for k in [None, 1, 2, 3, 5, 9]:
        expected = by_enumeration(oracle, problem, k=k, ties=ties)
        assert max(expected) > 0 or (ties, k) == ("worst", 1)
        assert_allclose(method(k, ties=ties, **options), expected, **close)
    for radius in range(n_bits + 2):
        expected = by_enumeration(oracle, problem, radius=radius, ties=ties)
        assert_allclose(method(radius=radius, ties=ties, **options), expected, **close)


@settings(max_examples=60, deadline=None)
@given(
    items=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6),
    k=st.integers(1, 7),
)
def test_equals_enumeration_of_any_ranking(items, k):
    problem = make_ranking(*zip(*items, strict=True))
    histogram = count(problem)
    for (metric, options, oracle), ties in product(CASES.values(), ["mean", "best", "worst"]):
        value = getattr(histogram, metric)(k, ties=ties, **options)
        assert_allclose(value, by_enumeration(oracle, problem, k=k, ties=ties), **close)


def test_sorted_ties_are_not_the_extremes_of_found_items():
    # Three ranks of which the last two are a tie cut in the middle: behind a relevant item at
    # rank 1, one more relevant item at rank 3 lowers the average, an irrelevant one does not.
    problem = make_ranking([1, 0, 1, 0], [0, 1, 2, 2])
    authors = {"k": 3, "convention": "authors"}
    histogram = count(problem)
    assert_allclose(histogram.average_precision(**authors, ties="best"), 1)
    assert_allclose(histogram.average_precision(**authors, ties="worst"), (1 + 2 / 3) / 2)
    assert_allclose(histogram.average_precision(**authors), (1 + (1 + 2 / 3) / 2) / 2)


def random_tables(generator, *, perfect):
    """Tables of 300 queries, the rankings of some as good as can be."""
    counts = generator.integers(0, 50, (300, 5, 4)) * (generator.random((300, 5, 4)) < 0.4)
    if perfect:
        # The relevance of a distance falls with it.
        best = np.sort(generator.integers(0, 4, (300, 5, 1)), axis=1)[:, ::-1]
        counts = counts.sum(axis=2, keepdims=True) * (best == np.arange(4))
    n_items = counts.sum(axis=(1, 2))
    counts[:, -1, 0] += n_items.max() - n_items + 1
    return counts


@all_ties
@pytest.mark.parametrize("case", CASES)
def test_no_value_is_beyond_its_ends(case, ties):
    metric, options, _ = CASES[case]
    generator = np.random.default_rng(0)
    for perfect in [True, False] * 8:
        counts = random_tables(generator, perfect=perfect)
        values = HammingHistogram(counts).evaluate(metric, k=[1, 7, 40, 999], ties=ties, **options)
        largest = (np.arange(4) * counts.any(axis=1)).max(axis=1, keepdims=True)
        most = largest if metric in ("acg", "weighted_average_precision") else 1
        # Rounding alone would put some of them beyond.
        assert ((values >= 0) & (values <= most)).all()
        assert values.mean(axis=0).max() <= np.max(most)


def test_ndcg_of_a_perfect_ranking_is_not_above_1():
    generator = np.random.default_rng(0)
    values = [
        HammingHistogram(random_tables(generator, perfect=True)).ndcg(ties="best").max()
        for _ in range(8)
    ]
    assert max(values) == 1


def test_authors_look_at_5000_ranks():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(7000, rng.dirichlet(np.ones(27)), size=3).reshape(3, 9, 3)
    histogram = HammingHistogram(counts)
    for metric in ["average_precision", "weighted_average_precision"]:
        method = getattr(histogram, metric)
        for ties in ["mean", "best", "worst"]:
            found = method(convention="authors", ties=ties)
            assert_array_equal(found, method(5000, convention="authors", ties=ties))
            assert np.all(abs(found - method(7000, convention="authors", ties=ties)) > 1e-6)
        # Without a cut-off the two conventions are one.
        assert_allclose(method(7000, convention="authors"), method(), **close)


@pytest.mark.parametrize("k", [1, 50, 999, 5000])
def test_expectation_of_found_items_equals_sampling_of_large_ties(k):
    counts = np.zeros((1, 2, 3), np.int64)
    counts[0] = [[300, 150, 50], [6000, 800, 200]]
    relevance = np.repeat([0, 1, 2], [300, 150, 50]), np.repeat([0, 1, 2], [6000, 800, 200])
    rng, values = np.random.default_rng(0), []
    for _ in range(400):
        order = np.concatenate([rng.permutation(group) for group in relevance])[:k]
        means = order.cumsum() / np.arange(1, k + 1)
        values.append(means[order > 0].mean() if order.any() else 0)
    value = HammingHistogram(counts).weighted_average_precision(k, convention="authors")
    assert abs(value - np.mean(values)) < 4 * np.std(values) / 20


def test_reciprocal_rank_of_one_relevant_item_among_many():
    # The first relevant item is anywhere, so the mean is a harmonic number; over many blocks.
    counts = np.array([[[0, 0], [3000, 1], [5, 5]]])
    expected = (1 / np.arange(1, 3002)).sum() / 3001
    assert_allclose(HammingHistogram(counts).reciprocal_rank(), expected, rtol=1e-12)
    assert_allclose(
        HammingHistogram(counts).reciprocal_rank(700),
        (1 / np.arange(1, 701)).sum() / 3001,
        rtol=1e-12,
    )


@all_metrics
def test_batches_do_not_matter(metric):
    # Tables of this many bits are evaluated in several batches, each half of them in fewer.
    rng = np.random.default_rng(0)
    counts = rng.multinomial(300, rng.dirichlet(np.ones(20_001 * 2)), size=60)
    histogram = HammingHistogram(counts.reshape(60, 20_001, 2))
    parts = [HammingHistogram(histogram.counts[rows]) for rows in (slice(7), slice(7, 60))]
    for ties in ["mean", "best"]:
        for name, values in OPTIONS.get(metric, {"k": [7]}).items():
            options = {"ties": ties, name: values[-1]}
            expected = [part.evaluate(metric, **options) for part in parts]
            values = histogram.evaluate(metric, **options)
            assert_allclose(values, np.concatenate(expected), **close)


# Reductions.


@all_metrics
@all_ties
def test_functions_are_means_of_the_methods(metric, ties):
    problem = make_problem()
    method, score = getattr(count(problem), metric), ALL_METRICS[metric]
    for cut in [{}, {"k": 3}, {"radius": 1}]:
        assert_allclose(
            score(*problem, ties=ties, **cut), method(ties=ties, **cut).mean(), **close
        )
    for name, values in OPTIONS.get(metric, {}).items():
        scores = [score(*problem, k=4, ties=ties, **{name: value}) for value in values]
        expected = [method(4, ties=ties, **{name: value}).mean() for value in values]
        assert_allclose(scores, expected, **close)
        assert scores[0] != scores[1]
        assert scores[0] == score(*problem, k=4, ties=ties)


@pytest.mark.parametrize("k", [None, 1, 5])
def test_linear_gain_equals_scikit_learn(k):
    problem = make_problem(n_database=60)
    query_codes, query_labels, database_codes, database_labels = problem
    distances = (query_codes[:, None] != database_codes).sum(axis=2)
    expected = sklearn_ndcg(query_labels.astype(int) @ database_labels.T, -distances, k=k)
    assert_allclose(metrics.ndcg_score(*problem, k=k, gain="linear"), expected, **close)


@all_cases
def test_mean_is_between_worst_and_best_and_equal_without_ties(case):
    metric, options, _ = CASES[case]
    method = getattr(count(make_problem(n_queries=30)), metric)
    worst, mean, best = (method(9, ties=ties, **options) for ties in ("worst", "mean", "best"))
    assert np.all(worst <= mean + 1e-12)
    assert np.all(mean <= best + 1e-12)
    assert np.any(worst + 0.01 < best)
    rng = np.random.default_rng(0)
    method = getattr(count(make_ranking(rng.integers(0, 3, 20), rng.permutation(20))), metric)
    worst, mean, best = (method(9, ties=ties, **options) for ties in ("worst", "mean", "best"))
    assert_allclose(worst, mean, **close)
    assert_allclose(best, mean, **close)


@all_ties
def test_radius_takes_whole_groups(ties):
    histogram = count(make_problem())
    n_within = histogram.counts.sum(axis=2).cumsum(axis=1)
    n_relevant = histogram.counts[:, :, 1:].sum(axis=2).cumsum(axis=1)
    radii, expected = range(5), n_relevant / np.maximum(n_within, 1)
    assert_allclose(histogram.precision(radius=radii, ties=ties), expected, **close)
    expected = n_relevant / np.maximum(n_relevant[:, -1:], 1)
    assert_allclose(histogram.recall(radius=radii, ties=ties), expected, **close)
    assert (n_within[:, 0] == 0).any()


@all_metrics
@all_ties
def test_a_radius_is_the_number_of_items_within(metric, ties):
    histogram = count(make_problem(n_queries=12))
    method = getattr(histogram, metric)
    n_within = histogram.counts[:, :3].sum(axis=(1, 2))
    expected = [method(k, ties=ties)[query] for query, k in enumerate(n_within)]
    assert_allclose(method(radius=2, ties=ties), expected, **close)
    assert_array_equal(method(radius=4), method())
    assert_array_equal(method(radius=10**6), method())


@all_cases
def test_several_cuts_at_once(case):
    metric, options, _ = CASES[case]
    method = getattr(count(make_problem()), metric)
    ks = [5, 1, 100, 5]
    columns = [method(k, **options) for k in ks]
    for same in [ks, tuple(ks), np.array(ks, np.int16)]:
        assert_array_equal(method(same, **options), np.transpose(columns))
    columns = [method(radius=radius, **options) for radius in range(3)]
    assert_array_equal(method(radius=range(3), **options), np.transpose(columns))
    assert method([3]).shape == (5, 1)
    assert method(np.array(3)).shape == (5,)


# Queries without relevant items.


@all_metrics
@pytest.mark.parametrize("cut", [{"k": 3}, {"k": [1, 3]}, {"radius": 1}])
def test_empty_queries_have_the_value_that_is_named(metric, cut):
    query_codes, query_labels, *database = make_problem()
    query_labels[[1, 3]] = 0
    problem = query_codes, query_labels, *database
    method = getattr(count(problem), metric)
    default, others = method(**cut), [0, 2, 4]
    assert np.all(default[[1, 3]] == 0)
    for empty, value in [(0, 0), (1, 1), ("nan", np.nan)]:
        values = method(**cut, empty=empty)
        assert_array_equal(values[others], default[others])
        assert_array_equal(values[[1, 3]], np.full_like(values[[1, 3]], value))
    with pytest.raises(ValueError, match=r"2 of 5 queries have no relevant item.* is query 1"):
        method(**cut, empty="raise")


@all_metrics
def test_empty_queries_in_the_mean(metric):
    query_codes, query_labels, *database = make_problem()
    query_labels[[1, 3]] = 0
    score = ALL_METRICS[metric]
    full = score(query_codes[[0, 2, 4]], query_labels[[0, 2, 4]], *database)
    problem = query_codes, query_labels, *database
    assert_allclose(score(*problem, empty="nan"), full, **close)
    assert_allclose(score(*problem, empty=0), full * 3 / 5, **close)
    assert_allclose(score(*problem, empty=1), full * 3 / 5 + 2 / 5, **close)
    # In batches of one query too, all of them are counted.
    with (
        sklearn.config_context(working_memory=0),
        pytest.raises(ValueError, match="2 of 5 queries"),
    ):
        score(*problem, empty="raise")
    assert np.isnan(score(query_codes, 0 * query_labels, *database, empty="nan"))
    assert score(query_codes[:1], query_labels[:1], *database, empty="raise") > 0


# Invariances beyond those of the functions, for all metrics and orders of ties.


# Other tests run these lines too, and coverage would double its time.
@pytest.mark.no_cover
@all_cases
@all_ties
@pytest.mark.parametrize("change", INVARIANCES, ids=lambda change: change.__name__)
def test_invariance(case, ties, change):
    metric, options, _ = CASES[case]
    problem = make_problem(3)
    changed = change(np.random.default_rng(0), *problem)
    values = [
        np.sort(getattr(count(each), metric)([1, 5, 100], ties=ties, **options), axis=0)
        for each in (problem, changed)
    ]
    n_copies = len(values[1]) // len(values[0])
    assert_allclose(values[1], np.repeat(values[0], n_copies, axis=0), **close)


@all_cases
@all_ties
def test_duplicated_database(case, ties):
    # A database that is there twice has each group twice: fractions of whole groups stay.
    metric, options, _ = CASES[case]
    query_codes, query_labels, *database = make_problem(3)
    doubled = query_codes, query_labels, *(np.concatenate([side, side]) for side in database)
    histogram, twice = count(make_problem(3)), count(doubled)
    assert twice == histogram + histogram
    method = getattr(histogram + histogram, metric)
    values = method([2, 10, 46], ties=ties, **options)
    assert_array_equal(values, getattr(twice, metric)([2, 10, 46], ties=ties, **options))
    if metric in ("acg", "precision", "recall"):
        expected = getattr(histogram, metric)([1, 5, 23], ties=ties, **options)
        assert_allclose(values, expected, **close)


@all_cases
@all_ties
@pytest.mark.parametrize("cut", [{"k": [1, 5, 100]}, {"radius": [0, 2]}], ids=["k", "radius"])
def test_merged_parts(case, ties, cut):
    metric, options, _ = CASES[case]
    query_codes, query_labels, *database = problem = make_problem(3)
    parts = [
        count((query_codes, query_labels, *(side[rows] for side in database)))
        for rows in (slice(0, 4), slice(4, 5), slice(5, None))
    ]
    value_of = lambda histogram: getattr(histogram, metric)(**cut, ties=ties, **options)  # noqa: E731
    assert_array_equal(value_of(sum(parts)), value_of(count(problem)))
    assert np.any(abs(value_of(parts[0]) - value_of(count(problem))) > 1e-3)


# The object.


@pytest.mark.parametrize("n_jobs", [1, 2, 3, -1, None])
@pytest.mark.parametrize("working_memory", [None, 0, 1e-3])
def test_merged_parts_jobs_and_memory_do_not_matter(n_jobs, working_memory):
    query_codes, query_labels, *database = problem = make_problem(n_bits=65, n_labels=20)
    options = {"n_jobs": n_jobs, "working_memory": working_memory}
    whole = count(problem)
    assert count(problem, **options) == whole
    parts = [
        count((query_codes, query_labels, *(side[rows] for side in database)), **options)
        for rows in (slice(0, 1), slice(1, 20), slice(20, 23))
    ]
    assert parts[0] + parts[1] + parts[2] == sum(parts) == whole
    assert sum(parts[::-1]) == whole
    assert [part.n_database for part in parts] == [1, 19, 3]
    halves = [
        count((query_codes[rows], query_labels[rows], *database), **options)
        for rows in (slice(0, 2), slice(2, 5))
    ]
    assert HammingHistogram.concatenate(halves) == whole
    assert HammingHistogram.concatenate(iter([whole])) == whole


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential"])
def test_counts_are_shared_whatever_the_backend(backend):
    problem = make_problem()
    with parallel_config(backend=backend, n_jobs=2):
        assert count(problem) == count(problem, n_jobs=1)


def test_concatenate_pads_relevances_that_no_query_of_a_part_has():
    query_codes, query_labels, *database = make_problem(3)
    order = np.argsort(query_labels.sum(axis=1))
    query_codes, query_labels = query_codes[order], query_labels[order]
    parts = [count((query_codes[[i]], query_labels[[i]], *database)) for i in range(5)]
    assert len({part.max_relevance for part in parts}) > 1
    assert HammingHistogram.concatenate(parts) == count((query_codes, query_labels, *database))
    with pytest.raises(ValueError, match=r"got max_relevance=\d and max_relevance=\d"):
        parts[0] + parts[-1]


def test_describes_itself():
    problem = make_problem(n_queries=7, n_bits=12)
    histogram = count(problem)
    assert (histogram.n_queries, histogram.n_bits, histogram.n_database) == (7, 12, 23)
    assert histogram.max_relevance == problem[1].sum(axis=1).max()
    assert histogram.counts.shape == (7, 13, histogram.max_relevance + 1)
    assert histogram.counts.dtype == np.int64
    assert repr(histogram) == (
        "HammingHistogram(n_queries=7, n_bits=12, n_database=23, "
        f"max_relevance={histogram.max_relevance})"
    )
    assert histogram == pickle.loads(pickle.dumps(histogram))
    assert histogram == HammingHistogram(histogram.counts.tolist())
    assert histogram == HammingHistogram.from_packed(*pack_problem(problem), n_bits=12)
    assert histogram != count(make_problem(1, n_queries=7, n_bits=12))
    assert histogram != "histogram"


def test_sparse_labels():
    query_codes, query_labels, database_codes, database_labels = problem = make_problem()
    labels = sparse.csr_array(query_labels), sparse.csc_matrix(database_labels)
    assert count((query_codes, labels[0], database_codes, labels[1])) == count(problem)
    left_out = HammingHistogram.leave_one_out(database_codes, labels[1])
    assert left_out == HammingHistogram.leave_one_out(database_codes, database_labels)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_leave_one_out_ranks_the_others(n_jobs):
    _, _, codes, labels = make_problem(n_labels=9)
    labels[2] = 0
    histogram = HammingHistogram.leave_one_out(codes, labels, n_jobs=n_jobs, working_memory=1)
    assert (histogram.n_queries, histogram.n_database) == (23, 22)
    parts = []
    for query in range(23):
        others = np.delete(np.arange(23), query)
        parts.append(count((codes[[query]], labels[[query]], codes[others], labels[others])))
    assert histogram == HammingHistogram.concatenate(parts)


def test_save_and_load(tmp_path):
    histogram = count(make_problem())
    for path in [tmp_path / "a.npz", str(tmp_path / "no_suffix")]:
        histogram.save(path)
        assert HammingHistogram.load(path) == histogram
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "no_suffix"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert sorted(file) == ["counts", "version"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path, old, new = tmp_path / "a.npz", count(make_problem()), count(make_problem(1))
    old.save(path)

    def fill_disk(file, **arrays):  # noqa: ARG001
        file.write(b"half of it")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        # A disk that is full in the middle of the file.
        patch.setattr(np, "savez_compressed", fill_disk)
        with pytest.raises(OSError, match="No space left"):
            new.save(path)
    assert HammingHistogram.load(path) == old
    new.save(path)
    assert HammingHistogram.load(path) == new
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(FileNotFoundError):
        new.save(tmp_path / "missing" / "a.npz")


def test_load_errors(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(FileNotFoundError, match=r"other\.npz"):
        HammingHistogram.load(path)
    message = r"other.npz' is no file that HammingHistogram.save has written"
    for content in [b"", b"text", b"PK\x03\x04 broken", pickle.dumps([1])]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            HammingHistogram.load(path)
    np.savez(path, counts=np.ones((1, 2, 2)))
    with pytest.raises(ValueError, match=message):
        HammingHistogram.load(path)
    np.savez(path, version=1, counts=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=message):
        HammingHistogram.load(path)
    with path.open("wb") as file:
        np.save(file, np.ones((1, 2, 2), int))
    with pytest.raises(ValueError, match=message):
        HammingHistogram.load(path)
    np.savez(path, version=2, counts=np.ones((1, 2, 2), int))
    with pytest.raises(ValueError, match="of version 2, and this skhash reads version 1"):
        HammingHistogram.load(path)
    np.savez(path, version=1, counts=np.ones((2, 2), int))
    with pytest.raises(
        ValueError, match=r"counts must be integers .* got int64 of shape \(2, 2\)"
    ):
        HammingHistogram.load(path)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones((2, 3)), r"counts must be integers .*got float64 of shape \(2, 3\)"),
        (np.ones((1, 2, 2)), "got float64 of shape"),
        (np.ones((1, 0, 2), int), r"got int64 of shape \(1, 0, 2\)"),
        (np.array([[[2, -1]]]), "non-negative .* got a least count of -1 and 1 to 1 items"),
        (np.array([[[2, 1]], [[2, 2]]]), "got a least count of 1 and 3 to 4 items"),
    ],
    ids=["2d", "float", "empty", "negative", "unequal"],
)
def test_errors_of_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        HammingHistogram(counts)


def test_errors_of_parts():
    query_codes, query_labels, *database = problem = make_problem()
    histogram, fewer = count(problem), count((query_codes[:3], query_labels[:3], *database))
    with pytest.raises(ValueError, match=r"same queries .* got n_queries=5 and n_queries=3"):
        histogram + fewer
    with pytest.raises(ValueError, match="got n_bits=4 and n_bits=5"):
        histogram + count(make_problem(n_bits=5))
    with pytest.raises(TypeError, match="unsupported operand"):
        histogram + 1
    with pytest.raises(TypeError, match="unsupported operand"):
        1 + histogram
    with pytest.raises(ValueError, match=r"at least one histogram, .* got n_bits of \[\]"):
        HammingHistogram.concatenate([])
    with pytest.raises(ValueError, match=r"same n_bits, got n_bits of \[4, 5\]"):
        HammingHistogram.concatenate([histogram, count(make_problem(n_bits=5))])
    with pytest.raises(ValueError, match="count as many items"):
        HammingHistogram.concatenate([histogram, histogram + histogram])
    with pytest.raises(ValueError, match="takes at least 2 samples, got 1"):
        HammingHistogram.leave_one_out(query_codes[:1], query_labels[:1])


@all_metrics
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "'k' parameter of HammingHistogram.{} must be an int in the range"),
        ({"k": 2.0}, "'k' parameter of HammingHistogram.{} must be an int in the range"),
        ({"k": [1, 0]}, r"k must be an int or .*none below 1, got \[1, 0\]"),
        ({"k": [1.5]}, r"k must be an int or .*, got \[1.5\]"),
        ({"k": []}, r"k must be an int or .*at least one int.*, got \[\]"),
        ({"k": [[1]]}, r"k must be an int or a one-dimensional .*, got \[\[1\]\]"),
        ({"radius": -1}, "'radius' parameter of HammingHistogram.{} must be an int in the"),
        ({"radius": [-1]}, r"radius must be an int or .*none below 0, got \[-1\]"),
        ({"k": 1, "radius": 2}, "two ways to cut a ranking, got k=1 and radius=2. Pass one"),
        ({"ties": "first"}, "'ties' parameter of HammingHistogram.{} must be a str among"),
        ({"empty": 2}, "'empty' parameter of HammingHistogram.{} must be"),
        ({"empty": None}, "'empty' parameter of HammingHistogram.{} must be"),
    ],
    ids=lambda part: "-".join(map(str, part)) if isinstance(part, dict) else "",
)
def test_errors_of_options(metric, options, message):
    problem = make_problem()
    with pytest.raises(ValueError, match=message.format(metric)):
        getattr(count(problem), metric)(**options)
    if np.ndim(next(iter(options.values()))) == 0:
        with pytest.raises(ValueError, match=message.format("").partition(" of ")[0]):
            ALL_METRICS[metric](*problem, **options)


def test_errors_of_other_parameters():
    histogram = count(make_problem())
    with pytest.raises(ValueError, match=r"'gain' parameter of .* must be a str among"):
        histogram.ndcg(gain="squared")
    with pytest.raises(ValueError, match=r"'convention' parameter of .* must be a str among"):
        histogram.average_precision(convention="theirs")
    with pytest.raises(TypeError, match="gain"):
        histogram.acg(gain="linear")
    with pytest.raises(ValueError, match="'n_jobs' parameter of"):
        count(make_problem(), n_jobs=1.5)
    with pytest.raises(ValueError, match="'working_memory' parameter of"):
        count(make_problem(), working_memory=-1)
    for n_bits in (0, 4.0):
        with pytest.raises(ValueError, match=r"'n_bits' parameter of .*from_packed must be"):
            HammingHistogram.from_packed(*pack_problem(make_problem()), n_bits=n_bits)


# Confidence intervals.


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covers = []
    for seed in range(200):
        low, high = bootstrap_interval(
            rng.random(80), confidence_level=0.8, n_resamples=300, random_state=seed
        )
        covers.append(low < 0.5 < high)
    # Three standard deviations of 200 draws.
    assert abs(np.mean(covers) - 0.8) < 0.09


def test_bootstrap_interval_of_metrics():
    histogram = count(make_problem(n_queries=60))
    values = histogram.ndcg([1, 5])
    low, high = bootstrap_interval(values, random_state=0)
    assert low.shape == high.shape == (2,)
    assert np.all(low < values.mean(axis=0))
    assert np.all(values.mean(axis=0) < high)
    assert_array_equal(bootstrap_interval(values, random_state=0), [low, high])
    narrow = bootstrap_interval(values[:, 0], confidence_level=0.5, random_state=0)
    assert low[0] < narrow[0] < narrow[1] < high[0]
    with_empty = np.append(values[:, 0], np.nan)
    assert bootstrap_interval(with_empty, random_state=0) == bootstrap_interval(
        values[:, 0], random_state=0
    )
    assert bootstrap_interval(np.full(9, 0.25)) == (0.25, 0.25)


def test_bootstrap_errors():
    with pytest.raises(ValueError, match="at least 2 queries that have a value, got 1"):
        bootstrap_interval([0.5, np.nan])
    with pytest.raises(ValueError, match="values contains infinity"):
        bootstrap_interval([0.5, np.inf])
    with pytest.raises(ValueError, match="'confidence_level' parameter of bootstrap_interval"):
        bootstrap_interval([0.5, 0.4], confidence_level=95)


def test_evaluation_of_no_queries_is_empty():
    histogram = HammingHistogram(np.zeros((0, 5, 3), np.int64))
    assert histogram.n_database == 0
    for metric in ALL_METRICS:
        assert histogram.evaluate(metric, k=3).shape == (0,)


# Metrics by name.


@all_cases
@all_ties
def test_evaluate_equals_the_methods(case, ties):
    metric, options, _ = CASES[case]
    histogram = count(make_problem(n_queries=9))
    method = getattr(histogram, metric)
    assert_array_equal(histogram.evaluate(metric, **options), method(**options))
    for cut in [{"k": 3}, {"k": [1, 50]}, {"radius": 1}, {"radius": [0, 2]}]:
        for empty in (0, 1, "nan"):
            given = {**cut, "ties": ties, "empty": empty, **options}
            assert_array_equal(histogram.evaluate(metric, **given), method(**given))


@pytest.mark.parametrize(
    ("metric", "options", "error", "message"),
    [
        ("map", {}, ValueError, "'metric' parameter of HammingHistogram.evaluate must be a str"),
        ("ndcg", {"k": 0}, ValueError, "'k' parameter of HammingHistogram.evaluate must be an"),
        ("ndcg", {"k": 1, "radius": 1}, ValueError, "two ways to cut a ranking"),
        ("ndcg", {"gain": "log"}, ValueError, r"'gain' option of .* \('exp.*'\). Got 'log'"),
        ("ndcg", {"convention": "authors"}, TypeError, r"'ndcg'\) got an unexpected option"),
        ("acg", {"gain": "linear"}, TypeError, "evaluate.'acg'.* option 'gain'.* takes none"),
    ],
)
def test_errors_of_evaluate(metric, options, error, message):
    with pytest.raises(error, match=message):
        count(make_problem()).evaluate(metric, **options)


# Class labels.


def test_class_labels_equal_their_one_hot_matrix():
    query_codes, _, database_codes, _ = make_problem()
    classes = np.array(["ant", "bee", "cow", "dog"])
    queries, database = classes[[3, 1, 0, 3, 2]], classes[np.arange(23) % 3]
    one_hots = one_hot(queries, database)
    expected = count((query_codes, one_hots[0], database_codes, one_hots[1]))
    assert expected.max_relevance == 1
    assert count((query_codes, queries, database_codes, database)) == expected
    assert count((query_codes, list(queries), database_codes, list(database))) == expected
    left_out = HammingHistogram.leave_one_out(database_codes, database)
    assert left_out == HammingHistogram.leave_one_out(database_codes, one_hots[1])


def test_class_labels_of_a_database_in_parts():
    # A part may lack classes: the counts do not depend on the numbering of the labels.
    query_codes, _, database_codes, _ = make_problem()
    queries, database = np.arange(5), np.arange(23) // 5
    parts = [
        count((query_codes, queries, database_codes[rows], database[rows]))
        for rows in (slice(0, 6), slice(6, 23))
    ]
    assert sum(parts) == count((query_codes, queries, database_codes, database))


def test_errors_of_labels():
    query_codes, query_labels, *database = make_problem()
    with pytest.raises(ValueError, match=r"both be 1D class labels, got .* \(5,\) and \(23, 5\)"):
        count((query_codes, query_labels[:, 0], *database))
    with pytest.raises(ValueError, match="labels must hold only 0 and 1"):
        HammingHistogram.leave_one_out(query_codes, 2 * query_labels)


@pytest.mark.parametrize("n_queries", [2, 5, 9])
def test_p_value_of_paired_difference_is_that_of_enumeration(n_queries):
    rng = np.random.default_rng(n_queries)
    values, others = rng.random((n_queries, 3)), rng.random((n_queries, 3)) * [1, 0.9, 0.3]
    found = paired_difference(values, others, random_state=0)
    for column, (a, b) in enumerate(zip(values.T, others.T, strict=True)):
        means = [
            np.mean([x - y if keep else y - x for x, y, keep in zip(a, b, kept, strict=True)])
            for kept in product([True, False], repeat=n_queries)
        ]
        as_far = [abs(mean) >= abs(np.mean(a - b)) - 1e-12 for mean in means]
        assert found.p_value[column] == np.mean(as_far)
    assert_allclose(found.difference, (values - others).mean(axis=0))
    low, high = bootstrap_interval(values - others, n_resamples=9999, random_state=0)
    assert_array_equal([found.low, found.high], [low, high])


def test_p_value_at_random_is_near_the_exact_one():
    rng = np.random.default_rng(0)
    values, others = rng.random(12), rng.random(12) - 0.2
    exact = paired_difference(values, others, random_state=0).p_value
    drawn = paired_difference(values, others, n_resamples=4000, random_state=0).p_value
    assert 0.01 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=0.02)
    again = paired_difference(values, others, n_resamples=4000, random_state=0).p_value
    assert drawn == again


def test_p_values_are_uniform_where_methods_are_alike():
    rng = np.random.default_rng(0)
    alike = rng.normal(size=(20, 400))
    p_values = paired_difference(
        alike, np.zeros((20, 400)), n_resamples=500, random_state=0
    ).p_value
    assert abs((p_values <= 0.1).mean() - 0.1) < 0.04
    assert abs(p_values.mean() - 0.5) < 0.05


def test_paired_difference_of_what_does_not_pair():
    found = paired_difference([0.5, 0.25, np.nan, 0.5], [0.25, np.nan, 0.5, 0.0], random_state=0)
    assert (found.difference, found.p_value) == (0.375, 0.5)
    assert paired_difference([0.5, 0.5], [0.5, 0.5]).p_value == 1
    with pytest.raises(ValueError, match="should be of one shape"):
        paired_difference(np.ones((3, 2)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        paired_difference([0.5, 0.5], [0.5])
    with pytest.raises(ValueError, match="at least 2 queries"):
        paired_difference([0.5, np.nan], [0.5, 0.5])
