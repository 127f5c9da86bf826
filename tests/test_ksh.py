"""KSH: the n x n form as oracle, a certificate for each step, memory without n x n."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import eigh
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.preprocessing import label_binarize

from skhash import LSHHasher
from skhash._ksh import (
    _SIMILARITIES,
    KSHHasher,
    _accelerated_gradient,
    _Residue,
    _signs,
    _whitener,
)

both_similarities = pytest.mark.parametrize("similarity", ["any", "graded"])


@pytest.fixture(scope="module")
def data():
    """Features far from the origin, with label sets, some empty, that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(150, 5))
    return X, (Z > 1).astype(np.uint8)


@pytest.fixture(scope="module")
def classes(data):
    """The same features, with one class each."""
    return data[0], data[1].astype(int).sum(axis=1) % 4


def hasher_for(similarity, n_bits=6, **params):
    """Few anchors: their Gram matrix is far from singular, and the oracle needs no care."""
    return KSHHasher(n_bits, n_anchors=12, similarity=similarity, random_state=0, **params)


def n_by_n_similarity(Y, similarity):
    """S by its definition, a pair at a time."""
    sets = [set(np.flatnonzero(row)) for row in Y]
    S = -np.ones((len(Y), len(Y)))
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            if similarity == "any":
                S[i, j] = 1 if a & b else -1
            elif a and b:
                S[i, j] = 2 * len(a & b) / np.sqrt(len(a) * len(b)) - 1
    return S


def sigmoid(p):
    return 2 * expit(p) - 1


def n_by_n_gradient(K, R, a, max_iter=500, tol=1e-2):
    """Nesterov's method as the authors' code has it, on R of n x n."""
    cost = [-(phi := sigmoid(K @ a)) @ R @ phi]
    before, delta, beta = a, [0.0, 1.0], 1.0
    for _ in range(max_iter):
        v = a + (delta[-2] - 1) / delta[-1] * (a - before)
        phi = sigmoid(K @ v)
        gv, dgv = -phi @ R @ phi, -K.T @ ((R @ phi) * (1 - phi**2))
        for _ in range(51):
            z = v - dgv / beta
            gz = -(phi := sigmoid(K @ z)) @ R @ phi
            if gz <= gv + dgv @ (z - v) + beta * (z - v) @ (z - v) / 2:
                break
            beta *= 2
        else:
            break
        before, a = a, z
        cost.append(gz)
        delta.append((1 + np.sqrt(1 + 4 * delta[-1] ** 2)) / 2)
        if abs(cost[-1] - cost[-2]) / len(K) <= tol:
            break
    return a


def n_by_n_ksh(K, S, n_bits):
    """Directions, bits and objectives of KSH, with S and its residue of n x n."""
    n, R = len(K), n_bits * S
    directions, bits, objectives = [], [], [(R**2).sum()]
    for _ in range(n_bits):
        a = eigh(K.T @ R @ K, K.T @ K)[1][:, -1]
        a *= np.sqrt(n / (a @ K.T @ K @ a)) * np.sign(a[np.abs(a).argmax()])
        tried = [a, n_by_n_gradient(K, R, a)]
        gains = [np.sign(K @ t) @ R @ np.sign(K @ t) for t in tried]
        directions.append(tried[int(gains[1] > gains[0])])
        b = np.sign(K @ directions[-1])
        bits.append(b > 0)
        R = R - np.outer(b, b)
        objectives.append((R**2).sum())
    return np.array(directions), np.array(bits).T, np.array(objectives) / (n_bits * n) ** 2


def kernel_by_definition(hasher, X, X_train):
    squares = ((X[:, None] - hasher.anchors_) ** 2).sum(axis=2)
    train_squares = ((X_train[:, None] - hasher.anchors_) ** 2).sum(axis=2)
    s = train_squares.mean()
    return np.exp(-squares / (2 * s)) - np.exp(-train_squares / (2 * s)).mean(axis=0)


# The whole, against the n x n form.


