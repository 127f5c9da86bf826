"""What all stores share: what they are given, what they return, how tables are named."""

import re
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches

from skhash._ids import checked_ids
from skhash._sklearn import Interval
from skhash.codes import check_packed_codes

__all__ = [
    "BATCH_ROWS",
    "POSITIVE",
    "StoredCodes",
    "as_neighbors",
    "batches",
    "check_stored",
    "has_text",
    "quoted_table",
]

# The constraint of parameters that are whole numbers from 1 on.
POSITIVE = Interval(Integral, 1, None, closed="left")

# Codes that are sent to a database at once: a few MiB.
BATCH_ROWS = 2**17

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")


class StoredCodes(NamedTuple):
    """What a store holds, as the functions that read one return it.

    Attributes
    ----------
    codes : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`.

    ids : ndarray of shape (n_samples,)
        Their ids, int64 or strings; row numbers if they were written without ids.

    n_bits : int
        Number of bits of a code.
    """

    codes: np.ndarray
    ids: np.ndarray
    n_bits: int


def check_stored(codes, n_bits, ids):
    """Return codes that can be stored and their ids, or raise.

    Parameters
    ----------
    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,) or None
        Integers or strings, each once. None: row numbers.

    Returns
    -------
    codes : ndarray of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        The same, not copied.

    ids : ndarray of shape (n_samples,) or None
        Ids, int64 or strings; None stays None.

    Raises
    ------
    ValueError
        If the codes are malformed, or ids are malformed or do not fit into 64 bits.
    """
    codes = check_packed_codes(codes, "codes", n_bits)
    ids = checked_ids(ids, len(codes))
    if ids is None or has_text(ids):
        return codes, ids
    if ids.dtype == np.uint64 and ids.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"ids should be at most 2**63 - 1, the largest integer of a store, got {ids.max()}. "
            "Strings would do."
        )
    return codes, ids.astype(np.int64, copy=False)


def has_text(ids):
    """Return whether ids are strings.

    Parameters
    ----------
    ids : ndarray of shape (n_samples,) or None
        Ids; None: row numbers.

    Returns
    -------
    has_text : bool
        Whether they are.
    """
    return ids is not None and ids.dtype.kind == "U"


def batches(codes, ids, n_rows=BATCH_ROWS):
    """Yield contiguous parts of codes and ids, so that memory-mapped codes are read in parts.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    ids : ndarray of shape (n_samples,) or None
        Their ids. None: row numbers, which are made part by part.

    n_rows : int, default=2**17
        Rows of a part; the last may have fewer.

    Yields
    ------
    codes : ndarray of shape (n_rows, n_bytes), dtype uint8
        Codes of the next rows.

    ids : ndarray of shape (n_rows,)
        Their ids.
    """
    for rows in gen_batches(len(codes), n_rows):
        some_ids = np.arange(rows.start, rows.stop) if ids is None else ids[rows]
        yield np.ascontiguousarray(codes[rows]), some_ids


def quoted_table(table):
    """Return the name of a table as SQL takes it, or raise.

    Parameters
    ----------
    table : str
        A name, or the names of a schema (or database) and a table with a point in between.

    Returns
    -------
    name : str
        The same, each name in quotes.

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> from skhash.export._stored import quoted_table
    >>> quoted_table("public.codes")
    '"public"."codes"'
    """
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise ValueError(
            "table should be a name of letters, digits and underscores that does not start with "
            f"a digit, or two such names joined by a point, got {table!r}."
        )
    return ".".join(f'"{name}"' for name in table.split("."))


def as_neighbors(found, n_neighbors, hint):
    """Return what a store found as arrays, or raise if it found too few.

    Parameters
    ----------
    found : list of list of (id, distance)
        Of each query, the nearest items.

    n_neighbors : int
        How many were asked for.

    hint : str
        Why there may be fewer, the last sentence of the error.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), dtype int32
        Hamming distances, ascending.

    ids : ndarray of shape (n_queries, n_neighbors)
        Ids of the items, int64 or strings; of items at equal distance, the lower id comes first.

    Raises
    ------
    ValueError
        If a query has fewer than `n_neighbors` items.
    """
    if (fewest := min(map(len, found))) < n_neighbors:
        raise ValueError(
            f"Expected n_neighbors={n_neighbors} items for each query, found {fewest}. {hint}"
        )
    # Indexes order by distance alone.
    found = [sorted(items, key=lambda item: item[::-1]) for items in found]
    ids = np.array([[name for name, _ in items] for items in found])
    return np.array([[distance for _, distance in items] for items in found], np.int32), ids
