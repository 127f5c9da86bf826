"""Which samples a step sees: pure functions of the seed and the epoch."""

import numpy as np

__all__ = ["epoch_batches", "held_out_rows"]


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


def held_out_rows(n_samples, fraction, *, seed):
    """Return the rows to learn from, and those held out to score what was learnt.

    Parameters
    ----------
    n_samples : int
        Number of training samples.

    fraction : float
        Fraction of them to hold out, above 0 and below 1; at least one is.

    seed : int
        Seed of the whole training.

    Returns
    -------
    rows : ndarray of dtype int64
        Rows to learn from, ascending, at least two.

    held_out : ndarray of dtype int64
        The other rows, ascending.

    Raises
    ------
    ValueError
        If fewer than two rows are left to learn from.

    Examples
    --------
    >>> from skhash.deep.sampling import held_out_rows
    >>> rows, held_out = held_out_rows(50, 0.1, seed=0)
    >>> len(rows), len(held_out)
    (45, 5)
    """
    n_held_out = max(1, round(fraction * n_samples))
    if n_samples - n_held_out < 2:
        raise ValueError(
            f"validation_fraction={fraction} of {n_samples} training samples leaves "
            f"{n_samples - n_held_out} to learn from; at least 2 are needed."
        )
    # A stream of its own: epochs are numbered from 0.
    order = np.random.default_rng([seed, 2**32]).permutation(n_samples)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
