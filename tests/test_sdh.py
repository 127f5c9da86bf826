"""SDH: the objective by its definition, minima by enumeration, regressions by their equations."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge
from sklearn.preprocessing import label_binarize

from skhash import LSHHasher, SDHHasher, _sdh
from skhash._sdh import _Alternation


@pytest.fixture(scope="module")
def data():
    """Features far from the origin, with label sets, some empty, that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(150, 5))
    return X, (Z > 1).astype(np.uint8)


def hasher_for(n_bits=6, **params):
    """Few anchors, and a weight of the features that is felt."""
    params = {"n_anchors": 12, "nu": 0.1, "max_iter": 30, "tol": 0.0, "random_state": 0} | params
    return SDHHasher(n_bits, **params)


def features_by_definition(hasher, X):
    squares = ((X[:, None] - hasher.anchors_) ** 2).sum(axis=2)
    return np.c_[np.exp(-hasher.gamma_ * squares), np.ones(len(X))]


def loss_by_definition(problem):
    """The objective as the documentation has it, B of a row for each sample."""
    B, W, P = problem.codes.T, problem.label_coef, problem.projection
    labels = ((problem.targets - B @ W) ** 2).sum() + problem.reg_labels * (W**2).sum()
    distance = ((B - problem.features @ P) ** 2).sum() + problem.reg * (P**2).sum()
    return labels + problem.nu * distance


def make_problem(data, n_bits=5, *, nu=0.1, dtype=np.float64, seed=0):
    """A problem in the midst of its first turn: W and P are the best for random codes."""
    X, Y = data
    rng = np.random.default_rng(seed)
    hasher = hasher_for(2).fit(X, Y)
    features = features_by_definition(hasher, X).astype(dtype)
    codes = rng.choice([-1, 1], (n_bits, len(X)))
    problem = _Alternation(features, Y, codes, reg=0.3, reg_labels=0.7, nu=nu)
    problem.update_label_coef()
    problem.update_projection()
    return problem


# The objective never increases.


@pytest.mark.parametrize("nu", [0.0, 1e-5, 0.1, 10.0])
@pytest.mark.parametrize("n_bits", [1, 4, 12])
def test_no_step_of_fit_increases_the_objective(n_bits, nu, data, monkeypatch):
    X, Y = data
    losses, steps = [], []

    def watch(name):
        method = getattr(_Alternation, name)

        def step(problem, *args):
            result = method(problem, *args)
            steps.append(name)
            if hasattr(problem, "projection"):
                losses.append(loss_by_definition(problem))
            return result

        monkeypatch.setattr(_Alternation, name, step)

    for name in ("update_label_coef", "update_projection", "update_bit"):
        watch(name)
    hasher = hasher_for(n_bits, nu=nu).fit(X, Y)
    assert steps.count("update_label_coef") == steps.count("update_projection")
    assert steps.count("update_label_coef") == hasher.n_iter_ + 1
    assert steps.count("update_bit") >= n_bits * hasher.n_iter_
    losses = np.array(losses)
    assert np.all(np.diff(losses) <= 1e-10 * losses[:-1])
    assert losses[-1] < losses[0]
    assert_allclose(hasher.objective_[[0, -1]], losses[[0, -1]])


def test_objective_equals_its_definition(data):
    problem = make_problem(data)
    assert_allclose(problem.objective(), loss_by_definition(problem))
    problem.update_codes()
    problem.update_label_coef()
    problem.update_projection()
    assert_allclose(problem.objective(), loss_by_definition(problem))


def test_turns_end_at_a_fixed_point_or_as_told(data):
    X, Y = data
    whole = hasher_for().fit(X, Y)
    assert 2 < whole.n_iter_ < 30
    assert whole.objective_.shape == (whole.n_iter_ + 1,)
    assert_allclose(whole.objective_[-1], whole.objective_[-2], rtol=1e-12)
    more = hasher_for(max_iter=100).fit(X, Y)
    assert_array_equal(more.coef_, whole.coef_)
    short = hasher_for(max_iter=2).fit(X, Y)
    assert short.n_iter_ == 2
    assert_array_equal(short.objective_, whole.objective_[:3])
    early = hasher_for(tol=0.05).fit(X, Y)
    assert early.n_iter_ < whole.n_iter_
    gains = -np.diff(early.objective_) / early.objective_[:-1]
    assert gains[-1] <= 0.05 < gains[:-1].min()


