"""Spectral hashing: naive formulas and the Laplacian of a path as oracles."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA

from skhash._spectral import SpectralHasher, _smoothest_modes


@pytest.fixture(scope="module")
def data():
    """Correlated features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    return X, (Z > 0.5).astype(np.uint8)


def grid(n, length=1.0):
    """The middles of `n` equal parts of a line."""
    return (np.arange(n)[:, None] + 0.5) * length / n


def by_enumeration(lengths, n_bits):
    """The least eigenvalues of all pairs of direction and mode, and the pairs."""
    pairs = [
        ((k * np.pi / length) ** 2, j, k)
        for j, length in enumerate(lengths)
        for k in range(1, n_bits + 1)
    ]
    return zip(*sorted(pairs)[:n_bits], strict=True)


# Which eigenfunctions.


@pytest.mark.parametrize("n_bits", [1, 2, 9, 40])
@pytest.mark.parametrize("seed", range(4))
def test_modes_are_the_least_of_all_pairs(seed, n_bits):
    lengths = np.random.default_rng(seed).permutation([3.1, 2.0, 1.7, 0.61, 0.05, 1e-9])
    _, directions, modes = by_enumeration(lengths, n_bits)
    found = _smoothest_modes(lengths, n_bits)
    assert_array_equal(found[0], directions)
    assert_array_equal(found[1], modes)


def test_of_equal_eigenvalues_the_earlier_direction_comes_first():
    directions, modes = _smoothest_modes(np.array([1.0, 2.0, 1.0]), 8)
    assert_array_equal(modes, [1, 1, 2, 1, 3, 2, 4, 2])
    assert_array_equal(directions, [1, 0, 1, 2, 1, 0, 1, 2])
    directions, modes = _smoothest_modes(np.ones(100), 150)
    assert_array_equal(directions, np.r_[:100, :50])
    assert_array_equal(modes, np.repeat([1, 2], [100, 50]))


@pytest.mark.parametrize("n_bits", [1, 5, 30])
def test_fitted_eigenvalues_are_the_least_of_all_pairs(n_bits, data):
    hasher = SpectralHasher(n_bits).fit(data[0])
    eigenvalues, directions, modes = by_enumeration(hasher.upper_ - hasher.lower_, n_bits)
    assert_allclose(hasher.eigenvalues_, eigenvalues)
    assert_array_equal(hasher.directions_, directions)
    assert_array_equal(hasher.modes_, modes)


@pytest.mark.parametrize(("n_bits", "n_directions"), [(1, 1), (4, 4), (7, 7), (20, 7)])
def test_directions_are_principal_components_on_their_ranges(n_bits, n_directions, data):
    X = data[0]
    hasher = SpectralHasher(n_bits).fit(X)
    assert hasher.components_.shape == (n_directions, 7)
    pca = PCA(n_directions, svd_solver="full").fit(X)
    signs = np.sign((pca.components_ * hasher.components_).sum(axis=1))
    assert_allclose(signs[:, None] * hasher.components_, pca.components_, atol=1e-8)
    along = (X - X.mean(axis=0)) @ hasher.components_.T
    assert_allclose(hasher.lower_, along.min(axis=0))
    assert_allclose(hasher.upper_, along.max(axis=0))
    assert np.all(hasher.lower_ < along.min(axis=0))
    assert np.all(hasher.upper_ > along.max(axis=0))


def test_long_sides_have_more_bits():
    x, y = np.meshgrid(grid(50, 2.5), grid(40, 1.0))
    X = np.c_[y.ravel(), x.ravel()]
    hasher = SpectralHasher(5).fit(X)
    assert_allclose(np.abs(hasher.components_), [[0, 1], [1, 0]], atol=1e-8)
    # k / 2.5 = 0.4, 0.8, 1.2, 1.6 and k / 1 = 1, but for the halves of cells at the ends.
    assert_array_equal(hasher.directions_, [0, 0, 1, 0, 0])
    assert_array_equal(hasher.modes_, [1, 2, 1, 3, 4])


