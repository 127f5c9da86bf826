"""Export a model as ONNX, or codes to Parquet, faiss, PostgreSQL, ClickHouse or LanceDB.

The ending of DESTINATION says which: .onnx, .parquet, .faiss, .lance (a folder of LanceDB), or the
address postgresql://... or clickhouse://... of a server. Codes of a model are those of its
database. A table or file of codes holds them packed, with their ids.
"""

from contextlib import contextmanager
from pathlib import Path

import skhash
from skhash._cli._codes import read_codes, read_ids, read_model
from skhash._cli._talk import say

NAME = "export"
HELP = "a model as ONNX, codes to Parquet, faiss, PostgreSQL, ClickHouse, LanceDB"
EXAMPLES = """\
  skhash export photos.model photos.onnx
  skhash export photos-codes photos.parquet
  skhash export photos.model photos.faiss
  skhash export photos-codes postgresql://localhost/images --table photos
  skhash export codes.npy stored.lance --bits 48 --table photos
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("source", metavar="MODEL|CODES", help="a model, or codes")
    add("destination", metavar="DESTINATION", help="file, folder or address to write to")
    add("--table", default="codes", metavar="NAME", help="name of a table (default: codes)")
    add("--ids", metavar="FILE", help="ids of the items (.npy or lines), if codes have none")
    add("--bits", type=int, metavar="N", help="length of codes, where they are packed")
    add("--hasher", metavar="MODULE:CLASS", help="class of a model that is not of skhash")


def run(args):
    """Run the command."""
    address = args.destination.partition("://")
    kind = address[0] if address[1] else Path(args.destination).suffix.lower()
    if kind == ".onnx":
        _write_onnx(args)
    elif kind in _WRITERS:
        items = read_codes(args.source, args.bits)
        if args.ids is not None:
            items.ids = read_ids(args.ids, len(items))
        _WRITERS[kind](args.destination, args.table, items)
    else:
        raise ValueError(
            f"DESTINATION should end in .onnx, .parquet, .faiss or .lance, or be an address that "
            f"starts with postgresql:// or clickhouse://, got {args.destination!r}."
        )
    say(f"wrote {args.destination}")


def _write_onnx(args):
    model = read_model(args.source, args.hasher)
    if not hasattr(model, "to_onnx"):
        raise ValueError(f"A {type(model).__name__} is no network, which ONNX would hold.")
    model.to_onnx(args.destination)


def _write_parquet(path, _table, items):
    skhash.export.write_parquet(path, items.codes, n_bits=items.n_bits, ids=items.ids)


def _write_faiss(path, _table, items):
    ids = items.ids
    if ids is not None and ids.dtype.kind not in "iu":
        say("an index of faiss holds no ids of text: it has row numbers instead")
        ids = None
    skhash.export.write_faiss(path, items.codes, n_bits=items.n_bits, ids=ids)


def _write_postgres(address, table, items):
    import psycopg

    with _told(address, psycopg.Error), psycopg.connect(address) as connection:
        skhash.export.write_postgres(
            connection, table, items.codes, n_bits=items.n_bits, ids=items.ids
        )


def _write_clickhouse(address, table, items):
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import Error

    with _told(address, Error):
        client = clickhouse_connect.get_client(dsn=address)
        skhash.export.write_clickhouse(
            client, table, items.codes, n_bits=items.n_bits, ids=items.ids
        )


def _write_lancedb(folder, table, items):
    import lancedb

    connection = lancedb.connect(folder)
    skhash.export.write_lancedb(connection, table, items.codes, n_bits=items.n_bits, ids=items.ids)


@contextmanager
def _told(address, kind):
    """Tell an error of a driver as one of the input."""
    try:
        yield
    except kind as error:
        raise ValueError(f"{address}: {error}") from error


_WRITERS = {
    ".parquet": _write_parquet,
    ".faiss": _write_faiss,
    ".lance": _write_lancedb,
    "postgresql": _write_postgres,
    "postgres": _write_postgres,
    "clickhouse": _write_clickhouse,
}
