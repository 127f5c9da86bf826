"""Codes as a table of ClickHouse."""

from uuid import uuid4

import numpy as np

from skhash._sklearn import validate_params
from skhash.codes import check_packed_codes
from skhash.export._arrow import from_arrow, import_pyarrow, record_batches
from skhash.export._stored import (
    BATCH_ROWS,
    POSITIVE,
    as_neighbors,
    check_stored,
    has_text,
    quoted_table,
)

__all__ = ["clickhouse_sql", "read_clickhouse", "search_clickhouse", "write_clickhouse"]


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def write_clickhouse(client, table, codes, *, n_bits, ids=None):
    """Write packed codes as a new table of ClickHouse.

    It is of the engine MergeTree with the columns `id`, Int64 or String, by which it is sorted,
    and `code` of type ``FixedString(ceil(n_bits / 8))``: the packed codes as they are, byte for
    byte. Strings take any number of bits, where integers end at 256 and are of a few lengths
    alone. ``bitHammingDistance`` counts the bits of both. The bits that pad the last byte are 0 in
    items and queries, and add no distance. The comment of the column keeps `n_bits`.

    A table that is there already is an error. The rows go to a table of another name first, which
    is renamed when it is whole.

    Parameters
    ----------
    client : clickhouse_connect.driver.Client
        Of a server, or of the engine in the process that the package chdb brings.

    table : str
        Name of the table, also ``"database.table"``: letters, digits and underscores.

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

    clickhouse_connect.driver.exceptions.Error
        If ClickHouse refuses, such as where the table is there already.

    ValueError
        If codes, ids or the name of the table are malformed.

    See Also
    --------
    search_clickhouse : Search the table.
    clickhouse_sql : The query that searches it.

    Examples
    --------
    .. code-block:: python

        client = clickhouse_connect.get_client(host="localhost")
        write_clickhouse(client, "codes", hasher.database_codes_, n_bits=hasher.n_bits)
        distances, ids = search_clickhouse(client, "codes", query_codes, 10)
    """
    pa = import_pyarrow()
    codes, ids = check_stored(codes, n_bits, ids)
    name, beside = quoted_table(table), f"{table}_{uuid4().hex}"
    columns = (
        f"id {'String' if has_text(ids) else 'Int64'}, "
        f"code FixedString({codes.shape[1]}) COMMENT 'n_bits={n_bits}'"
    )
    client.command(
        f"CREATE TABLE {quoted_table(beside)} ({columns}) ENGINE = MergeTree ORDER BY id"
    )
    try:
        for batch in record_batches(codes, ids, n_bits, BATCH_ROWS):
            client.insert_arrow(beside, pa.Table.from_batches([batch]))
        client.command(f"RENAME TABLE {quoted_table(beside)} TO {name}")
    finally:
        client.command(f"DROP TABLE IF EXISTS {quoted_table(beside)}")


def read_clickhouse(client, table):
    """Read the codes and ids of a table that :func:`write_clickhouse` wrote.

    Parameters
    ----------
    client : clickhouse_connect.driver.Client
        Where to read.

    table : str
        Name of the table.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, by ascending id.

    Raises
    ------
    ImportError
        If pyarrow is not installed.

    clickhouse_connect.driver.exceptions.Error
        If ClickHouse refuses, such as where there is no such table.

    ValueError
        If the table has not the columns that :func:`write_clickhouse` gives, or is empty.
    """
    n_bits = _n_bits_of(client, table)
    query = f"SELECT id, code FROM {quoted_table(table)} ORDER BY id"
    found = client.query_arrow(query, use_strings=True)
    return from_arrow(found.replace_schema_metadata({"n_bits": str(n_bits)}))


@validate_params({"n_neighbors": [POSITIVE]}, prefer_skip_nested_validation=True)
def search_clickhouse(client, table, query_codes, n_neighbors=5):
    """Find the nearest codes of a table that :func:`write_clickhouse` wrote, by ClickHouse.

    All codes are compared, the result is exact.

    Parameters
    ----------
    client : clickhouse_connect.driver.Client
        Where to search.

    table : str
        Name of the table.

    query_codes : array-like of shape (n_queries, ceil(n_bits / 8)), dtype uint8
        Packed codes of the queries.

    n_neighbors : int, default=5
        Number of items to find.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), dtype int32
        Hamming distances, ascending.

    ids : ndarray of shape (n_queries, n_neighbors)
        Ids of the items; of items at equal distance, the lower id comes first.

    Raises
    ------
    clickhouse_connect.driver.exceptions.Error
        If ClickHouse refuses.

    ValueError
        If the queries are malformed, or the table has fewer than `n_neighbors` items.
    """
    n_bits = _n_bits_of(client, table)
    query_codes = check_packed_codes(query_codes, "query_codes", n_bits)
    query, found = clickhouse_sql(table, n_bits), []
    for code in np.ascontiguousarray(query_codes):
        parameters = {"code": code.tobytes().hex(), "k": n_neighbors}
        found.append(client.query(query, parameters=parameters).result_rows)
    return as_neighbors(found, n_neighbors, "The table has no more.")


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def clickhouse_sql(table, n_bits):
    """Return the query that finds the nearest codes of a table of ClickHouse.

    Parameters
    ----------
    table : str
        Name of the table.

    n_bits : int
        Number of bits of a code.

    Returns
    -------
    sql : str
        The query, with the parameters `code`, the packed code in hexadecimal digits, and `k`.

    Raises
    ------
    ValueError
        If the name of the table is malformed.

    Examples
    --------
    >>> from skhash.export import clickhouse_sql
    >>> print(clickhouse_sql("codes", 64))
    SELECT id, bitHammingDistance(code, unhex({code:String})::FixedString(8)) AS distance
    FROM "codes" ORDER BY distance, id LIMIT {k:UInt32}
    """
    query = f"unhex({{code:String}})::FixedString({-(-n_bits // 8)})"
    return (
        f"SELECT id, bitHammingDistance(code, {query}) AS distance\n"
        f"FROM {quoted_table(table)} ORDER BY distance, id LIMIT {{k:UInt32}}"
    )


def _n_bits_of(client, table):
    """Return the number of bits of the codes of a table, or raise."""
    columns = client.query(f"DESCRIBE TABLE {quoted_table(table)}").named_results()
    comments = {column["name"]: column["comment"] for column in columns}
    stated = comments.get("code", "").removeprefix("n_bits=")
    if "id" not in comments or not stated.isdecimal():
        raise ValueError(
            f"Table {table!r} should have columns id and code, with a comment 'n_bits=...', as "
            f"write_clickhouse writes them, got columns and comments {comments}."
        )
    return int(stated)
