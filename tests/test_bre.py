"""BRE: coordinates against all intervals, an objective that never rises, targets by definition."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.preprocessing import normalize

from skhash import BREHasher, LSHHasher
from skhash._bre import _best_step, _Descent, _draw_pairs, _half_squares, _share_none


@pytest.fixture(scope="module")
def data():
    """Features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    return X, (Z > 0.7).astype(np.uint8)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[200:900], y[200:900], X[:200], y[:200]


# A coordinate: against all intervals.


def middles(projection, column):
    """A value in each interval in which no sign changes."""
    moves = column != 0
    cuts = np.unique(-projection[moves] / column[moves])
    return np.r_[cuts[0] - 1, (cuts[1:] + cuts[:-1]) / 2, cuts[-1] + 1]


def gained(bit, pairs, gains):
    return gains[bit[pairs[0]] != bit[pairs[1]]].sum()


@pytest.mark.parametrize("kind", ["generic", "ties", "zeros", "repeated pairs"])
@pytest.mark.parametrize("seed", range(10))
def test_step_equals_brute_force_over_all_intervals(seed, kind):
    rng = np.random.RandomState(seed)
    n = 25
    projection, column = rng.normal(size=(2, n))
    pairs = _draw_pairs(n, 6, rng)
    if kind == "ties":
        projection, column = projection.round(), np.where(column > 0, 1.0, -1.0)
    elif kind == "zeros":
        column[::3], projection[::6] = 0, 0
    elif kind == "repeated pairs":
        pairs = np.hstack([pairs, pairs[::-1]])
    gains = rng.normal(size=pairs.shape[1])
    step = _best_step(projection, column, pairs, gains)
    best = max(
        gained(projection + w * column >= 0, pairs, gains) for w in middles(projection, column)
    )
    assert_allclose(gained(projection + step * column >= 0, pairs, gains), best)
    # In the middle of an interval, rounding decides nothing.
    moved = projection + step * column
    assert np.abs(moved[column != 0]).min() > 1e-9


def test_step_where_nothing_moves():
    pairs = np.array([[0, 1], [1, 2]])
    assert _best_step(np.array([1.0, -1.0, 0.0]), np.zeros(3), pairs, np.ones(2)) == 0
    # One sample moves: it should differ from its partner.
    step = _best_step(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0]), pairs, np.ones(2))
    assert step < -2


def small_descent(data, supervised=True, n_bits=5, n=40):
    X, Y = data
    rng = np.random.RandomState(3)
    directions = normalize(X[:n] - X.mean(axis=0))
    kernel, pairs = directions @ directions.T, _draw_pairs(n, 8, rng)
    distances = _share_none(Y[:n], pairs) if supervised else _half_squares(kernel, pairs)
    anchors = np.stack([rng.permutation(n)[:6] for _ in range(n_bits)])
    coef = rng.standard_normal(anchors.shape)
    return _Descent(kernel, anchors, coef, pairs, distances), distances


def objective_by_definition(descent, distances, coef):
    """Mean squared difference of distances and of those of the codes, a loop over pairs."""
    kernel = descent.kernel
    codes = np.array([c @ kernel[a] >= 0 for c, a in zip(coef, descent.anchors, strict=True)])
    terms = [
        (d - np.mean(codes[:, i] != codes[:, j])) ** 2
        for i, j, d in zip(*descent.pairs, distances, strict=True)
    ]
    return np.mean(terms)


@pytest.mark.parametrize("supervised", [True, False])
def test_update_equals_brute_force_over_all_intervals(supervised, data):
    descent, distances = small_descent(data, supervised)
    assert_allclose(descent.objective(), objective_by_definition(descent, distances, descent.coef))
    rng = np.random.RandomState(0)
    before = descent.objective()
    for _ in range(25):
        k, q = rng.randint(5), rng.randint(6)
        column, old = descent.kernel[descent.anchors[k, q]], descent.coef.copy()
        values = []
        for step in middles(descent.projection[k], column):
            coef = old.copy()
            coef[k, q] += step
            values.append(objective_by_definition(descent, distances, coef))
        descent.update(k, q)
        assert_allclose(descent.objective(), min(values))
        assert_allclose(
            descent.objective(), objective_by_definition(descent, distances, descent.coef)
        )
        assert (np.delete(descent.coef - old, k * 6 + q) == 0).all()
        assert descent.objective() <= before
        before = descent.objective()


def test_coefficient_stays_where_nothing_is_better(data):
    descent, _ = small_descent(data)
    for _ in range(60):
        for k, q in np.ndindex(descent.coef.shape):
            descent.update(k, q)
    coef = descent.coef.copy()
    for k, q in np.ndindex(coef.shape):
        descent.update(k, q)
    assert_array_equal(descent.coef, coef)


