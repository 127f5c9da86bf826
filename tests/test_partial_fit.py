"""Learning in parts: the same hasher as from all samples at once, whatever the cuts."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skhash
from skhash import (
    BREHasher,
    CCAITQHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash._parts import MOST_KEPT, Sample, Sums
from skhash.metrics import make_retrieval_scorer

HASHERS = [ITQHasher(4, random_state=0), CCAITQHasher(4, random_state=0)]
both = pytest.mark.parametrize("hasher", HASHERS, ids=lambda h: type(h).__name__)
# They learn from a sample of all parts, as `fit` does from all.
SAMPLED = [
    KSHHasher(4, n_anchors=6, n_labeled=40, random_state=0),
    SDHHasher(4, n_anchors=6, random_state=0),
    BREHasher(4, n_anchors=6, n_pair_samples=40, max_iter=5, random_state=0),
]
sampled = pytest.mark.parametrize("hasher", SAMPLED, ids=lambda h: type(h).__name__)
ALL = [LSHHasher(4, random_state=0), *HASHERS, SpectralHasher(4), *SAMPLED]
every = pytest.mark.parametrize("hasher", ALL, ids=lambda h: type(h).__name__)
CUTS = [[120], [60], [1, 2, 3], [119], range(10, 120, 10), range(1, 120)]
all_cuts = pytest.mark.parametrize("cuts", CUTS, ids=lambda cuts: f"{len(cuts)} cuts")


@pytest.fixture(scope="module")
def data():
    """Correlated features far from the origin, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7)) @ rng.normal(size=(7, 7)) + rng.normal(size=7) * 5
    Z = (X - X.mean(axis=0)) @ rng.normal(size=(7, 5)) + rng.normal(size=(120, 5))
    # Any part can be the first: its first two rows differ in all that matters.
    Y = (Z > 0.5).astype(np.uint8)
    Y[0], Y[1] = 0, 1
    return X, Y


def fit_parts(hasher, X, Y, cuts, **params):
    """Learn from one part after the other."""
    hasher = clone(hasher)
    for start, end in zip([0, *cuts], [*cuts, len(X)], strict=True):
        if start < end:
            hasher.partial_fit(X[start:end], None if Y is None else Y[start:end], **params)
    return hasher


# The sums.


@all_cuts
def test_sums_are_covariances(cuts, data):
    X, Y = data
    parts = [p for p in zip(np.split(X, cuts), np.split(Y, cuts), strict=True) if len(p[0])]
    sums = sum((Sums.of(*part) for part in parts), None)
    expected = np.cov(np.hstack([X, Y]).T, bias=True)
    assert sums.n_samples == 120
    assert_allclose(sums.mean, X.mean(axis=0), rtol=1e-13)
    assert_allclose(sums.mean_y, Y.mean(axis=0), rtol=1e-13)
    assert_allclose(sums.xx, expected[:7, :7], atol=1e-12)
    assert_allclose(sums.xy, expected[:7, 7:], atol=1e-12)
    assert_allclose(sums.yy, expected[7:, 7:], atol=1e-13)


def test_sums_far_from_the_origin_lose_nothing(data):
    X, Y = data
    near, far = Sums.of(X, Y), Sums.of(X[:50] + 1e8, Y[:50]) + Sums.of(X[50:] + 1e8, Y[50:])
    assert_allclose(far.xx, near.xx, rtol=1e-6, atol=1e-6)
    single = Sums.of(X.astype(np.float32) + np.float32(1e4), Y)
    assert_allclose(single.xx, near.xx, rtol=1e-2, atol=1e-2)


def test_sums_of_more_rows_than_a_block(monkeypatch, data):
    whole = Sums.of(*data)
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 7)
    blocks = Sums.of(*data)
    assert_allclose(blocks.xx, whole.xx, rtol=1e-12)
    assert_allclose(blocks.xy, whole.xy, rtol=1e-10, atol=1e-13)


# The sample of the rotation.


@all_cuts
@pytest.mark.parametrize("size", [1, 17, 119, 120, 500])
def test_sample_does_not_depend_on_the_cuts(size, cuts):
    rows = np.arange(120.0)[:, None]
    whole, parts = Sample.empty(3).updated(rows, size), Sample.empty(3)
    for part in np.split(rows, cuts):
        parts = parts.updated(part, size)
    assert_array_equal(parts.rows, whole.rows)
    assert len(whole.rows) == min(size, 120)
    assert len(np.unique(whole.rows)) == len(whole.rows)


def test_sample_is_uniform():
    # 400 samples of 20 of 100 rows: each row is kept 80 times, give or take 8.
    rows, counts = np.arange(100)[:, None], np.zeros(100)
    for seed in range(400):
        counts[Sample.empty(seed).updated(rows, 20).rows] += 1
    assert abs(counts - 80).max() < 5 * 8


