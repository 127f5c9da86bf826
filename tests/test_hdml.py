"""HDML: exact inference, a bound and its gradient, triplets in the order of shared labels."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.preprocessing import label_binarize

from skhash import LSHHasher
from skhash._hdml import (
    HDMLHasher,
    _hardest_negatives,
    _loss_augmented_inference,
    _RankedLabels,
    _shares_unequally,
)
from skhash._linear import signs

MARGINS = [0.5, 1, 3, 6, 10]
SCALES = [0.05, 0.5, 1.0, 4.0]


@pytest.fixture(scope="module")
def data():
    """Features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    return X, (Z > 0.5).astype(np.uint8)


def projections(n_triplets, n_bits, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(size=(3, n_triplets, n_bits)) * scale


def triplet_loss(codes, margin):
    h, h_pos, h_neg = codes
    m = (h != h_pos).sum(axis=-1) - (h != h_neg).sum(axis=-1)
    return np.maximum(0, margin + m)


def augmented(codes, f, margin):
    """What inference maximises: loss plus agreement."""
    return triplet_loss(codes, margin) + (codes * f).sum(axis=(0, 2))


def own_agreement(f):
    return np.abs(f).sum(axis=(0, 2))


# Inference: against all codes, and against the dynamic program of the paper.


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("scale", SCALES)
def test_inference_equals_enumeration_of_all_codes(scale, margin):
    n_bits = 6
    codes = np.array(np.meshgrid(*[[-1.0, 1.0]] * n_bits)).reshape(n_bits, -1).T
    distances = (n_bits - codes @ codes.T) / 2
    losses = np.maximum(0, margin + distances[:, :, None] - distances[:, None, :])
    assert losses.size == 2**18
    f = projections(4, n_bits, scale)
    bound, best = _loss_augmented_inference(*f, margin)
    for i in range(4):
        a, b, c = codes @ f[0, i], codes @ f[1, i], codes @ f[2, i]
        top = (losses + a[:, None, None] + b[:, None] + c).max()
        assert_allclose(bound[i] + own_agreement(f[:, [i]]), top)
        assert_allclose(augmented(best[:, [i]], f[:, [i]], margin), top)


def dynamic_program(f, margin):
    """Maximum of loss and agreement, by the best agreement for each difference of distances."""
    n_bits = f.shape[1]
    best = np.full(2 * n_bits + 1, -np.inf)
    best[n_bits] = 0
    for u, v, w in f.T:
        nearer, same, farther = abs(u + v - w), abs(u) + abs(v + w), abs(u - v + w)
        padded = np.pad(best, 1, constant_values=-np.inf)
        best = np.maximum.reduce([padded[2:] + nearer, best + same, padded[:-2] + farther])
    return (best + np.maximum(0, margin + np.arange(-n_bits, n_bits + 1))).max()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("n_bits", [1, 7, 64])
def test_inference_equals_the_dynamic_program(n_bits, margin):
    for scale in SCALES:
        f = projections(20, n_bits, scale)
        bound, best = _loss_augmented_inference(*f, margin)
        top = [dynamic_program(f[:, i], margin) for i in range(20)]
        assert_allclose(bound + own_agreement(f), top)
        assert_allclose(augmented(best, f, margin), top)


def test_inference_where_projections_are_zero():
    f = np.zeros((3, 2, 5))
    bound, codes = _loss_augmented_inference(*f, 1)
    # The worst codes are free: the positive differs in every bit, the negative in none.
    assert_allclose(bound, 6)
    assert_allclose(triplet_loss(codes, 1), 6)
    assert set(np.unique(codes)) <= {-1, 1}


# The bound.


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("scale", SCALES)
def test_bound_is_at_least_the_loss_and_tight_for_large_projections(scale, margin):
    f = projections(200, 6, scale)
    loss = triplet_loss(signs(f), margin)
    bound = _loss_augmented_inference(*f, margin)[0]
    assert np.all(bound >= loss - 1e-12)
    assert np.any(bound > loss + 0.01)
    assert_allclose(_loss_augmented_inference(*f * 1e6, margin)[0], loss, atol=1e-6)


@pytest.mark.parametrize("margin", [1, 4])
def test_codes_minus_signs_are_the_gradient_of_the_bound(margin):
    f, step = projections(30, 5, 0.6), 1e-6
    bound, codes = _loss_augmented_inference(*f, margin)
    assert 0 < (bound > 0).mean() <= 1
    gradient = codes - signs(f)
    for position in np.ndindex(3, 5):
        shift = np.zeros((3, 1, 5))
        shift[position[0], 0, position[1]] = step
        high, low = (_loss_augmented_inference(*f + s, margin)[0] for s in (shift, -shift))
        assert_allclose(
            (high - low) / (2 * step), gradient[position[0], :, position[1]], atol=1e-6
        )


def test_no_gradient_where_the_bound_is_zero():
    h = np.random.default_rng(0).choice([-5.0, 5.0], size=(50, 8))
    bound, codes = _loss_augmented_inference(h, h, -h, 1)
    assert_array_equal(bound, 0)
    assert_array_equal(codes, [h / 5, h / 5, -h / 5])


def test_margin_above_the_number_of_bits_is_never_met(data):
    f = projections(100, 3, 2.0)
    bounds = [_loss_augmented_inference(*f, margin)[0] for margin in (3, 8)]
    assert np.all(bounds[1] >= 5)
    assert_allclose(bounds[1] - bounds[0], 5)
    hasher = HDMLHasher(3, margin=8, max_epochs=30, random_state=0).fit(*data)
    assert min(hasher.loss_curve_) >= 5
    assert hasher.loss_curve_[-1] < hasher.loss_curve_[0]


# Triplets.


def shared_labels(Y):
    return Y.astype(int) @ Y.T.astype(int)


@pytest.mark.parametrize("density", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("n_labels", [1, 2, 6])
def test_anchors_are_the_samples_that_share_unequally(n_labels, density):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = rng.integers(2, 12)
        Y = (rng.random((n, n_labels)) < density).astype(np.uint8)
        others = ~np.eye(n, dtype=bool)
        expected = [len(set(row[o])) > 1 for row, o in zip(shared_labels(Y), others, strict=True)]
        assert_array_equal(_shares_unequally(sparse.csr_array(Y, dtype=np.int64)), expected)


def test_anchors_in_blocks(monkeypatch, data):
    Y = sparse.csr_array(data[1], dtype=np.int64)
    expected = _shares_unequally(Y)
    monkeypatch.setattr("skhash._hdml._BLOCK_ROWS", 7)
    assert_array_equal(_shares_unequally(Y), expected)


def test_sampled_triplets_obey_the_order_of_shared_labels(data):
    Y = data[1]
    labels, rng = _RankedLabels(Y), np.random.RandomState(0)
    some = labels.anchors[::10]
    anchors = np.repeat(some, 5000)
    positives = labels.draw_positives(anchors, rng)
    R = shared_labels(Y)
    # Every other sample with a shared label is drawn at some time, and no other.
    drawn = np.zeros(R.shape, bool)
    drawn[anchors, positives] = True
    assert_array_equal(drawn[some], ((R > 0) & ~np.eye(len(Y), dtype=bool))[some])
    pool = rng.randint(len(Y), size=50)
    allowed = labels.share_fewer(anchors, positives, pool)
    assert_array_equal(allowed, R[anchors][:, pool] < R[anchors, positives][:, None])
    assert not np.any(allowed & (pool == anchors[:, None]))


def test_positives_are_uniform_over_a_class():
    Y = label_binarize([0, 0, 0, 0, 1, 1, 2], classes=range(3)).astype(np.uint8)
    labels = _RankedLabels(Y)
    assert_array_equal(labels.anchors, range(6))
    draw = labels.draw_positives(np.full(6000, 1), np.random.RandomState(0))
    counts = np.bincount(draw, minlength=7)
    assert counts[[1, 4, 5, 6]].sum() == 0
    assert np.all(abs(counts[[0, 2, 3]] - 2000) < 150)
    last = labels.draw_positives(np.full(600, 3), np.random.RandomState(0))
    assert set(last) == {0, 1, 2}


def test_labels_that_rank_nothing_are_not_drawn():
    # Column 0 is carried by all, column 1 by one: only column 2 ranks.
    Y = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]], np.uint8)
    labels = _RankedLabels(Y)
    assert_array_equal(labels.anchors, [0, 1])
    drawn = labels.draw_positives(np.repeat([0, 1], 50), np.random.RandomState(0))
    assert_array_equal(drawn, np.repeat([1, 0], 50))


