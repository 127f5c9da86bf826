"""What goes through an encoding: pieces of a source, chunks that are read, codes of these."""

import copy
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from skhash._items import stored_ids
from skhash.codes import pack_codes

__all__ = ["Chunk", "Coded", "Coder", "Piece", "as_ids", "cut_rows", "grouped"]


class Piece(NamedTuple):
    """Consecutive rows of a source, within one shard: small, unless the rows are there already.

    Attributes
    ----------
    start, stop : int
        The rows, numbered in the whole source.

    ids : ndarray of shape (stop - start,), or None
        Their ids, int64 or strings. None: those of a column that is yet to be read, or the row
        numbers.

    content : object
        What the reader of the source makes chunks of.
    """

    start: int
    stop: int
    ids: np.ndarray | None
    content: Any


class Chunk(NamedTuple):
    """Rows that are encoded at once.

    Attributes
    ----------
    start : int
        The first row, numbered in the whole source.

    ids : ndarray of shape (n_rows,)
        Ids, int64 or strings.

    X : array-like of n_rows
        What a hasher encodes.

    faults : dict of int to str
        Why rows are left out, by their positions in the chunk.
    """

    start: int
    ids: np.ndarray
    X: Any
    faults: dict


class Coded(NamedTuple):
    """A chunk that is encoded.

    Attributes
    ----------
    start, n_rows : int
        The rows of the chunk.

    codes : ndarray of shape (n_codes, n_bytes), dtype uint8
        Packed codes of the rows that were not left out.

    ids : ndarray of shape (n_codes,)
        Their ids.

    skipped : list of (id, reason)
        The rows that were.
    """

    start: int
    n_rows: int
    codes: np.ndarray
    ids: np.ndarray
    skipped: list


class Coder:
    """Makes codes of chunks.

    Parameters
    ----------
    hasher : BaseHasher
        A fitted hasher.

    method : {"encode_database", "transform"}
        Its method that encodes.
    """

    def __init__(self, hasher, method):
        self.hasher, self.method = hasher, method
        self.n_bits = hasher._n_features_out

    def __call__(self, chunk):
        """Return the chunk as a :class:`Coded`."""
        X, ids = chunk.X, chunk.ids
        skipped = [(ids[row].item(), chunk.faults[row]) for row in sorted(chunk.faults)]
        if skipped:
            kept = np.delete(np.arange(len(ids)), list(chunk.faults))
            X, ids = X[kept], ids[kept]
        if len(ids):
            codes = pack_codes(getattr(self.hasher, self.method)(X))
        else:
            codes = np.empty((0, -(-self.n_bits // 8)), np.uint8)
        return Coded(chunk.start, len(chunk.ids), codes, ids, skipped)

    def without_database(self):
        """Return one that is as large as what encoding needs."""
        other = copy.copy(self)
        other.hasher = copy.copy(self.hasher)
        other.hasher.database_codes_ = self.hasher.database_codes_[:0]
        other.hasher.database_labels_ = other.hasher.database_ids_ = None
        return other


def as_ids(values, n_rows):
    """Return ids as int64 or strings, or raise ValueError.

    Parameters
    ----------
    values : array-like of shape (n_rows,)
        Integers or strings, which may be bytes in UTF-8, each once.

    n_rows : int
        How many there should be.

    Returns
    -------
    ids : ndarray of shape (n_rows,)
        The ids.
    """
    values = np.asarray(values)
    if values.dtype.kind in "SO" and all(isinstance(value, bytes) for value in values.flat):
        values = np.array([value.decode() for value in values.flat]).reshape(values.shape)
    return stored_ids(values, n_rows)


def cut_rows(start, stop, shard_size, batch_size):
    """Yield consecutive rows as pairs (start, stop), each within one shard.

    Parameters
    ----------
    start, stop : int
        First row, and the one after the last.

    shard_size, batch_size : int
        Rows of a shard, and the most of a pair.

    Yields
    ------
    start, stop : int
        The next rows.
    """
    while start < stop:
        end = min(start + batch_size, stop, (start // shard_size + 1) * shard_size)
        yield start, end
        start = end


def grouped(items, shard_size, batch_size):
    """Yield items of an iterator in lists, each within one shard.

    Parameters
    ----------
    items : iterable
        One item for each row.

    shard_size, batch_size : int
        Rows of a shard, and the most of a list.

    Yields
    ------
    start : int
        The row of the first item.

    items : list
        The next items.
    """
    items, start = iter(items), 0
    while block := list(islice(items, min(batch_size, shard_size - start % shard_size))):
        yield start, block
        start += len(block)