# The hashers.


@both
@all_cuts
@pytest.mark.filterwarnings("ignore:n_bits=4 is more than")
def test_parts_give_what_fit_gives(hasher, cuts, data):
    X, Y = data
    whole = clone(hasher).fit(X, Y)
    # Two samples at least in the first part: one does not vary.
    parts = fit_parts(hasher, X, Y, [max(2, cut) for cut in cuts])
    assert_allclose(parts.components_, whole.components_, rtol=1e-6, atol=1e-9)
    assert_allclose(parts.mean_, whole.mean_, rtol=1e-12)
    assert_allclose(parts.quantization_errors_, whole.quantization_errors_, rtol=1e-9)
    assert_array_equal(parts.transform(X), whole.transform(X))
    if isinstance(hasher, CCAITQHasher):
        assert_allclose(parts.correlations_, whole.correlations_, rtol=1e-9)


@every
@pytest.mark.parametrize("size", [1, 7, 100, 120])
@pytest.mark.filterwarnings("ignore:n_bits=4 is more than")
def test_parts_of_any_size_give_what_fit_gives(hasher, size, data):
    X, Y = data
    whole = clone(hasher).fit(X, Y)
    # In the first part there has to be something to learn.
    parts = fit_parts(hasher, X, Y, range(max(size, 20), 120, size))
    assert_allclose(parts.project(X), whole.project(X), rtol=1e-6, atol=1e-9)
    assert_array_equal(parts.transform(X), whole.transform(X))
    parts.set_database(X, Y)
    assert_array_equal(parts.database_codes_, whole.database_codes_)
    # What learns from the samples that are kept learns from all of these.
    if hasher in [*SAMPLED, ALL[3]]:
        for name in [name for name in vars(whole) if name.endswith("_")]:
            assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_hashers_that_learn_in_parts():
    names = [name for name in skhash.__all__ if name.endswith("Hasher")]
    without = [name for name in names if not hasattr(getattr(skhash, name), "partial_fit")]
    assert without == ["HDMLHasher", "MLHHasher"]


@pytest.mark.parametrize("draws", ["None", "RandomState"])
@every
def test_what_is_drawn_is_drawn_once(hasher, draws, data):
    X, Y = data
    if "random_state" not in hasher.get_params():
        return
    hasher = clone(hasher)
    hasher.random_state = None if draws == "None" else np.random.RandomState(3)
    hasher.partial_fit(X[:60], Y[:60])
    again = copy.deepcopy(hasher)
    assert_array_equal(hasher.partial_fit(X, Y).project(X), again.partial_fit(X, Y).project(X))
    if isinstance(hasher, LSHHasher):
        first = hasher.components_
        assert_array_equal(hasher.partial_fit(X, Y).components_, first)


# More samples than are kept.


