"""Several heads as one: their relaxed codes rotated onto those of the first, and averaged."""

import numpy as np
from scipy.linalg import orthogonal_procrustes

__all__ = ["head_rotations", "relaxed_codes"]


def relaxed_codes(projection, rotations=None):
    """Return relaxed codes: those of one head, or the mean of the rotated ones of several.

    Parameters
    ----------
    projection : ndarray of shape (n_samples, n_heads * n_bits), floating
        What the network returns.

    rotations : ndarray of shape (n_heads * n_bits, n_bits), default=None
        What :func:`head_rotations` returns; None for one head.

    Returns
    -------
    codes : ndarray of shape (n_samples, n_bits), floating
    """
    relaxed = np.tanh(projection / 2)
    return relaxed if rotations is None else relaxed @ rotations.astype(relaxed.dtype)


def head_rotations(relaxed, n_bits):
    r"""Return what rotates the relaxed codes of each head onto those of the first, and averages.

    Each head has learnt bits of its own, but rankings depend on inner products alone, which a
    rotation leaves as they are. That of a head is the orthogonal matrix which minimises
    :math:`\|H R - H_1\|` (orthogonal Procrustes problem [1]_) over the samples.

    Parameters
    ----------
    relaxed : ndarray of shape (n_samples, n_heads * n_bits), floating
        Relaxed codes of all heads, one after the other.

    n_bits : int
        Length of the codes.

    Returns
    -------
    rotations : ndarray of shape (n_heads * n_bits, n_bits), dtype float64
        The rotations one below the other, divided by their number.

    References
    ----------
    .. [1] P. H. Schönemann, "A generalized solution of the orthogonal Procrustes problem",
       Psychometrika 31, 1966.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash.deep._heads import head_rotations
    >>> first = np.array([[1.0, 0.2], [0.1, -1.0], [0.5, 0.5]])
    >>> second = first[:, ::-1] * [1, -1]  # the same codes, other bits
    >>> both = np.hstack([first, second])
    >>> np.allclose(both @ head_rotations(both, n_bits=2), first)
    True
    """
    first, *others = np.split(relaxed.astype(np.float64), relaxed.shape[1] // n_bits, axis=1)
    rotations = [np.eye(n_bits), *(orthogonal_procrustes(head, first)[0] for head in others)]
    return np.concatenate(rotations) / len(rotations)
