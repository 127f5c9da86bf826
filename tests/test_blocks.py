"""Arrays larger than memory: what is held of them, and that blocks change no result."""

import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash._blocks import ConvertedRows, is_better_converted, map_blocks
from skhash.base import BaseHasher

# Few of all that is there once, and whose size does not depend on the array.
HASHERS = [
    LSHHasher(8, random_state=0),
    ITQHasher(8, n_rotation_samples=1000, random_state=0),
    CCAITQHasher(4, n_rotation_samples=1000, random_state=0),
    SpectralHasher(8),
    KSHHasher(8, n_anchors=10, n_labeled=200, random_state=0),
    SDHHasher(8, n_anchors=10, max_iter=2, random_state=0),
    BREHasher(8, n_anchors=10, n_pair_samples=100, max_iter=3, random_state=0),
    MLHHasher(8, max_epochs=1, random_state=0),
    HDMLHasher(8, max_epochs=1, random_state=0),
    DeepRankingHasher(
        8,
        hidden_size=8,
        n_heads=1,
        max_epochs=1,
        batch_size=5000,
        encoding="signs",
        device="cpu",
        random_state=0,
    ),
]
every = pytest.mark.parametrize("hasher", HASHERS, ids=lambda hasher: type(hasher).__name__)


def rows_of_five_classes(n_samples, n_features, dtype):
    """Return small whole numbers, which all dtypes hold, and classes that they tell."""
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=n_samples)
    X = np.repeat(rng.integers(40, size=(5, n_features)), 1, axis=0)[y]
    return (X + rng.integers(20, size=X.shape)).astype(dtype), y


def sparse_file(path, dtype, shape):
    """Return a mapped array of which the first rows are told apart; the rest is a hole: zeros."""
    X = np.memmap(path, dtype, "w+", shape=shape)
    X[:5000], labels = rows_of_five_classes(5000, shape[1], dtype)
    y = np.zeros(len(X), np.int64)
    y[:5000] = labels
    return X, y


def peak_bytes(call):
    """Return what NumPy and Python hold at most during a call, beside what they hold before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@every
def test_a_mapped_array_is_not_copied(hasher, tmp_path):
    X, y = sparse_file(tmp_path / "rows", np.float32, (50_000, 512))
    hasher = clone(hasher)
    for call in (hasher.fit, hasher.set_database):
        assert peak_bytes(lambda call=call: call(X, y)) < X.nbytes / 2
    assert peak_bytes(lambda: hasher.transform(X)) < X.nbytes / 4


@every
@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_a_mapped_array_of_another_type_is_not_converted(hasher, dtype, tmp_path):
    X, y = sparse_file(tmp_path / "rows", dtype, (70_000, 128))
    hasher = clone(hasher)
    in_double_precision = X.size * 8
    assert peak_bytes(lambda: hasher.fit(X, y)) < in_double_precision / 2
    assert peak_bytes(lambda: hasher.transform(X)) < in_double_precision / 4


@every
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int64, ">f4"])
def test_converted_in_blocks_or_whole_is_the_same(hasher, dtype, monkeypatch):
    X, y = rows_of_five_classes(600, 12, dtype)
    whole = clone(hasher).fit(X, y)
    monkeypatch.setattr("skhash._blocks._MOST_COPIED", 0)
    assert is_better_converted(X)
    blocks = clone(hasher).fit(X, y)
    assert_array_equal(blocks.project(X), whole.project(X))
    assert_array_equal(blocks.database_codes_, whole.database_codes_)
    assert_array_equal(blocks.set_database(X, y).database_codes_, whole.database_codes_)
    assert_array_equal(blocks.transform(X), whole.transform(X))
    if hasattr(blocks, "partial_fit"):
        parts = clone(hasher).partial_fit(X[:300], y[:300]).partial_fit(X[300:], y[300:])
        floats = X.astype(np.float64)
        same = clone(hasher).partial_fit(floats[:300], y[:300]).partial_fit(floats[300:], y[300:])
        assert_array_equal(parts.project(X), same.project(X))


@every
def test_blocks_of_any_size_give_the_same_codes(hasher, monkeypatch):
    X, y = rows_of_five_classes(600, 12, np.float64)
    whole = clone(hasher).fit(X, y)
    projection = whole.project(X)
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 64)
    assert_allclose(whole.project(X), projection, rtol=1e-9, atol=1e-9)
    assert_array_equal(whole.transform(X), whole.project(X) >= 0)
    assert_array_equal(whole.set_database(X, y).database_codes_, whole.fit(X, y).database_codes_)
    assert_allclose(clone(hasher).fit(X, y).project(X), projection, rtol=1e-5, atol=1e-5)


def test_sdh_with_kernel_values_that_are_not_kept(monkeypatch):
    X, y = rows_of_five_classes(600, 12, np.float64)
    hasher = HASHERS[5]
    kept = clone(hasher).fit(X, y)
    monkeypatch.setattr("skhash._sdh._MOST_KEPT", 0)
    computed = clone(hasher).fit(X, y)
    assert_array_equal(computed.coef_, kept.coef_)
    assert_array_equal(computed.objective_, kept.objective_)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_error_on_a_faulty_value_of_a_large_array(value, monkeypatch):
    monkeypatch.setattr("skhash._blocks._MOST_COPIED", 0)
    X = np.ones((9000, 3), np.float16)
    X[-1] = value
    name = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=f"Input X contains {name}"):
        LSHHasher().fit(X)


def test_large_sums_of_float16_are_no_infinity(monkeypatch):
    monkeypatch.setattr("skhash._blocks._MOST_COPIED", 0)
    X, y = rows_of_five_classes(9000, 3, np.float16)
    X += 1000
    assert_array_equal(
        LSHHasher(random_state=0).fit(X, y).mean_,
        LSHHasher(random_state=0).fit(X.astype(np.float64), y).mean_,
    )


class WholeArray(BaseHasher):
    """A hasher of a third party, which is given arrays."""

    def __init__(self, n_bits=2):
        self.n_bits = n_bits

    def _fit(self, X, Y):  # noqa: ARG002
        self.components_ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][: self.n_bits]

    def _project(self, X):
        return X @ self.components_.T


def test_other_hashers_are_given_arrays(monkeypatch):
    X, _ = rows_of_five_classes(200, 4, np.uint8)
    expected = WholeArray().fit(X).transform(X)
    monkeypatch.setattr("skhash._blocks._MOST_COPIED", 0)
    assert_array_equal(WholeArray().fit(X).transform(X), expected)


def test_what_is_better_converted():
    large = (2**12, 2**12)
    for dtype in (np.uint8, np.float16, np.int32, bool, ">f8"):
        assert is_better_converted(np.broadcast_to(np.zeros(1, dtype), large))
    for dtype in (np.float32, np.float64, np.complex64, object, "M8[s]", np.longdouble):
        assert not is_better_converted(np.broadcast_to(np.zeros(1, dtype), large))
    assert not is_better_converted(np.zeros((100, 100), np.uint8))
    assert not is_better_converted([[1, 2]])


def test_map_blocks(monkeypatch):
    monkeypatch.setattr("skhash._blocks._BLOCK_ROWS", 3)
    X, asked = np.arange(20).reshape(10, 2), []

    def doubled(rows):
        asked.append(len(rows))
        return 2.0 * rows

    for rows in (X, ConvertedRows(X)):
        assert_array_equal(map_blocks(doubled, rows), 2.0 * X)
    assert asked == [3, 3, 3, 1] * 2
    assert map_blocks(len, [1, 2, 3, 4]) == 4
