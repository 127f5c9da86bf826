"""Which samples a step sees: pure functions of the seed and the epoch."""

import numpy as np

__all__ = ["epoch_batches", "held_out_rows", "split_held_out"]


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
    """Return the rows to learn from, and those held out: queries, and a database for them.

    Parameters
    ----------
    n_samples : int
        Number of training samples.

    fraction : float
        Fraction of them to hold out, above 0 and below 1; at least two are.

    seed : int
        Seed of the whole training.

    Returns
    -------
    rows : ndarray of dtype int64
        Rows to learn from, ascending, at least two.

    queries : ndarray of dtype int64
        A fifth of the other rows, ascending, at least one.

    database : ndarray of dtype int64
        The rest, ascending, at least one.

    Raises
    ------
    ValueError
        If fewer than two rows are left to learn from.

    Examples
    --------
    >>> from skhash.deep.sampling import held_out_rows
    >>> [len(part) for part in held_out_rows(100, 0.1, seed=0)]
    [90, 2, 8]
    """
    n_held_out = max(2, round(fraction * n_samples))
    if n_samples - n_held_out < 2:
        raise ValueError(
            f"validation_fraction={fraction} of {n_samples} training samples leaves "
            f"{max(0, n_samples - n_held_out)} to learn from; at least 2 are needed, beside a "
            "query and a database of one."
        )
    queries, database, rows = _split(n_samples, n_held_out, seed)
    return rows, queries, database


def split_held_out(n_samples, *, seed):
    """Return the rows of held-out samples that are queries, and those that are their database.

    Parameters
    ----------
    n_samples : int
        Number of held-out samples, at least two.

    seed : int
        Seed of the whole training.

    Returns
    -------
    queries : ndarray of dtype int64
        A fifth of the rows, ascending, at least one.

    database : ndarray of dtype int64
        The rest, ascending, at least one.

    Examples
    --------
    >>> from skhash.deep.sampling import split_held_out
    >>> [len(part) for part in split_held_out(10, seed=0)]
    [2, 8]
    """
    return _split(n_samples, n_samples, seed)[:2]


def _split(n_samples, n_held_out, seed):
    """Return rows of held-out queries, of their database, and the rest, each ascending."""
    # A stream of its own: epochs are numbered from 0.
    order = np.random.default_rng([seed, 2**32]).permutation(n_samples)
    parts = np.split(order, [max(1, n_held_out // 5), n_held_out])
    return [np.sort(part) for part in parts]
