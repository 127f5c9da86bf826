"""Encode images or feature rows into a folder of packed codes with ids.

SOURCE is a folder of images, a .npy file of rows, or a Parquet file or folder. Killed at any
moment, the same command goes on where it was. The ids of images are their paths in the folder.
"""

import skhash
from skhash._cli._codes import read_model
from skhash._cli._files import load_npy
from skhash._cli._talk import print_json, say

NAME = "encode"
HELP = "images or feature rows to a folder of codes"
EXAMPLES = """\
  skhash encode photos.model photos --out photos-codes
  skhash encode photos.model photos --out photos-codes --on-error skip --format parquet
  skhash encode itq.model X.npy --out codes
  skhash encode itq.model features.parquet --ids name --out codes --shard-size 1000000
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="what train wrote")
    add("source", metavar="SOURCE", help="folder of images, .npy or Parquet")
    add("--out", metavar="DIR", required=True, help="folder to write")
    add("--format", choices=["npy", "parquet"], default="npy", help="of the shards (npy)")
    add("--on-error", choices=["raise", "skip"], default="raise", help="of damaged files (raise)")
    add("--queries", action="store_true", help="encode as queries, not as items to be found")
    add("--ids", metavar="COLUMN", help="column of a Parquet file that holds the ids")
    add("--columns", metavar="COLUMN", nargs="+", help="columns of a Parquet file to encode")
    add("--shard-size", metavar="N", type=int, default=2**16, help="rows of a shard (65536)")
    add("--batch-size", metavar="N", type=int, help="rows that are encoded at once")
    add("--engine", choices=["local", "ray"], default="local", help="(local)")
    add("--workers", metavar="N", type=int, help="processes of --engine ray")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    add("--hasher", metavar="MODULE:CLASS", help="class of a model that is not of skhash")


def run(args):
    """Run the command."""
    hasher = read_model(args.model, args.hasher, device=args.device)
    if args.source.endswith(".npy"):
        load_npy(args.source)
    encoded = skhash.encode(
        hasher,
        args.source,
        args.out,
        ids=args.ids,
        columns=args.columns,
        method="transform" if args.queries else "encode_database",
        file_format=args.format,
        shard_size=args.shard_size,
        batch_size=args.batch_size,
        on_error=args.on_error,
        engine=args.engine,
        n_workers=args.workers,
        verbose=not args.quiet,
    )
    if encoded.n_skipped:
        say(f"{encoded.n_skipped} files were skipped: {encoded.skipped} names them")
    counts = {name: encoded[name] for name in ("n_rows", "n_codes", "n_skipped", "n_shards")}
    print_json({"folder": str(encoded.folder)} | counts)