# The step of the codes.


@pytest.mark.parametrize("nu", [1e-5, 0.1, 10.0])
@pytest.mark.parametrize("k", [0, 2, 4])
def test_bit_update_is_the_minimum_by_enumeration(k, nu, data, monkeypatch):
    problem = make_problem(data, nu=nu)
    given = []
    monkeypatch.setattr(problem, "update_bit", lambda *args: given.append(args[1:]))
    problem.update_codes()
    monkeypatch.undo()
    before = problem.codes.copy()
    # Each sample's part of the objective, with its bit k at -1 and at 1.
    costs = []
    for value in (-1, 1):
        B = before.T.copy()
        B[:, k] = value
        cost = ((problem.targets - B @ problem.label_coef) ** 2).sum(axis=1)
        costs.append(cost + nu * ((B - problem.features @ problem.projection) ** 2).sum(axis=1))
    changed = problem.update_bit(k, *given[0])
    assert_array_equal(problem.codes[k], np.where(costs[1] <= costs[0], 1, -1))
    assert_array_equal(np.delete(problem.codes, k, axis=0), np.delete(before, k, axis=0))
    assert changed
    assert not problem.update_bit(k, *given[0])


def test_after_the_passes_no_single_bit_of_a_sample_can_be_bettered(data):
    problem = make_problem(data)
    while True:
        before = problem.codes.copy()
        problem.update_codes()
        if (problem.codes == before).all():
            break
    best = loss_by_definition(problem)
    for k in range(5):
        for i in range(0, 150, 3):
            problem.codes[k, i] *= -1
            assert loss_by_definition(problem) >= best - 1e-10 * best
            problem.codes[k, i] *= -1


def test_passes_are_repeated_until_one_changes_nothing(data, monkeypatch):
    problem = make_problem(data)
    step, changes = problem.update_bit, []
    monkeypatch.setattr(problem, "update_bit", lambda *args: changes.append(step(*args)))
    problem.update_codes()
    # A pass whose steps report no change is the last, as this one is made to seem.
    assert len(changes) == 5
    monkeypatch.setattr(_sdh, "_MAX_PASSES", 3)
    changes.clear()
    monkeypatch.setattr(problem, "update_bit", lambda *args: changes.append(step(*args)) or True)
    problem.update_codes()
    assert len(changes) == 15


def test_a_tie_is_the_bit_one(data):
    problem = make_problem(data)
    problem.update_bit(1, np.zeros((5, 150)), np.zeros((5, 5)))
    assert_array_equal(problem.codes[1], 1)


def test_with_all_weight_on_the_features_codes_are_the_hash_functions(data):
    problem = make_problem(data, nu=1e12)
    expected = np.where(problem.features @ problem.projection >= 0, 1, -1)
    problem.update_codes()
    assert_array_equal(problem.codes.T, expected)


# The two regressions.


def test_regressions_satisfy_their_normal_equations(data):
    problem = make_problem(data)
    B, Phi, Y = problem.codes.T, problem.features, problem.targets
    W, P = problem.label_coef, problem.projection
    assert_allclose(B.T @ (Y - B @ W), 0.7 * W, atol=1e-10)
    assert_allclose(Phi.T @ (B - Phi @ P), 0.3 * P, atol=1e-9)


def test_regressions_equal_those_of_sklearn(data):
    problem = make_problem(data)
    B, Phi, Y = problem.codes.T, problem.features, problem.targets
    oracle = Ridge(0.7, fit_intercept=False, solver="svd").fit(B, Y)
    assert_allclose(problem.label_coef, oracle.coef_.T, atol=1e-10)
    oracle = Ridge(0.3, fit_intercept=False, solver="svd").fit(Phi, B)
    assert_allclose(problem.projection, oracle.coef_.T, atol=1e-9)


def test_equal_bits_and_equal_anchors_are_harmless(data):
    # Both Gram matrices are singular but for a regularisation that is next to nothing.
    X, Y = np.repeat(data[0][:20], 3, axis=0), np.repeat(data[1][:20], 3, axis=0)
    hasher = hasher_for(40, n_anchors=60, reg=1e-9, reg_labels=1e-9).fit(X, Y)
    assert np.isfinite(hasher.coef_).all()
    assert np.isfinite(hasher.label_coef_).all()
    assert_array_equal(hasher.transform(X)[::3], hasher.transform(X)[1::3])


