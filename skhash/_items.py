"""The items of a search, codes and ids, as a value that adding and removing leave as it was."""

from types import SimpleNamespace

import numpy as np

from skhash._ids import checked_ids, joined_ids

__all__ = ["Items"]


class Items:
    """Packed codes, with ids or without. What changes them returns new ones.

    Adding takes time in proportion to what is added, on average over many calls: rows are written
    behind those that there are, into room that grows by a quarter when it is full. Who holds the
    items as they were before goes on to see these.

    Parameters
    ----------
    codes : ndarray of shape (n_items, n_bytes), dtype uint8
        Packed codes, which are not copied.

    ids : ndarray of shape (n_items,), default=None
        What :func:`stored_ids` returns.
    """

    def __init__(self, codes, ids=None):
        self._codes, self._ids = _Rows(codes), None if ids is None else _Rows(ids)
        self._runs = None

    def __len__(self):
        return len(self._codes.rows)

    @property
    def codes(self):
        """Packed codes, a row each."""
        return self._codes.rows

    @property
    def ids(self):
        """Ids, or None."""
        return None if self._ids is None else self._ids.rows

    def names(self, rows):
        """Return the ids of rows, or the rows where there are none."""
        return rows if self._ids is None else self._ids.rows[rows]

    def __getstate__(self):
        # Without the room.
        return {"codes": self.codes, "ids": self.ids}

    def __setstate__(self, state):
        self.__init__(**state)

    def plus(self, codes, ids=None):
        """Return the items followed by further ones, or raise ValueError for ids of others."""
        more = object.__new__(Items)
        more._codes, more._ids, more._runs = self._codes, self._ids, self._runs
        if ids is not None:
            # Of no known id: they are to be of the same kind.
            joined_ids(self.ids[:0], ids)
            runs = self._runs or (np.sort(self.ids),)
            _check_new(runs, ids)
            more._ids, more._runs = self._ids.plus(ids), _with_run(runs, np.sort(ids))
        more._codes = self._codes.plus(codes)
        return more

    def minus(self, rows):
        """Return the items without those of these rows."""
        ids = None if self.ids is None else np.delete(self.ids, rows)
        return Items(np.delete(self.codes, rows, axis=0), ids)

    def rows_of(self, ids):
        """Return the rows of items by their ids, or by their rows; or raise ValueError."""
        if not np.size(ids):
            return np.empty(0, np.int64)
        ids = stored_ids(ids, np.size(ids))
        if self.ids is None:
            return self._checked_rows(ids)
        joined_ids(self.ids[:0], ids)
        rows = np.flatnonzero(np.isin(self.ids, ids))
        if len(rows) < len(ids):
            unknown = ids[~np.isin(ids, self.ids)][0].item()
            raise ValueError(f"ids should be ids of the codes that are there, got {unknown!r}.")
        return rows

    def _checked_rows(self, rows):
        """Return rows that there are, or raise."""
        wrong = rows if rows.dtype.kind == "U" else rows[(rows < 0) | (rows >= len(self))]
        if len(wrong):
            raise ValueError(
                "ids should be rows of the codes, which were given no ids, that is integers from "
                f"0 to {len(self) - 1}, got {wrong[0].item()!r}."
            )
        return rows


def stored_ids(ids, n_items):
    """Return ids as strings or as int64, or raise ValueError; None stays None."""
    ids = checked_ids(ids, n_items)
    if ids is None or ids.dtype.kind == "U":
        return ids
    if ids.dtype.kind == "u" and len(ids) and ids.max() > np.iinfo(np.int64).max:
        raise ValueError(f"ids should be below 2 ** 63, got {ids.max()}.")
    return ids.astype(np.int64)


class _Rows:
    """The first rows of an array, which may have room behind them."""

    def __init__(self, rows, room=None):
        self.rows, self._room = rows, room

    def plus(self, rows):
        """Return these rows followed by others."""
        n_known, n_rows = len(self.rows), len(self.rows) + len(rows)
        dtype, room = np.result_type(self.rows, rows), self._room
        # Another that was made of these rows may have taken the room first.
        if (
            room is None
            or room.n_used != n_known
            or room.array.dtype != dtype
            or len(room.array) < n_rows
        ):
            array = np.empty((n_rows + n_rows // 4, *rows.shape[1:]), dtype)
            array[:n_known] = self.rows
            room = SimpleNamespace(array=array)
        room.array[n_known:n_rows] = rows
        room.n_used = n_rows
        return _Rows(room.array[:n_rows], room)


def _check_new(runs, ids):
    """Raise if an id is in one of the sorted arrays."""
    for run in runs:
        at = np.minimum(np.searchsorted(run, ids), len(run) - 1)
        if (known := run[at] == ids).any():
            raise ValueError(
                f"ids should be each of one item alone, got {ids[known][0].item()!r}, which is "
                "there already."
            )


def _with_run(runs, run):
    """Return sorted arrays with one more, merged so that each has half of the one before or less.

    There are then a few of them, and each id is merged a few times.
    """
    while runs and len(runs[-1]) < 2 * len(run):
        # Two runs are merged in linear time.
        run = np.sort(np.concatenate([runs[-1], run]), kind="stable")
        runs = runs[:-1]
    return (*runs, run)
