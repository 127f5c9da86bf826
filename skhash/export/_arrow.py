"""Codes as tables of Arrow and as Parquet files."""

import numpy as np

from skhash._io import replaced_file
from skhash._sklearn import validate_params
from skhash.codes import check_packed_codes
from skhash.export._stored import POSITIVE, StoredCodes, batches, check_stored, has_text

__all__ = [
    "column_of_ids",
    "from_arrow",
    "import_pyarrow",
    "read_parquet",
    "record_batches",
    "schema_of",
    "to_arrow",
    "write_parquet",
]


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def to_arrow(codes, *, n_bits, ids=None):
    r"""Return packed codes as a table of Arrow.

    It has the columns `id`, int64 or string, and `code`, fixed-size binary: the packed codes as
    they are, byte for byte, the first bit the most significant of the first byte. The metadata of
    the schema have `n_bits`.

    Parameters
    ----------
    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`. They are not copied if their rows are
        contiguous, and may be memory-mapped.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,), default=None
        Integers or strings, each once. None: row numbers.

    Returns
    -------
    table : pyarrow.Table
        The table.

    Raises
    ------
    ImportError
        If pyarrow is not installed.

    ValueError
        If codes or ids are malformed.

    See Also
    --------
    from_arrow : Codes of a table.
    write_parquet : Codes as a file.

    Examples
    --------
    >>> from skhash.codes import pack_codes
    >>> from skhash.export import to_arrow
    >>> table = to_arrow(pack_codes([[0, 0, 1], [1, 1, 1]]), n_bits=3, ids=["a", "b"])
    >>> table.to_pylist()
    [{'id': 'a', 'code': b' '}, {'id': 'b', 'code': b'\xe0'}]
    >>> table.schema.metadata
    {b'n_bits': b'3'}
    """
    pa = import_pyarrow()
    codes, ids = check_stored(codes, n_bits, ids)
    parts = record_batches(codes, ids, n_bits, n_rows=len(codes))
    return pa.Table.from_batches(parts)


def from_arrow(table):
    """Return the codes and ids of a table that :func:`to_arrow` made.

    Parameters
    ----------
    table : pyarrow.Table
        The table. Its codes are not copied if they are in one chunk, so those of a memory-mapped
        file stay on the disk.

    Returns
    -------
    stored : StoredCodes
        `codes`, which are read-only if they are those of the table, `ids` and `n_bits`.

    Raises
    ------
    ValueError
        If the table has not the columns and metadata that :func:`to_arrow` gives, or its codes
        are malformed.
    """
    n_bits = _n_bits_of(table.schema)
    column = table.column("code")
    parts = [_as_packed(chunk) for chunk in column.chunks]
    codes = parts[0] if len(parts) == 1 else np.vstack([_no_codes(n_bits), *parts])
    codes = check_packed_codes(codes, "The column code", n_bits)
    return StoredCodes(codes, column_of_ids(table.column("id")), n_bits)


@validate_params(
    {"n_bits": [POSITIVE], "row_group_size": [POSITIVE]}, prefer_skip_nested_validation=True
)
def write_parquet(path, codes, *, n_bits, ids=None, row_group_size=2**18):
    """Write packed codes as a Parquet file, a row group at a time.

    Columns and metadata are those of :func:`to_arrow`.

    Parameters
    ----------
    path : str or path-like
        File to write. An existing one is replaced, once the new one is whole.

    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`. They may be memory-mapped: a row group
        of them is in memory at a time.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,), default=None
        Integers or strings, each once. None: row numbers.

    row_group_size : int, default=2**18
        Rows of a group, which is what readers read at once.

    Raises
    ------
    ImportError
        If pyarrow is not installed.

    OSError
        If the file cannot be written.

    ValueError
        If codes or ids are malformed.

    See Also
    --------
    read_parquet : Read the file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skhash.codes import pack_codes
    >>> from skhash.export import read_parquet, write_parquet
    >>> with TemporaryDirectory() as folder:
    ...     write_parquet(Path(folder) / "codes.parquet", pack_codes([[0, 0, 1]]), n_bits=3)
    ...     read_parquet(Path(folder) / "codes.parquet")
    StoredCodes(codes=array([[32]], dtype=uint8), ids=array([0]), n_bits=3)
    """
    import_pyarrow()
    from pyarrow import parquet

    codes, ids = check_stored(codes, n_bits, ids)
    with replaced_file(path) as beside:
        # Learned codes repeat, ids do not.
        options = {"use_dictionary": ["code"]}
        with parquet.ParquetWriter(beside, schema_of(codes, ids, n_bits), **options) as writer:
            for batch in record_batches(codes, ids, n_bits, row_group_size):
                writer.write_batch(batch, row_group_size=row_group_size)


