"""The estimator API that all hashers share, through the shallow ones."""

import pickle
from fractions import Fraction
from itertools import chain, permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhash import CCAITQHasher, ITQHasher, LSHHasher, neighbors
from skhash.base import BaseHasher
from skhash.codes import hamming_distances, pack_codes, unpack_codes
from skhash.metrics import make_retrieval_scorer, ndcg_score

HASHERS = [
    LSHHasher(5, random_state=0),
    ITQHasher(5, random_state=0),
    CCAITQHasher(4, random_state=0),
]
all_hashers = pytest.mark.parametrize("hasher", HASHERS, ids=lambda h: type(h).__name__)
NAMES = np.array(["heron", "carp", "newt"])


@pytest.fixture(scope="module")
def data():
    """Samples with label sets, and with one class each, that can be read off them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    Z = X @ rng.normal(size=(6, 4))
    return X, (Z > 0.4).astype(np.uint8), Z[:, :3].argmax(axis=1)


def state_of(estimator):
    """All attributes, in a form that compares bit by bit."""
    return {name: pickle.dumps(value) for name, value in vars(estimator).items()}


def state_of_labels(hasher):
    """The database, in a form that compares."""
    database = hasher.database_codes_, hasher.database_labels_, hasher.classes_
    return [np.asarray(part).tolist() for part in database]


class GivenCodes(BaseHasher):
    """A hasher whose samples are their own projection."""

    def __init__(self, n_bits=4, *, n_neighbors=3):
        self.n_bits = n_bits
        self.n_neighbors = n_neighbors

    def _fit(self, X, Y):
        self.seen_ = X, Y

    def _project(self, X):
        return X


# Projection, codes, database.


@all_hashers
def test_transform_is_the_sign_of_the_projection(hasher, data):
    X, Y, _ = data
    hasher = clone(hasher)
    assert hasher.fit(X[10:], Y[10:]) is hasher
    projection, codes = hasher.project(X), hasher.transform(X)
    assert projection.shape == codes.shape == (60, hasher.n_bits)
    assert codes.dtype == np.uint8
    assert_array_equal(codes, np.where(projection >= 0, 1, 0))
    assert set(codes.ravel()) == {0, 1}


def test_zero_is_on_the_upper_side():
    hasher = GivenCodes().fit(np.eye(4))
    assert_array_equal(hasher.transform([[0.0, -0.0, 1e-300, -1e-300]]), [[1, 1, 1, 0]])


@all_hashers
def test_fit_transform_is_fit_then_transform(hasher, data):
    X, Y, _ = data
    codes = clone(hasher).fit_transform(X, Y)
    assert codes.dtype == np.uint8
    assert_array_equal(codes, clone(hasher).fit(X, Y).transform(X))
    assert_array_equal(clone(hasher).fit_transform(X, y=Y), codes)


@all_hashers
@pytest.mark.parametrize("form", ["sets", "classes"])
def test_database_after_fit_is_the_training_set(hasher, form, data):
    X, Y, y = data
    hasher = clone(hasher).set_params(n_bits=2).fit(X, Y if form == "sets" else NAMES[y])
    assert_array_equal(hasher.database_codes_, pack_codes(hasher.transform(X)))
    one_hot = NAMES[y][:, None] == np.sort(NAMES)
    assert_array_equal(hasher.database_labels_, pack_codes(Y if form == "sets" else one_hot))
    assert_array_equal(hasher.classes_, range(4) if form == "sets" else np.sort(NAMES))
    assert hasher.n_features_in_ == 6


def test_database_without_labels(data):
    hasher = LSHHasher(5, random_state=0).fit(data[0])
    assert hasher.database_labels_ is None
    assert hasher.classes_ is None
    assert hasher.kneighbors(data[0])[1].shape == (60, 5)


def test_algorithms_see_indicators():
    X = np.eye(3)
    assert GivenCodes().fit(X).seen_[1] is None
    _, Y = GivenCodes().fit(X, ["b", "c", "b"]).seen_
    assert Y.dtype == np.uint8
    assert_array_equal(Y, [[1, 0], [0, 1], [1, 0]])
    _, Y = GivenCodes().fit(X, [[True, False], [True, True], [False, False]]).seen_
    assert Y.dtype == np.uint8
    assert_array_equal(Y, [[1, 0], [1, 1], [0, 0]])


@all_hashers
def test_set_database(hasher, data):
    X, Y, _ = data
    fitted = clone(hasher).fit(X[:30], Y[:30])
    components = fitted.components_.copy()
    assert fitted.set_database(X[30:], Y[30:]) is fitted
    assert_array_equal(fitted.components_, components)
    assert_array_equal(fitted.database_codes_, pack_codes(fitted.transform(X[30:])))
    assert_array_equal(fitted.database_labels_, pack_codes(Y[30:]))
    fitted.set_database(X[30:])
    assert fitted.database_labels_ is None
    assert_array_equal(fitted.kneighbors(X)[1] < 30, True)
    # The labels of `fit` stay: others are still refused.
    with pytest.raises(ValueError, match=r"shape \(n_samples, 4\), as in fit, got shape"):
        fitted.set_database(X, Y[:, :3])
    fitted.set_database(X[:30], Y[:30])
    assert state_of(fitted) == state_of(clone(hasher).fit(X[:30], Y[:30]))


def test_set_database_brings_labels_where_fit_had_none(data):
    X, Y, y = data
    hasher = LSHHasher(5, random_state=0).fit(X)
    for labels in [NAMES[y], Y, Y[:, :2], y, NAMES[y][:40].tolist() + ["toad"] * 20]:
        hasher.set_database(X, labels)
        assert state_of_labels(hasher) == state_of_labels(clone(hasher).fit(X, labels))
    hasher.set_database(X)
    assert state_of(hasher) == state_of(clone(hasher).fit(X))


def test_kneighbors_searches_the_database(data):
    X, Y, _ = data
    hasher = LSHHasher(5, random_state=0, n_neighbors=4).fit(X[20:], Y[20:])
    search = neighbors.HammingNeighbors(4).fit(hasher.transform(X[20:]))
    for n_neighbors in (None, 1, 40):
        expected = search.kneighbors(hasher.transform(X[:20]), n_neighbors)
        found = hasher.kneighbors(X[:20], n_neighbors)
        for part, whole in zip(found, expected, strict=True):
            assert_array_equal(part, whole)
        only = hasher.kneighbors(X[:20], n_neighbors, return_distance=False)
        assert_array_equal(only, expected[1])


# The vote: its expectation over all orders of the ties, in exact fractions.


def expected_vote(distances, labels, n_neighbors):
    """Mean over all orders of ties of the share of each label among the first neighbours."""
    groups = [np.flatnonzero(distances == d) for d in np.unique(distances)]
    orders = [list(chain(*order)) for order in product(*map(permutations, groups))]
    counts = sum(labels[order[:n_neighbors]].sum(axis=0) for order in orders)
    return [Fraction(int(count), len(orders) * n_neighbors) for count in counts]


def brute_force_shares(hasher, X, labels):
    distances = hamming_distances(pack_codes(hasher.transform(X)), hasher.database_codes_)
    return [expected_vote(row, labels.astype(int), hasher.n_neighbors) for row in distances]


@pytest.mark.parametrize("n_neighbors", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("n_bits", [1, 2, 3])
def test_predict_equals_expectation_over_all_orders(n_bits, n_neighbors):
    rng = np.random.default_rng(n_bits)
    X, queries = rng.normal(size=(7, n_bits)), rng.normal(size=(8, n_bits))
    Y, y = rng.integers(0, 2, (7, 6), dtype=np.uint8), np.arange(7) % 3
    hasher = GivenCodes(n_bits, n_neighbors=n_neighbors).fit(X, Y)
    shares = brute_force_shares(hasher, queries, Y)
    predicted = hasher.predict(queries)
    assert predicted.dtype == np.uint8
    half = Fraction(1, 2)
    assert_array_equal(predicted, [[share > half for share in row] for row in shares])
    for classes in (y, NAMES[y]):
        hasher.fit(X, classes)
        one_hot = classes[:, None] == hasher.classes_
        shares = brute_force_shares(hasher, queries, one_hot)
        # `index` finds the first of equals.
        expected = [hasher.classes_[row.index(max(row))] for row in shares]
        predicted = hasher.predict(queries)
        assert predicted.dtype == classes.dtype
        assert_array_equal(predicted, expected)


def test_exactly_half_is_not_a_majority():
    hasher = GivenCodes(2, n_neighbors=2)
    # Without ties, and where the half comes from the two that compete for one place.
    X, Y = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]), np.array([[1], [0], [0], [0]])
    assert_array_equal(hasher.fit(X, Y).predict([[1, 1]]), [[0]])
    Y = np.array([[0, 0], [1, 1], [1, 1], [0, 1]])
    assert_array_equal(hasher.fit(X, Y).predict([[1, 1]]), [[0, 0]])
    Y[0, 1] = 1
    assert_array_equal(hasher.fit(X, Y).predict([[1, 1]]), [[0, 1]])


def one_place_for_many(n_nearer, n_level, n_votes):
    """Distances 0 and 1, and two labels: of the tied items `n_votes` have the first."""
    X = np.where(np.arange(n_nearer + n_level)[:, None] < n_nearer, 1.0, [[1.0, -1.0]])
    y = np.concatenate([np.arange(n_nearer) % 2, np.arange(n_level) >= n_votes]).astype(int)
    return X, y


@pytest.mark.parametrize(("n_nearer", "n_level"), [(2, 3), (100, 999), (1000, 9999)])
def test_majorities_are_exact(n_nearer, n_level):
    # All but one place are shared evenly; half a vote more or less decides over the last.
    hasher = GivenCodes(2, n_neighbors=n_nearer + 1)
    query = [[1.0, 1.0]]
    for n_votes, wins in [(n_level // 2, 0), (n_level // 2 + 1, 1)]:
        X, y = one_place_for_many(n_nearer, n_level, n_votes)
        assert_array_equal(hasher.fit(X, np.c_[y == 0, y == 1]).predict(query), [[wins, 1 - wins]])
        assert_array_equal(hasher.fit(X, y).predict(query), [1 - wins])
    X, y = one_place_for_many(n_nearer, n_level + 1, (n_level + 1) // 2)
    assert_array_equal(hasher.fit(X, np.c_[y == 0, y == 1]).predict(query), [[0, 0]])
    assert_array_equal(hasher.fit(X, y).predict(query), [0])


@pytest.mark.parametrize("n_level", [3, 7, 11, 13, 29])
def test_first_of_equal_classes_wins(n_level):
    # One whole vote against as many fractions of one: thirds, sevenths, ... add up to 1 exactly.
    X = np.array([[1.0, 1.0]] + [[1.0, -1.0]] * n_level)
    hasher = GivenCodes(2, n_neighbors=2)
    for whole, parts in ("ab", "ba"):
        hasher.fit(X, [whole] + [parts] * n_level)
        assert_array_equal(hasher.predict([[1.0, 1.0]]), ["a"])


@all_hashers
def test_predict_does_not_depend_on_the_order_of_the_database(hasher, data):
    X, Y, y = data
    order = np.random.default_rng(1).permutation(60)
    for labels in (Y, NAMES[y]):
        fitted = clone(hasher).set_params(n_bits=2, n_neighbors=7).fit(X, labels)
        expected = fitted.predict(X)
        assert len(np.unique(expected, axis=0)) > 1
        assert_array_equal(fitted.set_database(X[order], labels[order]).predict(X), expected)
        assert fitted.score(X, labels) == pytest.approx(fitted.score(X[order], labels[order]))


@pytest.mark.parametrize("kibibytes", [0, 2, 3, 10**6])
def test_predict_does_not_depend_on_working_memory(kibibytes, data):
    X, Y, _ = data
    hasher = LSHHasher(5, random_state=0).fit(X, Y)
    expected = hasher.predict(X)
    with sklearn.config_context(working_memory=kibibytes / 1024):
        assert_array_equal(hasher.predict(X), expected)


@all_hashers
def test_predict_recovers_classes_that_lie_apart(hasher, data):
    y = data[2]
    X, Y = data[0] / 10 + 3 * np.eye(6)[y], np.c_[y == 0, y > 0, y == 2].astype(np.uint8)
    n_bits = 2 if hasher._supervised else 5  # three classes have two canonical directions
    for labels in (NAMES[y], Y):
        fitted = clone(hasher).set_params(n_bits=n_bits).fit(X[20:], labels[20:])
        assert_array_equal(fitted.predict(X[:20]), labels[:20])


# The score.


@all_hashers
@pytest.mark.parametrize("n_database", [40, 200])
def test_score_is_ndcg_at_100(hasher, n_database):
    # 200 items: more than the cut.
    rng = np.random.default_rng(2)
    X = rng.normal(size=(220, 6))
    Y = (X[:, :4] + rng.normal(size=(220, 4)) > 0.5).astype(np.uint8)
    train, test = slice(20, 20 + n_database), slice(20)
    fitted = clone(hasher).fit(X[train], Y[train])
    score = fitted.score(X[test], Y[test])
    assert type(score) is float
    codes = fitted.transform(X[test]), fitted.transform(X[train])
    by_hand = [ndcg_score(codes[0], Y[test], codes[1], Y[train], k=k) for k in (100, None)]
    assert_allclose(score, by_hand[0], rtol=1e-12)
    assert (n_database > 100) == (abs(score - by_hand[1]) > 1e-6)
    assert score == make_retrieval_scorer(k=100)(fitted, X[test], Y[test])


def test_score_of_class_labels(data):
    X, _, y = data
    hasher = LSHHasher(5, random_state=0).fit(X[20:], NAMES[y[20:]])
    one_hot = (NAMES[y][:, None] == np.sort(NAMES)).astype(np.uint8)
    expected = clone(hasher).fit(X[20:], one_hot[20:]).score(X[:20], one_hot[:20])
    assert hasher.score(X[:20], NAMES[y[:20]]) == expected


def test_queries_of_unseen_classes_have_no_relevant_item(data):
    X, _, y = data
    hasher = LSHHasher(5, random_state=0).fit(X[20:], NAMES[y[20:]])
    with pytest.raises(ValueError, match=r"no class that this LSHHasher knows: got \['toad'\]"):
        hasher.score(X[:20], ["toad"] * 20)
    mixed = np.where(np.arange(20) < 10, NAMES[y[:20]], "toad")
    assert_allclose(hasher.score(X[:20], mixed), hasher.score(X[:10], NAMES[y[:10]]) / 2)


@pytest.mark.parametrize("n_bits", [1, 20])
def test_parameters_set_after_fit_do_not_change_the_codes(n_bits, data):
    X, Y, _ = data
    hasher = LSHHasher(5, random_state=0).fit(X, Y)
    codes, score, predicted = hasher.transform(X), hasher.score(X, Y), hasher.predict(X)
    hasher.set_params(n_bits=n_bits)
    assert_array_equal(hasher.transform(X), codes)
    assert hasher.score(X, Y) == score
    assert_array_equal(hasher.predict(X), predicted)
    assert hasher.fit_transform(X, Y).shape == (60, n_bits)


# Labels and samples in every form.


@all_hashers
@pytest.mark.parametrize(
    "convert",
    [
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_array,
        lambda Y: Y.tolist(),
        lambda Y: Y.astype(bool),
        lambda Y: Y.astype(float),
        lambda Y: Y.astype(object),
        np.asfortranarray,
    ],
    ids=["csr", "csc", "coo", "list", "bool", "float", "object", "fortran"],
)
def test_label_sets_in_every_form(hasher, convert, data):
    X, Y, _ = data
    expected = clone(hasher).fit(X, Y)
    fitted = clone(hasher).fit(X, convert(Y))
    assert state_of_labels(fitted) == state_of_labels(expected)
    assert_array_equal(fitted.components_, expected.components_)
    assert fitted.score(X, convert(Y)) == expected.score(X, Y)
    assert_array_equal(fitted.predict(X), expected.predict(X))
    fitted.set_database(X[:9], convert(Y[:9]))
    assert_array_equal(fitted.database_labels_, pack_codes(Y[:9]))


@all_hashers
@pytest.mark.parametrize(
    "convert",
    [
        lambda y: y.tolist(),
        lambda y: y.astype(float) - 1,
        lambda y: np.sort(NAMES)[y],
        lambda y: np.sort(NAMES)[y].tolist(),
        lambda y: np.sort(NAMES)[y].astype(object),
    ],
    ids=["list", "float", "strings", "list of strings", "object"],
)
def test_class_labels_in_every_form(hasher, convert, data):
    X, _, y = data
    labels = convert(y)
    expected = clone(hasher).set_params(n_bits=2).fit(X, y)
    fitted = clone(expected).fit(X, labels)
    assert_array_equal(fitted.database_labels_, expected.database_labels_)
    assert_array_equal(fitted.classes_, np.unique(labels))
    assert_array_equal(fitted.predict(X), fitted.classes_[expected.predict(X)])
    assert fitted.score(X, labels) == expected.score(X, y)


@all_hashers
def test_samples_in_every_form(hasher, data):
    X, Y, _ = data
    X = np.rint(X * 10)
    expected = clone(hasher).fit(X, Y)
    for same in (X.tolist(), X.astype(int), np.asfortranarray(X), X.astype(object)):
        fitted = clone(hasher).fit(same, Y)
        assert_allclose(fitted.components_, expected.components_, atol=1e-12)
        assert_array_equal(fitted.transform(same), expected.transform(X))


# Errors, and what they leave behind.

BAD_FITS = {
    "n_bits below 1": ({"n_bits": 0}, lambda s: (s.X, s.Y), "'n_bits' parameter of .* must be an"),
    "n_bits no int": (
        {"n_bits": 2.0},
        lambda s: (s.X, s.Y),
        "'n_bits' parameter of .* must be an",
    ),
    "n_neighbors": (
        {"n_neighbors": 0},
        lambda s: (s.X, s.Y),
        "'n_neighbors' parameter of .* must",
    ),
    "short Y": ({}, lambda s: (s.X, s.Y[:-1]), r"inconsistent numbers of samples: \[60, 59\]"),
    "no Y rows": ({}, lambda s: (s.X, []), r"inconsistent numbers of samples: \[60, 0\]"),
    "continuous": (
        {},
        lambda s: (s.X, s.X[:, 0]),
        "Unknown label type: continuous.*indicator mat",
    ),
    "continuous 2D": ({}, lambda s: (s.X, s.X[:, :2]), "only 0 and 1, got 0.12573"),
    "a 2": ({}, lambda s: (s.X, s.Y + 1), "y must hold only 0 and 1, got [12]"),
    "a -1": ({}, lambda s: (s.X, 2.0 * s.Y - 1), r"only 0 and 1, got -1\.0"),
    "sparse 2": ({}, lambda s: (s.X, sparse.csr_array(2 * s.Y)), "only 0 and 1, got 2"),
    "strings 2D": (
        {},
        lambda s: (s.X, s.Y.astype(str)),
        "only 0 and 1, got '[01]'",
    ),
    "column": ({}, lambda s: (s.X, np.arange(60)[:, None]), "only 0 and 1, got 2"),
    "NaN": ({}, lambda s: (s.X, np.where(s.Y, np.nan, 1.0)), "Input y contains NaN"),
    "NaN 1D": ({}, lambda s: (s.X, np.where(s.Y[:, 0], np.nan, 1.0)), "Input y contains NaN"),
    "ragged": ({}, lambda s: (s.X, [[1], [1, 2]] * 30), "different lengths.*MultiLabelBinarizer"),
    "sets": ({}, lambda s: (s.X, [{1}, {1, 2}] * 30), "Unknown label type for y"),
    "mixed": ({}, lambda s: (s.X, np.array([1, "a"] * 30, object)), "Unknown label type for y"),
    "0D": ({}, lambda s: (s.X, 1), r"1D class labels, got an array of shape \(\)"),
    "3D": ({}, lambda s: (s.X, s.Y[:, :, None]), r"labels, got an array of shape \(60, 4, 1\)"),
    "no labels": ({}, lambda s: (s.X, s.Y[:, :0]), r"labels, got an array of shape \(60, 0\)"),
    "X NaN": ({}, lambda s: (np.where(s.X > 1, np.nan, s.X), s.Y), "Input X contains NaN"),
    "X infinite": ({}, lambda s: (np.where(s.X > 1, np.inf, s.X), s.Y), "X contains infinity"),
    "X 1D": ({}, lambda s: (s.X[:, 0], s.Y), "Expected 2D array, got 1D array instead"),
    "X empty": ({}, lambda s: (s.X[:0], s.Y[:0]), r"Found array with 0 sample\(s\)"),
    "X one row": ({}, lambda s: (s.X[:1], s.Y[:1]), r"Found array with 1 sample\(s\)"),
    "X strings": ({}, lambda s: ([["a"]] * 60, s.Y), "could not convert string to float"),
}


@all_hashers
@pytest.mark.parametrize("name", BAD_FITS)
def test_failed_fit_changes_nothing(hasher, name, data):
    X, Y, y = data
    params, spoil, message = BAD_FITS[name]
    unfitted = clone(hasher).set_params(**params)
    fitted = clone(hasher).set_params(n_bits=2).fit(X[:, :5], NAMES[y]).set_params(**params)
    for estimator in (unfitted, fitted):
        before = state_of(estimator)
        with pytest.raises(ValueError, match=message):
            estimator.fit(*spoil(SimpleNamespace(X=X, Y=Y)))
        assert state_of(estimator) == before
    with pytest.raises(NotFittedError):
        unfitted.transform(X)


@pytest.mark.parametrize("error", [ValueError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("verb", ["_fit", "_project"])
def test_fit_that_fails_late_changes_nothing(verb, error, data, monkeypatch):
    X, Y, y = data
    unfitted, fitted = LSHHasher(8), LSHHasher(8).fit(X, NAMES[y])

    def fail(self, *args):
        self.components_ = self.half_done_ = args
        raise error

    monkeypatch.setattr(LSHHasher, verb, fail)
    for estimator in (unfitted, fitted):
        before = state_of(estimator)
        with pytest.raises(error):
            estimator.fit(X[:, :3], Y)
        assert state_of(estimator) == before


def test_supervised_hasher_requires_labels(data):
    X, Y, _ = data
    message = "This CCAITQHasher estimator requires y to be passed, but the target y is None"
    for estimator in (CCAITQHasher(2), CCAITQHasher(2).fit(X, Y)):
        before = state_of(estimator)
        with pytest.raises(ValueError, match=message):
            estimator.fit(X)
        assert state_of(estimator) == before


BAD_DATABASES = {
    "short Y": (lambda s: (s.X, s.Y[:-1]), r"inconsistent numbers of samples: \[60, 59\]"),
    "a 2": (lambda s: (s.X, 2 * s.Y), "only 0 and 1, got 2"),
    "continuous": (lambda s: (s.X, s.X[:, 0]), "Unknown label type: continuous"),
    "NaN": (lambda s: (s.X, np.where(s.Y, np.nan, 0)), "Input y contains NaN"),
    "features": (lambda s: (s.X[:, :3], s.Y), "X has 3 features, but LSHHasher is expecting 6"),
    "X NaN": (lambda s: (s.X + np.nan, s.Y), "Input X contains NaN"),
}
OTHER_LABELS = {
    "classes": (lambda s: (s.X, s.y), r"shape \(n_samples, 4\), as in fit, got shape \(60,\)"),
    "more": (lambda s: (s.X, np.c_[s.Y, s.Y]), r"\(n_samples, 4\), as in fit, got shape \(60, 8"),
}
OTHER_CLASSES = {
    "unseen": (
        lambda s: (s.X, np.append(NAMES[s.y[1:]], "toad")),
        r"classes that fit has not seen: \['toad'\]",
    ),
    "integers": (lambda s: (s.X, s.y), r"classes that fit has not seen: \[0 1 2\]"),
    "label sets": (lambda s: (s.X, s.Y), "should be 1D class labels, as in fit, got.*60, 4"),
    "short y": (lambda s: (s.X, NAMES[s.y[1:]]), r"inconsistent numbers of samples: \[60, 59\]"),
}
ALL_BAD_DATABASES = [
    *product(["nothing", "sets"], BAD_DATABASES.values()),
    *product(["sets"], OTHER_LABELS.values()),
    *product(["classes"], OTHER_CLASSES.values()),
]


@pytest.mark.parametrize(("form", "case"), ALL_BAD_DATABASES)
def test_failed_set_database_changes_nothing(form, case, data):
    X, Y, y = data
    spoil, message = case
    labels = {"nothing": None, "sets": Y, "classes": NAMES[y]}[form]
    hasher = LSHHasher(8, random_state=0).fit(X, labels)
    before = state_of(hasher)
    with pytest.raises(ValueError, match=message):
        hasher.set_database(*spoil(SimpleNamespace(X=X, Y=Y, y=y)))
    assert state_of(hasher) == before


@pytest.mark.parametrize(
    "method", ["project", "transform", "predict", "kneighbors", "score", "set_database"]
)
@all_hashers
def test_error_before_fit_and_on_other_samples(hasher, method, data):
    X, Y, _ = data
    hasher, name = clone(hasher), type(hasher).__name__
    labels = [Y] if method in ("score", "set_database") else []
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
        getattr(hasher, method)(X, *labels)
    hasher.fit(X, Y)
    for other, message in [
        (X[:, :3], f"X has 3 features, but {name} is expecting 6 features as input"),
        (X[0], "Expected 2D array, got 1D array"),
        (np.where(X > 1, np.nan, X), "Input X contains NaN"),
        (X[:0], r"Found array with 0 sample\(s\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            getattr(hasher, method)(other, *labels)


def test_error_without_labels_in_the_database(data):
    X, Y, _ = data
    unlabelled = [LSHHasher(4).fit(X), LSHHasher(4).fit(X, Y).set_database(X)]
    message = r"database of this LSHHasher has no label sets\. Call fit\(X, y\) or set_database\("
    for hasher in unlabelled:
        for call in (lambda h=hasher: h.predict(X), lambda h=hasher: h.score(X, Y)):
            with pytest.raises(ValueError, match=message):
                call()


def test_error_on_labels_to_score(data):
    X, Y, y = data
    hasher = LSHHasher(4).fit(X, Y)
    for labels, message in [
        (None, "score needs the label sets of the queries: pass y"),
        (Y[:-1], r"inconsistent numbers of samples: \[60, 59\]"),
        (Y[:, :3], r"\(n_samples, 4\), as in fit, got shape \(60, 3\)"),
        (y, r"\(n_samples, 4\), as in fit, got shape \(60,\)"),
        (Y + 1, "y must hold only 0 and 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            hasher.score(X, labels)
    # Scored in batches of one query, surplus labels would otherwise never be seen.
    with (
        sklearn.config_context(working_memory=0),
        pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[59, 60\]"),
    ):
        hasher.score(X[1:], Y)
    with pytest.raises(ValueError, match=r"1D class labels, as in fit, got .* \(60, 4\)"):
        hasher.fit(X, y).score(X, Y)


def test_error_on_more_neighbors_than_the_database_has(data):
    X, Y, _ = data
    hasher = LSHHasher(4, n_neighbors=61).fit(X, Y)
    message = "Expected n_neighbors <= n_database.*n_neighbors={}, n_database={}"
    for call in (hasher.predict, hasher.kneighbors):
        with pytest.raises(ValueError, match=message.format(61, 60)):
            call(X)
    with pytest.raises(ValueError, match=message.format(62, 60)):
        hasher.kneighbors(X, 62)
    hasher.set_params(n_neighbors=60)
    assert_array_equal(hasher.predict(X), np.tile(Y.mean(axis=0) > 0.5, (60, 1)))
    with pytest.raises(ValueError, match=message.format(60, 9)):
        hasher.set_database(X[:9], Y[:9]).predict(X)
    for n_neighbors in (0, -3, 1.5):
        with pytest.raises(ValueError, match="n_neighbors should be an int, at least 1, got "):
            hasher.kneighbors(X, n_neighbors)


# Refit: nothing of the former fit is left.


@all_hashers
def test_refit_equals_first_fit(hasher, data):
    X, Y, y = data
    hasher = clone(hasher).set_params(n_bits=2)
    fits = [(X, Y), (X[:50, :4], NAMES[y[:50]]), (X[:, :3], Y[:, :2]), (X, y)]
    if not hasher._supervised:
        fits.append((X[:20], None))
    for first, second in permutations(fits, 2):
        refitted = clone(hasher).fit(*first).fit(*second)
        assert state_of(refitted) == state_of(clone(hasher).fit(*second))


def test_refit_without_labels_forgets_them(data):
    X, Y, _ = data
    hasher = LSHHasher(4).fit(X, Y).fit(X)
    assert hasher.database_labels_ is None
    assert hasher.classes_ is None
    with pytest.raises(ValueError, match="has no label sets"):
        hasher.predict(X)


def test_refit_forgets_attributes_that_only_the_former_fit_set(data):
    hasher = LSHHasher(4).fit(*data[:2])
    hasher.leftover_ = 1
    assert not hasattr(hasher.fit(*data[:2]), "leftover_")


# Among scikit-learn's tools.


@all_hashers
def test_clone_and_pickle(hasher, data):
    X, Y, _ = data
    fitted = clone(hasher).fit(X, Y)
    copy = pickle.loads(pickle.dumps(fitted))
    assert state_of(copy) == state_of(fitted)
    assert copy.score(X, Y) == fitted.score(X, Y)
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not [name for name in vars(fresh) if name.endswith("_")]


@all_hashers
def test_pipeline(hasher, data):
    X, Y, _ = data
    pipeline = make_pipeline(StandardScaler(), clone(hasher)).fit(X[20:], Y[20:])
    scaler = StandardScaler().fit(X[20:])
    alone = clone(hasher).fit(scaler.transform(X[20:]), Y[20:])
    queries = scaler.transform(X[:20])
    assert_array_equal(pipeline.transform(X[:20]), alone.transform(queries))
    assert_array_equal(pipeline.predict(X[:20]), alone.predict(queries))
    assert pipeline.score(X[:20], Y[:20]) == alone.score(queries, Y[:20])
    expected = clone(hasher).fit_transform(StandardScaler().fit_transform(X), Y)
    assert_array_equal(clone(pipeline).fit_transform(X, Y), expected)


@all_hashers
@pytest.mark.parametrize("scoring", [None, make_retrieval_scorer("average_precision")])
def test_cross_val_score(hasher, scoring, data):
    X, Y, _ = data
    cv = KFold(3, shuffle=True, random_state=0)
    scorer = scoring or (lambda fitted, X, Y: fitted.score(X, Y))
    expected = [
        scorer(clone(hasher).fit(X[train], Y[train]), X[test], Y[test])
        for train, test in cv.split(X)
    ]
    assert_array_equal(cross_val_score(hasher, X, Y, cv=cv, scoring=scoring), expected)
    in_pipeline = make_pipeline("passthrough", hasher)
    assert_array_equal(cross_val_score(in_pipeline, X, Y, cv=cv, scoring=scoring), expected)


@all_hashers
def test_cross_validation_with_classes_that_a_fold_lacks(hasher, data):
    X, _, y = data
    names = np.where(np.arange(60) == 0, "toad", NAMES[y])
    scores = cross_val_score(clone(hasher).set_params(n_bits=2), X, names, cv=KFold(3))
    assert np.all((scores > 0) & (scores < 1))


@all_hashers
def test_grid_search_over_n_bits(hasher, data):
    X, Y, _ = data
    grid = {"n_bits": [1, 4]}
    search = GridSearchCV(hasher, grid, scoring=make_retrieval_scorer(k=20), cv=3).fit(X, Y)
    assert search.best_params_ == {"n_bits": 4}
    assert search.transform(X).shape == (60, 4)
    assert_array_equal(search.predict(X), search.best_estimator_.predict(X))


@all_hashers
def test_output_settings_and_feature_names(hasher, data):
    X, Y, _ = data
    hasher = clone(hasher)
    with pytest.raises(NotFittedError):
        hasher.get_feature_names_out()
    assert hasher.set_output(transform="default") is hasher
    codes = hasher.fit_transform(X, Y)
    assert type(codes) is type(hasher.transform(X)) is np.ndarray
    prefix = type(hasher).__name__.lower()
    assert_array_equal(
        hasher.get_feature_names_out(), [f"{prefix}{bit}" for bit in range(hasher.n_bits)]
    )


@all_hashers
def test_projection_of_one_query_and_many(hasher, data):
    X, Y, _ = data
    hasher = clone(hasher).fit(X, Y)
    assert_allclose(np.vstack([hasher.project(x[None]) for x in X]), hasher.project(X))
    assert hasher.predict(X[:1]).shape == (1, 4)
    assert unpack_codes(hasher.database_codes_, hasher.n_bits).shape == (60, hasher.n_bits)


def test_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        BaseHasher()
