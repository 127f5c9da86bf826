"""Shallow hashers: the certificate that each algorithm's result must carry."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import eigh
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import label_binarize

from skhash import CCAITQHasher, ITQHasher, LSHHasher
from skhash._itq import _canonical_directions, _itq_rotation
from skhash._parts import Sums

HASHERS = [
    LSHHasher(4, random_state=0),
    ITQHasher(4, random_state=0),
    CCAITQHasher(4, random_state=0),
]
all_hashers = pytest.mark.parametrize("hasher", HASHERS, ids=lambda h: type(h).__name__)


@pytest.fixture(scope="module")
def data():
    """Correlated features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    return X, (Z > 0.5).astype(np.uint8)


# LSH: the collision probability.


@pytest.mark.parametrize("angle", [0.1, 0.7, np.pi / 2, 2.5, np.pi])
def test_lsh_bits_differ_with_probability_angle_over_pi(angle):
    # 4000 independent bits: four standard deviations are at most 0.032.
    rotate = np.array([np.cos(angle), np.sin(angle)])
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0]
    X = np.stack([basis[:, 0] * 3, basis @ rotate])
    a, b = LSHHasher(4000, center=False, random_state=1).fit(X).transform(X)
    assert abs((a != b).mean() - angle / np.pi) < 0.032


def test_lsh_does_not_see_lengths_only_directions(data):
    X = data[0]
    hasher = LSHHasher(64, random_state=0).fit(X)
    far = hasher.mean_ + 17 * (X - hasher.mean_)
    assert_array_equal(hasher.transform(far), hasher.transform(X))


def test_lsh_center(data):
    X = data[0]
    centred, plain = (LSHHasher(300, center=c, random_state=0).fit(X) for c in (True, False))
    assert_allclose(centred.mean_, X.mean(axis=0))
    assert_array_equal(plain.mean_, np.zeros(7))
    assert_array_equal(centred.components_, plain.components_)
    assert_allclose(plain.project(X), X @ plain.components_.T)
    assert_allclose(centred.project(X + 3), plain.project(X + 3 - centred.mean_))
    # What centring is for: away from the origin almost all samples share a bit.
    assert abs(centred.transform(X).mean(axis=0) - 0.5).mean() < 0.1
    assert abs(plain.transform(X + 100).mean(axis=0) - 0.5).mean() > 0.4


def test_lsh_draws_standard_normal_hyperplanes(data):
    W = LSHHasher(3000, random_state=0).fit(data[0]).components_
    assert W.shape == (3000, 7)
    assert_allclose(W.mean(axis=0), 0, atol=0.08)
    assert_allclose(W.T @ W / len(W), np.eye(7), atol=0.12)


# ITQ: an orthogonal rotation of PCA at a fixed point of its own alternation.


@pytest.mark.parametrize("n_bits", [1, 2, 4, 7])
def test_itq_rotates_the_principal_components(n_bits, data):
    X = data[0]
    hasher = ITQHasher(n_bits, random_state=0).fit(X)
    W = hasher.components_
    assert W.shape == (n_bits, 7)
    assert_allclose(W @ W.T, np.eye(n_bits), atol=1e-12)
    V = PCA(n_bits, svd_solver="full").fit(X).components_
    # Same span: the projectors onto both subspaces are the same matrix.
    assert_allclose(W.T @ W, V.T @ V, atol=1e-8)
    assert_allclose(hasher.mean_, X.mean(axis=0))
    assert_allclose(hasher.project(X), (X - X.mean(axis=0)) @ W.T)


def test_itq_with_more_features_than_samples():
    X = np.random.default_rng(0).normal(size=(10, 30))
    W = ITQHasher(8, random_state=0).fit(X).components_
    assert_allclose(W @ W.T, np.eye(8), atol=1e-12)
    V = PCA(8, svd_solver="full").fit(X).components_
    assert_allclose(W.T @ W, V.T @ V, atol=1e-8)


