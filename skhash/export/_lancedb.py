"""Codes as a table of LanceDB."""

from skhash._sklearn import validate_params
from skhash.codes import check_packed_codes
from skhash.export._arrow import column_of_ids, import_pyarrow
from skhash.export._stored import (
    POSITIVE,
    StoredCodes,
    as_neighbors,
    batches,
    check_stored,
    has_text,
)

__all__ = ["read_lancedb", "search_lancedb", "write_lancedb"]


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def write_lancedb(connection, table, codes, *, n_bits, ids=None):
    """Write packed codes as a new table of LanceDB.

    It has the columns `id`, int64 or string, and `code`, a fixed-size list of uint8, which is what
    LanceDB takes for a binary vector: the packed codes as they are, byte for byte. The bits that
    pad the last byte are 0 in items and queries, and add no distance. The metadata of the schema
    have `n_bits`. A table that is there already is an error.

    Parameters
    ----------
    connection : lancedb.DBConnection
        Where to write, what ``lancedb.connect(folder)`` returns.

    table : str
        Name of the table.

    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`. They may be memory-mapped: a part of
        them is in memory at a time.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,), default=None
        Integers or strings, each once. None: row numbers.

    Raises
    ------
    ImportError
        If pyarrow is not installed.

    ValueError
        If codes or ids are malformed, LanceDB refuses the name of the table, or a table of that
        name is there already.

    See Also
    --------
    search_lancedb : Search the table.

    Examples
    --------
    .. code-block:: python

        connection = lancedb.connect("folder")
        write_lancedb(connection, "codes", hasher.database_codes_, n_bits=hasher.n_bits)
        distances, ids = search_lancedb(connection, "codes", query_codes, 10)
    """
    pa = import_pyarrow()
    codes, ids = check_stored(codes, n_bits, ids)
    id_type = pa.string() if has_text(ids) else pa.int64()
    columns = {"id": id_type, "code": pa.list_(pa.uint8(), codes.shape[1])}
    schema = pa.schema(columns, metadata={"n_bits": str(n_bits)})
    created = connection.create_table(table, schema=schema)
    try:
        created.add(pa.RecordBatchReader.from_batches(schema, _vectors(codes, ids, schema)))
    except BaseException:
        connection.drop_table(table)
        raise


def read_lancedb(connection, table):
    """Read the codes and ids of a table that :func:`write_lancedb` wrote.

    Parameters
    ----------
    connection : lancedb.DBConnection
        Where to read.

    table : str
        Name of the table.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, in the order in which they were written.

    Raises
    ------
    ValueError
        If there is no such table, it has not the columns that :func:`write_lancedb` gives, or is
        empty.
    """
    opened = connection.open_table(table)
    n_bits = _n_bits_of(opened, table)
    found = opened.to_arrow().select(["id", "code"]).combine_chunks()
    values = found.column("code").combine_chunks().flatten().to_numpy()
    codes = check_packed_codes(values.reshape(found.num_rows, -1), table, n_bits)
    return StoredCodes(codes, column_of_ids(found.column("id")), n_bits)


@validate_params(
    {"n_neighbors": [POSITIVE], "nprobes": [POSITIVE, None]}, prefer_skip_nested_validation=True
)
def search_lancedb(connection, table, query_codes, n_neighbors=5, *, nprobes=None):
    """Find the nearest codes of a table that :func:`write_lancedb` wrote, by LanceDB.

    Parameters
    ----------
    connection : lancedb.DBConnection
        Where to search.

    table : str
        Name of the table.

    query_codes : array-like of shape (n_queries, ceil(n_bits / 8)), dtype uint8
        Packed codes of the queries.

    n_neighbors : int, default=5
        Number of items to find.

    nprobes : int, default=None
        How many partitions of an index of the table are searched: the result is approximate. None:
        all codes are compared, the result is exact.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), dtype int32
        Hamming distances, ascending.

    ids : ndarray of shape (n_queries, n_neighbors)
        Ids of the items; of items at equal distance, the lower id comes first. Which of those at
        the last distance are found is up to LanceDB.

    Raises
    ------
    ValueError
        If there is no such table, the queries are malformed, or fewer than `n_neighbors` items are
        found.
    """
    opened = connection.open_table(table)
    query_codes = check_packed_codes(query_codes, "query_codes", _n_bits_of(opened, table))
    found = [_nearest(opened, code, n_neighbors, nprobes) for code in query_codes]
    hint = "A higher nprobes finds more." if nprobes else "The table has no more."
    return as_neighbors(found, n_neighbors, hint)


def _nearest(opened, code, n_neighbors, nprobes):
    """Return the ids and distances of the nearest items of one query."""
    query = opened.search(code, vector_column_name="code").distance_type("hamming")
    query = query.bypass_vector_index() if nprobes is None else query.nprobes(nprobes)
    found = query.select(["id", "_distance"]).limit(n_neighbors).to_arrow()
    ids, distances = found.column("id").to_pylist(), found.column("_distance").to_pylist()
    return list(zip(ids, distances, strict=True))


def _vectors(codes, ids, schema):
    """Yield record batches of ids and of codes as LanceDB takes them."""
    pa = import_pyarrow()
    for some, some_ids in batches(codes, ids):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(some.ravel()), codes.shape[1])
        yield pa.record_batch([pa.array(some_ids, schema.types[0]), vectors], schema=schema)


def _n_bits_of(opened, table):
    """Return the number of bits of the codes of a table, or raise."""
    schema = opened.schema
    stated = (schema.metadata or {}).get(b"n_bits", b"").decode()
    if not {"id", "code"} <= {*schema.names} or not stated.isdecimal():
        raise ValueError(
            f"Table {table!r} should have columns id and code and metadata n_bits, as "
            f"write_lancedb writes them, got columns {schema.names} and metadata "
            f"{schema.metadata}."
        )
    return int(stated)
