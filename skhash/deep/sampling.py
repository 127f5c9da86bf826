"""Which samples a step sees: a pure function of (seed, epoch)."""

import numpy as np

__all__ = ["epoch_batches"]


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