@both_similarities
@pytest.mark.parametrize("n_labeled", [None, 90])
def test_codes_equal_those_of_the_n_by_n_form_for_label_sets(n_labeled, similarity, data):
    X, Y = data
    assert not Y.any(axis=1).all()
    hasher = hasher_for(similarity, n_labeled=n_labeled).fit(X, Y)
    labeled = hasher.labeled_indices_
    K = kernel_by_definition(hasher, X, X)
    S = n_by_n_similarity(Y[labeled], similarity)
    directions, bits, objectives = n_by_n_ksh(K[labeled], S, 6)
    assert_array_equal(hasher.transform(X)[labeled], bits)
    assert_array_equal(hasher.transform(X), K @ directions.T >= 0)
    assert_allclose(hasher.coef_, directions, rtol=1e-4)
    assert_allclose(hasher.objective_, objectives)


@both_similarities
def test_codes_equal_those_of_the_n_by_n_form_for_classes(similarity, classes):
    X, y = classes
    hasher = hasher_for(similarity).fit(X, y)
    S = np.where(y[:, None] == y, 1, -1)
    _, bits, objectives = n_by_n_ksh(kernel_by_definition(hasher, X, X), S, 6)
    assert_array_equal(hasher.transform(X), bits)
    assert_allclose(hasher.objective_, objectives)


# Its parts.


@both_similarities
def test_similarity_equals_its_definition(similarity, data):
    Y = data[1]
    S = n_by_n_similarity(Y, similarity)
    factors = _SIMILARITIES[similarity](Y, np.float64)
    assert_allclose(factors.basis @ factors.times_core(factors.basis.T.toarray()), S, atol=1e-14)
    assert_allclose(factors.squared_norm, (S**2).sum())


@both_similarities
def test_similarity_of_a_sample_with_itself(similarity):
    Y = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]], np.uint8)
    factors = _SIMILARITIES[similarity](Y, np.float64)
    S = factors.basis @ factors.times_core(factors.basis.T.toarray())
    assert_allclose(S.diagonal(), [1, 1, -1, 1])
    assert_allclose(S[0, 1], 1 if similarity == "any" else 2 / np.sqrt(2) - 1)
    assert_allclose(S[2], -1)


def test_similarities_of_classes_are_the_same(classes):
    X, y = classes
    any_, graded = (hasher_for(s).fit(X, y) for s in ("any", "graded"))
    assert_array_equal(any_.transform(X), graded.transform(X))
    one_hot = hasher_for("any").fit(X, label_binarize(y, classes=range(4)))
    assert_array_equal(any_.coef_, one_hot.coef_)


@pytest.fixture(params=["any", "graded"])
def problem(request, data):
    """Kernel values, the residue after two random bits, and the same residue as a matrix."""
    X, Y = data
    K = rbf_kernel(X, X[:12], gamma=0.02)
    K -= K.mean(axis=0)
    residue = _Residue(_SIMILARITIES[request.param](Y, X.dtype), 6, K)
    R = 6 * n_by_n_similarity(Y, request.param)
    for b in np.random.default_rng(1).choice([-1.0, 1.0], (2, len(X))):
        residue.deflate(b)
        R -= np.outer(b, b)
    return K, residue, R


def test_residue_equals_the_matrix(problem):
    _, residue, R = problem
    for y in np.random.default_rng(2).normal(size=(3, len(R))):
        assert_allclose(residue.product(y), R @ y, atol=1e-10)
        assert_allclose(residue.quadratic(y), y @ R @ y)


def test_first_direction_is_the_top_generalised_eigenvector(problem):
    K, residue, R = problem
    values, vectors = eigh(K.T @ R @ K, K.T @ K)
    a = residue.top_direction()
    assert_allclose(a @ K.T @ K @ a, len(K))
    assert_allclose(a @ K.T @ R @ K @ a, values[-1] * len(K))
    assert_allclose(K.T @ R @ K @ a, values[-1] * K.T @ K @ a, atol=1e-6 * len(K))
    assert a[np.abs(a).argmax()] > 0
    assert_allclose(a, vectors[:, -1] * (a[0] / vectors[0, -1]), rtol=1e-6)


