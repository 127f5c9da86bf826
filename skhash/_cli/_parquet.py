"""Columns of Parquet files of whatever source, as arrays."""

import numpy as np

__all__ = ["read_code_columns", "read_label_columns"]

_IDS = ("id", "file", "path", "filename", "image")
_CODES = ("code", "codes", "hash", "bits")


def read_code_columns(path):
    """Read codes of a Parquet file that skhash did not write.

    Parameters
    ----------
    path : path-like
        The file. A column `code`, `codes`, `hash` or `bits` of bytes or lists of numbers, or else
        all columns of numbers, hold the codes; a column `id`, `file` or `path` the ids.

    Returns
    -------
    array : ndarray of shape (n_samples, n_columns)
        Bits, signs or bytes.

    ids : ndarray of shape (n_samples,) or None
        Ids; None if there is no such column.

    Raises
    ------
    ValueError
        If the file has no such columns, or codes differ in length.
    """
    table = _read(path)
    ids = _ids(table)
    name = next((name for name in _CODES if name in table.column_names), None)
    if name is not None:
        return _as_matrix(table.column(name).to_pylist(), path, name), ids
    names = _numeric(table)
    if not names:
        raise ValueError(
            f"{path} should have a column {' or '.join(_CODES)}, or columns of bits, got "
            f"{', '.join(table.column_names)}."
        )
    return np.column_stack([table.column(name).to_numpy() for name in names]), ids


def read_label_columns(path):
    """Read the labels of a Parquet file.

    Parameters
    ----------
    path : path-like
        The file. One column of text or of lists of text holds names of labels, or else each column
        of numbers is a label; a column `id`, `file` or `path` holds the items.

    Returns
    -------
    keys : list of str or None
        The items.

    names : list of str
        Names of the columns that hold labels.

    columns : list of list
        These columns.

    Raises
    ------
    ValueError
        If the file has no such columns.
    """
    table = _read(path)
    ids = _ids(table)
    names = [name for name in table.column_names if name not in (*_IDS, *_CODES)]
    if not names:
        raise ValueError(f"{path} has no column of labels, only {', '.join(table.column_names)}.")
    columns = [table.column(name).to_pylist() for name in names]
    return None if ids is None else [str(key) for key in ids], names, columns


def _read(path):
    """Return the table of a file."""
    from skhash.export._arrow import import_pyarrow

    import_pyarrow()
    from pyarrow import parquet

    return parquet.read_table(path)


def _ids(table):
    """Return the first column of ids as an array, or None."""
    name = next((name for name in _IDS if name in table.column_names), None)
    return None if name is None else np.array(table.column(name).to_pylist())


def _numeric(table):
    """Return the names of all columns of numbers that are no ids."""
    import pyarrow as pa

    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return [
        field.name
        for field in table.schema
        if field.name not in _IDS and any(check(field.type) for check in is_number)
    ]


def _as_matrix(values, path, name):
    """Return a column of bytes or lists as the rows of an array."""
    if values and isinstance(values[0], bytes):
        values = [list(value) for value in values]
        dtype = np.uint8
    else:
        dtype = None
    try:
        return np.array(values, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The column {name} of {path} should hold codes of one length in all rows."
        ) from error
