"""Compare hashers on one data set: methods x code lengths x seeds.

    python benchmarks/compare.py                            # digit scenes, about 3 minutes
    python benchmarks/compare.py --dataset mirflickr25k --data mirflickr25k_128.npz
    python benchmarks/compare.py --dataset coco17 --data coco17_128.npz
    python benchmarks/compare.py --dataset mirflickr25k-losses --data mirflickr25k_128.npz
    python benchmarks/compare.py --features X.npy --labels Y.npy --hasher package.module:Class
    python benchmarks/compare.py --images photos --labels labels.csv

Each seed draws its own split, and seeds the hashers. ``--protocol`` says what is ranked:

* ``unseen``: half of what is no query is the training set, the other half the database. The
  images that are ranked were never seen in training.
* ``paper``: all that is no query is both. The hashers rank their own training set.
* ``literature``: 1,000 queries, 4,000 training images, the rest (20,000 of MIRFLICKR-25K) is the
  database.
* ``labelled``: as ``literature``, without the images that have no label.

Own data are feature rows (``.npy``, memory-mapped) with labels: an indicator matrix or class
labels in a ``.npy`` file, or CSV; or a folder of images with labels as CSV or, without
``--labels``, by sub-folder, of which features of EfficientNet-Lite0 are made once and kept in
``--output``. Own hashers are classes derived from `skhash.base.BaseHasher`. They get the features,
and `n_bits` and `random_state` if they have these parameters.

No hyper-parameter is chosen here: they are constants of ``_methods.py``, chosen on parts of the
training sets (see ``benchmarks/README.md``).

Prints a table of NDCG@100, also with weights of the bits of a query ("asymmetric") and, of deep
hashers, by relaxed codes of both sides ("relaxed"), of ACG@100, weighted mAP, mAP, and mAP@1000 as
HashNet and others count it, all exact under ties, mean and standard deviation over seeds. Writes
the raw results as JSON lines, the table as Markdown and a plot of NDCG@100 against the number of
bits into ``--output``. Exit codes: 0 done, 1 if a cell failed, 2 for wrong input.
"""

import argparse
import sys
from itertools import product
from pathlib import Path

from _data import DATASETS, own_features, own_images
from _figures import plot
from _methods import methods_for, own_method
from _runs import PROTOCOLS, Cell, run_cell, run_cells, scores_of, split_of
from _tables import print_table, summarise, write_markdown
from rich.console import Console

# What a wrong file, value or class raises.
FAULTS = (OSError, ValueError, TypeError, ImportError)


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", choices=DATASETS, help="digits, if no other data are named")
    source.add_argument("--features", metavar="X.npy", help="own feature rows, with --labels")
    source.add_argument("--images", metavar="FOLDER", help="own images")
    add("--labels", metavar="FILE", help="labels of own data: .npy, CSV or Parquet")
    add("--protocol", choices=PROTOCOLS, default="unseen")
    add("--data", help="the data set: its folder, or a pack (.npz)")
    add("--n-train", type=int, help="number of training images, instead of the protocol's")
    add("--n-queries", type=int, help="number of queries, instead of the data set's")
    add("--bits", type=int, nargs="+", default=[16, 32, 64])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--methods", nargs="+", help="which methods to run; all if not given")
    add(
        "--hasher",
        metavar="[NAME=]MODULE:CLASS",
        action="append",
        default=[],
        help="an own hasher beside the methods, again and again",
    )
    add("--output", type=Path, default=Path(__file__).parent / "results")
    add("--resume", action="store_true", help="keep the raw results there are, run what lacks")
    args = parser.parse_args()
    if args.features and not args.labels:
        parser.error("--features X.npy needs --labels")
    if args.labels and not (args.features or args.images):
        parser.error("--labels are of own data: give them with --features or --images")
    if args.data and (args.features or args.images):
        parser.error("--data is where a --dataset is: leave it out with own data")
    return parser, args


def read_data(args):
    """Return the name of the data, and the data."""
    if args.features:
        return Path(args.features).stem, own_features(args.features, args.labels)
    if args.images:
        name = Path(args.images).resolve().name
        return name, own_images(args.images, args.labels, args.output)
    name = args.dataset or "digits"
    return name, DATASETS[name](args.data, args.output)


def choose_methods(args, kind):
    """Return the methods asked for, and the own hashers."""
    known = methods_for(kind)
    own = [own_method(text, args.bits[0]) for text in args.hasher]
    names = [*known, *(name for name, _ in own)]
    if len(set(names)) < len(names):
        raise ValueError(
            "An own hasher should have a name that no other method has: NAME=MODULE:CLASS, got "
            f"{', '.join(name for name, _ in own)}."
        )
    unknown = set(args.methods or ()) - set(known)
    if unknown:
        raise ValueError(f"--methods should be among {list(known)}, got {sorted(unknown)}.")
    wanted = {name: known[name] for name in known if name in (args.methods or known)}
    return wanted | dict(own)


def file_stem(name, args):
    """Return how files of a run are called."""
    stem = f"{name}-{args.protocol}" + (f"-{args.n_train}" if args.n_train else "")
    return stem + (f"-q{args.n_queries}" if args.n_queries else "")


def main():
    """Run the comparison."""
    parser, args = parse_args()
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        name, data = read_data(args)
        if args.protocol == "labelled":
            data = data.labelled()
        methods = choose_methods(args, data.kind)
        given = {"n_queries": args.n_queries, "n_train": args.n_train}
        splits = {seed: split_of(data, args.protocol, seed, **given) for seed in args.seeds}
    except FAULTS as error:
        parser.error(" ".join(str(error).split()))

    def run(cell):
        record = {"dataset": name} | cell._asdict()
        split = splits[cell.seed]
        method = methods[cell.method]
        return record | run_cell(method, data, cell.n_bits, cell.seed, split, scores_of)

    console = Console()
    stem = file_stem(name, args)
    raw_file = args.output / f"{stem}.jsonl"
    if not args.resume:
        raw_file.write_text("")
    cells = [
        Cell(args.protocol, method, n_bits, seed)
        for seed, n_bits, method in product(args.seeds, args.bits, methods)
    ]
    records, failures = run_cells(cells, run, raw_file, console)
    if records:
        summary = summarise(records)
        sizes = {part: len(rows) for part, rows in splits[args.seeds[0]].items()}
        title = (
            f"{name}, {args.protocol}: {sizes['query']:,} queries, training set of "
            f"{sizes['train']:,}, database of {sizes['database']:,}, {len(args.seeds)} seeds"
        )
        print_table(summary, title, console)
        write_markdown(summary, args.output / f"{stem}.md")
        plot(summary, stem, args.output / f"{stem}.png")
        console.print(f"Raw results, table and plot: {args.output}/{stem}.{{jsonl,md,png}}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