def read_parquet(path):
    """Read a file that :func:`write_parquet` wrote, a part at a time.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, in the order of the file.

    Raises
    ------
    ImportError
        If pyarrow is not installed.

    FileNotFoundError
        If there is no such file.

    ValueError
        If the file has not the columns and metadata that :func:`write_parquet` gives, or its codes
        are malformed.
    """
    import_pyarrow()
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        n_bits = _n_bits_of(file.schema_arrow)
        codes = np.empty((file.metadata.num_rows, -(-n_bits // 8)), np.uint8)
        ids, start = [], 0
        for batch in file.iter_batches(columns=["id", "code"]):
            codes[start : start + len(batch)] = _as_packed(batch.column("code"))
            ids.append(column_of_ids(batch.column("id")))
            start += len(batch)
    codes = check_packed_codes(codes, "The column code", n_bits)
    return StoredCodes(codes, np.concatenate(ids), n_bits)


def schema_of(codes, ids, n_bits):
    """Return the schema of Arrow of codes and ids.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes.

    ids : ndarray of shape (n_samples,) or None
        Ids, int64 or strings. None: row numbers.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    schema : pyarrow.Schema
        Of the columns `id` and `code`, with `n_bits` as metadata.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    pa = import_pyarrow()
    id_type = pa.string() if has_text(ids) else pa.int64()
    fields = [pa.field("id", id_type, False), pa.field("code", pa.binary(codes.shape[1]), False)]
    return pa.schema(fields, metadata={"n_bits": str(n_bits)})


def record_batches(codes, ids, n_bits, n_rows):
    """Yield record batches of Arrow of codes and ids.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, n_bytes), dtype uint8
        Packed codes; those of a batch are not copied if their rows are contiguous.

    ids : ndarray of shape (n_samples,) or None
        Ids, int64 or strings. None: row numbers.

    n_bits : int
        Number of bits of a code.

    n_rows : int
        Rows of a batch; the last may have fewer.

    Yields
    ------
    batch : pyarrow.RecordBatch
        The next rows, of the schema of :func:`schema_of`.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    """
    pa = import_pyarrow()
    schema = schema_of(codes, ids, n_bits)
    for some, some_ids in batches(codes, ids, n_rows):
        buffers = [None, pa.py_buffer(some)]
        column = pa.FixedSizeBinaryArray.from_buffers(schema.types[1], len(some), buffers)
        yield pa.record_batch([pa.array(some_ids, schema.types[0]), column], schema=schema)


def column_of_ids(column):
    """Return a column of ids as an array of integers or strings.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        Ids.

    Returns
    -------
    ids : ndarray of shape (n_samples,)
        Ids, int64 or strings.
    """
    ids = column.to_numpy(zero_copy_only=False)
    return ids.astype(str) if ids.dtype == object else ids


def import_pyarrow():
    """Return the package pyarrow.

    Returns
    -------
    pyarrow : module
        The package.

    Raises
    ------
    ImportError
        If it is not installed. The error says what brings it.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "Tables of Arrow need the package pyarrow; `pip install pyarrow` brings it."
        ) from error
    return pyarrow


def _n_bits_of(schema):
    """Return the number of bits that a schema states, or raise if it is not one of codes."""
    pa = import_pyarrow()
    stated = (schema.metadata or {}).get(b"n_bits", b"").decode()
    if not {"id", "code"} <= {*schema.names} or not stated.isdecimal() or int(stated) < 1:
        raise ValueError(
            "Expected columns id and code and metadata n_bits, as skhash.export writes them, got "
            f"columns {schema.names} and metadata {schema.metadata}."
        )
    n_bits = int(stated)
    if schema.field("code").type != pa.binary(-(-n_bits // 8)):
        raise ValueError(
            f"Expected a column code of type fixed_size_binary[{-(-n_bits // 8)}] for "
            f"n_bits={n_bits}, got {schema.field('code').type}."
        )
    return n_bits


def _as_packed(array):
    """Return an array of fixed-size binary as packed codes, a view of it."""
    if array.null_count:
        raise ValueError(f"The column code should have no nulls, got {array.null_count}.")
    n_bytes = array.type.byte_width
    start, size = array.offset * n_bytes, len(array) * n_bytes
    return np.frombuffer(array.buffers()[1], np.uint8, size, start).reshape(-1, n_bytes)


def _no_codes(n_bits):
    return np.empty((0, -(-n_bits // 8)), np.uint8)