# Their values.


def test_projection_equals_the_naive_formula(data):
    X = data[0]
    hasher = SpectralHasher(12).fit(X[:100])
    expected = np.empty((120, 12))
    for i, x in enumerate(X):
        for b in range(12):
            j, k = hasher.directions_[b], hasher.modes_[b]
            mn, mx = hasher.lower_[j], hasher.upper_[j]
            along = hasher.components_[j] @ (x - hasher.mean_)
            expected[i, b] = np.sin(np.pi / 2 + k * np.pi / (mx - mn) * (along - mn))
    assert_allclose(hasher.project(X), expected, atol=1e-10)
    assert_array_equal(hasher.transform(X), expected >= 0)


def test_first_bit_of_a_line_splits_it_at_the_middle():
    bits = SpectralHasher(1).fit_transform(grid(100))[:, 0]
    assert bits[0] != bits[-1]
    assert_array_equal(bits[:50], bits[0])
    assert_array_equal(bits[50:], bits[-1])


def test_mode_k_cuts_a_line_at_k_places():
    n = 1000
    bits = SpectralHasher(6).fit_transform(grid(n))
    for k in range(1, 7):
        cuts = np.flatnonzero(np.diff(bits[:, k - 1].astype(int))) + 1
        assert_allclose(cuts / n, (2 * np.arange(k) + 1) / (2 * k), atol=2 / n)


def test_bits_are_signs_of_the_eigenvectors_of_a_path():
    # The graph whose Laplacian tends to that of a line: neighbours on the line are linked.
    n = 201
    laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1
    values, vectors = np.linalg.eigh(laplacian)
    hasher = SpectralHasher(5).fit(np.arange(n)[:, None])
    projection = hasher.project(np.arange(n)[:, None])
    for k in range(1, 6):
        vector = vectors[:, k] * np.sign(vectors[:, k] @ projection[:, k - 1])
        # Those next to a cut may lie on either side: the ends are half a step apart.
        clear = np.abs(vector) > 0.05 * np.abs(vector).max()
        assert clear.mean() > 0.95
        assert_array_equal(projection[clear, k - 1] >= 0, vector[clear] > 0)
    assert_allclose(hasher.eigenvalues_, values[1:6], rtol=0.02)


def test_eigenfunctions_are_orthogonal_on_a_line():
    values = SpectralHasher(8).fit(grid(2000)).project(grid(2000))
    assert_allclose(values.T @ values / 2000, np.eye(8) / 2, atol=1e-2)
    assert_allclose(values.mean(axis=0), 0, atol=1e-2)


def test_ends_of_the_range(data):
    X = data[0]
    hasher = SpectralHasher(15).fit(X)
    along = (X - hasher.mean_) @ hasher.components_.T
    for b, (j, k) in enumerate(zip(hasher.directions_, hasher.modes_, strict=True)):
        ends = hasher.project(X[[along[:, j].argmin(), along[:, j].argmax()]])[:, b]
        assert_allclose(ends, [1, (-1) ** k], atol=1e-10)


def test_continuation_beyond_the_range_is_periodic():
    # Mirrored at either end, hence of a period of twice the range, here from 0 to 1.
    hasher = SpectralHasher(5).fit(np.linspace(0, 1, 101)[:, None])
    inside = np.array([[0.1], [0.33], [0.6]])
    expected = hasher.project(inside)
    assert_allclose(hasher.project(inside + 2), expected, atol=1e-10)
    assert_allclose(hasher.project(-inside), expected, atol=1e-10)
    assert_allclose(hasher.project(2 - inside), expected, atol=1e-10)


# What codes do not depend on.


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_codes_have_no_unit(factor, data):
    X = data[0]
    codes = SpectralHasher(20).fit_transform(X)
    assert_array_equal(SpectralHasher(20).fit_transform((X - 1) * factor), codes)