# The whole.


def codes_objective(codes, pairs, distances):
    return np.mean((distances - (codes[pairs[0]] != codes[pairs[1]]).mean(axis=1)) ** 2)


@pytest.mark.parametrize("supervised", [True, False])
def test_objective_is_that_of_the_codes_and_never_rises(supervised, data):
    X, Y = data
    hasher = BREHasher(8, n_anchors=10, n_partners=200, max_iter=40, tol=0, random_state=0)
    hasher.fit(X, Y if supervised else None)
    pairs = np.stack(np.triu_indices(120, 1))
    if supervised:
        distances = 1.0 - ((Y.astype(int) @ Y.T)[tuple(pairs)] > 0)
    else:
        Z = normalize(X - X.mean(axis=0))
        distances = ((Z[pairs[0]] - Z[pairs[1]]) ** 2).sum(axis=1) / 2
        distances /= distances.max()
    codes = hasher.transform(X)
    assert_allclose(hasher.objective_[-1], codes_objective(codes, pairs, distances))
    assert len(hasher.objective_) == hasher.n_iter_ + 1
    assert np.all(np.diff(hasher.objective_) <= 1e-12)
    assert hasher.objective_[-1] < 0.9 * hasher.objective_[0]


def test_hash_function(data):
    X, Y = data
    hasher = BREHasher(4, n_anchors=9, n_pair_samples=60, max_iter=3, random_state=0).fit(X, Y)
    assert hasher.coef_.shape == hasher.anchor_indices_.shape == (4, 9)
    assert len(np.unique(hasher.anchor_indices_)) > 9
    assert all(len(set(own)) == 9 for own in hasher.anchor_indices_)
    Z = normalize(X - X.mean(axis=0))
    expected = [
        (Z @ Z[own].T) @ c for own, c in zip(hasher.anchor_indices_, hasher.coef_, strict=True)
    ]
    assert_allclose(hasher.project(X), np.transpose(expected))
    assert_allclose(hasher.mean_, X.mean(axis=0))


def test_stops_where_it_gains_little(data):
    hasher = BREHasher(6, n_anchors=20, max_iter=500, random_state=0)
    n_iter = [clone(hasher).set_params(tol=tol).fit(*data).n_iter_ for tol in (0.5, 1e-2, 0)]
    assert n_iter[0] == 1 < n_iter[1] < n_iter[2] < 500
    assert clone(hasher).set_params(tol=0, max_iter=2).fit(*data).n_iter_ == 2


def test_learns_classes(digits):
    X, y, queries, targets = digits
    hasher = BREHasher(16, max_iter=50, random_state=0).fit(X, y)
    random = LSHHasher(16, random_state=0).fit(X, y)
    assert hasher.score(queries, targets) > random.score(queries, targets) + 0.15


def test_learns_distances(digits):
    X, y, queries, targets = digits
    hasher = BREHasher(16, random_state=0).fit(X)
    assert hasher.objective_[-1] < 0.7 * hasher.objective_[0]
    random = LSHHasher(16, random_state=0).fit(X, y)
    hasher.set_database(X, y)
    assert hasher.score(queries, targets) > random.score(queries, targets)
    # Distances of codes follow those of samples that were not learnt from.
    Z = normalize(queries - hasher.mean_)
    codes = hasher.transform(queries)
    upper = np.triu_indices(200, 1)
    distances = (codes[:, None] != codes).mean(axis=2)[upper]
    assert np.corrcoef(distances, (1 - Z @ Z.T)[upper])[0, 1] > 0.7


# Pairs and their distances.


@pytest.mark.parametrize(("n", "n_partners"), [(2, 1), (30, 4), (30, 28), (30, 29), (30, 500)])
def test_pairs_are_distinct_pairs_of_distinct_samples(n, n_partners):
    first, second = _draw_pairs(n, n_partners, np.random.RandomState(0))
    assert np.all((first >= 0) & (first < second) & (second < n))
    assert len(set(zip(first, second, strict=True))) == len(first)
    assert set(first) | set(second) == set(range(n))
    if n_partners >= n - 1:
        assert len(first) == n * (n - 1) // 2


def test_partners_are_uniform():
    rng = np.random.RandomState(0)
    counts = np.zeros((5, 5))
    for _ in range(4000):
        np.add.at(counts, tuple(_draw_pairs(5, 1, rng)), 1)
    counts = counts[np.triu_indices(5, 1)]
    # Drawn by either of the two, by each with a chance of a quarter.
    assert np.all(np.abs(counts / 4000 - 7 / 16) < 0.03)


def test_relevance_is_one_shared_label(data):
    Y = data[1].copy()
    Y[:5] = 0
    pairs = _draw_pairs(120, 200, None)
    R = (Y.astype(int) @ Y.T)[tuple(pairs)]
    assert_array_equal(_share_none(Y, pairs), R == 0)