def test_hardest_negative_is_the_nearest_allowed():
    rng = np.random.default_rng(0)
    f, pool = rng.normal(size=(30, 8)), rng.normal(size=(20, 8))
    allowed = rng.random((30, 20)) < 0.1
    keep, hardest = _hardest_negatives(f, pool, allowed)
    assert_array_equal(keep, np.flatnonzero(allowed.any(axis=1)))
    assert 0 < len(keep) < 30
    distances = ((f >= 0)[:, None] != (pool >= 0)).sum(axis=2)
    assert np.all(allowed[keep, hardest])
    expected = np.where(allowed, distances, 99).min(axis=1)[keep]
    assert_array_equal(distances[keep, hardest], expected)


# A step: the gradient of its objective.


@pytest.mark.parametrize("balance", [0.0, 4.0])
def test_gradient_of_a_step(balance, data):
    X, Y = data
    hasher = HDMLHasher(4, balance=balance, weight_decay=0.1, max_epochs=1, random_state=0)
    hasher.fit(X, Y)
    labels, rng = _RankedLabels(Y), np.random.RandomState(1)
    weights = rng.normal(size=(4, 8))
    weights[:2, -1] += [0.2, 3.0]  # a mean below and one above where the penalty turns linear
    anchors = labels.anchors[::4]
    positives = labels.draw_positives(anchors, rng)
    pool = rng.randint(len(X), size=25)

    def objective(W):
        bounds = hasher._step(X, labels, W, anchors, positives, pool)[0]
        mean = np.abs((hasher._inputs(X[anchors]) @ W.T).mean(axis=0))
        huber = np.where(mean < 0.5, mean**2 / 2, 0.5 * mean - 0.125)
        return bounds.mean() + balance * huber.sum() + 0.05 * (W**2).sum()

    gradient = hasher._step(X, labels, weights, anchors, positives, pool)[1]
    for position in np.ndindex(weights.shape):
        shift = np.zeros_like(weights)
        shift[position] = 1e-7
        slope = (objective(weights + shift) - objective(weights - shift)) / 2e-7
        assert_allclose(slope, gradient[position], atol=1e-5)


