"""What can be encoded: arrays, files, folders, data sets, and batches that an iterable gives."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skhash._ahead import N_FILE_THREADS
from skhash._encode._parquet import ParquetPaths, ParquetRows, kind_of_columns, parquet_files
from skhash._encode._pieces import Chunk, Piece, as_ids, cut_rows, grouped
from skhash._images import walk_images
from skhash._samples import is_lazy

__all__ = ["open_source"]

# Rows of features that are encoded at once; of images it is the hasher's `batch_size`.
_FEATURE_ROWS = 8192
_IMAGES = 128


def open_source(source, hasher, *, ids=None, columns=None, batch_size=None):
    """Return what there is to encode, in pieces, or raise.

    Parameters
    ----------
    source, ids, columns, batch_size
        What :func:`skhash.encode` is given.

    hasher : BaseHasher
        The fitted hasher.

    Returns
    -------
    source : object
        With `what`, a dict of what can be said of it; `n_rows`, None if that is not known;
        ``pieces(shard_size)``, an iterator of :class:`Piece`, in order; `reader`, a function that
        can be pickled, of a piece to an iterator of :class:`Chunk`; and `n_threads`, in how many
        threads to read ahead.

    Raises
    ------
    FileNotFoundError
        If it is a path at which there is nothing.

    TypeError, ValueError
        If it is nothing that can be encoded, or `ids` or `columns` do not go with it.
    """
    files = []
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
        files = parquet_files(source)
    if files:
        return _of_parquet(files, hasher, ids, columns, batch_size)
    if columns is not None or isinstance(ids, str):
        name = "columns" if columns is not None else "ids"
        raise ValueError(
            f"{name}={columns if columns is not None else ids!r} names columns of Parquet files, "
            f"got a source that is none: {_described(source)}."
        )
    return _of_rows(source, hasher, ids, batch_size)


def _of_parquet(files, hasher, ids, columns, batch_size):
    """Return the source of Parquet files."""
    if ids is not None and not isinstance(ids, str):
        raise ValueError(
            "ids should be the name of a column where source is Parquet, got "
            f"{type(ids).__name__}."
        )
    if columns is None and hasattr(hasher, "feature_names_in_"):
        columns = hasher.feature_names_in_.tolist()
    columns, is_paths = kind_of_columns(files[0], ids, columns)
    if not is_paths:
        framed = hasattr(hasher, "feature_names_in_")
        return ParquetRows(files, ids, columns, framed, batch_size or _FEATURE_ROWS)
    table = ParquetPaths(files, ids, columns[0])
    return FileSource(table.items, hasher, batch_size, table.what, table.n_rows)


def _of_rows(source, hasher, ids, batch_size):
    """Return the source of anything but Parquet."""
    if isinstance(source, Path):
        if source.suffix == ".npy":
            return ArraySource(np.load(source, mmap_mode="r"), hasher, ids, batch_size)
        if not source.is_dir():
            kind = FileNotFoundError if not source.exists() else ValueError
            raise kind(
                f"source={str(source)!r} should be a folder of images or of Parquet files, a "
                "Parquet file or a .npy file"
                + (", but there is nothing." if kind is FileNotFoundError else ".")
            )
        _refuse_ids(ids, "a folder, whose files have their relative paths as ids")
        what = {"kind": "folder"}
        return FileSource(lambda: walk_images(source), hasher, batch_size, what, None)
    if (paths := _as_paths(source)) is not None:
        if ids is None:
            _check_distinct(paths)
        ids = paths if ids is None else as_ids(ids, len(paths))
        what = {"kind": "paths", "n_rows": len(paths)}
        return FileSource(lambda: zip(ids, paths), hasher, batch_size, what, len(paths))  # noqa: B905
    if hasattr(source, "__array__") and getattr(source, "shape", ()):
        return ArraySource(source, hasher, ids, batch_size)
    if is_lazy(source):
        return SequenceSource(source, hasher, ids, batch_size)
    if hasattr(source, "__iter__"):
        _refuse_ids(ids, "an iterable of batches: let it give pairs (ids, X)")
        return BatchSource(source, hasher, batch_size)
    raise TypeError(
        "source should be paths, a folder, an array, Parquet files, a data set or an iterable of "
        f"batches, got {_described(source)}."
    )


def _described(source):
    return repr(str(source)) if isinstance(source, Path) else type(source).__name__


def _refuse_ids(ids, source):
    if ids is not None:
        raise ValueError(f"ids are not taken with {source}.")


def _as_paths(source):
    """Return a sequence of paths as a list of str, or None if it is another thing."""
    if not (isinstance(source, (list, tuple)) or len(getattr(source, "shape", ())) == 1):
        return None
    paths = source if isinstance(source, (list, tuple)) else np.asarray(source).tolist()
    if len(paths) and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return [os.fsdecode(path) for path in paths]
    return None


def _check_distinct(paths):
    """Raise if a path is there twice."""
    if len(set(paths)) == len(paths):
        return
    (path, count), *_ = Counter(paths).most_common(1)
    raise ValueError(
        f"source should hold each path once, since paths are ids, got {path!r} {count} times. "
        "Leave the others out, or pass ids."
    )


class FileReader:
    """Makes a chunk of a piece whose content is a list of paths.

    Parameters
    ----------
    read : callable
        Of paths to images and faults.
    """

    def __init__(self, read):
        self.read = read

    def __call__(self, piece):
        """Yield one chunk."""
        X, faults = self.read(piece.content)
        for row in _not_text(piece.ids):
            faults[row] = "has a name that is not valid UTF-8"
        yield Chunk(piece.start, piece.ids, X, faults)


def _not_text(ids):
    """Yield the rows of ids that no file of text can hold."""
    if ids.dtype.kind != "U":
        return
    for row, name in enumerate(ids.tolist()):
        try:
            name.encode()
        except UnicodeEncodeError:
            yield row


def _file_reader(hasher):
    """Return the reader of files that a hasher has, or None."""
    make = getattr(hasher, "_file_reader", None)
    read = None if make is None else make()
    return None if read is None else FileReader(read)


class FileSource:
    """Image files: pairs (id, path) that a function gives anew each time."""

    def __init__(self, items, hasher, batch_size, what, n_rows):
        self.reader = _file_reader(hasher)
        if self.reader is None:
            raise ValueError(
                f"source holds paths of image files, but this {type(hasher).__name__} takes "
                "feature rows. Encode features of the files."
            )
        self._items, self.what, self.n_rows = items, what, n_rows
        self._batch_size = batch_size or getattr(hasher, "batch_size", _IMAGES)
        self.n_threads = N_FILE_THREADS

    def pieces(self, shard_size):
        """Yield the pieces: paths of a batch."""
        for start, items in grouped(self._items(), shard_size, self._batch_size):
            ids, paths = zip(*items, strict=True)
            yield Piece(start, start + len(paths), np.array(ids), list(paths))


class ArraySource:
    """Rows of an array, in memory or memory-mapped, or of a data frame."""

    n_threads = 1

    def __init__(self, X, hasher, ids, batch_size):
        self.n_rows = X.shape[0]
        if len(X.shape) not in (2, 4):
            raise ValueError(
                "source should be paths, feature rows of shape (n_samples, n_features), or images "
                "of shape (n_samples, height, width, 3) or (n_samples, 3, height, width), got an "
                f"array of shape {tuple(X.shape)}."
            )
        self.what = {"kind": "array", "shape": list(X.shape)}
        if hasattr(X, "dtype"):
            self.what["dtype"] = str(X.dtype)
        self._ids = None if ids is None else as_ids(ids, self.n_rows)
        images = getattr(hasher, "batch_size", _IMAGES)
        self._batch_size = batch_size or (images if len(X.shape) == 4 else _FEATURE_ROWS)
        self.reader = ArrayReader(X)

    def pieces(self, shard_size):
        """Yield the pieces, which have no content."""
        for start, stop in cut_rows(0, self.n_rows, shard_size, self._batch_size):
            ids = None if self._ids is None else self._ids[start:stop]
            yield Piece(start, stop, ids, None)


class ArrayReader:
    """Makes a chunk of rows of an array.

    Rows of a memory-mapped file are read from it: what is read by way of the map would stay in the
    memory of the process. Pickled, the place of the file stands for them.

    Parameters
    ----------
    X : ndarray or data frame
        The array.
    """

    def __init__(self, X):
        self._place = _place(X)
        self._X = X if self._place is None else None

    def __call__(self, piece):
        """Yield one chunk."""
        if self._place is not None:
            rows = self._place.read(piece.start, piece.stop)
        elif hasattr(self._X, "iloc"):
            rows = self._X.iloc[piece.start : piece.stop]
        else:
            # A copy: what is mapped is read here, ahead of the hasher.
            rows = np.array(np.asarray(self._X[piece.start : piece.stop]))
        yield Chunk(piece.start, _ids_of(piece), rows, {})


class _Place(NamedTuple):
    """Where the rows of an array are in a file."""

    path: str
    offset: int
    dtype: np.dtype
    row_shape: tuple

    def read(self, start, stop):
        """Return some of the rows."""
        n_values = math.prod(self.row_shape)
        offset = self.offset + start * n_values * self.dtype.itemsize
        count = (stop - start) * n_values
        rows = np.fromfile(self.path, self.dtype, count, offset=offset)
        return rows.reshape(stop - start, *self.row_shape)


def _place(X):
    """Return where the rows of a memory-mapped array are, or None."""
    is_file = isinstance(X, np.memmap) and X.filename is not None
    # What is written into a copy on write is not in the file.
    if not is_file or X.mode == "c" or not X.flags.c_contiguous:
        return None
    whole = X
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    # Of a part of an array, `offset` is that of the whole.
    first, start = (array.__array_interface__["data"][0] for array in (X, whole))
    return _Place(str(X.filename), whole.offset + first - start, X.dtype, X.shape[1:])


def _ids_of(piece):
    """Return the ids of a piece, or its row numbers."""
    return np.arange(piece.start, piece.stop) if piece.ids is None else piece.ids


class SequenceSource:
    """Samples by number, such as a map-style data set of torch."""

    n_threads = 1

    def __init__(self, X, hasher, ids, batch_size):
        self.n_rows, self.what = len(X), {"kind": "sequence", "n_rows": len(X)}
        self._ids = None if ids is None else as_ids(ids, self.n_rows)
        self._batch_size = batch_size or getattr(hasher, "batch_size", _IMAGES)
        self.reader = SequenceReader(X)

    pieces = ArraySource.pieces


class SequenceReader:
    """Makes a chunk of samples by number.

    Parameters
    ----------
    X : sequence
        The samples.
    """

    def __init__(self, X):
        self.X = X

    def __call__(self, piece):
        """Yield one chunk."""
        rows = [self.X[row] for row in range(piece.start, piece.stop)]
        yield Chunk(piece.start, _ids_of(piece), rows, {})


class BatchSource:
    """Batches `X`, or pairs (ids, X), that an iterable gives until it ends."""

    n_rows, what = None, {"kind": "batches"}

    def __init__(self, batches, hasher, batch_size):
        self._batches = batches
        read_files = _file_reader(hasher)
        images = getattr(hasher, "batch_size", _IMAGES)
        self._batch_size = batch_size or (_FEATURE_ROWS if read_files is None else images)
        self.n_threads = 0 if read_files is None else N_FILE_THREADS
        self.reader = BatchReader(read_files)

    def pieces(self, shard_size):
        """Yield the pieces, which hold the rows."""
        row, kind = 0, None
        for number, batch in enumerate(self._batches):
            ids, X = _split(batch, number)
            kind = _checked_kind(kind, ids, number)
            for start, stop in cut_rows(row, row + len(X), shard_size, self._batch_size):
                part = slice(start - row, stop - row)
                yield Piece(start, stop, None if ids is None else ids[part], _rows(X, part))
            row += len(X)


def _rows(X, part):
    return X.iloc[part] if hasattr(X, "iloc") else X[part]


def _split(batch, number):
    """Return the ids and rows of a batch, or raise."""
    ids, X = (None, batch) if not _is_pair(batch) else batch
    if isinstance(X, (dict, str, bytes)) or not hasattr(X, "__len__"):
        raise ValueError(
            f"Each batch of source should be X or a pair (ids, X), got {type(X).__name__} as "
            f"batch {number}. A generator can pick what is to be encoded."
        )
    if (paths := _as_paths(X)) is not None:
        return np.array(paths) if ids is None else as_ids(ids, len(paths)), paths
    if hasattr(X, "shape") and len(X.shape) not in (2, 4):
        raise ValueError(
            "Each batch of source should be feature rows of shape (n_samples, n_features), images "
            "of shape (n_samples, height, width, 3), or a list of images or paths, got an array "
            f"of shape {tuple(X.shape)} as batch {number}."
        )
    return None if ids is None else as_ids(ids, len(X)), X


def _is_pair(batch):
    """Whether a batch is ids, in one dimension, and X."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        return False
    first = batch[0]
    if isinstance(first, (list, tuple)):
        return all(isinstance(value, (str, bytes, int, np.integer)) for value in first)
    return len(getattr(first, "shape", ())) == 1


def _checked_kind(kind, ids, number):
    """Return which ids a batch has, or raise if the former ones had others."""
    given = "no ids" if ids is None else "strings" if ids.dtype.kind == "U" else "integers"
    if kind not in (None, given):
        raise ValueError(
            f"All batches of source should have ids of one kind, or none, got {given} as ids of "
            f"batch {number} after {kind}."
        )
    return given


class BatchReader:
    """Makes a chunk of the rows that a piece holds, which may be paths.

    Parameters
    ----------
    read_files : FileReader or None
        What reads paths.
    """

    def __init__(self, read_files):
        self._read_files = read_files

    def __call__(self, piece):
        """Yield one chunk."""
        paths = isinstance(piece.content, list) and isinstance(piece.content[0], str)
        if paths and self._read_files is not None:
            yield from self._read_files(piece)
        else:
            yield Chunk(piece.start, _ids_of(piece), piece.content, {})
