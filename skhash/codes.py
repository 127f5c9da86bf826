"""What a code is: bits as uint8 of 0 and 1, packed eight to a byte, compared by popcount."""

import numpy as np
from sklearn.utils import check_array

__all__ = [
    "as_bits",
    "as_columns",
    "as_words",
    "check_packed",
    "check_packed_codes",
    "check_padding",
    "check_weights",
    "distance_type",
    "hamming_distances",
    "pack_codes",
    "signed_weights",
    "unpack_codes",
    "weighted_hamming_distances",
    "whole_distances",
    "whole_weights",
]

# Pairs whose 64-bit words are held at once: half a MiB, which stays in the second-level cache.
_BLOCK_PAIRS = 2**16
# Codes whose bits are held as floats at once.
_BLOCK_CODES = 2**14


def pack_codes(codes):
    """Pack binary codes eight bits to a byte.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_bits)
        Bits: 0 / 1 of any integer or floating dtype, or booleans.

    Returns
    -------
    packed : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Bit order of :func:`numpy.packbits` (the first bit is the most significant), the last
        byte padded with zeros.

    Raises
    ------
    ValueError
        If an entry is neither 0 nor 1, or `codes` is not two-dimensional.

    Examples
    --------
    >>> from skhash.codes import pack_codes
    >>> pack_codes([[1, 0, 0, 0, 0, 0, 0, 1, 1]])
    array([[129, 128]], dtype=uint8)
    """
    codes = check_array(codes, dtype=None, ensure_min_samples=0, input_name="codes")
    hint = "Threshold a projection with `projection >= 0` first."
    return np.packbits(as_bits(codes, "codes", hint), axis=1)