@pytest.fixture(scope="module")
def many():
    """More samples than are kept, with label sets that depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(MOST_KEPT + 10_000, 4)).astype(np.float32) * [3, 2, 1, 0.5]
    return X, (X[:, :3] > [1, 0, 0.5]).astype(np.uint8)


@sampled
def test_a_sample_of_many_does_not_depend_on_the_cuts(hasher, many):
    X, Y = many
    cuts = [30_000], range(9000, 60_000, 9000)
    two, many_parts = (fit_parts(hasher, X, Y, some) for some in cuts)
    assert_array_equal(two.project(X[:50]), many_parts.project(X[:50]))
    kept = two._parts.sample.places
    assert len(kept) == MOST_KEPT
    assert_array_equal(two.project(X[:50]), clone(hasher).fit(X[kept], Y[kept]).project(X[:50]))
    rows = two.anchor_indices_
    assert rows.max() > MOST_KEPT / 2
    if hasattr(two, "anchors_"):
        assert_array_equal(two.anchors_, X[rows])
    sizes = [len(pickle.dumps(parts)) for parts in (two, many_parts, many_parts.partial_fit(X, Y))]
    assert max(sizes) - min(sizes) < X.nbytes / 10


def test_spectral_ranges_are_those_of_a_sample(many):
    X, _ = many
    whole, parts = SpectralHasher(6).fit(X), fit_parts(SpectralHasher(6), X, None, [100, 40_000])
    assert_allclose(parts.components_, whole.components_, atol=1e-6)
    assert_allclose(parts.mean_, whole.mean_, atol=1e-6)
    bits = [
        sorted(zip(fitted.directions_, fitted.modes_, strict=True)) for fitted in (parts, whole)
    ]
    assert bits[0] == bits[1]
    assert (parts.lower_ >= whole.lower_ - 1e-5).all()
    assert (parts.upper_ <= whole.upper_ + 1e-5).all()
    lengths = [fitted.upper_ - fitted.lower_ for fitted in (parts, whole)]
    assert (lengths[0] > 0.8 * lengths[1]).all()
    again = fit_parts(SpectralHasher(6), X, None, range(20_000, 60_000, 20_000))
    assert_allclose(again.project(X[:50]), parts.project(X[:50]), atol=1e-5)


# BRE learns from label sets where it is given some.


def test_bre_learns_from_label_sets_if_all_parts_have_them(data):
    X, Y = data
    hasher = SAMPLED[2]
    without = fit_parts(hasher, X, None, [50])
    assert_array_equal(without.components_, clone(hasher).fit(X).components_)
    assert not np.array_equal(without.components_, fit_parts(hasher, X, Y, [50]).components_)
    with pytest.raises(ValueError, match="y should be None, as in the first call"):
        without.partial_fit(X, Y)
    with pytest.raises(ValueError, match="y should not be None, as in the first call"):
        fit_parts(hasher, X, Y, []).partial_fit(X)


@both
def test_parts_with_a_small_sample_for_the_rotation(hasher, data):
    X, Y = data
    hasher = clone(hasher).set_params(n_rotation_samples=30)
    whole = clone(hasher).fit(X, Y)
    for cuts in ([40, 80], range(10, 120, 10)):
        parts = fit_parts(hasher, X, Y, cuts)
        assert_allclose(parts.components_, whole.components_, rtol=1e-6, atol=1e-9)
    full = clone(hasher).set_params(n_rotation_samples=120).fit(X, Y)
    assert not np.allclose(full.components_, whole.components_)
    more = clone(hasher).set_params(n_rotation_samples=10**6).fit(X, Y)
    assert_array_equal(more.components_, full.components_)


@both
def test_parts_of_float32(hasher, data):
    X, Y = data[0].astype(np.float32), data[1]
    whole, parts = clone(hasher).fit(X, Y), fit_parts(hasher, X, Y, [30, 60, 90])
    assert parts.components_.dtype == parts.mean_.dtype == np.float32
    assert parts.project(X).dtype == np.float32
    assert_allclose(parts.components_, whole.components_, rtol=1e-2, atol=1e-4)


def test_labels_may_be_sparse(data):
    X, Y = data
    hasher = HASHERS[1]
    dense, sparse = (fit_parts(hasher, X, labels, [50]) for labels in (Y, csr_array(Y)))
    assert_array_equal(sparse.components_, dense.components_)


def test_class_labels_in_parts(data):
    X, y = data[0], np.repeat(["ant", "bee", "cat", "dog"], 30)
    hasher = CCAITQHasher(3, random_state=0)
    whole = clone(hasher).fit(X, y)
    # The first part lacks two classes, and has one direction so far.
    with pytest.warns(UserWarning, match="n_bits=3 is more than the 1 canonical"):
        hasher.partial_fit(X[:60], y[:60], classes=["dog", "cat", "bee", "ant"])
    assert_array_equal(hasher.classes_, whole.classes_)
    hasher.partial_fit(X[60:], y[60:])
    assert_allclose(hasher.components_, whole.components_, rtol=1e-6, atol=1e-9)
    assert_array_equal(hasher.set_database(X, y).predict(X), whole.predict(X))


@both
def test_kept_state_does_not_grow(hasher, data):
    X, Y = data
    hasher = clone(hasher).set_params(n_rotation_samples=20)
    sizes = []
    for _ in range(3):
        hasher.partial_fit(X, Y)
        sizes.append(len(pickle.dumps(hasher)))
    assert max(sizes) - min(sizes) < 100


@every
def test_fit_keeps_no_training_data_but_codes(hasher):
    X = np.random.default_rng(0).normal(size=(5000, 7))
    Y = X[:, :5] > 0
    assert len(pickle.dumps(clone(hasher).fit(X, Y))) < X.nbytes / 10


@every
def test_parts_after_a_pickle_a_copy_or_a_file(hasher, data, tmp_path):
    X, Y = data
    whole = fit_parts(hasher, X, Y, [40, 80])
    begun = fit_parts(hasher, X[:80], Y[:80], [40])
    begun.save(tmp_path / "begun.safetensors")
    loaded = type(begun).load(tmp_path / "begun.safetensors")
    for again in (pickle.loads(pickle.dumps(begun)), copy.deepcopy(begun), loaded):
        assert_array_equal(again.partial_fit(X[80:], Y[80:]).project(X), whole.project(X))


@every
def test_fit_and_partial_fit_start_anew(hasher, data):
    X, Y = data
    whole = clone(hasher).fit(X, Y)
    refitted = fit_parts(hasher, X[:50] * 3, Y[:50], []).fit(X, Y)
    assert_array_equal(refitted.project(X), whole.project(X))
    parts = clone(hasher).fit(X[:50] * 3, Y[:50]).partial_fit(X, Y)
    assert_array_equal(parts.project(X), whole.project(X))


@every
def test_parameters_and_names(hasher, data):
    X, Y = data
    with pytest.raises(ValueError, match=r"The 'n_bits' parameter of .* must be an int"):
        clone(hasher).set_params(n_bits=0).partial_fit(X, Y)
    parts = clone(hasher).partial_fit(X, Y)
    assert parts.n_features_in_ == 7
    assert len(parts.get_feature_names_out()) == 4


@both
def test_warning_on_more_bits_than_directions_points_at_the_call(hasher, data):
    X, Y = data
    with pytest.warns(UserWarning, match="n_bits=9 is more than the [57] ") as record:
        clone(hasher).set_params(n_bits=9).partial_fit(X, Y)
    assert len(record) == 1
    assert record[0].filename == __file__


# The database, which is empty until it is set.


@every
def test_database_is_empty_until_it_is_set(hasher, data):
    X, Y = data
    parts = fit_parts(hasher, X, Y, [60])
    assert parts.transform(X).shape == (120, 4)
    for use in (parts.predict, parts.kneighbors):
        with pytest.raises(ValueError, match=r"set_database|n_neighbors"):
            use(X[:3])
    for score in (parts.score, lambda *a: make_retrieval_scorer("ndcg", k=10)(parts, *a)):
        with pytest.raises(ValueError, match=r"is empty, as partial_fit leaves it.*set_database"):
            score(X[:3], Y[:3])
    parts.set_database(X, Y)
    whole = clone(hasher).fit(X, Y)
    assert_array_equal(parts.database_codes_, whole.database_codes_)
    assert_array_equal(parts.database_labels_, whole.database_labels_)
    assert_array_equal(parts.predict(X[:9]), whole.predict(X[:9]))
    assert parts.score(X[:9], Y[:9]) == whole.score(X[:9], Y[:9])


# Bad input leaves the hasher as it was.


def test_error_on_labels_missing(data):
    with pytest.raises(ValueError, match="requires y to be passed"):
        CCAITQHasher(2).partial_fit(data[0])
    hasher = CCAITQHasher(2).partial_fit(*data)
    with pytest.raises(ValueError, match="requires y to be passed"):
        hasher.partial_fit(data[0])


BAD_PARTS = {
    "features": (lambda X, Y: (X[:, :-1], Y), r"X has 6 features, but .* is expecting 7"),
    "NaN": (lambda X, Y: (np.full_like(X, np.nan), Y), "Input X contains NaN"),
    "length": (lambda X, Y: (X, Y[:-1]), "inconsistent numbers of samples"),
    "labels": (lambda X, Y: (X, Y[:, :-1]), r"y should be .* \(n_samples, 5\), as in fit"),
    "values": (lambda X, Y: (X, Y + 1), "y must hold only 0 and 1, got 2"),
}


@every
@pytest.mark.parametrize("name", BAD_PARTS)
def test_error_on_a_bad_part(name, hasher, data):
    break_part, message = BAD_PARTS[name]
    if name in ("length", "labels", "values") and hasher in (*ALL[:2], ALL[3]):
        return
    X, _ = data
    hasher = clone(hasher).partial_fit(*data)
    before, projection = copy.deepcopy(vars(hasher)), hasher.project(X)
    with pytest.raises(ValueError, match=message):
        hasher.partial_fit(*break_part(*data))
    assert vars(hasher).keys() == before.keys()
    assert_array_equal(hasher.project(X), projection)
    once = clone(hasher).partial_fit(*data).partial_fit(*data)
    assert_array_equal(hasher.partial_fit(*data).project(X), once.project(X))


@pytest.mark.parametrize("hasher", ALL[1:], ids=lambda h: type(h).__name__)
def test_error_in_the_first_part_leaves_nothing(hasher, data):
    X, Y = np.ones((10, 7)), data[1][:10]
    hasher = clone(hasher)
    with pytest.raises(ValueError, match="X should vary over the training samples"):
        hasher.partial_fit(X, Y)
    with pytest.raises(NotFittedError):
        hasher.transform(X)
    assert vars(hasher) == vars(clone(hasher))
    fitted = clone(hasher).fit(*data)
    with pytest.raises(ValueError, match="X should vary"):
        fitted.partial_fit(X, Y)
    whole = clone(hasher).fit(*data)
    assert_array_equal(fitted.project(data[0]), whole.project(data[0]))


def test_error_on_a_class_that_the_first_part_lacks(data):
    X, y = data[0], np.repeat(["a", "b", "c"], 40)
    hasher = CCAITQHasher(1, random_state=0).partial_fit(X[:80], y[:80])
    with pytest.raises(ValueError, match=r"classes that fit has not seen: \['c'\]"):
        hasher.partial_fit(X[80:], y[80:])
