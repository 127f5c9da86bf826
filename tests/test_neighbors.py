"""Exact search: against a stable sort, scikit-learn, and itself in other chunks."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors

import skhash
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


# All algorithms.


def make_learned_codes(n_samples, n_bits, seed=0):
    """Codes of which most are there several times, in no order."""
    rng = np.random.default_rng(seed)
    codes = make_codes(max(2, n_samples // 8), n_bits, seed)
    return codes[rng.integers(0, len(codes), n_samples)]


def full_sort(queries, database, n_neighbors):
    """The nearest of a stable sort of all distances."""
    distances = (queries[:, None] != database).sum(axis=2)
    indices = np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]
    return np.take_along_axis(distances, indices, axis=1), indices


def make_search(algorithm, *args, **kwargs):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    return HammingNeighbors(*args, algorithm=algorithm, **kwargs)


def assert_found(found, expected):
    for got, right in zip(found, expected, strict=True):
        assert_array_equal(got, right)


def assert_lists(found, expected):
    """Object arrays of the same arrays."""
    for got, right in zip(found, expected, strict=True):
        assert got.dtype == object
        assert got.shape == (len(right),)
        for some, others in zip(got, right, strict=True):
            assert_array_equal(some, others)


every_algorithm = pytest.mark.parametrize("algorithm", ["auto", "brute", "faiss", "multi_index"])
many_lengths = pytest.mark.parametrize(
    "n_bits", [1, 2, 7, 8, 9, 31, 32, 48, 63, 64, 65, 128, 200, 256]
)


@every_algorithm
@many_lengths
@pytest.mark.parametrize("make", [make_codes, make_learned_codes])
def test_nearest_are_those_of_a_full_sort(algorithm, n_bits, make):
    database = make(300, n_bits)
    queries = np.concatenate([database[:20], make_codes(20, n_bits, seed=1)])
    search = make_search(algorithm).fit(database)
    for k in (1, 9, 300):
        found = search.kneighbors(queries, k)
        assert found[0].dtype.kind == "i"
        assert found[1].dtype == np.int64
        assert_found(found, full_sort(queries, database, k))
    # Each code without itself: among equal ones it stands anywhere.
    distances = (database[:, None] != database).sum(axis=2)
    ranked = full_sort(database, database, 300)[1]
    others = ranked[ranked != np.arange(300)[:, None]].reshape(300, 299)
    for k in (1, 40, 299):
        near, rows = search.kneighbors(n_neighbors=k)
        assert_array_equal(rows, others[:, :k])
        assert_array_equal(near, np.take_along_axis(distances, rows, axis=1))


@every_algorithm
@many_lengths
@pytest.mark.parametrize("make", [make_codes, make_learned_codes])
def test_within_a_radius_are_those_of_a_full_sort(algorithm, n_bits, make):
    database = make(200, n_bits)
    queries = np.concatenate([database[:20], make_codes(20, n_bits, seed=1)])
    search = make_search(algorithm).fit(database)
    near, rows = full_sort(queries, database, 200)
    all_near, all_rows = full_sort(database, database, 200)
    for radius in {0, 1, n_bits // 8, n_bits // 2, n_bits, n_bits + 1}:
        kept = near <= radius
        expected = [[row[some] for row, some in zip(a, kept, strict=True)] for a in (near, rows)]
        assert_lists(search.radius_neighbors(queries, radius), expected)
        kept = (all_near <= radius) & (all_rows != np.arange(200)[:, None])
        found = search.radius_neighbors(radius=float(radius), return_distance=False)
        assert_lists([found], [[row[k] for row, k in zip(all_rows, kept, strict=True)]])


@every_algorithm
def test_one_code(algorithm):
    search = make_search(algorithm, 1).fit([[0, 1, 1]])
    assert_found(search.kneighbors([[1, 1, 1]]), ([[1]], [[0]]))
    assert_lists(search.radius_neighbors(), ([[]], [[]]))
    with pytest.raises(ValueError, match=r"Expected n_neighbors < n_database.* n_database=1"):
        search.kneighbors()


@every_algorithm
def test_threads_find_the_same(algorithm):
    database, queries = make_learned_codes(500, 24), make_codes(50, 24, seed=1)
    expected = full_sort(queries, database, 9)
    for n_jobs in (1, 2, -1):
        search = make_search(algorithm, 9, n_jobs=n_jobs).fit(database)
        assert_found(search.kneighbors(queries), expected)
        # The first search of all of these prepares.
        search.fit(database)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(search.kneighbors, [queries] * 8):
                assert_found(found, expected)


@every_algorithm
@pytest.mark.parametrize("n_bits", [1, 7, 8, 12, 63, 64, 65])
def test_packed_codes(n_bits, algorithm):
    queries, database = make_codes(20, n_bits), make_codes(300, n_bits, seed=1)
    expected = HammingNeighbors(9).fit(database).kneighbors(queries)
    search = make_search(algorithm, 9, n_bits=n_bits).fit(pack_codes(database))
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
    for call in (search.kneighbors, search.radius_neighbors, search.kneighbors_graph):
        with pytest.raises(ImportError, match="pip install faiss-cpu"):
            call(make_codes(2, 5))


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
    codes = make_codes(2, 5)
    graphs = ["kneighbors_graph", "radius_neighbors_graph"]
    for name in ["kneighbors", "radius_neighbors", *graphs, "add", "remove"]:
        with pytest.raises(NotFittedError, match="This HammingNeighbors instance is not fitted"):
            getattr(HammingNeighbors(), name)(codes)
    broken = HammingNeighbors()
    with pytest.raises(ValueError, match="must hold only 0 and 1"):
        broken.fit([[0, 2]])
    assert vars(broken) == vars(HammingNeighbors())


@pytest.mark.parametrize("radius", [-1, 0.5, np.inf, np.nan, "1", True])
def test_error_on_radius(radius):
    search = HammingNeighbors().fit(make_codes(20, 5))
    with pytest.raises(ValueError, match="radius should be a whole number of bits, at least 0"):
        search.radius_neighbors(radius=radius)
    with pytest.raises(ValueError, match="radius"):
        HammingNeighbors(radius=radius).fit(make_codes(20, 5))


def test_radius_of_the_constructor():
    codes = make_learned_codes(50, 6)
    for radius in (0, 2, 2.0):
        search = HammingNeighbors(radius=radius).fit(codes)
        assert_lists(search.radius_neighbors(), search.radius_neighbors(None, int(radius)))
    # Codes that differ in one bit, as the number 1.0 of scikit-learn has it.
    found = HammingNeighbors().fit(codes).radius_neighbors(codes, sort_results=True)
    assert_lists(found, HammingNeighbors().fit(codes).radius_neighbors(codes, 1))


def test_error_on_all_but_one():
    codes = make_codes(5, 5)
    with pytest.raises(ValueError, match=r"Expected n_neighbors < n_database.*=5, n_database=5"):
        HammingNeighbors(5).fit(codes).kneighbors()
    assert HammingNeighbors(4).fit(codes).kneighbors()[1].shape == (5, 4)


# Ids, and a database that changes.

KINDS_OF_IDS = {
    "integers": lambda rows: 7 * np.asarray(rows) - 50,
    "strings": lambda rows: np.array([f"code {row}" for row in rows]),
    "rows": None,
}
kinds_of_ids = pytest.mark.parametrize("make_ids", KINDS_OF_IDS.values(), ids=KINDS_OF_IDS)


def named(make_ids, rows):
    return None if make_ids is None else make_ids(rows)


def state_of(search):
    ids = search.ids_
    return search.codes_.tolist(), None if ids is None else ids.tolist(), search.n_samples_fit_


@kinds_of_ids
def test_ids_are_returned(make_ids):
    codes, queries = make_learned_codes(60, 9), make_codes(7, 9, seed=1)
    rows = HammingNeighbors(8, radius=2).fit(codes)
    search = HammingNeighbors(8, radius=2).fit(codes, ids=named(make_ids, range(60)))
    translate = (lambda a: a) if make_ids is None else make_ids(range(60)).__getitem__
    for given in (queries, None):
        near, found = rows.kneighbors(given)
        assert_found(search.kneighbors(given), (near, translate(found)))
        assert_array_equal(search.kneighbors(given, return_distance=False), translate(found))
        near, found = rows.radius_neighbors(given)
        assert_lists(search.radius_neighbors(given), (near, [translate(row) for row in found]))
    # Columns of graphs are rows.
    assert (search.kneighbors_graph() != rows.kneighbors_graph()).nnz == 0
    assert (search.radius_neighbors_graph() != rows.radius_neighbors_graph()).nnz == 0


@every_algorithm
@kinds_of_ids
def test_added_codes_are_as_if_fitted(make_ids, algorithm):
    codes, queries = make_learned_codes(90, 12), make_codes(5, 12, seed=1)
    ids = named(make_ids, range(90))
    search = make_search(algorithm, 9).fit(codes[:10], ids=None if ids is None else ids[:10])
    start = 10
    for n_added in (1, 1, 3, 30, 1, 44):
        part = slice(start, start + n_added)
        assert search.add(codes[part], None if ids is None else ids[part]) is search
        start += n_added
        some = None if ids is None else ids[:start]
        whole = HammingNeighbors(9).fit(codes[:start], ids=some)
        assert state_of(search) == state_of(whole)
        assert_found(search.kneighbors(queries), whole.kneighbors(queries))
    assert search.n_samples_fit_ == 90


@every_algorithm
@kinds_of_ids
def test_removed_codes_are_as_if_never_there(make_ids, algorithm):
    codes, queries = make_learned_codes(90, 12), make_codes(5, 12, seed=1)
    search = make_search(algorithm, 9).fit(codes, ids=named(make_ids, range(90)))
    search.kneighbors(queries)
    left = np.arange(90)
    for gone in ([0], [88, 3, 50], range(10, 40)):
        # Rows are those of the codes that are left.
        search.remove(np.array(gone) if make_ids is None else make_ids(left[gone]))
        left = np.delete(left, gone)
        whole = HammingNeighbors(9).fit(codes[left], ids=named(make_ids, left))
        assert state_of(search) == state_of(whole)
        assert_found(search.kneighbors(queries), whole.kneighbors(queries))
    # An id that is gone may come again, behind the others.
    search.add(codes[:1], named(make_ids, [0]))
    whole.add(codes[:1], named(make_ids, [0]))
    assert_found(search.kneighbors(queries), whole.kneighbors(queries))


def test_many_additions_take_little_time_each():
    # The room behind the codes grows with them, so that most additions copy nothing else.
    codes = make_codes(1000, 16)
    search = HammingNeighbors().fit(codes[:1], ids=["0"])
    places = set()
    for i in range(1, 1000):
        search.add(codes[[i]], [str(i)])
        places.add(search.codes_.__array_interface__["data"][0])
    assert len(places) < 60
    assert search.ids_.tolist() == [str(i) for i in range(1000)]
    assert_array_equal(search.codes_, pack_codes(codes))


def test_copies_do_not_share_what_is_added():
    codes = make_codes(30, 8)
    first = HammingNeighbors().fit(codes[:10]).add(codes[10:11])
    before, expected = first.codes_, first.codes_.copy()
    second, third = copy.copy(first), copy.deepcopy(first)
    first.add(codes[20:22])
    second.add(codes[22:25])
    third.remove([0])
    assert_array_equal(first.codes_, pack_codes(codes[[*range(11), 20, 21]]))
    assert_array_equal(second.codes_, pack_codes(codes[[*range(11), 22, 23, 24]]))
    assert_array_equal(third.codes_, pack_codes(codes[1:11]))
    assert_array_equal(before, expected)


CODES = make_codes(4, 12)
WRONG_CHANGES = {
    "ids missing": (["a", "b"], lambda s: s.add(CODES), "has ids, and ids is None. Pass ids"),
    "ids given": (None, lambda s: s.add(CODES[:1], [1]), "has no ids, and ids is some. Pass"),
    "ids known": (["a", "b"], lambda s: s.add(CODES[:2], ["c", "b"]), "got 'b', which is there"),
    "ids twice": (["a", "b"], lambda s: s.add(CODES[:2], ["c", "c"]), "got 'c' 2 times"),
    "ids of another kind": ([1, 2], lambda s: s.add(CODES[:1], ["1"]), "should be integers, as"),
    "too few ids": ([1, 2], lambda s: s.add(CODES, [3]), r"of shape \(4,\), one an item"),
    "large ids": ([1, 2], lambda s: s.add(CODES[:1], [2**63]), r"should be below 2 \*\* 63"),
    "codes of another length": (None, lambda s: s.add(CODES[:, 1:]), "codes has 11 bits, but"),
    "no codes": (None, lambda s: s.add(CODES[:0]), r"Found array with 0 sample\(s\)"),
    "no bits": (None, lambda s: s.add(CODES + 2), "must hold only 0 and 1"),
    "unknown id": (["a", "b"], lambda s: s.remove(["a", "x"]), "codes that are there, got 'x'"),
    "unknown row": (None, lambda s: s.remove([2]), "integers from 0 to 1, got 2"),
    "negative row": (None, lambda s: s.remove([-1]), "integers from 0 to 1, got -1"),
    "row of a string": (None, lambda s: s.remove(["a"]), "integers from 0 to 1, got 'a'"),
    "id of another kind": (["a", "b"], lambda s: s.remove([0]), "ids should be strings, as"),
    "twice": (["a", "b"], lambda s: s.remove(["a", "a"]), "got 'a' 2 times"),
    "all": (["a", "b"], lambda s: s.remove(["b", "a"]), "those of all 2 codes, while a minimum"),
    "one": (None, lambda s: s.remove(0), r"of shape \(1,\)"),
    "fit": (["a", "b"], lambda s: s.fit(CODES, ids=[1, 2]), r"of shape \(4,\), one an item"),
}


@pytest.mark.parametrize(("ids", "change", "message"), WRONG_CHANGES.values(), ids=WRONG_CHANGES)
def test_a_change_that_raises_changes_nothing(ids, change, message):
    search = HammingNeighbors(2).fit(make_codes(2, 12), ids=ids)
    before, found = state_of(search), search.kneighbors(CODES)
    with pytest.raises(ValueError, match=message):
        change(search)
    assert state_of(search) == before
    assert_found(search.kneighbors(CODES), found)


# Codes in files, and searches as files.


@every_algorithm
def test_memory_mapped_codes_are_not_copied(algorithm, tmp_path):
    codes, queries = make_learned_codes(300, 20), make_codes(5, 20, seed=1)
    np.save(tmp_path / "codes.npy", pack_codes(codes))
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    for part in (slice(None), slice(50, 250), slice(0, None, 3)):
        search = make_search(algorithm, 9, n_bits=20).fit(mapped[part])
        assert np.shares_memory(search.codes_, mapped)
        expected = full_sort(queries, codes[part], 9)
        assert_found(search.kneighbors(pack_codes(queries)), expected)
        # The file may be gone where a pickle is read.
        for other in (pickle.loads(pickle.dumps(search)), copy.deepcopy(search)):
            assert not np.shares_memory(other.codes_, mapped)
            assert_found(other.kneighbors(pack_codes(queries)), expected)
        search.add(pack_codes(queries)).remove([0])
        assert not np.shares_memory(search.codes_, mapped)
    assert_array_equal(mapped, pack_codes(codes))


@every_algorithm
@kinds_of_ids
def test_searches_are_kept(make_ids, algorithm, tmp_path):
    codes, queries = make_learned_codes(60, 12), make_codes(7, 12, seed=1)
    search = make_search(algorithm, 5, radius=3).fit(codes[:50], ids=named(make_ids, range(50)))
    # With room behind the codes, and with what a search has prepared.
    search.add(codes[50:], named(make_ids, range(50, 60)))
    expected, state = search.kneighbors(queries), state_of(search)
    search.save(tmp_path / "search")
    joblib.dump(search, tmp_path / "pickle")
    kept = [
        HammingNeighbors.load(tmp_path / "search"),
        skhash.load(tmp_path / "search"),
        joblib.load(tmp_path / "pickle"),
        copy.deepcopy(search),
    ]
    for other in kept:
        assert other.get_params() == search.get_params()
        assert state_of(other) == state
        assert (other.n_features_in_, other.effective_metric_) == (12, "hamming")
        assert_found(other.kneighbors(queries), expected)
        other.add(codes[:1], named(make_ids, [99])).remove(named(make_ids, [0]) or [0])
    assert state_of(search) == state
    assert HammingNeighbors.load(tmp_path / "search", n_neighbors=2).kneighbors()[0].shape == (
        60,
        2,
    )


def test_a_pickle_holds_no_engine():
    codes = make_codes(20_000, 64)
    search = HammingNeighbors(algorithm="multi_index").fit(codes)
    search.kneighbors(codes[:2])
    assert len(pickle.dumps(search)) < 1.1 * search.codes_.nbytes


def test_error_on_files_of_others(tmp_path):
    HammingNeighbors().fit(make_codes(20, 5)).save(tmp_path / "search")
    with pytest.raises(ValueError, match="holds a HammingNeighbors, not a LSHHasher"):
        skhash.LSHHasher.load(tmp_path / "search")
    with pytest.raises(NotFittedError):
        HammingNeighbors().save(tmp_path / "other")