def test_pairs_in_blocks(data, monkeypatch):
    pairs = _draw_pairs(120, 200, None)
    expected = _share_none(data[1], pairs)
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 100)
    assert_array_equal(_share_none(data[1], pairs), expected)


def test_all_samples_where_there_are_fewer_than_asked_for(data):
    hasher = BREHasher(4, n_anchors=300, max_iter=2, random_state=0).fit(*data)
    assert_array_equal(np.sort(hasher.anchor_indices_, axis=1), np.tile(np.arange(120), (4, 1)))
    everything = clone(hasher).set_params(n_pair_samples=None).fit(*data)
    assert_array_equal(everything.components_, hasher.components_)


def test_memory_does_not_grow_with_the_samples_that_are_not_learnt_from():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20000, 4)), rng.integers(3, size=20000)
    hasher = BREHasher(4, n_pair_samples=100, max_iter=2, random_state=0)
    tracemalloc.start()
    hasher.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * X.nbytes


# Units, types, randomness and errors.


@pytest.mark.parametrize("factor", [2.0**-12, 2.0**12])
def test_features_have_no_unit(factor, data):
    X, Y = data
    hasher = BREHasher(4, max_iter=5, random_state=0)
    codes = clone(hasher).fit_transform(X, Y)
    assert_array_equal(clone(hasher).fit_transform(X * factor, Y), codes)


def test_label_sets_class_labels_and_sparse_matrices(data):
    X, Y = data
    hasher = BREHasher(4, max_iter=3, random_state=0)
    expected = clone(hasher).fit(X, Y).components_
    assert_array_equal(clone(hasher).fit(X, sparse.csr_array(Y)).components_, expected)
    y = np.random.default_rng(0).integers(0, 4, 120)
    expected = clone(hasher).fit(X, np.eye(4)[y]).components_
    assert_array_equal(clone(hasher).fit(X, y).components_, expected)
    assert not np.array_equal(clone(hasher).fit(X).components_, expected)


def test_equal_samples_are_harmless(data):
    X, Y = np.r_[data[0], data[0]], np.r_[data[1], data[1]]
    X[:3] = X.mean(axis=0)
    hasher = BREHasher(6, n_anchors=10, max_iter=20, tol=0, random_state=0).fit(X, Y)
    assert np.isfinite(hasher.components_).all()
    assert np.all(np.diff(hasher.objective_) <= 1e-12)


def test_float32(data):
    X, Y = data[0].astype(np.float32), data[1]
    hasher = BREHasher(8, max_iter=5, random_state=0)
    single = clone(hasher).fit(X, Y)
    for array in (single.components_, single.mean_, single.project(X)):
        assert array.dtype == np.float32
    assert (single.transform(X) == clone(hasher).fit(*data).transform(data[0])).mean() > 0.6


def test_random_state_decides_everything(data):
    hasher = BREHasher(4, max_iter=3, random_state=0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = clone(hasher).fit(*data)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert_array_equal(clone(hasher).fit(*data).components_, first.components_)
    other = clone(hasher).set_params(random_state=1).fit(*data)
    assert not np.array_equal(other.components_, first.components_)


def test_input_is_left_alone(data):
    X, Y = data[0].copy(), data[1].copy()
    BREHasher(4, max_iter=2, random_state=0).fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


def test_errors_where_pairs_tell_nothing_apart(data):
    X, Y = data
    for y in (np.arange(120), np.zeros((120, 3), int)):
        with pytest.raises(ValueError, match=r"None of the \d+ pairs that BREHasher drew share"):
            BREHasher(4).fit(X, y)
    for y in (["a"] * 120, np.c_[Y, np.ones(120)]):
        with pytest.raises(ValueError, match=r"All of the \d+ pairs that BREHasher drew share"):
            BREHasher(4).fit(X, y)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 / 3])
def test_error_on_constant_features(constant, data):
    X = np.full((120, 7), constant) + np.arange(7)
    for y in (None, data[1]):
        with pytest.raises(ValueError, match="X should vary over the training samples"):
            BREHasher(4).fit(X, y)


def test_error_where_the_drawn_samples_do_not_vary():
    X = np.zeros((2000, 3))
    X[0] = 1
    with pytest.raises(ValueError, match="X should vary over the training samples, got 3 rows"):
        BREHasher(4, n_pair_samples=3, random_state=0).fit(X)


@pytest.mark.parametrize(
    "param",
    [
        {"n_anchors": 0},
        {"n_pair_samples": 1},
        {"n_partners": 0},
        {"max_iter": 0},
        {"tol": -1.0},
        {"n_bits": 0},
    ],
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of BREHasher must be a"):
        BREHasher(**param).fit(*data)
