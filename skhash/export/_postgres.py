"""Codes as a table of PostgreSQL, with the index of pgvector where it is asked for."""

import numpy as np

from skhash._sklearn import validate_params
from skhash.codes import check_packed_codes
from skhash.export._stored import (
    POSITIVE,
    StoredCodes,
    as_neighbors,
    batches,
    check_stored,
    has_text,
    quoted_table,
)

__all__ = ["postgres_sql", "read_postgres", "search_postgres", "write_postgres"]

# What a binary COPY begins and ends with.
_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TAIL = b"\xff\xff"


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def write_postgres(connection, table, codes, *, n_bits, ids=None, hnsw=None):
    """Write packed codes as a new table of PostgreSQL.

    It has the columns `id`, bigint or text, the primary key, and `code` of type ``bit(n_bits)``,
    whose first bit is the first of the code; no bits pad it. A table that is there already is an
    error. All happens in one transaction, or in a part of the one that the connection is in.

    Parameters
    ----------
    connection : psycopg.Connection
        Where to write. Outside a transaction the table is committed.

    table : str
        Name of the table, also ``"schema.table"``: letters, digits and underscores.

    codes : array-like of shape (n_samples, ceil(n_bits / 8)), dtype uint8
        Packed codes, see :func:`skhash.codes.pack_codes`. They may be memory-mapped: a part of
        them is in memory at a time.

    n_bits : int
        Number of bits of a code.

    ids : array-like of shape (n_samples,), default=None
        Integers or strings, each once. None: row numbers.

    hnsw : dict, default=None
        Options of an approximate index of pgvector 0.7 or later, an HNSW graph with
        ``bit_hamming_ops``: `m` and `ef_construction`, or none, ``{}``. None: no index, and no
        need of pgvector.

    Raises
    ------
    psycopg.Error
        If the server refuses, such as where the table is there already.

    ValueError
        If codes, ids, the name of the table or the options are malformed.

    See Also
    --------
    search_postgres : Search the table.
    postgres_sql : The query that searches it.

    Examples
    --------
    .. code-block:: python

        with psycopg.connect("dbname=images") as connection:
            write_postgres(connection, "codes", hasher.database_codes_, n_bits=hasher.n_bits)
            distances, ids = search_postgres(connection, "codes", query_codes, 10)
    """
    codes, ids = check_stored(codes, n_bits, ids)
    name, index = quoted_table(table), _index_sql(table, hnsw)
    id_type = 'text COLLATE "C"' if has_text(ids) else "bigint"
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {name} (id {id_type}, code bit({n_bits}) NOT NULL)")
        with cursor.copy(f"COPY {name} (id, code) FROM STDIN (FORMAT binary)") as copy:
            copy.write(_HEAD)
            for some, some_ids in batches(codes, ids):
                copy.write(_copied_rows(some, some_ids, n_bits))
            copy.write(_TAIL)
        # Faster after the rows than before them.
        cursor.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
        for statement in index:
            cursor.execute(statement)
        cursor.execute(f"ANALYZE {name}")