# Training.


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[300:], y[300:], X[:300], y[:300]


def mean_bound(hasher, X, Y):
    """Mean bound over the same random triplets, whatever the hasher."""
    labels = _RankedLabels(label_binarize(Y, classes=range(10)).astype(np.uint8))
    rng = np.random.RandomState(5)
    anchors = rng.choice(labels.anchors, 1000)
    positives, others = labels.draw_positives(anchors, rng), rng.randint(len(X), size=1000)
    ranked = labels.share_fewer(anchors, positives, others).diagonal()
    f = hasher.project(X)[np.stack([anchors, positives, others])[:, ranked]]
    return _loss_augmented_inference(*f, hasher.margin)[0].mean()


def test_training_lowers_the_bound_and_beats_random_hyperplanes(digits):
    X, y, queries, targets = digits
    hasher = HDMLHasher(16, max_epochs=20, random_state=0).fit(X, y)
    start = HDMLHasher(16, max_epochs=1, learning_rate=1e-9, random_state=0).fit(X, y)
    assert len(hasher.loss_curve_) == 20
    assert hasher.loss_curve_[-1] < 0.5 * hasher.loss_curve_[0]
    assert mean_bound(hasher, queries, targets) < 0.4 * mean_bound(start, queries, targets)
    random = LSHHasher(16, random_state=0).fit(X, y)
    score = hasher.score(queries, targets)
    assert score > random.score(queries, targets) + 0.3
    assert score > start.score(queries, targets) + 0.3
    ones = hasher.transform(queries).mean(axis=0)
    assert np.all((ones > 0.2) & (ones < 0.8))