def test_a_mirror_image_complements_bits_of_odd_modes(data):
    X = data[0]
    hasher, mirror = SpectralHasher(20).fit(X), SpectralHasher(20).fit(-X)
    signs = np.sign((hasher.components_ * mirror.components_).sum(axis=1))
    odd = hasher.modes_ % 2 == 1
    turned = odd & (signs[hasher.directions_] > 0)
    assert turned.any()
    assert not turned.all()
    expected = hasher.project(X) * np.where(turned, -1, 1)
    assert_allclose(mirror.project(-X), expected, atol=1e-8)


def test_rotated_features_have_the_same_eigenfunctions_up_to_sign(data):
    X = data[0]
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    hasher, rotated = SpectralHasher(20).fit(X), SpectralHasher(20).fit(X @ Q + 3)
    assert_array_equal(hasher.modes_, rotated.modes_)
    assert_allclose(np.abs(rotated.project(X @ Q + 3)), np.abs(hasher.project(X)), atol=1e-8)


def test_labels_are_not_learnt_from(data):
    X, Y = data
    assert_array_equal(SpectralHasher(9).fit(X).project(X), SpectralHasher(9).fit(X, Y).project(X))


def test_input_is_left_alone(data):
    X = data[0].copy()
    SpectralHasher(9).fit(X).transform(X)
    assert_array_equal(X, data[0])


# Shapes, types and errors.


@pytest.mark.parametrize("shape", [(40, 1), (5, 6), (2, 3), (3, 50)])
def test_any_number_of_bits(shape):
    X = np.random.default_rng(0).normal(size=shape)
    hasher = SpectralHasher(25).fit(X)
    assert hasher.transform(X).shape == (shape[0], 25)
    assert len(set(zip(hasher.directions_, hasher.modes_, strict=True))) == 25
    assert np.isfinite(hasher.project(X)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_that_do_not_vary_are_harmless(dtype, data):
    X = data[0].astype(dtype)
    padded = np.c_[np.ones(120, dtype), X, np.full(120, 0.1, dtype), np.zeros(120, dtype)]
    hasher, plain = SpectralHasher(30).fit(padded), SpectralHasher(30).fit(X)
    assert_array_equal(hasher.modes_, plain.modes_)
    assert_allclose(np.abs(hasher.project(padded)), np.abs(plain.project(X)), atol=1e-3)


def test_float32_in_float32_out(data):
    X, X32 = data[0], data[0].astype(np.float32)
    single, double = SpectralHasher(12).fit(X32), SpectralHasher(12).fit(X)
    for name in ("components_", "mean_", "lower_", "upper_", "eigenvalues_"):
        assert getattr(single, name).dtype == np.float32, name
        assert getattr(double, name).dtype == np.float64, name
    assert single.project(X32).dtype == np.float32
    assert double.project(X).dtype == np.float64
    assert_allclose(single.project(X32), double.project(X), atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e8 / 3])
def test_error_on_constant_features(constant):
    X = np.full((119, 7), constant) + np.arange(7)
    with pytest.raises(ValueError, match="X should vary over the training samples, got 119 equal"):
        SpectralHasher(2).fit(X)


def test_error_leaves_the_hasher_as_it_was(data):
    X = data[0]
    hasher = SpectralHasher(5).fit(X)
    codes = hasher.transform(X)
    with pytest.raises(ValueError, match="X should vary"):
        hasher.fit(np.ones((10, 3)))
    assert_array_equal(hasher.transform(X), codes)
    assert_array_equal(clone(hasher).fit_transform(X), codes)


@pytest.mark.parametrize("n_bits", [0, 2.5, "many"])
def test_error_on_parameters(n_bits, data):
    with pytest.raises(ValueError, match="The 'n_bits' parameter of SpectralHasher must be an"):
        SpectralHasher(n_bits).fit(data[0])
