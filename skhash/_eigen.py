"""Covariances, and leading eigenvectors with signs that do not depend on the solver."""

import numpy as np
from scipy.linalg import eigh

from skhash._blocks import row_blocks

# Of larger matrices only the eigenvectors that are asked for are computed. Of others all are,
# which takes little, so that no bit of a result changes with how many are asked for.
MOST_FOR_ALL = 500


def mean_and_covariance(X):
    """Return the mean of rows and their covariance, in double precision.

    Rows are centred before they are squared, so that no digits are lost far from the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), floating
        Rows, two or more.

    Returns
    -------
    mean : ndarray of shape (n_features,), dtype float64
        The mean.

    covariance : ndarray of shape (n_features, n_features), dtype float64
        The covariance, with ``n_samples - 1`` as divisor.
    """
    mean = X.mean(axis=0, dtype=np.float64)
    centred = (X[rows] - mean for rows in row_blocks(len(X)))
    return mean, sum(Z.T @ Z for Z in centred) / (len(X) - 1)


def leading_eigenvectors(matrix, n):
    """Return the `n` greatest eigenvalues and their eigenvectors.

    Parameters
    ----------
    matrix : ndarray of shape (size, size)
        A symmetric matrix.

    n : int
        How many; above `size`, all.

    Returns
    -------
    values : ndarray of shape (min(n, size),)
        Eigenvalues, descending.

    vectors : ndarray of shape (min(n, size), size)
        Eigenvectors of length 1, a row each, the greatest coefficient of each positive.
    """
    size = len(matrix)
    n = min(n, size)
    some = [size - n, size - 1] if size > MOST_FOR_ALL else None
    values, vectors = eigh(matrix, subset_by_index=some)
    return values[::-1][:n], signed(vectors[:, ::-1].T[:n])


def signed(vectors):
    """Return the rows, signed such that their greatest coefficient is positive."""
    greatest = np.abs(vectors).argmax(axis=1)[:, None]
    return vectors * np.sign(np.take_along_axis(vectors, greatest, axis=1))
