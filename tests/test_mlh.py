"""MLH: exact inference, a bound and its gradient, steps of a perceptron, pairs of label sets."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.preprocessing import label_binarize

from skhash import LSHHasher, MLHHasher
from skhash._linear import signs
from skhash._mlh import _loss_adjusted_inference, _PairedLabels

LOSSES = [(0, 1.0), (1, 0.3), (2.5, 1.0), (4, 2.0), (9, 0.5)]
SCALES = [0.05, 0.5, 1.0, 4.0]


@pytest.fixture(scope="module")
def data():
    """Features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    return X, (Z > 0.5).astype(np.uint8)


def projections(n_pairs, n_bits, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, n_pairs, n_bits)) * scale, rng.random(n_pairs) < 0.5


def pair_loss(h, g, similar, rho, weight):
    distance = (h != g).sum(axis=-1)
    return np.where(
        similar, np.maximum(0, distance - rho + 1), weight * np.maximum(0, rho - distance + 1)
    )


def all_codes(n_bits):
    return np.array(np.meshgrid(*[[-1.0, 1.0]] * n_bits)).reshape(n_bits, -1).T


# Inference: against all pairs of codes, and against the sort of the paper.


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("n_bits", [1, 2, 5])
def test_inference_equals_enumeration_of_all_pairs_of_codes(n_bits, scale, loss):
    (f, g), similar = projections(20, n_bits, scale)
    bound, best = _loss_adjusted_inference(f, g, similar, *loss)
    codes = all_codes(n_bits)
    for i in range(20):
        losses = pair_loss(codes[:, None], codes, similar[i], *loss)
        top = (losses + (codes @ f[i])[:, None] + codes @ g[i]).max()
        h, h_other = best[:, i]
        assert_allclose(bound[i] + np.abs(f[i]).sum() + np.abs(g[i]).sum(), top)
        assert_allclose(pair_loss(h, h_other, similar[i], *loss) + h @ f[i] + h_other @ g[i], top)


def sorted_inference(f, g, similar, rho, weight):
    """Maximum of loss and agreement, by the best codes of each distance."""
    rise = np.sort(np.abs(f - g) - np.abs(f + g))[::-1]
    agreement = np.abs(f + g).sum() + np.r_[0, np.cumsum(rise)]
    distance = np.arange(len(f) + 1)
    loss = np.maximum(0, distance - rho + 1 if similar else weight * (rho - distance + 1))
    return (agreement + loss).max()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("n_bits", [7, 64])
def test_inference_equals_the_sort_of_the_paper(n_bits, loss):
    for scale in SCALES:
        (f, g), similar = projections(20, n_bits, scale)
        bound = _loss_adjusted_inference(f, g, similar, *loss)[0]
        own = np.abs(f).sum(axis=1) + np.abs(g).sum(axis=1)
        top = [sorted_inference(*row, *loss) for row in zip(f, g, similar, strict=True)]
        assert_allclose(bound + own, top)


def test_inference_where_projections_are_zero():
    zeros = np.zeros((2, 6))
    bound, codes = _loss_adjusted_inference(zeros, zeros, np.array([True, False]), 2, 0.5)
    # The worst codes are free: similar ones differ in every bit, dissimilar ones in none.
    assert_allclose(bound, [5, 1.5])
    assert_array_equal((codes[0] != codes[1]).sum(axis=1), [6, 0])
    assert set(np.unique(codes)) <= {-1, 1}