def quantization_error(projection):
    """Mean squared distance to the signs, of a projection scaled to entries of about 1."""
    V = projection / np.sqrt(np.mean(projection**2))
    return ((np.where(V >= 0, 1, -1) - V) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize("Hasher", [ITQHasher, CCAITQHasher])
def test_quantization_error_never_increases(Hasher, data):
    X, Y = data
    hasher = Hasher(5, random_state=3).fit(X, Y)
    errors = hasher.quantization_errors_
    assert len(errors) == hasher.n_iter_ > 2
    assert np.all(np.diff(errors) <= 1e-12 * errors[:-1])
    assert errors[-1] < errors[0]
    final = quantization_error(hasher.project(X))
    assert final <= errors[-1] + 1e-12
    # The last error belongs to the rotation before the last turn, one turn short of the result.
    one_more = clone(hasher).set_params(max_iter=hasher.n_iter_ + 1).fit(X, Y)
    assert_allclose(final, one_more.quantization_errors_[-1])


@pytest.mark.parametrize("seed", range(3))
def test_itq_beats_random_rotations(seed, data):
    X = data[0]
    error = quantization_error(ITQHasher(6, random_state=seed).fit(X).project(X))
    V = PCA(6).fit_transform(X)
    rng = np.random.default_rng(seed)
    rotations = np.linalg.qr(rng.normal(size=(50, 6, 6)))[0]
    assert error < min(quantization_error(V @ R) for R in rotations)
    assert error < quantization_error(V)


def test_itq_rotation_is_a_fixed_point():
    # Orthogonal Procrustes: R is best for its own signs B iff V'B = R * symmetric and psd.
    V = np.random.default_rng(0).normal(size=(60, 4))
    rotation, errors = _itq_rotation(V, 4, 500, 0.0, np.random.RandomState(0))
    assert len(errors) < 500
    S = rotation.T @ V.T @ np.where(V @ rotation >= 0, 1, -1)
    assert_allclose(S, S.T, atol=1e-10)
    assert np.linalg.eigvalsh(S).min() > -1e-10


def test_itq_finds_the_hypercube():
    # Vertices of a rotated cube: the error reaches 0 and the bits are the vertices' own.
    B = np.array([[(i >> b) & 1 for b in range(3)] for i in range(8)] * 4) * 2.0 - 1
    R = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    results = [ITQHasher(3, random_state=seed).fit(B @ R) for seed in range(5)]
    best = min(results, key=lambda hasher: hasher.quantization_errors_[-1])
    assert best.quantization_errors_[-1] < 1e-20
    assert len(np.unique(best.transform(B @ R), axis=0)) == 8


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_itq_does_not_see_scale_or_origin(factor, data):
    X = data[0]
    hasher = ITQHasher(4, random_state=0)
    codes = clone(hasher).fit_transform(X)
    assert_array_equal(hasher.fit_transform((X + 3) * factor), codes)


def test_itq_with_a_max_of_turns_and_a_tolerance(data):
    X = data[0]
    fits = [
        ITQHasher(6, max_iter=200, tol=tol, random_state=0).fit(X).n_iter_ for tol in (0, 1e-2)
    ]
    assert fits[1] < fits[0] < 200
    short = ITQHasher(6, max_iter=2, random_state=0).fit(X)
    assert short.n_iter_ == 2
    errors = ITQHasher(6, random_state=0).fit(X).quantization_errors_
    assert_array_equal(short.quantization_errors_, errors[:2])


@pytest.mark.parametrize(("shape", "rank"), [((40, 6), 6), ((5, 6), 4)])
def test_more_bits_than_principal_components_warn_once_and_work(shape, rank):
    X = np.random.default_rng(0).normal(size=shape)
    hasher = ITQHasher(10, random_state=0)
    message = f"n_bits=10 is more than the {rank} principal components of X"
    with pytest.warns(UserWarning, match=message) as record:
        hasher.fit(X)
    assert len(record) == 1
    assert record[0].filename == __file__
    # Rows of the rotation are orthonormal: distances of projections are those of components.
    V = PCA(rank, svd_solver="full").fit(X).components_
    assert_allclose(hasher.components_.T @ hasher.components_, V.T @ V, atol=1e-8)
    assert np.all(np.diff(hasher.quantization_errors_) <= 1e-12)
    bits = hasher.transform(X)
    assert np.all(bits.any(axis=0) & (1 - bits).any(axis=0))
    ITQHasher(rank).fit(X)


# CCA-ITQ: a direct solution of the generalised eigenproblem.


def regularised_covariances(X, Y, reg, reg_labels):
    """C_xx + rho_x I, C_xy and C_yy + rho_y I, as the documentation defines them."""
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    xx, xy, yy = X.T @ X / len(X), X.T @ Y / len(X), Y.T @ Y / len(X)
    for C, rho in ((xx, reg), (yy, reg_labels)):
        C += rho * C.diagonal().mean() * np.eye(len(C))
    return xx, xy, yy


@pytest.mark.parametrize(("reg", "reg_labels"), [(1e-3, 0.2), (0.1, 1.0), (2.0, 1e-3)])
@pytest.mark.parametrize("n_labels", [1, 3, 5])
def test_correlations_equal_those_of_the_eigenproblem(reg, reg_labels, n_labels, data):
    X, Y = data[0], data[1][:, :n_labels]
    xx, xy, yy = regularised_covariances(X, Y, reg, reg_labels)
    squares, vectors = eigh(xy @ np.linalg.solve(yy, xy.T), xx)
    squares, vectors = squares[::-1][:n_labels], vectors[:, ::-1][:, :n_labels].T
    hasher = CCAITQHasher(1, reg=reg, reg_labels=reg_labels, random_state=0).fit(X, Y)
    assert_allclose(hasher.correlations_, np.sqrt(squares), rtol=1e-8)
    assert np.all(hasher.correlations_ < 1)
    directions, correlations = _canonical_directions(Sums.of(X, Y), reg, reg_labels)
    assert_array_equal(correlations, hasher.correlations_)
    signs = np.sign((directions * vectors).sum(axis=1))[:, None]
    assert_allclose(directions, signs * vectors, rtol=1e-6, atol=1e-8)


def test_directions_are_orthonormal_in_the_regularised_covariance(data):
    X, Y = data
    directions, _ = _canonical_directions(Sums.of(X, Y), 0.1, 1.0)
    xx, _, _ = regularised_covariances(X, Y, 0.1, 1.0)
    assert_allclose(directions @ xx @ directions.T, np.eye(5), atol=1e-12)


@pytest.mark.parametrize("n_bits", [1, 3, 5])
def test_components_rotate_scaled_canonical_directions(n_bits, data):
    X, Y = data
    hasher = CCAITQHasher(n_bits, random_state=0).fit(X, Y)
    directions, correlations = _canonical_directions(Sums.of(X, Y), hasher.reg, hasher.reg_labels)
    scaled = (directions * correlations[:, None])[:n_bits]
    assert_allclose(hasher.components_.T @ hasher.components_, scaled.T @ scaled, atol=1e-12)
    xx, _, _ = regularised_covariances(X, Y, hasher.reg, hasher.reg_labels)
    lengths = np.linalg.eigvalsh(hasher.components_ @ xx @ hasher.components_.T)
    assert_allclose(lengths, np.sort(correlations[:n_bits] ** 2), atol=1e-12)


def test_without_regularisation_correlations_do_not_see_linear_maps_of_features(data):
    X, Y = data
    A = np.random.default_rng(3).normal(size=(7, 7))
    correlations = [CCAITQHasher(2, reg=1e-12).fit(Z, Y).correlations_ for Z in (X, X @ A - 2)]
    assert_allclose(*correlations, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_regularisation_has_no_unit(factor, data):
    X, Y = data
    hasher = CCAITQHasher(4, random_state=0)
    codes = clone(hasher).fit_transform(X, Y)
    assert_array_equal(hasher.fit_transform((X - 1) * factor, Y), codes)


def test_more_bits_than_directions_warn_once_and_work(data):
    X, Y = data
    hasher = CCAITQHasher(12, random_state=0)
    with pytest.warns(UserWarning, match="n_bits=12 is more than the 5 canonical dir") as record:
        hasher.fit(X, Y)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert hasher.components_.shape == (12, 7)
    assert np.linalg.matrix_rank(hasher.components_) == 5
    # Rows of the rotation are orthonormal: distances of projections are those of directions.
    directions, correlations = _canonical_directions(Sums.of(X, Y), hasher.reg, hasher.reg_labels)
    scaled = directions * correlations[:, None]
    assert_allclose(hasher.components_.T @ hasher.components_, scaled.T @ scaled, atol=1e-12)
    assert np.all(np.diff(hasher.quantization_errors_) <= 1e-12)
    bits = hasher.transform(X)
    assert np.all(bits.any(axis=0) & (1 - bits).any(axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(hasher).set_params(n_bits=5).fit(X, Y)


@pytest.mark.parametrize("n_bits", [5, 9])
def test_padding_with_zeros_is_what_is_computed(n_bits):
    V = np.random.default_rng(0).normal(size=(50, 5))
    padded = np.hstack([V, np.zeros((50, n_bits - 5))])
    # The error of fewer turns than it takes to converge, by the definition on padded directions.
    short, errors = _itq_rotation(V, n_bits, 3, 0.0, np.random.RandomState(0))
    scale = np.sqrt(np.mean(V**2))
    R = np.linalg.svd(np.random.RandomState(0).standard_normal((n_bits, n_bits)))[0]
    for error in errors:
        B = np.where(padded @ R >= 0, 1, -1)
        assert_allclose(error, ((B - padded / scale @ R) ** 2).sum(axis=1).mean())
        left, _, right = np.linalg.svd(padded.T @ B)
        R = left @ right
    assert_allclose(np.abs(V @ short), np.abs(padded @ R), atol=1e-10)


def test_class_labels_lose_a_direction_to_centring(data):
    X = data[0]
    y = np.random.default_rng(0).integers(0, 4, 120)
    hasher = CCAITQHasher(3, random_state=0).fit(X, y)
    assert len(hasher.correlations_) == 3
    one_hot = label_binarize(y, classes=range(4))
    same = CCAITQHasher(3, random_state=0).fit(X, one_hot)
    assert_array_equal(hasher.components_, same.components_)
    named = CCAITQHasher(3, random_state=0).fit(X, np.array(list("dcba"))[y])
    assert_allclose(named.correlations_, hasher.correlations_)


def test_label_directions_beat_principal_ones():
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    scores = [
        Hasher(8, random_state=0).fit(X[200:], y[200:]).score(X[:200], y[:200])
        for Hasher in (CCAITQHasher, ITQHasher)
    ]
    assert scores[0] > scores[1] + 0.1


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e8 / 3])
@pytest.mark.parametrize("Hasher", [ITQHasher, CCAITQHasher])
def test_error_on_constant_features(Hasher, constant, data):
    # 0.1 minus the mean of many 0.1 is not 0.
    X = np.full((119, 7), constant) + np.arange(7)
    with pytest.raises(ValueError, match="X should vary over the training samples, got 119 equal"):
        Hasher(2).fit(X, data[1][:-1])


@pytest.mark.parametrize("Y", [np.ones((120, 2), int), np.zeros((120, 2), int), ["a"] * 120])
def test_error_on_constant_labels(Y, data):
    with pytest.raises(ValueError, match="y should vary over the training samples, got 120 equal"):
        CCAITQHasher(2).fit(data[0], Y)


def test_columns_that_do_not_vary_are_harmless(data):
    X, Y = data
    X, Y = np.c_[np.ones(120), X, np.full(120, 0.1)], np.c_[Y, np.zeros(120), np.ones(120)]
    for hasher in (ITQHasher(4, random_state=0), CCAITQHasher(4, random_state=0)):
        hasher.fit(X, Y)
        assert np.isfinite(hasher.components_).all()
        assert_allclose(hasher.components_[:, [0, -1]], 0, atol=1e-10)
    assert len(hasher.correlations_) == 5


@pytest.mark.parametrize(
    "param", [{"reg": 0}, {"reg": -1.0}, {"reg_labels": 0}, {"max_iter": 0}, {"tol": -0.1}]
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of CCAITQHasher must be a"):
        CCAITQHasher(2, **param).fit(*data)


# What all have in common.


@all_hashers
def test_float32_in_float32_out(hasher, data):
    X, Y = data
    single, double = clone(hasher).fit(X.astype(np.float32), Y), clone(hasher).fit(X, Y)
    assert single.components_.dtype == single.mean_.dtype == np.float32
    assert single.project(X.astype(np.float32)).dtype == np.float32
    assert double.components_.dtype == double.project(X).dtype == np.float64
    assert single.transform(X.astype(np.float32)).dtype == np.uint8
    differ = single.transform(X.astype(np.float32)) != double.transform(X)
    assert differ.mean() < 0.02


@all_hashers
def test_integer_features(hasher, data):
    X, Y = np.rint(data[0] * 10), data[1]
    expected = clone(hasher).fit(X, Y).components_
    assert_array_equal(clone(hasher).fit(X.astype(np.int32), Y).components_, expected)


@all_hashers
def test_random_state_decides_everything(hasher, data):
    X, Y = data
    first = clone(hasher).fit(X, Y)
    np.random.random()  # noqa: NPY002 (the global generator must not matter)
    assert_array_equal(clone(hasher).fit(X, Y).components_, first.components_)
    state = np.random.RandomState(0)
    by_state = clone(hasher).set_params(random_state=state)
    assert_array_equal(by_state.fit(X, Y).components_, first.components_)
    assert not np.array_equal(by_state.fit(X, Y).components_, first.components_)
    other = clone(hasher).set_params(random_state=1).fit(X, Y)
    assert not np.array_equal(other.components_, first.components_)


@all_hashers
def test_global_generator_is_left_alone(hasher, data):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    clone(hasher).fit(*data)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@all_hashers
def test_input_is_left_alone(hasher, data):
    X, Y = data[0].copy(), data[1].copy()
    clone(hasher).fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


@pytest.mark.parametrize("Hasher", [LSHHasher, ITQHasher])
def test_unsupervised_hashers_do_not_learn_from_labels(Hasher, data):
    X, Y = data
    expected = Hasher(4, random_state=0).fit(X).components_
    assert_array_equal(Hasher(4, random_state=0).fit(X, Y).components_, expected)
