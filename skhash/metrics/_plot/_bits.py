"""How bits vary together, and how many samples share a code: counts of packed codes."""

import numpy as np
from sklearn.utils import gen_batches

from skhash.codes import as_words, unpack_codes

__all__ = ["correlation", "count_ones", "covariance", "effective_bits", "sharing"]

# Codes that are unpacked at once.
_BLOCK_CODES = 2**14
# Fewer samples do not tell the covariance of bits from its sampling error.
_FEWEST_SAMPLES = 4


def count_ones(packed, n_bits):
    """Count the samples in which each two bits are both 1.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    ones : ndarray of shape (n_bits, n_bits), dtype int64
        The counts; on the diagonal those of each bit.
    """
    ones = np.zeros((n_bits, n_bits), np.int64)
    for block in gen_batches(len(packed), _BLOCK_CODES):
        bits = unpack_codes(packed[block], n_bits).astype(np.float32)
        # A block has so few samples that single precision counts them exactly.
        ones += (bits.T @ bits).astype(np.int64)
    return ones


def covariance(ones, n_samples):
    """Return the covariance of bits: means over the samples, exactly 0 for a constant bit.

    Parameters
    ----------
    ones : ndarray of shape (n_bits, n_bits), dtype int64
        Counts, of :func:`count_ones`.

    n_samples : int
        Number of samples.

    Returns
    -------
    covariance : ndarray of shape (n_bits, n_bits)
        The covariance.
    """
    single = np.diag(ones)
    return (n_samples * ones - np.outer(single, single)) / n_samples**2


def correlation(covariance):
    """Return correlations, 0 where a variance is 0.

    Parameters
    ----------
    covariance : ndarray of shape (n_bits, n_bits)
        Covariance.

    Returns
    -------
    correlation : ndarray of shape (n_bits, n_bits)
        The correlations.
    """
    deviations = np.sqrt(np.diag(covariance))
    products = np.outer(deviations, deviations)
    return np.divide(covariance, products, out=np.zeros_like(covariance), where=products > 0)


def effective_bits(ones, n_samples):
    r"""Estimate the effective number of bits of the population that samples are drawn from.

    It is :math:`(\mathrm{tr} \Sigma)^2 / \mathrm{tr} \Sigma^2`. In a sample, bits that are
    independent have correlations by chance, so the ratio of the sample is too small. Numerator and
    denominator are replaced by their unbiased estimates [1]_, which hold for any distribution.
    Their ratio is held between 1 and the number of bits that vary.

    Parameters
    ----------
    ones : ndarray of shape (n_bits, n_bits), dtype int64
        Counts, of :func:`count_ones`.

    n_samples : int
        Number of samples. Of fewer than 4, the ratio of the sample is returned.

    Returns
    -------
    n_effective : float
        The estimate; 0 if all bits are constant.

    References
    ----------
    .. [1] T. Himeno and T. Yamada, "Estimations for some functions of covariance matrix in high
           dimension under non-normality and its applications", Journal of Multivariate Analysis
           130, 2014.
    """
    n, S = n_samples, covariance(ones, n_samples)
    n_varying = np.count_nonzero(np.diag(S))
    if not n_varying:
        return 0.0
    total, squares = np.trace(S), (S**2).sum()
    if n < _FEWEST_SAMPLES:
        return float(total**2 / squares)
    # Up to a factor that both share. S is the covariance with denominator n.
    fourth = (n - 1) * _fourth_moment(ones, n, S)
    numerator = (n**2 - 3 * n + 1) * total**2 + 2 * squares - fourth
    denominator = (n - 1) * (n - 2) * squares + total**2 - fourth
    # Chance may make the estimate of a small sum of squares negative.
    ratio = numerator / denominator if denominator > 0 else n_varying
    return float(np.clip(ratio, 1, n_varying))


def _fourth_moment(ones, n, S):
    """Return the mean of the fourth power of the distances of samples from their mean.

    As bits are 0 or 1, the square of the distance is linear in the bits: its variance is a
    quadratic form of their covariance, and its mean is the trace.
    """
    weights = 1 - 2 * np.diag(ones) / n
    return weights @ S @ weights + np.trace(S) ** 2


def sharing(packed):
    """Count the samples of each code that occurs.

    Parameters
    ----------
    packed : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    Returns
    -------
    n_sharing : ndarray of shape (n_codes,), dtype int64
        The counts, descending.
    """
    words = as_words(packed)
    words = words[np.lexsort(words.T)]
    is_first = np.append(True, (words[1:] != words[:-1]).any(axis=1))
    n_sharing = np.diff(np.append(np.flatnonzero(is_first), len(words)))
    return np.sort(n_sharing)[::-1]