def test_initial_hyperplanes_halve_the_samples(data):
    X = data[0]
    start = HDMLHasher(6, max_epochs=1, learning_rate=1e-9, random_state=0).fit(*data)
    assert_allclose(np.median(start.project(X), axis=0), 0, atol=1e-6)
    assert_array_equal(start.transform(X).sum(axis=0), len(X) // 2)


def test_mean_and_scale(data):
    X = data[0]
    hasher = HDMLHasher(2, max_epochs=1, random_state=0).fit(*data)
    Z = (X - hasher.mean_) / hasher.scale_
    assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    assert_allclose((Z**2).sum(axis=1).mean(), 1)
    assert_allclose(hasher.project(X), Z @ hasher.components_.T + hasher.intercept_)
    assert_allclose(hasher._inputs(X), np.c_[Z, np.ones(len(X))])


@pytest.mark.parametrize("factor", [2.0**-12, 2.0**12])
def test_features_have_no_unit(factor, data):
    # By a power of two, so that rounding is the same.
    X, Y = data
    hasher = HDMLHasher(4, max_epochs=5, random_state=0)
    codes = clone(hasher).fit_transform(X, Y)
    assert_array_equal(clone(hasher).fit_transform(X * factor, Y), codes)


def test_loss_curve_is_nan_where_no_batch_had_a_triplet():
    X, Y = np.array([[0.0], [1.0], [5.0]]), [[1, 0], [1, 0], [0, 1]]
    hashers = [HDMLHasher(2, max_epochs=1, batch_size=1, random_state=s) for s in range(20)]
    lost = [np.isnan(h.fit(X, Y).loss_curve_[0]) for h in hashers]
    assert 0 < sum(lost) < 20
    assert all(np.isfinite(h.project(X)).all() for h in hashers)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size(batch_size, data):
    hasher = HDMLHasher(4, max_epochs=4, batch_size=batch_size, random_state=0).fit(*data)
    assert np.isfinite(hasher.loss_curve_).all()


def test_label_sets_class_labels_and_sparse_matrices(data):
    X, Y = data
    hasher = HDMLHasher(4, max_epochs=3, random_state=0)
    expected = clone(hasher).fit(X, Y).components_
    assert_array_equal(clone(hasher).fit(X, sparse.csr_array(Y)).components_, expected)
    y = np.random.default_rng(0).integers(0, 4, 120)
    expected = clone(hasher).fit(X, label_binarize(y, classes=range(4))).components_
    assert_array_equal(clone(hasher).fit(X, y).components_, expected)
    assert_array_equal(clone(hasher).fit(X, np.array(list("abcd"))[y]).components_, expected)


def test_random_state_decides_everything(data):
    hasher = HDMLHasher(4, max_epochs=3, random_state=0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = clone(hasher).fit(*data)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    again = clone(hasher).fit(*data)
    assert_array_equal(again.components_, first.components_)
    assert_array_equal(again.loss_curve_, first.loss_curve_)
    other = clone(hasher).set_params(random_state=1).fit(*data)
    assert not np.array_equal(other.components_, first.components_)


def test_float32_in_float32_work(data):
    X, Y = data
    hasher = HDMLHasher(4, max_epochs=3, random_state=0)
    single = clone(hasher).fit(X.astype(np.float32), Y)
    for array in (single.components_, single.intercept_, single.mean_, single.scale_):
        assert array.dtype == np.float32
    assert single.project(X.astype(np.float32)).dtype == np.float32
    assert clone(hasher).fit(X, Y).components_.dtype == np.float64
    bound, codes = _loss_augmented_inference(*projections(3, 4).astype(np.float32), 1)
    assert bound.dtype == codes.dtype == np.float32


def test_input_is_left_alone(data):
    X, Y = data[0].copy(), data[1].copy()
    HDMLHasher(4, max_epochs=2, random_state=0).fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


def test_memory_is_linear_in_the_number_of_samples():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 16)).astype(np.float32)
    Y = (rng.random((20_000, 8)) < 0.3).astype(np.uint8)
    tracemalloc.start()
    HDMLHasher(8, max_epochs=1, random_state=0).fit(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of pairs would take 400 MB at a byte each.
    assert peak < 20 * (X.nbytes + Y.nbytes)


# Errors.


@pytest.mark.parametrize("Y", [np.eye(120, dtype=int), np.zeros((120, 3), int), np.arange(120)])
def test_error_where_no_two_samples_share_a_label(Y, data):
    with pytest.raises(ValueError, match="No two samples share a label: there is nothing to rank"):
        HDMLHasher(2).fit(data[0], Y)


@pytest.mark.parametrize("Y", [np.ones((120, 2), int), ["a"] * 120])
def test_error_where_no_triplet_exists(Y, data):
    with pytest.raises(ValueError, match=r"Every sample shares as many labels.*no triplet exists"):
        HDMLHasher(2).fit(data[0], Y)


def test_error_on_constant_features(data):
    with pytest.raises(ValueError, match="X should vary over the training samples, got 120 equal"):
        HDMLHasher(2).fit(np.full((120, 7), 0.1), data[1])


@pytest.mark.parametrize(
    "param",
    [
        {"margin": 0},
        {"balance": -1.0},
        {"max_epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -0.1},
    ],
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of HDMLHasher must be a"):
        HDMLHasher(2, **param).fit(*data)