def test_whitener_leaves_out_what_rounding_decides():
    K = np.random.default_rng(0).normal(size=(50, 4))
    W = _whitener(np.c_[K, K[:, 1], K[:, 2] + K[:, 3]])
    Z = np.c_[K, K[:, 1], K[:, 2] + K[:, 3]] @ W
    assert Z.shape == (50, 4)
    assert_allclose(Z.T @ Z, np.eye(4), atol=1e-12)
    assert_allclose(Z @ (Z.T @ K), K, atol=1e-10)


@pytest.mark.parametrize("max_iter", [1, 7, 500])
def test_gradient_steps_equal_those_of_the_n_by_n_form(max_iter, problem):
    K, residue, R = problem
    start = residue.top_direction()
    a, n_iter = _accelerated_gradient(K, residue, start, max_iter, 1e-2)
    assert n_iter <= max_iter
    assert_allclose(a, n_by_n_gradient(K, R, start, max_iter), rtol=1e-6)
    smoothed = [residue.quadratic(sigmoid(K @ v)) for v in (start, a)]
    assert smoothed[1] > smoothed[0]


def test_gradient_stops_where_it_gains_little(problem):
    K, residue, _ = problem
    start = residue.top_direction()
    steps = [_accelerated_gradient(K, residue, start, 10_000, tol)[1] for tol in (10, 1e-1, 1e-3)]
    assert steps[0] < steps[1] < steps[2] < 10_000


# Certificates.


@both_similarities
def test_a_bit_never_raises_the_objective(similarity, data):
    # Of labels that features tell, with bits enough; below is a case where the first one does.
    X, Y = data
    hasher = hasher_for(similarity, n_bits=24).fit(X, Y)
    S, B = n_by_n_similarity(Y, similarity), hasher.transform(X) * 2.0 - 1
    for k in range(25):
        R = 24 * S - B[:, :k] @ B[:, :k].T
        assert_allclose(hasher.objective_[k], (R**2).sum() / (24 * len(X)) ** 2)
    assert np.all(np.diff(hasher.objective_) < 0)


@both_similarities
def test_smoothing_never_worsens_a_bit(similarity, data):
    X, Y = data
    hasher = hasher_for(similarity, n_bits=16).fit(X, Y)
    K = kernel_by_definition(hasher, X, X)
    R = 16 * n_by_n_similarity(Y, similarity)
    for a, smoothed in zip(hasher.coef_, hasher.smoothed_, strict=True):
        spectral = eigh(K.T @ R @ K, K.T @ K)[1][:, -1]
        gains = [np.sign(K @ v) @ R @ np.sign(K @ v) for v in (spectral, a)]
        assert gains[1] > gains[0] if smoothed else np.isclose(*gains)
        R -= np.outer(np.sign(K @ a), np.sign(K @ a))
    assert hasher.smoothed_.any()


def test_one_bit_for_many_classes_is_learnt_all_the_same():
    X, y = load_digits(return_X_y=True)
    hasher = KSHHasher(1, n_anchors=30, max_iter=50, random_state=0).fit(X[:300], y[:300])
    assert hasher.objective_[1] > hasher.objective_[0] == 1
    assert 0 < hasher.transform(X).mean() < 1


def test_labels_that_features_tell_are_reached():
    # Two well separated classes: every bit is their indicator, and nothing is left.
    X = np.random.default_rng(0).normal(size=(60, 3))
    X[30:] += 20
    hasher = KSHHasher(4, n_anchors=10, random_state=0).fit(X, np.arange(60) >= 30)
    assert_allclose(hasher.objective_, [1, 9 / 16, 4 / 16, 1 / 16, 0], atol=1e-12)
    assert len(np.unique(hasher.transform(X), axis=0)) == 2


def test_better_than_random_hyperplanes_on_digits():
    X, y = load_digits(return_X_y=True)
    X, y = X[:700], y[:700]
    ksh = KSHHasher(16, n_anchors=60, max_iter=50, random_state=0).fit(X[200:], y[200:])
    lsh = LSHHasher(16, random_state=0).fit(X[200:], y[200:])
    assert ksh.score(X[:200], y[:200]) > lsh.score(X[:200], y[:200]) + 0.1
    assert (ksh.predict(X[:200]) == y[:200]).mean() > 0.8