def unpack_codes(packed, n_bits):
    """Undo :func:`pack_codes`.

    Parameters
    ----------
    packed : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    codes : ndarray of shape (n_samples, n_bits), dtype uint8
        Bits, 0 or 1.

    Raises
    ------
    ValueError
        If `packed` is not two-dimensional uint8 of that many bytes.

    Examples
    --------
    >>> from skhash.codes import pack_codes, unpack_codes
    >>> unpack_codes(pack_codes([[1, 0, 1]]), 3)
    array([[1, 0, 1]], dtype=uint8)
    """
    packed = check_packed(packed, "packed")
    if packed.shape[1] != -(-n_bits // 8):
        raise ValueError(
            f"Codes of n_bits={n_bits} take {-(-n_bits // 8)} bytes each, "
            f"got packed codes of shape {packed.shape}."
        )
    return np.unpackbits(packed, axis=1, count=n_bits)


def hamming_distances(packed_a, packed_b):
    """Hamming distances between all pairs of packed codes.

    Parameters
    ----------
    packed_a : array-like of shape (n_a, n_bytes), dtype uint8
        Packed codes, see :func:`pack_codes`.

    packed_b : array-like of shape (n_b, n_bytes), dtype uint8
        Packed codes of the same length.

    Returns
    -------
    distances : ndarray of shape (n_a, n_b), dtype int16
        Number of bits that differ (int32 for codes of 4096 bytes and more).

    Raises
    ------
    ValueError
        If the two sets differ in bytes per code, or are not two-dimensional uint8.

    Examples
    --------
    >>> from skhash.codes import hamming_distances, pack_codes
    >>> hamming_distances(pack_codes([[0, 0, 1]]), pack_codes([[0, 0, 1], [1, 1, 1]]))
    array([[0, 2]], dtype=int16)
    """
    return _popcount_pairs(*_check_pair(packed_a, packed_b))


def _check_pair(packed_a, packed_b):
    """Return two sets of packed codes as 2D uint8 arrays of as many bytes per code, or raise."""
    packed_a, packed_b = check_packed(packed_a, "packed_a"), check_packed(packed_b, "packed_b")
    if packed_a.shape[1] != packed_b.shape[1]:
        raise ValueError(
            "packed_a and packed_b must have as many bytes per code, "
            f"got {packed_a.shape[1]} and {packed_b.shape[1]}."
        )
    return packed_a, packed_b


def weighted_hamming_distances(packed_a, packed_b, weights):
    """Weighted Hamming distances: each code of one set weighs the bits in which others differ.

    With the absolute values of a query's relaxed code as weights this is, up to a constant of the
    query, the Euclidean distance from its relaxed code to a binary one: an *asymmetric*
    distance [1]_.

    Parameters
    ----------
    packed_a : array-like of shape (n_a, n_bytes), dtype uint8
        Packed codes, see :func:`pack_codes`.

    packed_b : array-like of shape (n_b, n_bytes), dtype uint8
        Packed codes of the same length.

    weights : array-like of shape (n_a, n_bits), floating
        Weights of the bits of each code of `packed_a`, at least 0. They are rounded to whole
        numbers of a unit, so that distances are exact sums: equal codes have equal ones.

    Returns
    -------
    distances : ndarray of shape (n_a, n_b), dtype float64
        Sums of the weights of the bits that differ.

    Raises
    ------
    ValueError
        If the sets differ in bytes per code, are not two-dimensional uint8, or do not go with the
        weights; or if weights are negative or not finite.

    References
    ----------
    .. [1] A. Gordo, F. Perronnin, Y. Gong, S. Lazebnik, "Asymmetric distances for binary
           embeddings", IEEE TPAMI 36(1), 2014.

    Examples
    --------
    >>> from skhash.codes import pack_codes, weighted_hamming_distances
    >>> query, database = pack_codes([[0, 0, 1]]), pack_codes([[0, 0, 1], [1, 1, 1], [0, 0, 0]])
    >>> weighted_hamming_distances(query, database, [[0.25, 0.5, 1.0]])
    array([[0.  , 0.75, 1.  ]])
    """
    packed_a, packed_b = _check_pair(packed_a, packed_b)
    weights = check_weights(weights, packed_a)
    whole, unit = whole_weights(weights)
    return whole_distances(packed_a, packed_b, whole) * unit


def check_weights(weights, packed, n_bits=None):
    """Return weights of the bits of packed codes, or raise.

    Parameters
    ----------
    weights : array-like of shape (n_samples, n_bits), floating
        Weights, at least 0.

    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    n_bits : int, default=None
        Number of bits of a code. None: any that takes as many bytes.

    Returns
    -------
    weights : ndarray of shape (n_samples, n_bits), dtype float64
        The same.

    Raises
    ------
    ValueError
        If they are negative, not finite, or not one for each bit.
    """
    weights = check_array(weights, dtype=np.float64, input_name="weights")
    n_weights, n_bytes = weights.shape[1], packed.shape[1]
    fits = -(-n_weights // 8) == n_bytes and n_bits in (None, n_weights)
    if len(weights) != len(packed) or not fits:
        length = f"{n_bytes} bytes" if n_bits is None else f"{n_bits} bits"
        raise ValueError(
            f"weights should hold a number for each bit of the {len(packed)} codes of "
            f"{length}, got shape {weights.shape}."
        )
    if (weights < 0).any():
        raise ValueError(f"weights should be at least 0, got {weights.min()}.")
    return weights


def whole_distances(packed_a, packed_b, whole):
    """Weighted Hamming distances for weights that are whole.

    Parameters
    ----------
    packed_a : ndarray of shape (n_a, n_bytes), dtype uint8
        Packed codes.

    packed_b : ndarray of shape (n_b, n_bytes), dtype uint8
        Packed codes of the same length.

    whole : ndarray of shape (n_a, n_bits), dtype float32
        What :func:`whole_weights` returns.

    Returns
    -------
    distances : ndarray of shape (n_a, n_b), dtype int64
        Sums of the weights of the bits that differ, exact.
    """
    signed, ones = signed_weights(packed_a, whole)
    distances = np.empty((len(packed_a), len(packed_b)), np.int64)
    for start in range(0, len(packed_b), _BLOCK_CODES):
        columns = slice(start, start + _BLOCK_CODES)
        others = unpack_codes(packed_b[columns], whole.shape[1]).astype(np.float32)
        distances[:, columns] = signed @ others.T + ones
    return distances


def signed_weights(packed, whole):
    """Weights by which the bits of another code add up to a weighted Hamming distance.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    whole : ndarray of shape (n_samples, n_bits), dtype float32
        What :func:`whole_weights` returns.

    Returns
    -------
    signed : ndarray of shape (n_samples, n_bits), dtype float32
        The weight of a bit that is 0, and that of a 1 negated.

    ones : ndarray of shape (n_samples, 1), dtype float32
        What the sums are to be added to: the distance of a code of zeros.
    """
    bits = unpack_codes(packed, whole.shape[1]).astype(np.float32)
    # The weight of a bit that is 0 counts if the other's is 1, that of a 1 unless it is.
    return whole * (1 - 2 * bits), (whole * bits).sum(axis=1, keepdims=True)


def whole_weights(weights):
    """Round the weights of each row to whole numbers whose sums float32 holds exactly.

    Parameters
    ----------
    weights : ndarray of shape (n_samples, n_bits), floating
        Weights, at least 0.

    Returns
    -------
    whole : ndarray of shape (n_samples, n_bits), dtype float32
        Whole numbers, the largest of each row a power of two: at least ``2 ** 14`` up to 512 bits.

    unit : ndarray of shape (n_samples, 1), dtype float64
        What they are to be multiplied by.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.codes import whole_weights
    >>> whole, unit = whole_weights(np.array([[0.5, 0.25, 0.0]]))
    >>> whole * unit
    array([[0.5 , 0.25, 0.  ]])
    """
    weights = np.asarray(weights, dtype=np.float64)
    largest = weights.max(axis=1, keepdims=True)
    scale = 2.0 ** (24 - int(weights.shape[1]).bit_length())
    unit = np.where(largest > 0, largest, 1) / scale
    return np.rint(weights / unit).astype(np.float32), unit


def as_bits(array, name, hint):
    """Return an array of 0 and 1 as booleans, or raise.

    Parameters
    ----------
    array : ndarray
        Bits of any dtype.

    name : str
        What the error calls it.

    hint : str
        What would do, the last sentence of the error.

    Returns
    -------
    bits : ndarray of the same shape, dtype bool
        The array itself if it is one of booleans.

    Raises
    ------
    ValueError
        If an entry is neither 0 nor 1.
    """
    if array.dtype == bool:
        return array
    bits = array == 1
    if not (is_bit := bits | (array == 0)).all():
        other = array[~is_bit][:1].tolist()
        raise ValueError(f"{name} must hold only 0 and 1, got {other[0]!r}. {hint}")
    return bits


def check_packed(packed, name):
    """Return packed codes or label sets as a 2D uint8 array, or raise.

    Parameters
    ----------
    packed : array-like of shape (n_samples, n_bytes), dtype uint8
        What :func:`pack_codes` returns.

    name : str
        What the error calls it.

    Returns
    -------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        The same.

    Raises
    ------
    ValueError
        If it is not two-dimensional uint8.
    """
    packed = np.asarray(packed)
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise ValueError(
            f"{name} must be a 2D uint8 array of packed codes, as pack_codes returns, "
            f"got {packed.ndim}D {packed.dtype}."
        )
    return packed


def check_packed_codes(packed, name, n_bits):
    """Return packed codes of a known length as a 2D uint8 array, or raise.

    Parameters
    ----------
    packed : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        What :func:`pack_codes` returns.

    name : str
        What the error calls it.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    packed : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        The same.

    Raises
    ------
    ValueError
        If it is not two-dimensional uint8 of that many bytes, is empty, or bits beyond `n_bits`,
        which would count as distance, are set.
    """
    packed = check_packed(packed, name)
    if packed.shape[1] != -(-n_bits // 8):
        raise ValueError(
            f"{name}: codes of n_bits={n_bits} take {-(-n_bits // 8)} bytes each, got packed "
            f"codes of shape {packed.shape}. skhash.codes.pack_codes packs bits."
        )
    if len(packed) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={packed.shape}) while a minimum of 1 is "
            f"required by {name}."
        )
    check_padding(packed, name, n_bits)
    return packed


def check_padding(packed, name, n_bits):
    """Raise if bits beyond the length of packed codes are set: they would count as distance.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes.

    name : str
        What the error calls them.

    n_bits : int
        Number of bits of a code.

    Raises
    ------
    ValueError
        If such a bit is set.
    """
    # Codes of whole bytes have no padding, and need not be read where they are memory-mapped.
    if n_bits % 8 and (packed[:, -1:] & (0xFF >> n_bits % 8)).any():
        raise ValueError(
            f"{name} must be padded with zeros beyond n_bits={n_bits}, as pack_codes does, "
            "got other bits set there."
        )


def as_words(packed):
    """View packed codes as words of 64 bits.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes or label sets.

    Returns
    -------
    words : ndarray of shape (n_samples, ceil(n_bytes / 8)), dtype uint64
        The same, padded with zeros: padding adds no set bit.
    """
    padding = -packed.shape[1] % 8
    if padding:
        packed = np.pad(packed, ((0, 0), (0, padding)))
    return np.ascontiguousarray(packed).view(np.uint64)


def as_columns(packed):
    """View packed codes as columns of words, as long as the codes allow.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    Returns
    -------
    columns : ndarray of shape (n_words, n_samples), unsigned integer
        Words of 64 bits, or one of 8, 16 or 32 where that holds a code. Each row is contiguous.
    """
    n_bytes = packed.shape[1]
    size = next((size for size in (1, 2, 4) if n_bytes <= size), 8)
    if n_bytes % size:
        packed = np.pad(packed, ((0, 0), (0, -n_bytes % size)))
    words = np.ascontiguousarray(packed).view(f"u{size}")
    return np.ascontiguousarray(words.T)


def distance_type(packed):
    """Return the narrower of two integers that holds distances of packed codes.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    Returns
    -------
    dtype : type
        int16, or int32 for codes of 4096 bytes and more.
    """
    return np.int16 if 8 * packed.shape[1] <= np.iinfo(np.int16).max else np.int32


def _popcount_pairs(packed_a, packed_b):
    """Count the bits in which all pairs of rows differ, a word of 64 bits at a time."""
    words_a, words_b = as_words(packed_a), as_words(packed_b)
    total = np.empty((len(words_a), len(words_b)), distance_type(packed_a))
    n_rows = max(1, _BLOCK_PAIRS // max(1, len(words_b)))
    for start in range(0, len(words_a), n_rows):
        block = slice(start, start + n_rows)
        total[block] = 0
        for word_a, word_b in zip(words_a[block].T, words_b.T, strict=True):
            total[block] += np.bitwise_count(word_a[:, None] ^ word_b[None, :])
    return total
