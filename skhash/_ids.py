"""Ids of the items of a database: integers or strings, each once."""

import numpy as np

__all__ = ["checked_ids", "joined_ids"]


def checked_ids(ids, n_items):
    """Return ids as an array of integers or strings, or raise.

    Parameters
    ----------
    ids : array-like of shape (n_items,) or None
        Ids; None stays None.

    n_items : int
        How many there should be.

    Returns
    -------
    ids : ndarray of shape (n_items,) or None
        A copy, of an integer or a string dtype.

    Raises
    ------
    ValueError
        If they are of another kind or number, or one is there twice.
    """
    if ids is None:
        return None
    array = np.array(ids)
    if array.dtype == object and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.shape != (n_items,) or array.dtype.kind not in "iuU":
        raise ValueError(
            f"ids should be integers or strings of shape ({n_items},), one an item, got dtype "
            f"{array.dtype} and shape {array.shape}."
        )
    values, counts = np.unique(array, return_counts=True)
    if len(values) < n_items:
        raise ValueError(
            f"ids should be each of one item alone, got {values[counts.argmax()].item()!r} "
            f"{counts.max()} times."
        )
    return array


def joined_ids(known, ids):
    """Return ids of a database followed by further ones, or raise.

    Parameters
    ----------
    known, ids : ndarray of shape (n_items,)
        What :func:`checked_ids` returns.

    Returns
    -------
    ids : ndarray of shape (n_known + n_ids,)
        Both, in this order.

    Raises
    ------
    ValueError
        If one is of strings and the other of integers, or an id is in both.
    """
    of_strings = known.dtype.kind == "U"
    if of_strings != (ids.dtype.kind == "U"):
        raise ValueError(
            f"ids should be {'strings' if of_strings else 'integers'}, as those of the database, "
            f"got dtype {ids.dtype}."
        )
    return checked_ids([*known.tolist(), *ids.tolist()], len(known) + len(ids))
