"""Parquet files as sources: a column of paths, or columns of features, by row groups."""

import hashlib
from pathlib import Path

import numpy as np

from skhash._encode._pieces import Chunk, Piece, as_ids, cut_rows
from skhash.export._arrow import import_pyarrow

__all__ = ["ParquetPaths", "ParquetRows", "kind_of_columns", "parquet_files"]

_SUFFIXES = (".parquet", ".pq")
# Bytes of a column that are read from a file at once.
_BUFFER = 2**22
# Paths that are read at once.
_PATHS = 2**14


def parquet_files(path):
    """Return the Parquet files of a path: itself, those of a folder by name, or none.

    Parameters
    ----------
    path : pathlib.Path
        A file or a folder, of which files that start with "_" or a point are left out.

    Returns
    -------
    files : list of pathlib.Path
        The files.
    """
    if path.suffix in _SUFFIXES and not path.is_dir():
        return [path]
    if not path.is_dir():
        return []
    files = (file for file in path.iterdir() if file.suffix in _SUFFIXES)
    return sorted(file for file in files if file.name[0] not in "._")


def kind_of_columns(file, ids, columns):
    """Return which columns hold what is encoded, and whether that is paths, or raise.

    Parameters
    ----------
    file : path-like
        A Parquet file.

    ids : str or None
        The column of ids.

    columns : str, list of str or None
        The columns asked for; None takes all but that of ids.

    Returns
    -------
    columns : list of str
        The columns.

    is_paths : bool
        Whether it is one column of strings.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If it has not these columns, or they are neither paths nor features.
    """
    types = _column_types(file)
    asked = [columns] if isinstance(columns, str) else columns
    names = [name for name in types if name != ids] if asked is None else list(asked)
    missing = [name for name in [*names, *([ids] if ids else [])] if name not in types]
    if missing:
        raise ValueError(
            f"{str(file)!r} should have a column {missing[0]!r}, got columns {[*types]}."
        )
    kinds = [types[name] for name in names]
    if kinds in (["text"], ["list"]) or (kinds and set(kinds) == {"number"}):
        return names, kinds == ["text"]
    raise ValueError(
        "columns should be one column of strings, the paths of images, or features: one column of "
        f"lists of numbers, or columns of numbers; got {dict(zip(names, kinds, strict=True))}. "
        "Name those that hold what is to be encoded, and with ids the column of ids."
    )


def _column_types(file):
    """Return the columns of a file as "text", "number", "list" (of numbers) or another type."""
    pa = import_pyarrow()
    from pyarrow import parquet

    types = pa.types

    def kind(column):
        if types.is_string(column) or types.is_large_string(column):
            return "text"
        if types.is_integer(column) or types.is_floating(column):
            return "number"
        many = types.is_list, types.is_large_list, types.is_fixed_size_list
        if any(test(column) for test in many) and kind(column.value_type) == "number":
            return "list"
        return str(column)

    return {field.name: kind(field.type) for field in parquet.read_schema(file)}


class _Table:
    """Parquet files of the same columns, one after the other.

    Parameters
    ----------
    files : list of path-like
        The files.

    ids : str or None
        The column of ids.

    columns : list of str
        What is encoded.
    """

    def __init__(self, files, ids, columns):
        from pyarrow import parquet

        self.ids, self.columns, self.groups = ids, columns, []
        footers = hashlib.sha256()
        for file in map(Path, files):
            with parquet.ParquetFile(file) as opened:
                footer = opened.metadata
                missing = {*columns, *([ids] if ids else [])} - {*opened.schema_arrow.names}
            if missing:
                raise ValueError(f"{str(file)!r} should have a column {sorted(missing)[0]!r}.")
            for number in range(footer.num_row_groups):
                group = footer.row_group(number)
                self.groups.append((str(file), number, group.num_rows))
                footers.update(f"{file.name} {group.to_dict()}".encode())
        self.n_rows = sum(n_rows for *_, n_rows in self.groups)
        self.what = {
            "kind": "parquet",
            "columns": columns,
            "ids": ids,
            "n_rows": self.n_rows,
            "row_groups": footers.hexdigest(),
        }


