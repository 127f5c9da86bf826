"""Packed codes and their ids in files and databases: written, read back and searched there."""

from skhash.export._arrow import from_arrow, read_parquet, to_arrow, write_parquet
from skhash.export._clickhouse import (
    clickhouse_sql,
    read_clickhouse,
    search_clickhouse,
    write_clickhouse,
)
from skhash.export._faiss import read_faiss, write_faiss
from skhash.export._lancedb import read_lancedb, search_lancedb, write_lancedb
from skhash.export._postgres import (
    postgres_sql,
    read_postgres,
    search_postgres,
    write_postgres,
)
from skhash.export._shards import iter_shards, read_shards
from skhash.export._stored import StoredCodes

__all__ = [
    "StoredCodes",
    "clickhouse_sql",
    "from_arrow",
    "iter_shards",
    "postgres_sql",
    "read_clickhouse",
    "read_faiss",
    "read_lancedb",
    "read_parquet",
    "read_postgres",
    "read_shards",
    "search_clickhouse",
    "search_lancedb",
    "search_postgres",
    "to_arrow",
    "write_clickhouse",
    "write_faiss",
    "write_lancedb",
    "write_parquet",
    "write_postgres",
]
