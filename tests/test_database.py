"""The database of every hasher: codes that there are already, appending, votes within memory."""

import copy
import tracemalloc

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_common import HASHERS

from skhash import CCAITQHasher, DeepRankingHasher, ITQHasher, LSHHasher
from skhash.base import BaseHasher
from skhash.codes import pack_codes
from skhash.datasets import make_digit_scenes
from skhash.metrics import CodeDiagnosticsDisplay
from skhash.utils import check_hasher

all_hashers = pytest.mark.parametrize("hasher", HASHERS, ids=lambda h: type(h).__name__)
IN_PARTS = [
    ITQHasher(2, random_state=0),
    CCAITQHasher(2, random_state=0),
    DeepRankingHasher(4, hidden_size=8, batch_size=16, device="cpu", random_state=0),
]
in_parts = pytest.mark.parametrize("hasher", IN_PARTS, ids=lambda h: type(h).__name__)


@pytest.fixture(scope="module")
def data():
    """Samples with label sets, and with one class each, that can be read off them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    Z = X @ rng.normal(size=(6, 3))
    return X, (Z > 0).astype(np.uint8), Z.argmax(axis=1)


def database_of(hasher):
    """Codes, labels and classes, in a form that compares."""
    parts = hasher.database_codes_, hasher.database_labels_, hasher.classes_
    return [None if part is None else part.tolist() for part in parts]


# Codes that there are already.


@all_hashers
@pytest.mark.parametrize("form", ["sets", "classes", "none"])
def test_set_database_codes_is_set_database(hasher, form, data):
    X, Y, y = data
    labels = {"sets": Y, "classes": np.array(["ant", "bee", "cow"])[y], "none": None}[form]
    fitted = clone(hasher).fit(X[:40], Y[:40] if labels is None else labels[:40])
    part = None if labels is None else labels[30:]
    expected = database_of(fitted.set_database(X[30:], part))
    codes = pack_codes(fitted.encode_database(X[30:]))
    fitted.set_database(X[:5])
    assert fitted.set_database_codes(codes, part) is fitted
    assert database_of(fitted) == expected
    assert fitted.kneighbors(X)[1].max() < 30


def test_codes_bring_labels_where_fit_had_none(data):
    X, Y, y = data
    hasher = LSHHasher(12, random_state=0).fit(X)
    codes = hasher.database_codes_
    for labels in (Y, y, y.astype(str)):
        expected = clone(hasher).fit(X, labels)
        assert database_of(hasher.set_database_codes(codes, labels)) == database_of(expected)
        assert_array_equal(hasher.predict(X), expected.predict(X))
        assert hasher.score(X, labels) == expected.score(X, labels)


def test_codes_may_be_memory_mapped(data, tmp_path):
    X, Y, _ = data
    hasher = LSHHasher(12, random_state=0).fit(X, Y)
    expected = hasher.kneighbors(X)
    np.save(tmp_path / "codes.npy", hasher.database_codes_)
    hasher.set_database_codes(np.load(tmp_path / "codes.npy", mmap_mode="r"), Y)
    for got, right in zip(hasher.kneighbors(X), expected, strict=True):
        assert_array_equal(got, right)


def spoiled(codes):
    """The codes with a bit set beyond their length."""
    codes = codes.copy()
    codes[0, -1] |= 1
    return codes


BAD_CODES = {
    "bits": (lambda c: np.unpackbits(c, axis=1)[:, :12], "n_bits=12 take 2 bytes each"),
    "width": (lambda c: c[:, :1], r"take 2 bytes each, got packed codes of shape \(60, 1\)"),
    "dtype": (lambda c: c.astype(int), "codes must be a 2D uint8 array"),
    "1D": (lambda c: c[:, 0], "codes must be a 2D uint8 array"),
    "padding": (spoiled, "codes must be padded with zeros beyond n_bits=12"),
    "empty": (lambda c: c[:0], r"Found array with 0 sample\(s\)"),
    "length": (lambda c: c[1:], r"inconsistent numbers of samples: \[59, 60\]"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_CODES.values(), ids=BAD_CODES)
def test_error_on_codes_leaves_the_database(spoil, message, data):
    X, Y, _ = data
    hasher = LSHHasher(12, random_state=0).fit(X, Y)
    before = database_of(hasher)
    # What n_bits says now is not what the codes were learnt with.
    hasher.set_params(n_bits=8)
    with pytest.raises(ValueError, match=message):
        hasher.set_database_codes(spoil(hasher.database_codes_), Y)
    assert database_of(hasher) == before
    with pytest.raises(NotFittedError):
        LSHHasher().set_database_codes(hasher.database_codes_)


# Appending.


@all_hashers
@pytest.mark.parametrize("form", ["sets", "classes", "none"])
def test_parts_that_are_added_are_the_whole(hasher, form, data):
    X, Y, y = data
    labels = {"sets": Y, "classes": y, "none": None}[form]
    fitted = clone(hasher).fit(X, Y if labels is None else labels)
    parts = [slice(0, 20), slice(20, 21), slice(21, 60)]
    given = [(X[rows], None if labels is None else labels[rows]) for rows in parts]
    expected = database_of(fitted.set_database(X, labels))
    assert fitted.set_database(*given[0]).add_to_database(*given[1]) is fitted
    assert database_of(fitted.add_to_database(*given[2])) == expected


def test_images_are_added():
    X, Y = make_digit_scenes(40, image_size=16, return_X_y=True, random_state=0)
    params = {"hidden_size": 8, "max_epochs": 1, "device": "cpu", "random_state": 0}
    hasher = DeepRankingHasher(8, **params).fit(X, Y)
    expected = database_of(hasher)
    assert database_of(hasher.set_database(X[:30], Y[:30]).add_to_database(X[30:], Y[30:])) == (
        expected
    )


def test_error_on_what_is_added_leaves_the_database(data):
    X, Y, y = data
    labelled, bare = LSHHasher(12, random_state=0).fit(X, y), LSHHasher(12, random_state=0).fit(X)
    for hasher, given, message in [
        (labelled, (X,), "has label sets, and y is None. Pass y"),
        (bare, (X, y), "has no label sets. Add X without y, or call set_database"),
        (labelled, (X, y + 1), r"classes that fit has not seen: \[3\]"),
        (labelled, (X, Y), "should be 1D class labels, as in fit"),
        (labelled, (X, y[1:]), r"inconsistent numbers of samples: \[60, 59\]"),
        (labelled, (X[:, 1:], y), "X has 5 features, but LSHHasher is expecting 6"),
    ]:
        before = database_of(hasher)
        with pytest.raises(ValueError, match=message):
            hasher.add_to_database(*given)
        assert database_of(hasher) == before
    with pytest.raises(NotFittedError):
        LSHHasher().add_to_database(X)


# After parts, the database is empty.


@in_parts
def test_an_empty_database(hasher, data):
    X, Y, _ = data
    hasher = clone(hasher).partial_fit(X, Y)
    message = rf"database of this {type(hasher).__name__} is empty, as partial_fit leaves it"
    for call in (
        lambda: hasher.kneighbors(X),
        lambda: hasher.kneighbors(X, 1, asymmetric=True),
        lambda: hasher.predict(X),
        lambda: hasher.score(X, Y),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    expected = database_of(clone(hasher).partial_fit(X, Y).set_database(X, Y))
    hasher.add_to_database(X[:20], Y[:20]).add_to_database(X[20:], Y[20:])
    assert database_of(hasher) == expected
    assert hasher.kneighbors(X)[1].shape == (60, 5)


def test_diagnostics_of_an_empty_database(data):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    hasher = ITQHasher(2, random_state=0).partial_fit(data[0])
    with pytest.raises(ValueError, match="database of this ITQHasher is empty"):
        CodeDiagnosticsDisplay.from_estimator(hasher)


# Hashers of one's own.


class WithoutNeighbors(BaseHasher):
    """Signs of the first features; no parameter says how many neighbours vote."""

    def __init__(self, n_bits=2):
        self.n_bits = n_bits

    def _fit(self, X, Y):  # noqa: ARG002
        if self.n_bits > X.shape[1]:
            raise ValueError(f"n_bits={self.n_bits} is above n_features={X.shape[1]}.")

    def _project(self, X):
        return X[:, : self.n_bits]


class WithoutBits(WithoutNeighbors):
    """A hasher that does not say how long its codes are."""

    def __init__(self, size=2):
        self.size = size


class WithFixedBits(WithoutNeighbors):
    """A hasher whose codes have one length."""

    n_bits = 3

    def __init__(self):
        pass


def test_a_hasher_without_n_neighbors(data):
    X, _, y = data
    hasher = WithoutNeighbors(5).fit(X, y)
    assert hasher.kneighbors(X)[1].shape == (60, 5)
    assert hasher.predict(X).shape == (60,)
    assert "n_neighbors" not in hasher.get_params()
    check_hasher(WithoutNeighbors())


def test_a_hasher_without_n_bits(data):
    X, _, y = data
    with pytest.raises(TypeError, match="WithoutBits has no parameter n_bits, the length"):
        WithoutBits().fit(X, y)
    assert WithFixedBits().fit(X, y).transform(X).shape == (60, 3)


# Votes within memory.


def peak_bytes(function):
    """What a function returns, and the most memory that it held."""
    tracemalloc.start()
    result = function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak


@pytest.mark.parametrize(("n_database", "n_labels", "n_bits"), [(5000, 4000, 32), (3000, 2000, 3)])
def test_votes_unpack_few_labels(n_database, n_labels, n_bits):
    # Distances that are nearly all different, and groups of hundreds that compete for a place.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_database, n_bits)), rng.integers(0, n_labels, n_database)
    hasher = LSHHasher(n_bits, center=False, random_state=0).fit(X, y)
    queries = rng.normal(size=(20, n_bits))
    predicted, peak = peak_bytes(lambda: hasher.predict(queries))
    assert peak < 20e6 < 8 * n_database * len(hasher.classes_)
    distances = (hasher.transform(queries)[:, None] != hasher.transform(X)).sum(axis=2)
    for row, label in zip(distances, predicted, strict=True):
        last = np.sort(row)[4]
        votes = np.bincount(y[row < last], minlength=n_labels) * np.sum(row == last)
        votes += np.bincount(y[row == last], minlength=n_labels) * (5 - np.sum(row < last))
        assert label == votes.argmax()


def test_votes_for_many_label_sets_within_memory():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2000, 2)), rng.random((2000, 1500)) < 0.5
    hasher = LSHHasher(2, random_state=0, n_neighbors=100).fit(X, Y)
    predicted, peak = peak_bytes(lambda: hasher.predict(X[:40]))
    assert peak < 100e6
    level = (hasher.transform(X[:40])[:, None] != hasher.transform(X)).sum(axis=2) == 0
    # A hundred of the hundreds of equal codes vote, which is all of them.
    shares = level @ Y.astype(int) / level.sum(axis=1, keepdims=True)
    assert_array_equal(predicted, shares > 0.5)


@pytest.mark.parametrize("working_memory", [1e-3, 1024])
def test_votes_of_many_equal_codes_beside_others(working_memory):
    # A third of the queries have hundreds of items as their nearest, the others a few.
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(900, 24)), rng.integers(0, 7, 900)
    X[::3] = X[0]
    hasher = LSHHasher(40, random_state=0, n_neighbors=4).fit(X, y)
    queries = X[450:520]
    with config_context(working_memory=working_memory):
        predicted = hasher.predict(queries)
    distances = (hasher.transform(queries)[:, None] != hasher.transform(X)).sum(axis=2)
    for row, label in zip(distances, predicted, strict=True):
        last = np.sort(row)[3]
        votes = np.bincount(y[row < last], minlength=7) * np.sum(row == last)
        votes += np.bincount(y[row == last], minlength=7) * (4 - np.sum(row < last))
        assert label == votes.argmax()


@pytest.mark.parametrize("n_labels", [1, 7, 8, 9, 300])
def test_asymmetric_scores_do_not_depend_on_how_labels_are_unpacked(n_labels, data, monkeypatch):
    X = data[0]
    Y = np.random.default_rng(0).random((60, n_labels)) < 0.3
    hasher = LSHHasher(8, random_state=0).fit(X, Y)
    expected = hasher.score(X, Y, asymmetric=True)
    monkeypatch.setattr("skhash.metrics._weighted._BLOCK_LABELS", 10)
    assert hasher.score(X, Y, asymmetric=True) == expected


# A pipeline that ends in a hasher: what the user guide says.


@all_hashers
def test_search_of_a_pipeline(hasher, data, tmp_path):
    X, _, y = data
    pipeline = make_pipeline(StandardScaler(), clone(hasher)).fit(X[:40], y[:40])
    steps, last = pipeline[:-1], pipeline[-1]
    last.set_database(steps.transform(X), y).add_to_database(steps.transform(X[:9]), y[:9])
    scaled = StandardScaler().fit(X[:40]).transform(X)
    assert len(last.database_codes_) == 69
    distances, indices = last.kneighbors(steps.transform(X), 3)
    expected = last.kneighbors(scaled, 3)
    assert_array_equal(distances, expected[0])
    assert_array_equal(indices, expected[1])
    # The pipeline itself searches the new database.
    assert_array_equal(pipeline.predict(X), last.predict(scaled))
    joblib.dump(pipeline, tmp_path / "pipeline")
    loaded = joblib.load(tmp_path / "pipeline")
    assert_array_equal(loaded.predict(X), pipeline.predict(X))
    last.save(tmp_path / "hasher")
    assert_array_equal(type(last).load(tmp_path / "hasher").predict(scaled), pipeline.predict(X))


# Ids.


@all_hashers
@pytest.mark.parametrize("ids", [np.arange(900, 930), [f"image {i}" for i in range(30)]])
def test_neighbours_have_the_ids_of_the_database(hasher, ids, data, tmp_path):
    X, Y, _ = data
    fitted = clone(hasher).fit(X[:30], Y[:30])
    assert fitted.database_ids_ is None
    distances, rows = fitted.set_database(X[30:], Y[30:]).kneighbors(X, 4)
    fitted.set_database(X[30:], Y[30:], ids=ids)
    score, predicted = fitted.score(X, Y), fitted.predict(X)
    fitted.save(tmp_path / "hasher")
    parts = copy.deepcopy(fitted).set_database(X[30:40], Y[30:40], ids=ids[:10])
    for other in (
        fitted,
        type(fitted).load(tmp_path / "hasher"),
        copy.deepcopy(fitted).set_database_codes(fitted.database_codes_, Y[30:], ids=ids),
        parts.add_to_database(X[40:], Y[40:], ids=ids[10:]),
    ):
        assert_array_equal(other.kneighbors(X, 4)[0], distances)
        assert_array_equal(other.kneighbors(X, 4, False), np.asarray(ids)[rows])
        assert other.score(X, Y) == score
        assert_array_equal(other.predict(X), predicted)
    assert_array_equal(fitted.set_database(X[30:]).kneighbors(X, 4, False), rows)
    assert clone(hasher).fit(X, Y).database_ids_ is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 3], r"ids should be integers or strings of shape \(4,\), .* got .* shape \(3,\)"),
        ([1.0, 2.0, 3.0, 4.0], "ids should be integers or strings .* got dtype float64"),
        ([[1], [2], [3], [4]], "ids should be integers or strings"),
        ([1, None, 3, 4], "ids should be integers or strings .* got dtype object"),
        ([1, 2, 2, 4], "ids should be each of one item alone, got 2 2 times"),
        (["a", "b", "a", "a"], "ids should be each of one item alone, got 'a' 3 times"),
    ],
)
def test_errors_on_ids(ids, message, data):
    X, Y, _ = data
    hasher = LSHHasher(8, random_state=0).fit(X, Y)
    before = database_of(hasher)
    with pytest.raises(ValueError, match=message):
        hasher.set_database(X[:4], Y[:4], ids=ids)
    with pytest.raises(ValueError, match=message):
        hasher.set_database_codes(hasher.database_codes_[:4], Y[:4], ids=ids)
    assert database_of(hasher) == before


def test_errors_on_ids_that_are_added(data):
    X, Y, _ = data
    hasher = LSHHasher(8, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="The database of this LSHHasher has no ids"):
        hasher.add_to_database(X[:2], Y[:2], ids=[1, 2])
    hasher.set_database(X[:2], Y[:2], ids=[1, 2])
    with pytest.raises(ValueError, match="has ids, and ids is None"):
        hasher.add_to_database(X[:2], Y[:2])
    with pytest.raises(ValueError, match="ids should be integers, as those of the database"):
        hasher.add_to_database(X[:2], Y[:2], ids=["1", "2"])
    with pytest.raises(ValueError, match="ids should be each of one item alone, got 2 2 times"):
        hasher.add_to_database(X[:2], Y[:2], ids=[3, 2])
    assert hasher.database_ids_.tolist() == [1, 2]
    assert len(hasher.database_codes_) == 2