# The hash functions.


@pytest.mark.parametrize("gamma", ["auto", 0.03])
def test_projection_equals_its_definition(gamma, data):
    X, Y = data
    hasher = hasher_for(gamma=gamma).fit(X[:100], Y[:100])
    assert_array_equal(hasher.anchors_, X[hasher.anchor_indices_])
    assert hasher.anchors_.shape == (12, 7)
    squares = ((X[:100, None] - hasher.anchors_) ** 2).sum(axis=2)
    assert_allclose(hasher.gamma_, 1 / (2 * squares.mean()) if gamma == "auto" else gamma)
    P = np.c_[hasher.coef_, hasher.intercept_]
    assert_allclose(hasher.project(X), features_by_definition(hasher, X) @ P.T, atol=1e-8)
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)


def test_fit_ends_with_both_regressions_on_its_codes(data, monkeypatch):
    X, Y = data
    kept = []
    init = _Alternation.__init__
    monkeypatch.setattr(
        _Alternation, "__init__", lambda self, *a, **k: (kept.append(self), init(self, *a, **k))[1]
    )
    hasher = hasher_for().fit(X, Y)
    B, Phi = kept[0].codes.T, features_by_definition(hasher, X)
    W, P = hasher.label_coef_.T, np.c_[hasher.coef_, hasher.intercept_].T
    assert_allclose(B.T @ (Y - B @ W), hasher.reg_labels * W, atol=1e-9)
    assert_allclose(Phi.T @ (B - Phi @ P), hasher.reg * P, atol=1e-6)
    # The hash functions mostly give the codes that were learnt.
    assert ((hasher.project(X) >= 0) == (B > 0)).mean() > 0.85


def test_more_anchors_than_samples_means_all(data):
    X, Y = data
    most, all_ = (hasher_for(n_anchors=m).fit(X, Y) for m in (1000, 150))
    assert_array_equal(most.anchor_indices_, np.arange(150))
    assert_array_equal(most.coef_, all_.coef_)


def test_blocks_of_rows(data, monkeypatch):
    X, Y = data
    whole = hasher_for().fit(X, Y)
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 32)
    blocks = hasher_for().fit(X, Y)
    assert_allclose(blocks.objective_, whole.objective_)
    assert_allclose(blocks.project(X), whole.project(X), atol=1e-8)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_codes_have_no_unit(factor, data):
    X, Y = data
    codes = hasher_for().fit_transform(X, Y)
    assert_array_equal(hasher_for().fit_transform((X - 1) * factor, Y), codes)


def test_projection_keeps_its_digits_far_from_the_origin(data):
    # Eighths, which the shift leaves exact.
    X, Y = np.rint(data[0] * 8) / 8, data[1]
    near, far = hasher_for().fit(X, Y), hasher_for().fit(X + 2.0**30, Y)
    assert_allclose(far.gamma_, near.gamma_)
    assert_allclose(far.project(X + 2.0**30), near.project(X), atol=1e-6)


# The labels.


def test_classes_are_their_indicators(data):
    X, Y = data
    y = Y.astype(int).sum(axis=1) % 4
    classes, one_hot = (hasher_for().fit(X, t) for t in (y, label_binarize(y, classes=range(4))))
    assert_array_equal(classes.coef_, one_hot.coef_)
    named = hasher_for().fit(X, np.array(list("dcba"))[y])
    assert_allclose(named.project(X), classes.project(X), atol=1e-8)
    assert_allclose(named.label_coef_, classes.label_coef_[::-1], atol=1e-8)


def test_labels_follow_from_codes(data):
    X, Y = data
    hasher = hasher_for(16, n_anchors=100).fit(X, Y)
    B = 2.0 * hasher.transform(X) - 1
    residual = ((Y - B @ hasher.label_coef_.T) ** 2).sum()
    assert residual < 0.7 * ((Y - Y.mean(axis=0)) ** 2).sum()


def test_better_than_without_labels_on_classes():
    X, y = load_digits(return_X_y=True)
    X, y = X[:800], y[:800]
    scores = [
        hasher.fit(X[200:], y[200:]).score(X[:200], y[:200])
        for hasher in (
            SDHHasher(16, n_anchors=100, random_state=0),
            LSHHasher(16, random_state=0),
        )
    ]
    assert scores[0] > scores[1] + 0.3