# The bound.


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", SCALES)
def test_bound_is_at_least_the_loss_and_tight_for_large_projections(scale, loss):
    (f, g), similar = projections(200, 6, scale)
    own = pair_loss(signs(f), signs(g), similar, *loss)
    bound = _loss_adjusted_inference(f, g, similar, *loss)[0]
    assert np.all(bound >= own - 1e-12)
    assert np.any(bound > own + 0.01)
    assert_allclose(_loss_adjusted_inference(f * 1e6, g * 1e6, similar, *loss)[0], own, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_codes_minus_signs_are_the_gradient_of_the_bound(loss):
    pair, similar = projections(30, 5, 0.6)
    bound, codes = _loss_adjusted_inference(*pair, similar, *loss)
    assert (bound > 0).any()
    gradient, step = codes - signs(pair), 1e-6
    for position in np.ndindex(2, 5):
        shift = np.zeros((2, 1, 5))
        shift[position[0], 0, position[1]] = step
        high, low = (
            _loss_adjusted_inference(*pair + s, similar, *loss)[0] for s in (shift, -shift)
        )
        slope = (high - low) / (2 * step)
        assert_allclose(slope, gradient[position[0], :, position[1]], atol=1e-6)


def test_no_gradient_where_the_bound_is_zero():
    h = np.random.default_rng(0).choice([-5.0, 5.0], size=(50, 8))
    for g, similar in ((h, True), (-h, False)):
        bound, codes = _loss_adjusted_inference(h, g, np.full(50, similar), 3, 1.0)
        assert_array_equal(bound, 0)
        assert_array_equal(codes, [h / 5, g / 5])


# Pairs.


def shared_labels(Y):
    return Y.astype(int) @ Y.T.astype(int)


def test_pairs_are_what_they_say(data):
    Y = data[1].copy()
    Y[:3] = 0
    labels, rng = _PairedLabels(Y), np.random.RandomState(0)
    anchors = np.repeat(np.arange(0, 120, 2), 3000)
    first, second, similar = labels.draw(anchors, 40, rng)
    R = shared_labels(Y)
    assert_array_equal(R[anchors[first], second] > 0, similar)
    assert not (anchors[first] == second).any()
    # Every other sample with a shared label is drawn at some time.
    drawn = np.zeros(R.shape, bool)
    drawn[anchors[first][similar], second[similar]] = True
    assert_array_equal(drawn[::2], ((R > 0) & ~np.eye(120, dtype=bool))[::2])
    # A sample without labels is in dissimilar pairs only.
    assert not similar[anchors[first] == 0].any()
    assert (anchors[first] == 0).any()


def test_each_sample_is_in_one_pair_of_each_kind_at_most(data):
    labels, rng = _PairedLabels(data[1]), np.random.RandomState(0)
    first, _, similar = labels.draw(labels.anchors, 60, rng)
    for kind in (similar, ~similar):
        assert len(np.unique(first[kind])) == kind.sum() > 100


def test_errors_without_similar_or_dissimilar_pairs(data):
    X, Y = data
    for y in (np.arange(120), np.zeros((120, 3), int)):
        with pytest.raises(ValueError, match="no two of the 120 samples do"):
            MLHHasher(4).fit(X, y)
    for y in (["a"] * 120, np.c_[Y, np.ones(120)]):
        with pytest.raises(ValueError, match="Every two of the 120 samples share a label"):
            MLHHasher(4).fit(X, y)


def test_search_for_a_dissimilar_pair_in_blocks(data, monkeypatch):
    monkeypatch.setattr("skhash._mlh._BLOCK_ROWS", 7)
    X, Y = data[0], np.ones((120, 2), int)
    with pytest.raises(ValueError, match="Every two"):
        MLHHasher(2, max_epochs=1).fit(X, Y)
    Y[60, 0] = Y[100, 1] = 0
    MLHHasher(2, max_epochs=1).fit(X, Y)


# A step: a perceptron's, and the gradient of its objective.


@pytest.fixture(scope="module")
def step(data):
    X, Y = data
    hasher = MLHHasher(4, loss_scale=0.3, dissimilar_weight=0.7, max_epochs=1, random_state=0)
    hasher.fit(X, Y)
    rng = np.random.RandomState(1)
    anchors = np.arange(0, 120, 4)
    drawn = _PairedLabels(Y).draw(anchors, 25, rng)
    return hasher, X, anchors, drawn, rng.normal(size=(4, 7))


def test_step_equals_a_loop_over_pairs(step):
    hasher, X, anchors, (first, second, similar), weights = step
    Z = (X - hasher.mean_) / hasher.scale_
    codes = all_codes(4)
    expected, bounds = np.zeros_like(weights), []
    for i, j, s in zip(anchors[first], second, similar, strict=True):
        f, g = weights @ Z[i], weights @ Z[j]
        values = 0.3 * pair_loss(codes[:, None], codes, s, 4 / 3, 0.7)
        values = values + (codes @ f)[:, None] + codes @ g
        a, b = np.unravel_index(values.argmax(), values.shape)
        bounds.append(values.max() - np.abs(f).sum() - np.abs(g).sum())
        expected += np.outer(codes[a] - signs(f), Z[i]) + np.outer(codes[b] - signs(g), Z[j])
    found = hasher._step(X, None, weights, anchors, first, second, similar)
    assert_allclose(found[0] * 0.3, bounds, atol=1e-12)
    assert_allclose(found[1], expected / len(first), atol=1e-12)
    assert np.abs(expected).max() > 0


def test_step_is_the_gradient_of_the_mean_bound(step):
    hasher, X, anchors, drawn, weights = step
    gradient = hasher._step(X, None, weights, anchors, *drawn)[1]
    for position in np.ndindex(weights.shape):
        shift = np.zeros_like(weights)
        shift[position] = 1e-7
        high, low = (
            hasher._step(X, None, weights + s, anchors, *drawn)[0].mean() * 0.3
            for s in (shift, -shift)
        )
        assert_allclose((high - low) / 2e-7, gradient[position], atol=1e-5)


# Training.


def test_separable_classes_are_told_apart_and_better_than_by_random_hyperplanes():
    # Two directions of ten tell four classes; the others are louder noise.
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=600)
    X = rng.normal(size=(600, 10)) * 3
    X[:, 0], X[:, 1] = y // 2 * 4 + rng.normal(size=600) / 4, y % 2 * 4 + rng.normal(size=600) / 4
    hasher = MLHHasher(8, random_state=0).fit(X[200:], y[200:])
    random = LSHHasher(8, random_state=0).fit(X[200:], y[200:])
    assert hasher.score(X[:200], y[:200]) > 0.95
    assert hasher.score(X[:200], y[:200]) > random.score(X[:200], y[:200]) + 0.4


