"""Codes of items, each chosen as a whole, and the map of queries onto them."""

import numpy as np
from sklearn.utils import gen_batches

__all__ = ["code_moments", "query_map", "refined_codes"]

# Codes that are refined at once.
_BLOCK_CODES = 4096
# Weight of the error along the item's own direction, in mean eigenvalues of the second moment.
_OWN_WEIGHT = 5.0
# Mean square that relaxed codes are scaled to before binary ones are chosen, if theirs is beyond.
_LEAST_SQUARE, _MOST_SQUARE = 0.5, 0.7
# Ridge of the map of queries, in mean squares of a bit.
_RIDGE = 0.75
# Passes over the bits, of which a few are enough for nothing to change.
_MAX_PASSES = 10


def code_moments(relaxed, lengths):
    """Return second moments of relaxed codes and of the binary codes that items are given.

    Parameters
    ----------
    relaxed : ndarray of shape (n_samples, n_bits), floating
        Relaxed codes of samples, which stand for queries and items to come.

    lengths : sequence of int
        As :func:`refined_codes` takes them.

    Returns
    -------
    moments : ndarray of shape (3, n_bits, n_bits), dtype float64
        Means of the outer products ``h h^T``, ``b b^T`` and ``b h^T`` of relaxed codes `h` and
        binary ones `b` of -1 and 1.
    """
    relaxed = relaxed.astype(np.float64)
    relaxed_moment = relaxed.T @ relaxed / len(relaxed)
    signs = 2.0 * refined_codes(relaxed, relaxed_moment, lengths) - 1
    products = signs.T @ signs / len(relaxed), signs.T @ relaxed / len(relaxed)
    return np.stack([relaxed_moment, *products])


def query_map(moments):
    r"""Return the linear map of relaxed codes of queries whose signs are their codes.

    The map :math:`W` makes the inner product :math:`W q \cdot b` of a query and the binary code
    of an item what that of the relaxed codes, :math:`q \cdot h`, is: it is the ridge regression

    .. math::

        W = (E[b b^\top] + \rho I)^{-1} E[b h^\top].

    Parameters
    ----------
    moments : ndarray of shape (3, n_bits, n_bits)
        What :func:`code_moments` returns.

    Returns
    -------
    weights : ndarray of shape (n_bits, n_bits), dtype float64
        The map.
    """
    _, binary, cross = moments
    return np.linalg.solve(binary + _RIDGE * np.eye(len(binary)), cross)


def refined_codes(relaxed, moment, lengths):
    r"""Choose binary codes whose inner products with queries are those of relaxed codes.

    The code :math:`b` of an item of relaxed code :math:`h` minimises

    .. math::

        (b - h)^\top (C + \lambda u u^\top) (b - h), \qquad u = h / \|h\|,

    where :math:`C` is the second moment of the relaxed codes :math:`q` of queries, so that
    :math:`e^\top C e` is the mean square of :math:`q \cdot e`, and :math:`\lambda` weighs the
    error along the item's own direction, in which its nearest queries lie [1]_. The minimum is
    looked for by descent from the signs of :math:`h`, bit by bit, until no single bit lowers it.

    Rankings do not depend on the scale of :math:`h`, the minimum does: relaxed codes much shorter
    than binary ones would be matched by bits that cancel out, and those as long by their signs.
    So they are scaled to a mean square between 0.5 and 0.7 of a bit.

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
    >>> from skhash.deep._encoding import refined_codes
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
            within = moment[:stop, :stop]
            _descend(signs[:, :stop], _scale(within) * block[:, :stop], within, start)
        codes[rows] = signs > 0
    return codes


def _scale(moment):
    """Return the factor that brings relaxed codes of a second moment to a mean square in range."""
    square = np.trace(moment) / len(moment)
    return np.sqrt(np.clip(square, _LEAST_SQUARE, _MOST_SQUARE) / square) if square > 0 else 1.0


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