# Kernel and samples.


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_kernel_equals_its_formula(offset, data):
    X, Y = data
    hasher = hasher_for("any").fit(X[:100] + offset, Y[:100])
    queries = X[100:] + offset
    expected = kernel_by_definition(hasher, queries, X[:100] + offset)
    assert_allclose(hasher._kernel(queries), expected, atol=1e-9)
    assert_allclose(hasher.project(queries), expected @ hasher.coef_.T, atol=1e-6)
    if not offset:
        squares = euclidean_distances(X[:100], hasher.anchors_, squared=True)
        assert_allclose(hasher.gamma_, 1 / (2 * squares.mean()))
        plain = rbf_kernel(queries, hasher.anchors_, gamma=hasher.gamma_)
        assert_allclose(hasher._kernel(queries), plain - hasher.mean_)
    assert_array_equal(hasher.anchors_, (X + offset)[hasher.anchor_indices_])


def test_kernel_in_blocks(data, monkeypatch):
    X, Y = data
    expected = hasher_for("any").fit(X, Y)
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 40)
    blocks = hasher_for("any").fit(X, Y)
    assert_allclose(blocks.gamma_, expected.gamma_)
    assert_allclose(blocks.mean_, expected.mean_)
    assert_array_equal(blocks.transform(X), expected.transform(X))


def test_only_labeled_samples_teach_and_all_train_the_kernel(data):
    X, Y = data
    hasher = hasher_for("any", n_labeled=60).fit(X, Y)
    assert len(np.unique(hasher.labeled_indices_)) == 60
    rest = np.setdiff1d(np.arange(150), hasher.labeled_indices_)
    others = Y.copy()
    others[rest] = 1 - others[rest]
    assert_array_equal(hasher_for("any", n_labeled=60).fit(X, others).coef_, hasher.coef_)
    K = rbf_kernel(X, hasher.anchors_, gamma=hasher.gamma_)
    assert_allclose(hasher.mean_, K.mean(axis=0))
    assert len(hasher.database_codes_) == 150


def test_all_samples_where_there_are_fewer_than_asked_for(data):
    X, Y = data
    hasher = KSHHasher(4, random_state=0).fit(X, Y)
    assert_array_equal(hasher.anchor_indices_, np.arange(150))
    assert_array_equal(hasher.labeled_indices_, np.arange(150))
    assert hasher.coef_.shape == (4, 150)
    everything = KSHHasher(4, n_labeled=None, random_state=1).fit(X, Y)
    assert_array_equal(everything.labeled_indices_, np.arange(150))
    assert_array_equal(everything.coef_, hasher.coef_)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scale_does_not_matter(factor, data):
    X, Y = data
    codes = hasher_for("graded").fit_transform(X, Y)
    assert_array_equal(hasher_for("graded").fit_transform((X + 3) * factor, Y), codes)


def test_equal_anchors_are_harmless(data):
    X, Y = data
    X, Y = np.r_[X, X, X], np.r_[Y, Y, Y]
    hasher = KSHHasher(6, n_anchors=400, random_state=0).fit(X, Y)
    assert len(np.unique(hasher.anchors_, axis=0)) <= 150
    assert np.isfinite(hasher.coef_).all()
    assert np.all(np.diff(hasher.objective_) < 0)
    # The same anchors once each have the same span, so the same direction in it.
    projections = []
    for n_anchors in (12, 24):
        K = rbf_kernel(X, np.r_[X[:12], X[:12]][:n_anchors], gamma=0.02)
        K -= K.mean(axis=0)
        residue = _Residue(_SIMILARITIES["any"](Y, X.dtype), 6, K)
        projections.append(np.abs(K @ residue.top_direction()))
    assert_allclose(*projections, atol=1e-6)


def test_one_anchor(data):
    X, Y = data
    hasher = KSHHasher(3, n_anchors=1, random_state=0).fit(X, Y)
    assert hasher.coef_.shape == (3, 1)
    assert hasher.transform(X).any()


# Memory and precision.


