"""Rows in blocks: what is held of a large array at once, and converted at once."""

import numpy as np
from sklearn.utils import gen_batches

__all__ = ["ConvertedRows", "is_better_converted", "map_blocks", "row_blocks"]

# Rows that are copied, or computed from, at once.
_BLOCK_ROWS = 2**12

# Most bytes of a copy in double precision that is made of a whole array.
_MOST_COPIED = 2**26


def row_blocks(n_rows):
    """Slices that cut so many rows into blocks."""
    return gen_batches(n_rows, _BLOCK_ROWS)


def map_blocks(function, X):
    """Stack what a function gives for the blocks of some rows.

    Parameters
    ----------
    function : callable
        From rows to an array with as many rows.

    X : ndarray, ConvertedRows or another source of samples
        What is neither of the first two is given to the function as it is.

    Returns
    -------
    values : ndarray of shape (n_rows, ...)
        ``function(X)``, of which a block at a time is computed.
    """
    if len(X) <= _BLOCK_ROWS or not isinstance(X, (np.ndarray, ConvertedRows)):
        return function(X[:] if isinstance(X, ConvertedRows) else X)
    values = None
    for rows in row_blocks(len(X)):
        block = function(X[rows])
        if values is None:
            values = np.empty((len(X), *block.shape[1:]), block.dtype)
        values[rows] = block
    return values


def is_better_converted(X):
    """Whether an array would become a large copy in double precision if it were converted whole.

    Parameters
    ----------
    X : object
        What a user gives as samples.

    Returns
    -------
    answer : bool
        True for large arrays of two dimensions, in memory or mapped, of integers, booleans,
        float16 or foreign byte order.
    """
    if not isinstance(X, np.ndarray) or X.ndim != 2 or 8 * X.size <= _MOST_COPIED:
        return False
    kept = X.dtype in (np.float32, np.float64)
    return X.dtype.kind in "biuf" and X.dtype.itemsize <= 8 and not kept


class ConvertedRows:
    """The rows of an array in double precision, of which only those asked for are converted.

    It has what hashers use of an array of rows: `shape`, `dtype`, a length, rows by slice or by
    numbers, and `min`, `max` and `mean` along the first axis.
    """

    dtype, ndim = np.dtype(np.float64), 2

    def __init__(self, X):
        self._X, self.shape = X, X.shape

    def __len__(self):
        return len(self._X)

    def __getitem__(self, rows):
        return self._X[rows].astype(self.dtype)

    def min(self, axis):
        """Return the least value of each column."""
        return self._X.min(axis=axis).astype(self.dtype)

    def max(self, axis):
        """Return the greatest value of each column."""
        return self._X.max(axis=axis).astype(self.dtype)

    def mean(self, axis, dtype):
        """Return the mean of each column, summed in `dtype`."""
        return self._X.mean(axis=axis, dtype=dtype)