def test_training_lowers_the_bound_on_digits():
    X, y = load_digits(return_X_y=True)
    hasher = MLHHasher(16, max_epochs=20, random_state=0).fit(X[300:], y[300:])
    assert len(hasher.loss_curve_) == 20
    assert hasher.loss_curve_[-1] < 0.3 * hasher.loss_curve_[0]
    random = LSHHasher(16, random_state=0).fit(X[300:], y[300:])
    assert hasher.score(X[:300], y[:300]) > random.score(X[:300], y[:300]) + 0.25


def test_hash_function(data):
    X = data[0]
    hasher = MLHHasher(5, max_epochs=3, random_state=0).fit(*data)
    Z = (X - hasher.mean_) / hasher.scale_
    assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    assert_allclose((Z**2).sum(axis=1).mean(), 1)
    assert_allclose(np.linalg.norm(hasher.components_, axis=1), 1)
    assert_allclose(hasher.project(X), Z @ hasher.components_.T)


def test_rho_is_linear_in_the_length_of_codes(data):
    for n_bits in (3, 8):
        hasher = MLHHasher(n_bits, max_epochs=1, random_state=0)
        assert clone(hasher).fit(*data).rho_ == n_bits / 3
        given = clone(hasher).set_params(rho=n_bits / 3).fit(*data)
        assert_array_equal(given.components_, clone(hasher).fit(*data).components_)
        assert clone(hasher).set_params(rho=0).fit(*data).rho_ == 0


@pytest.mark.parametrize("factor", [2.0**-12, 2.0**12])
def test_features_have_no_unit(factor, data):
    # By a power of two, so that rounding is the same.
    X, Y = data
    hasher = MLHHasher(4, max_epochs=5, random_state=0)
    codes = clone(hasher).fit_transform(X, Y)
    assert_array_equal(clone(hasher).fit_transform(X * factor, Y), codes)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size(batch_size, data):
    hasher = MLHHasher(4, max_epochs=4, batch_size=batch_size, random_state=0).fit(*data)
    assert np.isfinite(hasher.loss_curve_).all()


def test_label_sets_class_labels_and_sparse_matrices(data):
    X, Y = data
    hasher = MLHHasher(4, max_epochs=3, random_state=0)
    expected = clone(hasher).fit(X, Y).components_
    assert_array_equal(clone(hasher).fit(X, sparse.csr_array(Y)).components_, expected)
    y = np.random.default_rng(0).integers(0, 4, 120)
    expected = clone(hasher).fit(X, label_binarize(y, classes=range(4))).components_
    assert_array_equal(clone(hasher).fit(X, y).components_, expected)


def test_random_state_decides_everything(data):
    hasher = MLHHasher(4, max_epochs=3, random_state=0)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = clone(hasher).fit(*data)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    again = clone(hasher).fit(*data)
    assert_array_equal(again.components_, first.components_)
    assert_array_equal(again.loss_curve_, first.loss_curve_)
    other = clone(hasher).set_params(random_state=1).fit(*data)
    assert not np.array_equal(other.components_, first.components_)


def test_float32_in_float32_work(data):
    X, Y = data[0].astype(np.float32), data[1]
    hasher = MLHHasher(4, max_epochs=3, random_state=0).fit(X, Y)
    for array in (hasher.components_, hasher.mean_, hasher.scale_, hasher.project(X)):
        assert array.dtype == np.float32
    (f, g), similar = projections(3, 4)
    single = f.astype(np.float32), g.astype(np.float32)
    bound, codes = _loss_adjusted_inference(*single, similar, 2, 1.0)
    assert bound.dtype == codes.dtype == np.float32


def test_input_is_left_alone(data):
    X, Y = data[0].copy(), data[1].copy()
    MLHHasher(4, max_epochs=2, random_state=0).fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


def test_error_on_constant_features(data):
    with pytest.raises(ValueError, match="X should vary over the training samples"):
        MLHHasher(4).fit(np.ones((120, 7)), data[1])


@pytest.mark.parametrize(
    "param",
    [
        {"rho": -1.0},
        {"rho": "half"},
        {"dissimilar_weight": 0},
        {"loss_scale": 0},
        {"max_epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"n_bits": 0},
    ],
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MLHHasher must be a"):
        MLHHasher(**param).fit(*data)
