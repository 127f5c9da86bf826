"""The range of numbers that hashers compute with, beyond which squares are no floats."""

import numpy as np

__all__ = ["in_range"]

# Exponents of two. Squares of numbers up to there, sums of many of them, and reciprocals of
# these are floats of the same precision.
_REACH = {np.dtype(np.float32): 50, np.dtype(np.float64): 300}


def in_range(X, *, learns):
    """Return rows in a precision whose range holds what is computed from them, or raise.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), dtype float32 or float64
        Finite rows.

    learns : bool
        Whether a hasher learns from the rows, so that their differences are squared too.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The same array; or in float64, if it is float32 and beyond the range of that.

    Raises
    ------
    ValueError
        If a number is beyond the range of float64, or all differences are below it.

    Examples
    --------
    >>> import numpy as np
    >>> from skhash._range import in_range
    >>> in_range(np.array([[1e30], [2e30]], dtype=np.float32), learns=True).dtype
    dtype('float64')
    """
    lower, upper = (end(axis=0).astype(np.float64) for end in (X.min, X.max))
    largest, spread = max(-lower.min(), upper.max()), 0.0
    most = 2.0 ** _REACH[X.dtype]
    if learns and largest <= most:
        spread = (upper - lower).max()
    is_in_range = largest <= most and (spread == 0 or spread >= 1 / most)
    if not is_in_range and X.dtype == np.float64:
        _raise_out_of_range(largest, spread, most)
    return X if is_in_range else X.astype(np.float64)


def _raise_out_of_range(largest, spread, most):
    """Raise, with the power of two that brings X near 1."""
    if largest > most:
        got = largest
        what = f"be between {-most:.0e} and {most:.0e}, got an absolute value of {got:.3g}"
    else:
        got = spread
        what = f"vary by {1 / most:.0e} or more over the training samples, got at most {got:.3g}"
    raise ValueError(
        f"X should {what}: squares are beyond the range of floats. Pass numpy.ldexp(X, "
        f"{-int(np.frexp(got)[1])}) to fit and transform, or leave out rows that are faulty."
    )
