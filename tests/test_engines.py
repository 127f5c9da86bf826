"""Every algorithm of search, on databases that are large enough for tables and buckets."""

import sys
from concurrent.futures import ThreadPoolExecutor

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
    flips = rng.random((n_samples, n_bits), dtype=np.float32) < share
    return pack(centers[rng.integers(0, n_clusters, n_samples)] ^ flips)


def full_sort(queries, codes):
    """Distances and rows of all codes, sorted."""
    distances = np.zeros((len(queries), len(codes)), np.int16)
    for i, query in enumerate(queries):
        distances[i] = np.bitwise_count(query ^ codes).sum(axis=1)
    rows = distances.argsort(axis=1, kind="stable")
    return np.take_along_axis(distances, rows, axis=1), rows


def assert_finds(search, queries, codes, numbers, radii):
    """Hold a search to a full sort."""
    distances, rows = full_sort(queries, codes)
    for k in numbers:
        found = search.kneighbors(queries, k)
        assert_array_equal(found[0], distances[:, :k])
        assert_array_equal(found[1], rows[:, :k])
    for radius in radii:
        found = search.radius_neighbors(queries, radius)
        for i, n_near in enumerate((distances <= radius).sum(axis=1)):
            assert_array_equal(found[0][i], distances[i, :n_near])
            assert_array_equal(found[1][i], rows[i, :n_near])


def fitted(algorithm, codes, n_bits, **params):
    if algorithm == "faiss":
        pytest.importorskip("faiss", reason="faiss is not installed")
    return HammingNeighbors(algorithm=algorithm, n_bits=n_bits, **params).fit(codes)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_bits", [1, 7, 8, 12, 20, 33, 48, 63, 64, 65, 96, 120, 126, 130, 256])
def test_equals_a_full_sort(n_bits, algorithm):
    codes = clustered(N_CODES, n_bits, 3000, 0.03)
    queries = np.concatenate([codes[::20_000], uniform(3, n_bits, seed=1)])
    search = fitted(algorithm, codes, n_bits)
    assert_finds(search, queries, codes, [1, 10, 300], [0, 2, n_bits // 8])


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


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_bits", [9, 72])
def test_codes_that_differ_in_the_last_bit_only(n_bits, algorithm):
    bits = np.ones((N_CODES, n_bits), np.uint8)
    bits[1::3, -1] = 0
    codes = pack(bits)
    search = fitted(algorithm, codes, n_bits)
    assert_finds(search, codes[:2], codes, [1, 40_000, N_CODES], [0, 1])
    assert_finds(fitted(algorithm, codes[::3], n_bits), codes[:2], codes[::3], [5], [0, 1])


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("share", [0.02, 0.5])
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
    found, near = search.radius_neighbors(queries, 3), expected.radius_neighbors(queries, 3)
    for got, right in zip(found, near, strict=True):
        assert_array_equal(np.concatenate(got), np.concatenate(right))
        assert [len(part) for part in got] == [len(part) for part in right]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memory_maps_and_threads(algorithm, tmp_path):
    codes = clustered(2 * N_CODES, 64, 2000, 0.02)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")[::2]
    search = fitted(algorithm, mapped, 64)
    queries = codes[:12]
    distances, rows = full_sort(queries, codes[::2])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda i: search.kneighbors(queries[i : i + 1], 7), range(12)):
            i = int(np.flatnonzero((rows[:, :7] == found[1]).all(axis=1))[0])
            assert_array_equal(found[0][0], distances[i, :7])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_added_and_removed(algorithm):
    codes = clustered(N_CODES, 64, 2000, 0.02)
    search = fitted(algorithm, codes[:-500], 64)
    search.kneighbors(codes[:2], 3)
    search.add(codes[-500:])
    assert_finds(search, codes[-3:], codes, [1, 20], [1])
    search.remove([5, N_CODES - 1])
    assert_finds(search, codes[-3:], np.delete(codes, [5, N_CODES - 1], axis=0), [1, 20], [1])


def test_faiss_flat_index_finds_the_same():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    codes = clustered(N_CODES, 64, 50, 0.02)
    index = faiss.IndexBinaryFlat(64)
    index.add(codes)
    queries = codes[::7000]
    for algorithm in ALGORITHMS:
        search = fitted(algorithm, codes, 64)
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
    for algorithm in ("brute", "multi_index"):
        search = HammingNeighbors(algorithm=algorithm, n_bits=n_bits).fit(codes)
        assert_finds(search, queries, codes, [min(k, n_codes)], [radius])


def test_many_pairs():
    # So many are found that those that are too far are forgotten before the end.
    codes = clustered(200_000, 64, 285, 0.02)
    queries = codes[::330]
    found, expected = (
        HammingNeighbors(algorithm=algorithm, n_bits=64).fit(codes).radius_neighbors(queries, 3)
        for algorithm in ("multi_index", "brute")
    )
    for got, right in zip(found, expected, strict=True):
        assert_array_equal(np.concatenate(got), np.concatenate(right))


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
