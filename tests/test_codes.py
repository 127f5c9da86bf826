"""Codes: round trips, distances against the definition, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from scipy import sparse

from skhash import codes as codes_module
from skhash.codes import hamming_distances, pack_codes, unpack_codes

ALL_N_BITS = [1, 7, 8, 12, 48, 63, 64, 65, 256]
all_n_bits = pytest.mark.parametrize("n_bits", ALL_N_BITS)


def make_codes(n_samples, n_bits, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n_samples, n_bits), dtype=np.uint8)


def naive_distances(a, b):
    return (a[:, None] != b[None]).sum(axis=2)


@all_n_bits
def test_round_trip(n_bits):
    codes = make_codes(9, n_bits)
    packed = pack_codes(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (9, -(-n_bits // 8))
    unpacked = unpack_codes(packed, n_bits)
    assert unpacked.dtype == np.uint8
    assert_array_equal(unpacked, codes)


@all_n_bits
def test_first_bit_is_most_significant_and_padding_is_zero(n_bits):
    codes = make_codes(9, n_bits, seed=1)
    by_hand = np.zeros((9, -(-n_bits // 8)), int)
    for bit in range(n_bits):
        by_hand[:, bit // 8] += codes[:, bit].astype(int) << (7 - bit % 8)
    assert_array_equal(pack_codes(codes), by_hand)
    assert_array_equal(pack_codes(codes), np.packbits(codes, axis=1))


@all_n_bits
def test_distances_equal_definition(n_bits):
    a, b = make_codes(11, n_bits), make_codes(6, n_bits, seed=1)
    distances = hamming_distances(pack_codes(a), pack_codes(b))
    assert distances.dtype == np.int16
    assert_array_equal(distances, naive_distances(a, b))
    assert_array_equal(hamming_distances(pack_codes(a), pack_codes(1 - a)).diagonal(), n_bits)
    assert not hamming_distances(pack_codes(a), pack_codes(a)).diagonal().any()


@settings(max_examples=50, deadline=None)
@given(
    both=st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 70)).flatmap(
        lambda shape: st.tuples(
            *(arrays(np.uint8, (n, shape[2]), elements=st.integers(0, 1)) for n in shape[:2])
        )
    )
)
def test_any_codes(both):
    packed = [pack_codes(codes) for codes in both]
    assert_array_equal(hamming_distances(*packed), naive_distances(*both))
    for codes, bits in zip(both, packed, strict=True):
        assert_array_equal(unpack_codes(bits, codes.shape[1]), codes)


@pytest.mark.parametrize("block_pairs", [1, 2, 7, 20, 1000])
def test_result_does_not_depend_on_blocks(block_pairs, monkeypatch):
    a, b = make_codes(13, 70), make_codes(5, 70, seed=1)
    monkeypatch.setattr(codes_module, "_BLOCK_PAIRS", block_pairs)
    assert_array_equal(hamming_distances(pack_codes(a), pack_codes(b)), naive_distances(a, b))


@pytest.mark.parametrize(("n_bytes", "dtype"), [(4095, np.int16), (4096, np.int32)])
def test_many_bits_are_counted_in_a_wider_integer(n_bytes, dtype):
    zeros = np.zeros((1, n_bytes), np.uint8)
    distances = hamming_distances(zeros, np.stack([zeros[0], ~zeros[0]]))
    assert distances.dtype == dtype
    assert_array_equal(distances, [[0, 8 * n_bytes]])


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int64, np.uint64, np.float16, np.float32, float, object]
)
def test_bits_of_any_dtype(dtype):
    codes = make_codes(4, 12)
    before = codes.astype(dtype)
    given_codes = before.copy()
    assert_array_equal(pack_codes(given_codes), pack_codes(codes))
    assert_array_equal(given_codes, before)


def test_lists_and_memory_orders():
    codes = make_codes(8, 24)
    packed = pack_codes(codes)
    assert_array_equal(pack_codes(codes.tolist()), packed)
    assert_array_equal(pack_codes(np.asfortranarray(codes)), packed)
    assert_array_equal(pack_codes(codes[::-1])[::-1], packed)
    for view in [np.asfortranarray(packed), np.repeat(packed, 2, axis=1)[:, ::2]]:
        assert not view.flags.c_contiguous
        assert_array_equal(hamming_distances(view, packed), naive_distances(codes, codes))
        assert_array_equal(unpack_codes(view, 24), codes)


@pytest.mark.parametrize(("n_a", "n_b"), [(0, 3), (3, 0), (0, 0)])
def test_no_codes(n_a, n_b):
    a, b = np.zeros((n_a, 12)), np.zeros((n_b, 12))
    assert pack_codes(a).shape == (n_a, 2)
    assert unpack_codes(pack_codes(a), 12).shape == (n_a, 12)
    assert hamming_distances(pack_codes(a), pack_codes(b)).shape == (n_a, n_b)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[0, 1, 2]], "must hold only 0 and 1, got 2"),
        ([[-1, 1, 1]], r"must hold only 0 and 1, got -1\. Threshold a projection with `proj"),
        ([[1, 0, -1]], "must hold only 0 and 1, got -1"),
        ([[0.0, 0.5]], r"must hold only 0 and 1, got 0\.5"),
        ([["0", "1"]], "must hold only 0 and 1, got '0'"),
        ([[0.0, np.nan]], "Input codes contains NaN"),
        ([[0.0, np.inf]], "Input codes contains infinity"),
        ([0, 1], "Expected 2D array, got 1D array instead"),
        ([[[0, 1]]], "Found array with dim 3"),
        (np.zeros((3, 0)), r"Found array with 0 feature\(s\)"),
    ],
)
def test_error_on_what_is_no_code(codes, message):
    with pytest.raises(ValueError, match=message):
        pack_codes(codes)


def test_error_on_sparse_codes():
    with pytest.raises(TypeError, match="Sparse data was passed for codes"):
        pack_codes(sparse.csr_array(make_codes(3, 8)))


@pytest.mark.parametrize("n_bits", [0, 8, 17, 24])
def test_error_on_bytes_of_other_codes(n_bits):
    message = (
        rf"n_bits={n_bits} take {-(-n_bits // 8)} bytes each, got packed codes of shape \(3, 2"
    )
    with pytest.raises(ValueError, match=message):
        unpack_codes(np.zeros((3, 2), np.uint8), n_bits)
    with pytest.raises(ValueError, match=r"as many bytes per code, got 2 and 3"):
        hamming_distances(np.zeros((3, 2), np.uint8), np.zeros((3, 3), np.uint8))


@pytest.mark.parametrize(
    ("packed", "got"),
    [
        (np.zeros((2, 1), np.int64), "2D int64"),
        (np.zeros((2, 1)), "2D float64"),
        (np.zeros((2, 1), bool), "2D bool"),
        (np.zeros(1, np.uint8), "1D uint8"),
        ([[0], [1]], "2D int64"),
    ],
)
def test_error_on_what_is_not_packed(packed, got):
    right = np.zeros((2, 1), np.uint8)
    message = r"{} must be a 2D uint8 array of packed codes, as pack_codes returns, got {}\."
    with pytest.raises(ValueError, match=message.format("packed", got)):
        unpack_codes(packed, 8)
    with pytest.raises(ValueError, match=message.format("packed_a", got)):
        hamming_distances(packed, right)
    with pytest.raises(ValueError, match=message.format("packed_b", got)):
        hamming_distances(right, packed)
