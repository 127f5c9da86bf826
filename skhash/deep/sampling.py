"""Which samples a step sees, and which lists it ranks: pure functions of (seed, epoch)."""

import numpy as np

__all__ = ["epoch_batches", "in_batch_lists"]


def epoch_batches(n_samples, batch_size, *, seed, epoch):
    """Return the batches of one epoch: a random partition of all samples.

    Parameters
    ----------
    n_samples : int
        Number of training samples.

    batch_size : int
        Most samples in a batch, at least 2. Batches are of equal size, give or take one, so that
        none is so small that its lists say nothing. (Of 3 samples in batches of 2, the one left
        over would have no list: they make one batch.)

    seed : int
        Seed of the whole training.

    epoch : int
        Number of the epoch; with `seed` it decides the partition.

    Returns
    -------
    batches : list of ndarray of dtype int64
        Row numbers, each of ``range(n_samples)`` in exactly one batch.

    Examples
    --------
    >>> from skhash.deep.sampling import epoch_batches
    >>> [len(batch) for batch in epoch_batches(10, 4, seed=0, epoch=0)]
    [4, 3, 3]
    """
    order = np.random.default_rng([seed, epoch]).permutation(n_samples)
    n_batches = min(-(-n_samples // batch_size), max(1, n_samples // 2))
    return np.array_split(order, n_batches)


def in_batch_lists(matrix):
    """Drop the diagonal of a square matrix: each sample's list is all the others.

    Parameters
    ----------
    matrix : tensor of shape (n, n)
        Something between each sample of a batch and each other, such as their distance.

    Returns
    -------
    lists : tensor of shape (n, n - 1)
        Row `i` without its entry `i`.

    Examples
    --------
    >>> import torch
    >>> from skhash.deep.sampling import in_batch_lists
    >>> in_batch_lists(torch.arange(9).reshape(3, 3))
    tensor([[1, 2],
            [3, 5],
            [6, 7]])
    """
    n = len(matrix)
    # Without its first entry the flattened matrix ends each run of n + 1 on a diagonal entry.
    return matrix.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