@both_similarities
def test_no_n_by_n_matrix(similarity):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6000, 8)), (rng.random((6000, 10)) < 0.15).astype(np.uint8)
    hasher = KSHHasher(
        3, n_anchors=20, n_labeled=None, similarity=similarity, max_iter=5, random_state=0
    )
    tracemalloc.start()
    hasher.fit(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Not even a byte for each pair.
    assert peak < 6000**2


@both_similarities
def test_float32_in_float32_work(similarity, data):
    X, Y = data
    X32 = X.astype(np.float32)
    single, double = hasher_for(similarity).fit(X32, Y), hasher_for(similarity).fit(X, Y)
    assert single.coef_.dtype == single.mean_.dtype == single.anchors_.dtype == np.float32
    assert single.project(X32).dtype == np.float32
    assert double.coef_.dtype == double.project(X).dtype == np.float64
    assert_allclose(single.mean_, double.mean_, atol=1e-5)
    assert (single.transform(X32) != double.transform(X)).mean() < 0.02
    assert_allclose(single.objective_, double.objective_, rtol=1e-2)


@both_similarities
def test_steps_stay_in_float32(similarity, data):
    X, Y = data
    K = rbf_kernel(X, X[:12], gamma=0.02).astype(np.float32)
    residue = _Residue(_SIMILARITIES[similarity](Y, np.float32), 4, K)
    start = residue.top_direction().astype(np.float32)
    assert _accelerated_gradient(K, residue, start, 5, 0)[0].dtype == np.float32
    bits = _signs(K @ start)
    assert bits.dtype == residue.product(bits).dtype == np.float32
    residue.deflate(bits)
    assert residue.product(bits).dtype == np.float32


# Randomness and errors.


def test_random_state_decides_everything(data):
    X, Y = data
    hasher = hasher_for("any", n_labeled=100)
    first = clone(hasher).fit(X, Y)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert_array_equal(clone(hasher).fit(X, Y).coef_, first.coef_)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = clone(hasher).set_params(random_state=1).fit(X, Y)
    assert not np.array_equal(other.anchor_indices_, first.anchor_indices_)
    assert not np.array_equal(other.labeled_indices_, first.labeled_indices_)


def test_input_is_left_alone(data):
    X, Y = data[0].copy(), data[1].copy()
    hasher_for("graded").fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


@both_similarities
def test_error_where_no_pair_shares_a_label(similarity, data):
    X = data[0]
    message = "pairs of samples that share a label, but no two of the 150 labelled samples do"
    for Y in (np.arange(150), np.eye(150, dtype=int), np.zeros((150, 3), int)):
        with pytest.raises(ValueError, match=message):
            hasher_for(similarity).fit(X, Y)
    with pytest.raises(ValueError, match="no two of the 2 labelled samples do"):
        hasher_for(similarity, n_labeled=2).fit(X, np.arange(150) // 2)


def test_error_where_every_pair_shares_a_label(data):
    X, Y = data
    with pytest.raises(ValueError, match="All 150 labelled samples have the same labels"):
        hasher_for("graded").fit(X, ["a"] * 150)
    with pytest.raises(ValueError, match="Every two of the 150 labelled samples share a label"):
        hasher_for("any").fit(X, np.c_[Y, np.ones(150)])
    hasher_for("graded", max_iter=1).fit(X, np.c_[Y, np.ones(150)])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 / 3])
def test_error_on_constant_features(constant, data):
    X = np.full((150, 7), constant) + np.arange(7)
    with pytest.raises(ValueError, match="X should vary over the training samples"):
        hasher_for("any").fit(X, data[1])


def test_error_without_labels_leaves_the_hasher_as_it_was(data):
    X, Y = data
    hasher = hasher_for("any").fit(X, Y)
    codes = hasher.transform(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        hasher.fit(X)
    with pytest.raises(ValueError, match="no two"):
        hasher.fit(X[:20], np.arange(20))
    assert_array_equal(hasher.transform(X), codes)


@pytest.mark.parametrize(
    "param",
    [
        {"n_anchors": 0},
        {"n_labeled": 1},
        {"similarity": "cosine"},
        {"max_iter": 0},
        {"tol": -1.0},
        {"n_bits": 0},
    ],
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of KSHHasher must be a"):
        KSHHasher(**param).fit(*data)