class ParquetPaths(_Table):
    """A column of paths, with a column of ids or without."""

    def __init__(self, files, ids, column):
        super().__init__(files, ids, [column])

    def items(self):
        """Yield pairs (id, path); without a column of ids, paths are ids."""
        for file, group, _ in self.groups:
            for _, batch in _record_batches(file, group, [*self.columns, self.ids], _PATHS):
                paths = _checked(batch, self.columns[0]).to_pylist()
                ids = paths if self.ids is None else _ids(batch, self.ids)
                yield from zip(ids, paths, strict=True)


class ParquetRows(_Table):
    """Columns of numbers, or one of lists of numbers."""

    # Readers of Parquet go through a row group once, in order.
    n_threads = 0

    def __init__(self, files, ids, columns, framed, batch_size):
        super().__init__(files, ids, columns)
        self.reader = ParquetReader(columns, ids, framed, batch_size)

    def pieces(self, shard_size):
        """Yield the pieces, rows of one row group each: file, number of the group, first row."""
        row = 0
        for file, group, n_rows in self.groups:
            for start, stop in cut_rows(row, row + n_rows, shard_size, shard_size):
                yield Piece(start, stop, None, (file, group, start - row))
            row += n_rows


class ParquetReader:
    """Makes chunks of rows of a row group.

    A piece that goes on where the last one ended is read on from there.

    Parameters
    ----------
    columns : list of str
        Columns of features.

    ids : str or None
        Column of ids.

    framed : bool
        Whether the hasher knows features by name, and takes a data frame.

    batch_size : int
        Rows of a chunk.
    """

    def __init__(self, columns, ids, framed, batch_size):
        self._columns, self._ids, self._framed = columns, ids, framed
        self._batch_size = batch_size
        self._rest = None

    def __getstate__(self):
        return vars(self) | {"_rest": None}

    def __call__(self, piece):
        """Yield the chunks of a piece."""
        file, group, first = piece.content
        last, shift = first + piece.stop - piece.start, piece.start - first
        stream, pending = self._opened(file, group, first)
        while True:
            offset, batch = pending.pop() if pending else next(stream)
            begin, end = max(first, offset), min(last, offset + len(batch))
            if begin < end:
                part = batch.slice(begin - offset, end - begin)
                yield Chunk(begin + shift, self._ids_of(part, begin + shift), self._X(part), {})
            if offset + len(batch) >= last:
                self._rest = ((file, group, last), stream, [(offset, batch)])
                return

    def _opened(self, file, group, first):
        """Return an iterator of the record batches of a group, and those to be taken before."""
        rest, self._rest = self._rest, None
        if rest is not None and rest[0] == (file, group, first):
            return rest[1:]
        names = [*self._columns, self._ids]
        return _record_batches(file, group, names, self._batch_size), []

    def _ids_of(self, batch, start):
        if self._ids is None:
            return np.arange(start, start + len(batch))
        return _ids(batch, self._ids)

    def _X(self, batch):
        """Return the features of a record batch."""
        columns = [_checked(batch, name) for name in self._columns]
        if self._framed:
            return batch.select(self._columns).to_pandas()
        if hasattr(columns[0].type, "value_type"):
            return _as_rows(columns[0], self._columns[0])
        return np.column_stack([column.to_numpy(zero_copy_only=False) for column in columns])


def _record_batches(file, group, columns, batch_size):
    """Yield record batches of a row group, with the numbers of their first rows in it."""
    from pyarrow import parquet

    names = [name for name in columns if name is not None]
    with parquet.ParquetFile(file, buffer_size=_BUFFER) as opened:
        offset = 0
        for batch in opened.iter_batches(batch_size, row_groups=[group], columns=names):
            yield offset, batch
            offset += len(batch)


def _checked(batch, name):
    """Return a column, or raise if it has nulls."""
    column = batch.column(name)
    if column.null_count:
        raise ValueError(
            f"The column {name!r} of source should have no nulls, got {column.null_count} among "
            f"{len(column)} rows."
        )
    return column


def _ids(batch, name):
    """Return a column of ids as int64 or strings."""
    return as_ids(_checked(batch, name).to_numpy(zero_copy_only=False), len(batch))


def _as_rows(column, name):
    """Return a column of lists of numbers as an array of rows, or raise if lengths differ."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise ValueError(
            f"The column {name!r} of source should have lists of one length, got lengths from "
            f"{lengths[0]} to {lengths[-1]}."
        )
    return values.reshape(len(column), -1)
