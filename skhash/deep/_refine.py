"""Codes of a database, each chosen as a whole: what a bit rounds off, others make good."""

import numpy as np
from sklearn.utils import gen_batches

__all__ = ["refined_codes", "second_moment"]

# Codes that are refined at once.
_BLOCK_CODES = 4096
# Weight of the error along the item's own direction, in mean eigenvalues of the second moment.
_OWN_WEIGHT = 5.0
# Passes over the bits, of which a few are enough for nothing to change.
_MAX_PASSES = 10


def second_moment(relaxed):
    """Return the mean outer product of relaxed codes.

    Parameters
    ----------
    relaxed : ndarray of shape (n_samples, n_bits), floating
        Relaxed codes, between -1 and 1.

    Returns
    -------
    moment : ndarray of shape (n_bits, n_bits), dtype float64
    """
    total = np.zeros((relaxed.shape[1],) * 2)
    for rows in gen_batches(len(relaxed), _BLOCK_CODES):
        part = relaxed[rows].astype(np.float64)
        total += part.T @ part
    return total / len(relaxed)


def refined_codes(relaxed, moment, lengths):
    r"""Choose binary codes whose inner products with queries are those of relaxed codes.

    The code :math:`b` of an item of relaxed code :math:`h` minimises

    .. math::

        (b - h)^\top (C + \lambda u u^\top) (b - h), \qquad u = h / \|h\|,

    where :math:`C` is the second moment of the relaxed codes :math:`q` of queries, so that
    :math:`e^\top C e` is the mean square of :math:`q \cdot e`, and :math:`\lambda` weighs the
    error along the item's own direction, in which its nearest queries lie [1]_. The minimum is
    looked for by descent from the signs of :math:`h`, bit by bit, until no single bit lowers it.

    Parameters
    ----------
    relaxed : ndarray of shape (n_samples, n_bits), floating
        Relaxed codes of the items, between -1 and 1.

    moment : ndarray of shape (n_bits, n_bits), dtype float64
        The second moment :math:`C`.

    lengths : sequence of int
        Lengths at which the first bits are to be a code of their own, ascending, the last one
        `n_bits`. Bits are chosen for the shortest length first, and then kept.

    Returns
    -------
    codes : ndarray of shape (n_samples, n_bits), dtype bool
        The bits.

    References
    ----------
    .. [1] R. Guo, P. Sun, E. Lindgren, Q. Geng, D. Simcha, F. Chern, S. Kumar, "Accelerating
       large-scale inference with anisotropic vector quantization", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.deep._refine import refined_codes
    >>> moment = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> relaxed = np.array([[0.4, 0.1], [0.9, 0.8]])  # two bits that say nearly the same
    >>> refined_codes(relaxed, moment, (2,)).astype(int)
    array([[1, 0],
           [1, 1]])
    """
    codes = np.empty(relaxed.shape, dtype=bool)
    for rows in gen_batches(len(relaxed), _BLOCK_CODES):
        block = relaxed[rows].astype(np.float64)
        signs = np.where(block >= 0, 1.0, -1.0)
        for start, stop in zip((0, *lengths[:-1]), lengths, strict=True):
            _descend(signs[:, :stop], block[:, :stop], moment[:stop, :stop], start)
        codes[rows] = signs > 0
    return codes


def _descend(codes, relaxed, moment, start):
    """Flip the bits from `start` on, in place, as long as a flip lowers the error of a code."""
    weight = _OWN_WEIGHT * np.trace(moment) / len(moment)
    norms = np.linalg.norm(relaxed, axis=1, keepdims=True)
    own = relaxed / np.where(norms > 0, norms, 1)
    error = codes - relaxed
    gradient, along = error @ moment, (error * own).sum(axis=1)
    for _ in range(_MAX_PASSES):
        changed = False
        for bit in range(start, codes.shape[1]):
            step, direction = -2 * codes[:, bit], own[:, bit]
            slope = gradient[:, bit] + weight * along * direction
            curvature = moment[bit, bit] + weight * direction**2
            # A flip has to pay by more than rounding, or it would be taken back for ever.
            flips = np.flatnonzero(2 * step * slope + step**2 * curvature < -1e-9)
            changed |= len(flips) > 0
            codes[flips, bit] *= -1
            gradient[flips] += step[flips, None] * moment[bit]
            along[flips] += step[flips] * direction[flips]
        if not changed:
            break
