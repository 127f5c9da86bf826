"""Exact search: against a stable sort, scikit-learn, and itself in other chunks."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

from skhash.codes import pack_codes
from skhash.neighbors import HammingNeighbors


def make_codes(n_samples, n_bits, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n_samples, n_bits), dtype=np.uint8)


def naive_kneighbors(queries, database, n_neighbors):
    """Sort (distance, index) as pairs."""
    distances, indices = [], []
    for query in queries:
        order = sorted((int((query != code).sum()), i) for i, code in enumerate(database))
        distances.append([distance for distance, _ in order[:n_neighbors]])
        indices.append([index for _, index in order[:n_neighbors]])
    return np.array(distances), np.array(indices)


@pytest.mark.parametrize("n_bits", [1, 3, 8, 48, 65])
@pytest.mark.parametrize("n_neighbors", [1, 2, 5, 39, 40])
def test_equals_naive_sort(n_bits, n_neighbors):
    queries, database = make_codes(12, n_bits), make_codes(40, n_bits, seed=1)
    search = HammingNeighbors(n_neighbors).fit(database)
    distances, indices = search.kneighbors(queries)
    assert np.issubdtype(distances.dtype, np.integer)
    assert indices.dtype == np.int64
    expected_distances, expected_indices = naive_kneighbors(queries, database, n_neighbors)
    assert_array_equal(distances, expected_distances)
    assert_array_equal(indices, expected_indices)
    assert_array_equal(search.kneighbors(queries, return_distance=False), expected_indices)


@pytest.mark.parametrize("n_neighbors", [400, 1000])
def test_equals_naive_sort_of_many(n_neighbors):
    # Short rows numpy sorts whole where it is asked for a partition.
    queries, database = make_codes(2, 20), make_codes(1000, 20, seed=1)
    found = HammingNeighbors(n_neighbors).fit(database).kneighbors(queries)
    for got, expected in zip(found, naive_kneighbors(queries, database, n_neighbors), strict=True):
        assert_array_equal(got, expected)


def test_ties_come_in_database_order():
    # One far code among equal ones: every tie, also the one that the cut splits, is by index.
    database = np.zeros((30, 4), np.uint8)
    database[7] = 1
    distances, indices = HammingNeighbors(28).fit(database).kneighbors(database[:1])
    assert_array_equal(indices[0], [i for i in range(30) if i != 7][:28])
    assert not distances.any()
    distances, indices = HammingNeighbors(3).fit(database).kneighbors(database[[7]])
    assert_array_equal(indices, [[7, 0, 1]])
    assert_array_equal(distances, [[0, 4, 4]])


@pytest.mark.parametrize("kibibytes", [0, 1, 2, 10, 10**6])
def test_result_does_not_depend_on_working_memory(kibibytes):
    queries, database = make_codes(12, 5), make_codes(40, 5, seed=1)
    with config_context(working_memory=kibibytes / 1024):
        found = HammingNeighbors(7).fit(database).kneighbors(queries)
    for got, expected in zip(found, naive_kneighbors(queries, database, 7), strict=True):
        assert_array_equal(got, expected)


@pytest.mark.parametrize("n_bits", [6, 100])
def test_distances_equal_scikit_learn(n_bits):
    queries, database = make_codes(12, n_bits), make_codes(40, n_bits, seed=1)
    distances, indices = HammingNeighbors(9).fit(database).kneighbors(queries)
    # scikit-learn's metric is the fraction of bits that differ; ties it orders as it likes.
    theirs, _ = NearestNeighbors(n_neighbors=9, metric="hamming").fit(database).kneighbors(queries)
    assert_array_equal(distances, np.rint(theirs * n_bits))
    picked = (queries[:, None] != database[indices]).sum(axis=2)
    assert_array_equal(distances, picked)


def test_n_neighbors_of_the_call_goes_before_the_constructor():
    queries, database = make_codes(4, 5), make_codes(20, 5, seed=1)
    search = HammingNeighbors(2).fit(database)
    assert search.kneighbors(queries)[1].shape == (4, 2)
    wide = search.kneighbors(queries, 6)
    assert_array_equal(wide[1][:, :2], search.kneighbors(queries, return_distance=False))
    assert_array_equal(wide[1], search.set_params(n_neighbors=6).kneighbors(queries)[1])


def test_codes_of_any_dtype():
    queries, database = make_codes(4, 5), make_codes(20, 5, seed=1)
    expected = HammingNeighbors().fit(database).kneighbors(queries)
    for convert in [lambda a: a.astype(bool), lambda a: a.astype(float), lambda a: a.tolist()]:
        found = HammingNeighbors().fit(convert(database)).kneighbors(convert(queries))
        assert_array_equal(found, expected)


def test_more_bits_than_int16_counts():
    database = np.zeros((2, 32768 + 8), np.uint8)
    database[0] = 1
    distances, indices = HammingNeighbors(2).fit(database).kneighbors(database[1:])
    assert_array_equal(distances, [[0, 32776]])
    assert_array_equal(indices, [[1, 0]])


def test_attributes_and_refit():
    search = HammingNeighbors(1).fit(make_codes(20, 12))
    assert search.n_features_in_ == 12
    assert_array_equal(search.codes_, pack_codes(make_codes(20, 12)))
    assert search.fit(make_codes(3, 5)) is search
    assert search.n_features_in_ == 5
    assert search.kneighbors(make_codes(2, 5))[0].shape == (2, 1)
    assert not hasattr(clone(search), "codes_")


@pytest.mark.parametrize("n_neighbors", [0, -1, 1.5, "2"])
def test_error_on_n_neighbors(n_neighbors):
    codes = make_codes(20, 5)
    with pytest.raises(ValueError, match="should be an int, at least 1, got "):
        HammingNeighbors().fit(codes).kneighbors(codes, n_neighbors)
    with pytest.raises(ValueError, match="'n_neighbors' parameter of HammingNeighbors must be an"):
        HammingNeighbors(n_neighbors).fit(codes)


def test_error_on_more_neighbors_than_codes():
    search = HammingNeighbors(21).fit(make_codes(20, 5))
    message = "Expected n_neighbors <= n_database.*got n_neighbors={}, n_database=20"
    with pytest.raises(ValueError, match=message.format(21)):
        search.kneighbors(make_codes(2, 5))
    with pytest.raises(ValueError, match=message.format(22)):
        search.kneighbors(make_codes(2, 5), 22)


@pytest.mark.parametrize("n_bits", [1, 7, 8, 12, 63, 64, 65])
def test_faiss_finds_the_same(n_bits):
    pytest.importorskip("faiss", reason="faiss is not installed")
    queries, database = make_codes(20, n_bits), make_codes(300, n_bits, seed=1)
    for k in (1, 9, 300):
        expected = HammingNeighbors(k).fit(database).kneighbors(queries)
        found = HammingNeighbors(k, algorithm="faiss").fit(database).kneighbors(queries)
        for got, right in zip(found, expected, strict=True):
            assert got.dtype == right.dtype
            assert_array_equal(got, right)
    search = HammingNeighbors(301, algorithm="faiss").fit(database)
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_database"):
        search.kneighbors(queries)


@pytest.mark.parametrize("algorithm", ["brute", "faiss"])
@pytest.mark.parametrize("n_bits", [1, 7, 8, 12, 63, 64, 65])
def test_packed_codes(n_bits, algorithm):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    queries, database = make_codes(20, n_bits), make_codes(300, n_bits, seed=1)
    expected = HammingNeighbors(9).fit(database).kneighbors(queries)
    search = HammingNeighbors(9, n_bits=n_bits, algorithm=algorithm).fit(pack_codes(database))
    assert search.n_features_in_ == n_bits
    for got, right in zip(search.kneighbors(pack_codes(queries)), expected, strict=True):
        assert_array_equal(got, right)
    # The database is packed in any case, so that queries may come in the other form.
    other = search.set_params(n_bits=None).kneighbors(queries)
    assert_array_equal(other[1], expected[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: np.unpackbits(c, axis=1)[:, :12], "codes of n_bits=12 take 2 bytes each"),
        (lambda c: c[:, :1], "codes of n_bits=12 take 2 bytes each"),
        (lambda c: c.astype(int), "codes must be a 2D uint8 array of packed codes"),
        (lambda c: c[0], "codes must be a 2D uint8 array of packed codes"),
        (lambda c: c[:0], r"Found array with 0 sample\(s\)"),
        (lambda c: c | 1, "codes must be padded with zeros beyond n_bits=12"),
    ],
)
def test_error_on_packed_codes(change, message):
    packed = pack_codes(make_codes(20, 12))
    search = HammingNeighbors(1, n_bits=12).fit(packed)
    for call in (search.kneighbors, HammingNeighbors(1, n_bits=12).fit):
        with pytest.raises(ValueError, match=message):
            call(change(packed))


def test_error_on_codes_of_the_other_form():
    packed = pack_codes(make_codes(20, 12))
    search = HammingNeighbors(1, n_bits=12).fit(packed)
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        HammingNeighbors(1).fit(packed)
    with pytest.raises(ValueError, match="codes has 11 bits, but HammingNeighbors is"):
        search.set_params(n_bits=11).kneighbors(packed)
    with pytest.raises(ValueError, match="'n_bits' parameter of HammingNeighbors must be"):
        HammingNeighbors(1, n_bits=0).fit(packed)


def test_error_without_faiss(monkeypatch):
    # As where the package is not installed.
    monkeypatch.setitem(sys.modules, "faiss", None)
    search = HammingNeighbors(2, algorithm="faiss").fit(make_codes(20, 5))
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        search.kneighbors(make_codes(2, 5))


def test_error_on_algorithm():
    with pytest.raises(
        ValueError, match="'algorithm' parameter of HammingNeighbors must be a str"
    ):
        HammingNeighbors(algorithm="tree").fit(make_codes(20, 5))


@pytest.mark.parametrize("n_bits", [1, 4, 6, 8])
def test_error_on_other_number_of_bits(n_bits):
    # Also where the packed codes have as many bytes.
    search = HammingNeighbors(1).fit(make_codes(20, 5))
    message = f"codes has {n_bits} bits, but HammingNeighbors is expecting 5 bits as input"
    with pytest.raises(ValueError, match=message):
        search.kneighbors(make_codes(2, n_bits))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[0, 1, 2]], "must hold only 0 and 1, got 2"),
        ([[-1, 1, 1]], "must hold only 0 and 1, got -1"),
        ([[0, 1, np.nan]], "Input codes contains NaN"),
        ([0, 1, 1], "Expected 2D array, got 1D array"),
        (
            np.zeros((0, 3)),
            r"Found array with 0 sample\(s\) .*minimum of 1 is required by Hamming",
        ),
    ],
)
def test_error_on_what_is_no_code(codes, message):
    with pytest.raises(ValueError, match=message):
        HammingNeighbors(1).fit(codes)
    search = HammingNeighbors(1).fit(make_codes(20, 3))
    with pytest.raises(ValueError, match=message):
        search.kneighbors(codes)


def test_error_before_fit():
    with pytest.raises(NotFittedError, match="This HammingNeighbors instance is not fitted yet"):
        HammingNeighbors().kneighbors(make_codes(2, 5))
    broken = HammingNeighbors()
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        broken.fit([[0, 2]])
    assert vars(broken) == vars(HammingNeighbors())
