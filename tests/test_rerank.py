"""Search in two stages: candidates of the first are ranked by the second."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skhash import LSHHasher
from skhash.codes import pack_codes, weighted_hamming_distances
from skhash.neighbors import HammingNeighbors

every_algorithm = pytest.mark.parametrize("algorithm", ["auto", "brute", "faiss", "multi_index"])
N_BITS = [1, 8, 13, 48, 65, 256]


def make_codes(n_samples, n_bits, seed=0):
    """Codes of which some are there several times."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, (n_samples, n_bits), dtype=np.uint8)
    return codes[rng.integers(0, n_samples, n_samples)]


def make_weights(n_queries, n_bits):
    # Few values, so that sums are equal often.
    return np.random.default_rng(2).integers(0, 4, (n_queries, n_bits)) / 2


def make_search(algorithm, n_neighbors, database):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    return HammingNeighbors(n_neighbors, algorithm=algorithm).fit(database)


def ranked(distances, rows):
    """Rows of each query by (distance, row), and their distances."""
    order = np.lexsort((rows, distances), axis=1)
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1)


def in_two_stages(coarse, fine, n_candidates, n_neighbors, *, own=False):
    """What two full sorts find: of distances by the first bits, and of those that count."""
    rows = np.broadcast_to(np.arange(coarse.shape[1]), coarse.shape)
    found = ranked(coarse, rows)[1]
    if own:
        found = found[found != np.arange(len(found))[:, None]].reshape(len(found), -1)
    found = found[:, :n_candidates]
    near, rows = ranked(np.take_along_axis(fine, found, axis=1), found)
    return near[:, :n_neighbors], rows[:, :n_neighbors]


def plain(queries, database):
    return (queries[:, None] != database).sum(axis=2)


def weighted(queries, database, weights):
    return weighted_hamming_distances(pack_codes(queries), pack_codes(database), weights)


def assert_found(found, expected):
    for got, right in zip(found, expected, strict=True):
        assert got.dtype.kind == right.dtype.kind
        assert_array_equal(got, right)