def test_better_than_without_labels_on_label_sets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 20))
    Y = (X[:, :6] + 0.3 * rng.normal(size=(700, 6)) > 0.5).astype(np.uint8)
    scores = [
        hasher.fit(X[200:], Y[200:]).score(X[:200], Y[:200])
        for hasher in (SDHHasher(16, random_state=0), LSHHasher(16, random_state=0))
    ]
    assert scores[0] > scores[1] + 0.1


# Memory and types.


def test_memory_is_linear_in_samples():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6000, 4)), rng.integers(0, 2, (6000, 5))
    peaks = []
    for n in (3000, 6000):
        tracemalloc.start()
        hasher_for(8, max_iter=2).fit(X[:n], Y[:n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2.2 * peaks[0]
    # Not even a byte for each pair.
    assert peaks[1] < 6000**2


def test_float32_in_float32_work(data):
    X, Y = data
    X32 = X.astype(np.float32)
    single, double = hasher_for().fit(X32, Y), hasher_for().fit(X, Y)
    for name in ("coef_", "intercept_", "anchors_", "label_coef_"):
        assert getattr(single, name).dtype == np.float32, name
        assert getattr(double, name).dtype == np.float64, name
    assert single.project(X32).dtype == np.float32
    assert double.project(X).dtype == np.float64
    assert (single.transform(X32) != double.transform(X)).mean() < 0.02
    assert_allclose(single.objective_, double.objective_, rtol=1e-2)


def test_steps_stay_in_float32(data, monkeypatch):
    problem = make_problem(data, dtype=np.float32)
    step, dtypes = problem.update_bit, []

    def watched(k, pull, coupling):
        dtypes.extend((pull.dtype, coupling.dtype))
        return step(k, pull, coupling)

    monkeypatch.setattr(problem, "update_bit", watched)
    problem.update_codes()
    assert set(dtypes) == {np.dtype(np.float32)}
    assert problem.codes.dtype == problem.targets.dtype == problem.features.dtype == np.float32


# Randomness and errors.


def test_random_state_decides_everything(data):
    X, Y = data
    first = hasher_for().fit(X, Y)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert_array_equal(clone(first).fit(X, Y).coef_, first.coef_)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = hasher_for(random_state=1).fit(X, Y)
    assert not np.array_equal(other.anchor_indices_, first.anchor_indices_)
    # With all samples as anchors the codes at the start are what is left to draw.
    starts = [hasher_for(n_anchors=150, random_state=s).fit(X, Y).objective_[0] for s in (0, 1)]
    assert starts[0] != starts[1]


def test_input_is_left_alone(data):
    X, Y = data[0].copy(), data[1].copy()
    hasher_for().fit(X, Y).transform(X)
    assert_array_equal(X, data[0])
    assert_array_equal(Y, data[1])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8 / 3])
@pytest.mark.parametrize("gamma", ["auto", 1.0])
def test_error_on_constant_features(gamma, constant, data):
    X = np.full((150, 7), constant) + np.arange(7)
    with pytest.raises(ValueError, match="X should vary over the training samples"):
        hasher_for(gamma=gamma).fit(X, data[1])


@pytest.mark.parametrize("Y", [np.ones((150, 2), int), np.zeros((150, 2), int), ["a"] * 150])
def test_error_on_constant_labels(Y, data):
    with pytest.raises(ValueError, match="y should vary over the training samples, got 150 equal"):
        hasher_for().fit(data[0], Y)


def test_error_leaves_the_hasher_as_it_was(data):
    X, Y = data
    hasher = hasher_for().fit(X, Y)
    codes = hasher.transform(X)
    with pytest.raises(ValueError, match="requires y to be passed"):
        hasher.fit(X)
    with pytest.raises(ValueError, match="y should vary"):
        hasher.fit(X[:20], np.ones(20, int))
    assert_array_equal(hasher.transform(X), codes)


@pytest.mark.parametrize(
    "param",
    [
        {"n_bits": 0},
        {"n_anchors": 0},
        {"gamma": 0.0},
        {"reg": 0.0},
        {"nu": -1e-9},
        {"reg_labels": 0.0},
        {"max_iter": 0},
        {"tol": -1.0},
    ],
)
def test_error_on_parameters(param, data):
    (name,) = param
    with pytest.raises(ValueError, match=f"The '{name}' parameter of SDHHasher must be a"):
        SDHHasher(**param).fit(*data)