def read_postgres(connection, table):
    """Read the codes and ids of a table that :func:`write_postgres` wrote.

    Parameters
    ----------
    connection : psycopg.Connection
        Where to read.

    table : str
        Name of the table.

    Returns
    -------
    stored : StoredCodes
        `codes`, `ids` and `n_bits`, by ascending id.

    Raises
    ------
    psycopg.Error
        If the server refuses, such as where there is no such table.

    ValueError
        If the table has not the columns that :func:`write_postgres` gives, or is empty.
    """
    name, n_bits, id_type = quoted_table(table), *_types_of(connection, table)
    ids, codes = [], []
    query = f"COPY (SELECT id, code FROM {name} ORDER BY id) TO STDOUT (FORMAT binary)"
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(query) as copy:
        copy.set_types([id_type, "bit"])
        for item, code in copy.rows():
            ids.append(item)
            # Four bytes before the bits are their number.
            codes.append(code[4:])
    packed = np.frombuffer(b"".join(codes), np.uint8).reshape(len(ids), -(-n_bits // 8))
    return StoredCodes(check_packed_codes(packed, table, n_bits), np.array(ids), n_bits)


@validate_params(
    {"n_neighbors": [POSITIVE], "ef_search": [POSITIVE, None]}, prefer_skip_nested_validation=True
)
def search_postgres(connection, table, query_codes, n_neighbors=5, *, ef_search=None):
    """Find the nearest codes of a table that :func:`write_postgres` wrote, on the server.

    Parameters
    ----------
    connection : psycopg.Connection
        Where to search.

    table : str
        Name of the table.

    query_codes : array-like of shape (n_queries, ceil(n_bits / 8)), dtype uint8
        Packed codes of the queries.

    n_neighbors : int, default=5
        Number of items to find.

    ef_search : int, default=None
        How many candidates the HNSW index keeps, `n_neighbors` at least and 1,000 at most: the
        result is approximate. A table that is small or has no index is compared as a whole. None:
        the server compares all codes, the result is exact.

    Returns
    -------
    distances : ndarray of shape (n_queries, n_neighbors), dtype int32
        Hamming distances, ascending.

    ids : ndarray of shape (n_queries, n_neighbors)
        Ids of the items; of items at equal distance, the lower id comes first.

    Raises
    ------
    psycopg.Error
        If the server refuses.

    ValueError
        If the queries are malformed, or fewer than `n_neighbors` items are found.
    """
    n_bits, _ = _types_of(connection, table)
    query_codes = check_packed_codes(query_codes, "query_codes", n_bits)
    query = postgres_sql(table, n_bits, approximate=ef_search is not None)
    found = []
    # What is set for the search is undone with the transaction, which has changed nothing else.
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        if ef_search is not None:
            cursor.execute(f"SET LOCAL hnsw.ef_search = {ef_search}")
        for bits in np.unpackbits(query_codes, axis=1, count=n_bits):
            code = "".join(map(str, bits.tolist()))
            cursor.execute(query, {"code": code, "k": n_neighbors})
            found.append(cursor.fetchall())
    hint = "A higher ef_search finds more." if ef_search else "The table has no more."
    return as_neighbors(found, n_neighbors, hint)


@validate_params({"n_bits": [POSITIVE]}, prefer_skip_nested_validation=True)
def postgres_sql(table, n_bits, *, approximate=False):
    """Return the query that finds the nearest codes of a table of PostgreSQL.

    Parameters
    ----------
    table : str
        Name of the table.

    n_bits : int
        Number of bits of a code.

    approximate : bool, default=False
        Whether the index is to be used. ``bit_count`` of PostgreSQL 14 counts the bits of all
        codes exactly; the operator ``<~>`` of pgvector is what its index knows.

    Returns
    -------
    sql : str
        The query, with the parameters `code`, a text of 0 and 1, and `k` as psycopg names them.

    Raises
    ------
    ValueError
        If the name of the table is malformed.

    Examples
    --------
    >>> from skhash.export import postgres_sql
    >>> print(postgres_sql("codes", 64))
    SELECT id, bit_count(code # %(code)s::bit(64)) AS distance
    FROM "codes" ORDER BY distance, id LIMIT %(k)s
    >>> print(postgres_sql("codes", 64, approximate=True))
    SELECT id, code <~> %(code)s::bit(64) AS distance
    FROM "codes" ORDER BY distance LIMIT %(k)s
    """
    query = f"%(code)s::bit({n_bits})"
    distance = f"code <~> {query}" if approximate else f"bit_count(code # {query})"
    # With a second key PostgreSQL before 18 does not take the index.
    order = "distance" if approximate else "distance, id"
    return (
        f"SELECT id, {distance} AS distance\n"
        f"FROM {quoted_table(table)} ORDER BY {order} LIMIT %(k)s"
    )


def _index_sql(table, hnsw):
    """Return the statements that make the index, or raise."""
    if hnsw is None:
        return []
    known = {"m", "ef_construction"}
    if not known >= {*hnsw} or not all(POSITIVE.is_satisfied_by(v) for v in hnsw.values()):
        raise ValueError(
            f"hnsw should have none but the options {sorted(known)}, ints of at least 1, got "
            f"{hnsw!r}."
        )
    options = ", ".join(f"{name} = {value}" for name, value in hnsw.items())
    index = f"CREATE INDEX ON {quoted_table(table)} USING hnsw (code bit_hamming_ops)"
    return [
        "CREATE EXTENSION IF NOT EXISTS vector",
        f"{index} WITH ({options})" if options else index,
    ]


def _types_of(connection, table):
    """Return the number of bits of the codes of a table, and the type of its ids, or raise."""
    query = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attname IN ('id', 'code')"
    )
    with connection.transaction(), connection.cursor() as cursor:
        types = dict(cursor.execute(query, [quoted_table(table)]).fetchall())
    code_type = types.get("code", "")
    if not code_type.startswith("bit(") or types.get("id") not in ("bigint", "text"):
        raise ValueError(
            f"Table {table!r} should have columns id, bigint or text, and code, bit(n), as "
            f"write_postgres writes them, got {types}."
        )
    return int(code_type[4:-1]), {"bigint": "int8", "text": "text"}[types["id"]]


def _copied_rows(codes, ids, n_bits):
    """Return rows as the binary COPY has them: each value with its length, all big-endian."""
    n_bytes = codes.shape[1]
    code = np.zeros(len(codes), [("size", ">i4"), ("n_bits", ">i4"), ("bits", "u1", n_bytes)])
    code["size"], code["n_bits"], code["bits"] = 4 + n_bytes, n_bits, codes
    if not has_text(ids):
        row = [("n_columns", ">i2"), ("size", ">i4"), ("id", ">i8"), ("code", code.dtype)]
        rows = np.zeros(len(codes), row)
        rows["n_columns"], rows["size"], rows["id"], rows["code"] = 2, 8, ids, code
        return rows.tobytes()
    texts = [item.encode() for item in ids.tolist()]
    heads = [b"\0\2" + len(text).to_bytes(4, "big") + text for text in texts]
    tails, size = code.tobytes(), code.itemsize
    return b"".join(head + tails[size * i : size * (i + 1)] for i, head in enumerate(heads))