@every_algorithm
@pytest.mark.parametrize("n_bits", N_BITS)
def test_coarse_to_fine(algorithm, n_bits):
    database, queries = make_codes(200, n_bits), make_codes(30, n_bits, seed=1)
    search = make_search(algorithm, 7, database)
    for coarse in sorted({1, max(1, n_bits // 3), n_bits - n_bits // 8, n_bits}):
        for given in (queries, None):
            codes = database if given is None else given
            distances = plain(codes[:, :coarse], database[:, :coarse]), plain(codes, database)
            for n in (7, 20, 199):
                found = search.kneighbors(given, n_candidates=n, coarse_bits=coarse)
                assert_found(found, in_two_stages(*distances, n, 7, own=given is None))
    # Those of all bits are the first stage as well.
    exact = search.kneighbors(queries)
    assert_found(search.kneighbors(queries, n_candidates=9, coarse_bits=n_bits), exact)


@every_algorithm
@pytest.mark.parametrize("n_bits", N_BITS)
def test_weights(algorithm, n_bits):
    database, queries = make_codes(200, n_bits), make_codes(30, n_bits, seed=1)
    search, weights = make_search(algorithm, 7, database), make_weights(30, n_bits)
    coarse, fine = plain(queries, database), weighted(queries, database, weights)
    assert_found(search.kneighbors(queries, weights=weights), in_two_stages(fine, fine, 200, 7))
    for n in (7, 20, 200):
        found = search.kneighbors(queries, weights=weights, n_candidates=n)
        assert_found(found, in_two_stages(coarse, fine, n, 7))
    half = -(-n_bits // 2)
    found = search.kneighbors(queries, weights=weights, n_candidates=20, coarse_bits=half)
    coarse = plain(queries[:, :half], database[:, :half])
    assert_found(found, in_two_stages(coarse, fine, 20, 7))


def test_weights_of_each_code_of_the_database():
    database, weights = make_codes(50, 10), make_weights(50, 10)
    fine = weighted(database, database, weights)
    search = HammingNeighbors(7).fit(database)
    found = search.kneighbors(weights=weights)
    assert_found(found, in_two_stages(fine, fine, 49, 7, own=True))
    found = search.kneighbors(weights=weights, n_candidates=20)
    assert_found(found, in_two_stages(plain(database, database), fine, 20, 7, own=True))


def test_candidates_are_ranked_in_parts(monkeypatch):
    database, queries = make_codes(200, 13), make_codes(30, 13, seed=1)
    weights, search = make_weights(30, 13), HammingNeighbors(7).fit(database)
    calls = {"n_candidates": 20, "coarse_bits": 5}, {"n_candidates": 20, "weights": weights}
    expected = [search.kneighbors(queries, **call) for call in calls]
    # In place of more candidates than memory is to hold at once.
    monkeypatch.setattr("skhash._rerank._CHUNK_BYTES", 1)
    for call, right in zip(calls, expected, strict=True):
        assert_found(search.kneighbors(queries, **call), right)


def test_ids_and_changes():
    database, queries = make_codes(90, 24), make_codes(9, 24, seed=1)
    search = HammingNeighbors(7).fit(database[:80], ids=range(100, 180))
    stages = {"n_candidates": 20, "coarse_bits": 8}
    search.kneighbors(queries, **stages)
    search.add(database[80:], ids=range(180, 190)).remove([100])
    distances = [plain(queries[:, :n], database[1:, :n]) for n in (8, 24)]
    near, rows = in_two_stages(*distances, 20, 7)
    assert_found(search.kneighbors(queries, **stages), (near, rows + 101))


WRONG = {
    "no candidates": ({"coarse_bits": 4}, "coarse_bits=4 needs n_candidates, the number of"),
    "few candidates": (
        {"coarse_bits": 4, "n_candidates": 4},
        "Expected n_candidates >= n_neighbors, got n_candidates=4, n_neighbors=5",
    ),
    "no effect": ({"n_candidates": 9}, "n_candidates=9 has no effect on a search by plain"),
    "many candidates": (
        {"coarse_bits": 4, "n_candidates": 21},
        "Expected n_candidates <= n_database.*got n_candidates=21, n_database=20",
    ),
    "no number": (
        {"coarse_bits": 4, "n_candidates": 9.5},
        r"n_candidates should be an int, at least 1, got 9\.5",
    ),
    "long": (
        {"coarse_bits": 13, "n_candidates": 9},
        "coarse_bits should be an int from 1 to n_bits=12, got 13",
    ),
    "short": ({"coarse_bits": 0, "n_candidates": 9}, "coarse_bits should be an int from 1"),
    "no whole": ({"coarse_bits": 1.5, "n_candidates": 9}, "coarse_bits should be an int"),
}


@pytest.mark.parametrize(("stages", "message"), WRONG.values(), ids=WRONG)
def test_error_on_stages(stages, message):
    search = HammingNeighbors(5).fit(make_codes(20, 12))
    with pytest.raises(ValueError, match=message):
        search.kneighbors(make_codes(3, 12), **stages)
    X = np.random.default_rng(0).normal(size=(20, 4))
    hasher = LSHHasher(12, random_state=0).fit(X)
    with pytest.raises(ValueError, match=message):
        hasher.kneighbors(X, **stages)


def test_error_on_one_candidate_more_than_others():
    with pytest.raises(ValueError, match=r"Expected n_candidates < n_database.*=20"):
        HammingNeighbors(5).fit(make_codes(20, 12)).kneighbors(n_candidates=20, coarse_bits=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[1:], r"bit of the 3 codes of 12 bits, got shape \(2, 12\)"),
        (lambda w: w[:, 1:], r"bit of the 3 codes of 12 bits, got shape \(3, 11\)"),
        (lambda w: w[:, :4], r"bit of the 3 codes of 12 bits, got shape \(3, 4\)"),
        (lambda w: w - 5, "weights should be at least 0, got -5"),
        (lambda w: w * np.nan, "Input weights contains NaN"),
    ],
)
def test_error_on_weights(change, message):
    search = HammingNeighbors(5).fit(make_codes(20, 12))
    with pytest.raises(ValueError, match=message):
        search.kneighbors(make_codes(3, 12), weights=change(make_weights(3, 12)))


def test_hashers_search_in_two_stages():
    rng = np.random.default_rng(0)
    X, queries = rng.normal(size=(300, 6)), rng.normal(size=(20, 6))
    hasher = LSHHasher(24, n_neighbors=9, random_state=0).fit(X)
    codes, weights = hasher.transform(queries), hasher.bit_weights(queries)
    search = HammingNeighbors(9).fit(hasher.transform(X))
    for asymmetric in (False, True):
        given = {"weights": weights} if asymmetric else {}
        for stages in ({}, {"n_candidates": 40}, {"n_candidates": 40, "coarse_bits": 10}):
            if stages.keys() == {"n_candidates"} and not asymmetric:
                continue
            found = hasher.kneighbors(queries, asymmetric=asymmetric, **stages)
            assert_found(found, search.kneighbors(codes, **given, **stages))
            rows = hasher.kneighbors(queries, 3, False, asymmetric=asymmetric, **stages)
            assert_array_equal(rows, found[1][:, :3])


def test_integers_of_numpy():
    codes = np.random.default_rng(0).integers(0, 2, (200, 24), dtype=np.uint8)
    search = HammingNeighbors(algorithm="brute").fit(codes)
    expected = search.kneighbors(codes[:3], 3, n_candidates=100, coarse_bits=12)
    numbers = {"n_candidates": np.int8(100), "coarse_bits": np.uint8(12)}
    found = search.kneighbors(codes[:3], np.uint8(3), **numbers)
    np.testing.assert_array_equal(found, expected)
    assert search.kneighbors(n_neighbors=np.int8(127))[0].shape == (200, 127)
