"""Every algorithm of search, on databases that are large enough for tables and buckets."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from skhash.neighbors import HammingNeighbors

ALGORITHMS = ["brute", "faiss", "multi_index", "auto"]
# As many as "auto" makes tables for.
N_CODES = 70_000


def pack(bits):
    return np.packbits(bits, axis=1)


def uniform(n_samples, n_bits, seed=0):
    return pack(np.random.default_rng(seed).integers(0, 2, (n_samples, n_bits), dtype=np.uint8))


def clustered(n_samples, n_bits, n_clusters, share, seed=0):
    """Codes around centres, of whose bits a share is flipped."""
    rng = np.random.default_rng(seed)
    centers = rng.integers(0, 2, (n_clusters, n_bits), dtype=np.uint8)
    flips = rng.integers(0, 2**16, (n_samples, n_bits), np.uint16) < share * 2**16
    return pack(centers[rng.integers(0, n_clusters, n_samples)] ^ flips)


def full_sort(queries, codes):
    """Distances and rows of all codes, sorted."""
    distances = np.zeros((len(queries), len(codes)), np.int16)
    for i, query in enumerate(queries):
        distances[i] = np.bitwise_count(query ^ codes).sum(axis=1)
    rows = distances.argsort(axis=1, kind="stable")
    return np.take_along_axis(distances, rows, axis=1), rows


def assert_finds(search, queries, codes, numbers, radii, expected=None):
    """Hold a search to a full sort."""
    distances, rows = expected or full_sort(queries, codes)
    for k in numbers:
        found = search.kneighbors(queries, k)
        assert_array_equal(found[0], distances[:, :k])
        assert_array_equal(found[1], rows[:, :k])
    for radius in radii:
        found = search.radius_neighbors(queries, radius)
        for i, n_near in enumerate((distances <= radius).sum(axis=1)):
            assert_array_equal(found[0][i], distances[i, :n_near])
            assert_array_equal(found[1][i], rows[i, :n_near])


def flipped(codes, n_bits, n_flips, seed=0):
    """Codes of which so many bits differ, each at random."""
    rng = np.random.default_rng(seed)
    where = rng.random((len(codes), n_bits)).argsort(axis=1)[:, :n_flips]
    flips = np.zeros((len(codes), n_bits), np.uint8)
    np.put_along_axis(flips, where, 1, axis=1)
    return codes ^ pack(flips)


def assert_same(found, expected):
    """Hold lists of a radius search to others."""
    for got, right in zip(found, expected, strict=True):
        assert [len(part) for part in got] == [len(part) for part in right]
        assert_array_equal(np.concatenate(got), np.concatenate(right))


def fitted(algorithm, codes, n_bits, **params):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    return HammingNeighbors(algorithm=algorithm, n_bits=n_bits, **params).fit(codes)


@lru_cache(maxsize=1)
def sorted_clusters(n_bits):
    """Codes, queries, and what a full sort finds."""
    codes = clustered(N_CODES, n_bits, 3000, 0.03)
    queries = np.concatenate([codes[::40_000], uniform(2, n_bits, seed=1)])
    return codes, queries, full_sort(queries, codes)


@pytest.mark.parametrize(
    "n_bits", [1, 7, 8, 12, 20, 33, 48, 63, 64, 65, 96, 120, 126, 128, 130, 256]
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equals_a_full_sort(n_bits, algorithm):
    codes, queries, expected = sorted_clusters(n_bits)
    search, radii = fitted(algorithm, codes, n_bits), [0, 2, n_bits // 8]
    assert_finds(search, queries, codes, [1, 10, 300, N_CODES - 3], radii, expected)


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
@pytest.mark.parametrize("n_bits", [48, 64, 128])
def test_uniform_codes(n_bits, algorithm):
    # Of these the nearest are far, so that they are left to a scan, but not those in a radius.
    codes = uniform(N_CODES, n_bits)
    queries = codes[:8].copy()
    queries[:, 0] ^= 3
    search = fitted(algorithm, codes, n_bits)
    assert_finds(search, queries, codes, [1, 100], [0, n_bits // 16, n_bits // 8])


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
def test_codes_that_repeat(algorithm):
    codes = clustered(N_CODES, 64, 300, 0.002)
    queries = np.concatenate([codes[:4], uniform(2, 64, seed=1)])
    assert len(np.unique(codes, axis=0)) < 0.2 * len(codes)
    search = fitted(algorithm, codes, 64)
    assert_finds(search, queries, codes, [1, 10, 1000, len(codes)], [0, 1, 30])


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
@pytest.mark.parametrize(
    ("n_bits", "share"), [(40, 0.5), (64, 0.5), (64, 0.02), (126, 0.02), (130, 0.5), (256, 0.02)]
)
def test_no_combination_of_bits_is_missed(n_bits, share, algorithm):
    # Whichever bits differ, the code of which queries are made is just within the radius.
    codes = clustered(N_CODES, n_bits, 2000, share)
    codes[1000] = uniform(1, n_bits, seed=1)
    search = fitted(algorithm, codes, n_bits)
    for radius in (1, 2, 3, 5):
        queries = flipped(np.repeat(codes[[1000]], 150, axis=0), n_bits, radius)
        distances, rows = search.radius_neighbors(queries, radius)
        for near, found in zip(distances, rows, strict=True):
            assert near[found == 1000].tolist() == [radius]
        closer = search.radius_neighbors(queries, radius - 1, return_distance=False)
        assert all(1000 not in found for found in closer)
    # The first and the last place of a table.
    codes[-2:] = pack(np.repeat([[0], [1]], n_bits, axis=1).astype(np.uint8))
    search = fitted(algorithm, codes, n_bits)
    assert_finds(search, codes[-2:], codes, [1], [0, 2])


def test_more_substrings_than_are_looked_up_at_once():
    # Of so many queries a trial finds that it is worth it.
    codes = uniform(600_000, 48)
    queries = codes[-1100:]
    codes[:1100] = np.concatenate(
        [flipped(queries[:, :3], 24, 4), flipped(queries[:, 3:], 24, 4, seed=1)], axis=1
    )
    found = fitted("auto", codes, 48).radius_neighbors(queries, 8)
    assert_same(found, fitted("brute", codes, 48).radius_neighbors(queries, 8))
    assert all(row in near for row, near in enumerate(found[1]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_bits", [9, 72])
def test_codes_that_differ_in_the_last_bit_only(n_bits, algorithm):
    bits = np.ones((N_CODES, n_bits), np.uint8)
    bits[1::3, -1] = 0
    codes = pack(bits)
    search = fitted(algorithm, codes, n_bits)
    assert_finds(search, codes[:2], codes, [1, 40_000, N_CODES], [0, 1])
    assert_finds(fitted(algorithm, codes[::3], n_bits), codes[:2], codes[::3], [5], [0, 1])


@pytest.mark.parametrize(("share", "n_jobs"), [(0.02, -1), (0.5, 1), (0.5, 2)])
def test_many_queries(share, n_jobs):
    # With so many, some are tried to find out what is best spent on each.
    codes = clustered(N_CODES, 64, 2000, share)
    queries = clustered(1200, 64, 2000, share, seed=1)
    expected = HammingNeighbors(algorithm="brute", n_bits=64).fit(codes)
    search = fitted("multi_index", codes, 64, n_jobs=n_jobs)
    for k in (1, 20):
        for got, right in zip(
            search.kneighbors(queries, k), expected.kneighbors(queries, k), strict=True
        ):
            assert_array_equal(got, right)
    assert_same(search.radius_neighbors(queries, 3), expected.radius_neighbors(queries, 3))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memory_maps_and_threads(algorithm, tmp_path):
    codes = clustered(2 * N_CODES, 64, 2000, 0.02)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")[::2]
    search = fitted(algorithm, mapped, 64)
    queries = codes[:12]
    distances, rows = full_sort(queries, codes[::2])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: search.kneighbors(query[None], 7), queries))
    assert_array_equal(np.concatenate([near for near, _ in found]), distances[:, :7])
    assert_array_equal(np.concatenate([near for _, near in found]), rows[:, :7])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_added_and_removed(algorithm):
    codes = clustered(N_CODES, 64, 2000, 0.02)
    search = fitted(algorithm, codes[:-500], 64)
    search.kneighbors(codes[:2], 3)
    search.add(codes[-500:])
    assert_finds(search, codes[-3:], codes, [1, 20], [1])
    search.remove([5, N_CODES - 1])
    assert_finds(search, codes[-3:], np.delete(codes, [5, N_CODES - 1], axis=0), [1, 20], [1])


@pytest.mark.parametrize("n_bits", [8, 64, 72, 128])
@pytest.mark.parametrize(("n_clusters", "share"), [(1, 0), (50, 0), (50, 0.02)])
def test_faiss_flat_index_finds_the_same(n_clusters, share, n_bits):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    # Without flips nearly all distances are equal to others.
    codes = clustered(N_CODES, n_bits, n_clusters, share)
    index = faiss.IndexBinaryFlat(n_bits)
    index.add(codes)
    queries = np.concatenate([codes[::14_000], uniform(2, n_bits, seed=1)])
    for algorithm in ALGORITHMS:
        search = fitted(algorithm, codes, n_bits)
        for k in (1, 10, 1000):
            for got, theirs in zip(
                search.kneighbors(queries, k), index.search(queries, k), strict=True
            ):
                assert_array_equal(got, theirs)


@settings(max_examples=40, deadline=None)
@given(
    n_bits=st.integers(1, 200),
    n_codes=st.integers(1, 3000),
    n_clusters=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    k=st.integers(1, 3000),
    radius=st.integers(0, 200),
    seed=st.integers(0, 100),
)
def test_all_algorithms_agree(n_bits, n_codes, n_clusters, share, k, radius, seed):
    codes = clustered(n_codes, n_bits, n_clusters, share, seed)
    queries = clustered(5, n_bits, n_clusters, share, seed)
    for algorithm in ALGORITHMS:
        search = fitted(algorithm, codes, n_bits)
        assert_finds(search, queries, codes, [min(k, n_codes)], [radius])


@settings(max_examples=6, deadline=None)
@given(
    n_bits=st.integers(10, 200),
    n_codes=st.integers(66_000, 90_000),
    n_clusters=st.integers(100, 60_000),
    n_flips=st.integers(0, 6),
    k=st.integers(1, 100),
    seed=st.integers(0, 100),
)
def test_tables_agree(n_bits, n_codes, n_clusters, n_flips, k, seed):
    codes = clustered(n_codes, n_bits, n_clusters, n_flips / n_bits, seed)
    queries = flipped(codes[::20_000], n_bits, n_flips, seed)
    for algorithm in ("multi_index", "auto"):
        search = fitted(algorithm, codes, n_bits)
        assert_finds(search, queries, codes, [k], [n_flips, n_flips + 2])


def test_many_pairs():
    # So many are found that those that are too far are forgotten before the end.
    codes = clustered(200_000, 64, 285, 0.02)
    queries = codes[::330]
    found, expected = (
        HammingNeighbors(algorithm=algorithm, n_bits=64).fit(codes).radius_neighbors(queries, 3)
        for algorithm in ("multi_index", "brute")
    )
    assert_same(found, expected)


def test_more_bits_than_tables_are_made_for():
    bits = np.zeros((4, 2**16 + 8), np.uint8)
    bits[1:, :3] = np.eye(3)
    codes = pack(bits)
    with pytest.raises(ValueError, match="fewer than 2 \\*\\* 16 bits, got 4 codes of 65544 bits"):
        HammingNeighbors(algorithm="multi_index", n_bits=65544).fit(codes).kneighbors(codes, 1)
    found = HammingNeighbors(n_bits=65544).fit(codes).kneighbors(codes[:1], 4)
    assert_array_equal(found, [[[0, 1, 1, 1]], [[0, 1, 2, 3]]])


def test_auto_without_faiss(monkeypatch):
    # As where the package is not installed, for codes that it would scan.
    monkeypatch.setitem(sys.modules, "faiss", None)
    codes = uniform(N_CODES, 128)
    search = HammingNeighbors(n_bits=128).fit(codes)
    assert_finds(search, codes[:3], codes, [4], [9])


def test_more_queries_than_are_numbered_at_once():
    codes, queries = clustered(1000, 16, 20, 0.02), uniform(40_000, 16, seed=1)
    search = fitted("multi_index", codes, 16)
    parts = [search.kneighbors(some, 2) for some in np.array_split(queries, 8)]
    for got, right in zip(search.kneighbors(queries, 2), zip(*parts, strict=True), strict=True):
        assert_array_equal(got, np.concatenate(right))


def test_each_item_as_a_query():
    codes = clustered(6000, 64, 500, 0.003)
    search, expected = (fitted(algorithm, codes, 64) for algorithm in ("multi_index", "brute"))
    for found, right in zip(search.kneighbors(None, 2), expected.kneighbors(None, 2), strict=True):
        assert_array_equal(found, right)
    assert_same(search.radius_neighbors(radius=1), expected.radius_neighbors(radius=1))


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
def test_few_of_the_codes_are_different_and_those_are_near(algorithm):
    # So each neighbour is in a bucket of its own, but for the last ones.
    n_different = int(0.39 * N_CODES)
    codes = np.full((N_CODES, 8), 0xFF, np.uint8)
    rows = np.random.default_rng(0).permutation(N_CODES)[:n_different]
    codes[rows, 4:] = uniform(n_different, 32)
    codes[rows, :2] = 0
    queries = codes[rows[:3]]
    search = fitted(algorithm, codes, 64)
    assert_finds(search, queries, codes, [1, 2, 30, n_different, n_different + 5], [0, 5, 40])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "view",
    [lambda codes: codes[::-1, 3:19], lambda codes: np.asfortranarray(codes[:, 3:19])],
    ids=["backwards", "columns first"],
)
def test_codes_that_are_not_contiguous(view, algorithm):
    codes = clustered(N_CODES, 24 * 8, 2000, 0.02)
    codes.flags.writeable = False
    viewed = view(codes)
    search = fitted(algorithm, viewed, 128)
    assert_finds(search, viewed[:200:100], np.ascontiguousarray(viewed), [1, 40], [4])


def mixed(words):
    """The first half of how two words of a code are hashed to find its bucket."""
    words = words * np.uint64(0x9E3779B97F4A7C15)
    return words ^ words >> np.uint64(29)


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
def test_different_codes_of_one_hash(algorithm):
    # Pairs that buckets would mix up: the second word makes up for a bit of the first.
    some = uniform(1000, 128).view(np.uint64)
    others = some ^ np.uint64([1, 0])
    others[:, 1] ^= mixed(some[:, 0]) ^ mixed(others[:, 0])
    codes = np.tile(np.concatenate([some, others]), (40, 1)).view(np.uint8)
    search = fitted(algorithm, codes, 128)
    assert_finds(search, codes[[0, 1000, 2001]], codes, [1, 50, 3000], [0, 4])


def test_a_trial_on_some_of_the_codes():
    codes = clustered(300_000, 64, 6000, 0.04)
    search = fitted("auto", codes, 64)
    assert_finds(search, codes[:2], codes, [1, 20], [3])


@pytest.mark.parametrize("algorithm", ["multi_index", "auto"])
@pytest.mark.parametrize("n_bits", [48, 128])
def test_tables_take_far_less_time_than_a_scan(n_bits, algorithm):
    # What finds the same in any case would hide that all queries are left to the scan.
    codes = clustered(300_000, n_bits, 30_000, 0.01)
    searches = [fitted(name, codes, n_bits) for name in (algorithm, "brute")]
    times = []
    for search in searches:
        search.kneighbors(codes[:1], 1)
        start = time.process_time()
        search.kneighbors(codes[::3000], 1)
        search.radius_neighbors(codes[::3000], 1)
        times.append(time.process_time() - start)
    assert times[0] < times[1] / 3


def test_faiss_has_its_threads_again():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    before = faiss.omp_get_max_threads()
    codes = uniform(1000, 64)
    search = fitted("faiss", codes, 64, n_jobs=before + 1)
    search.kneighbors(codes[:2], 1)
    search.radius_neighbors(codes[:2], 1)
    assert faiss.omp_get_max_threads() == before
