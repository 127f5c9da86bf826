"""Repeat the experiments of deep semantic ranking hashing on a data set, and report them.

    python benchmarks/paper.py digits                                     # no download
    python benchmarks/paper.py mirflickr25k --data mirflickr25k_128.npz
    python benchmarks/paper.py nus-wide-21 --data NUS-WIDE/
    python benchmarks/paper.py mirflickr25k --report                      # of what was run

Methods x code lengths x splits, under the paper's protocol (the database is the training set) and
on images that were never seen, and the ablations of the paper at one length. A line of JSON for
each is added to ``--output`` as soon as it is there; the same command goes on where it was ended,
and runs again what failed. In the end, or with ``--report`` alone, a page of HTML without other
files has all that there is: tables, curves against bits and ranks, ablations, sizes and versions.

Hashers get features of EfficientNet-Lite0 with ImageNet weights, which are made once and kept in
``--output``; on scenes of digits, shallow hashers get pixels and deep ones a small network.
Hyper-parameters are constants of ``_methods.py``. Exit codes: 0 done, 1 if a cell failed, 2 for
wrong input.
"""

import argparse
import sys
from functools import cache
from itertools import product
from pathlib import Path

from _data import DATASETS
from _methods import ABLATIONS, PAPER_METHODS, paper_methods
from _records import read_records
from _report import write_report
from _runs import (
    Cell,
    cell_of,
    rounded,
    run_cell,
    run_cells,
    scores_and_curves,
    sizes_of,
    split_of,
    versions,
)
from rich.console import Console

FEATURES = (
    "1,280 pooled features of EfficientNet-Lite0 with ImageNet weights, of whole images of 128 "
    "pixels, averaged over an image and its mirror image, their square roots scaled to unit length"
)
PIXELS = "rows of pixels for shallow hashers, images for a small convolutional network"
# By name: what the data are.
TITLES = {
    "mirflickr25k": "MIRFLICKR-25K",
    "nus-wide-81": "NUS-WIDE, 81 labels",
    "nus-wide-21": "NUS-WIDE, 21 labels",
    "coco": "MS-COCO",
    "coco17": "MS-COCO, 17 labels",
    "voc2007": "PASCAL VOC 2007",
    "voc2012": "PASCAL VOC 2012",
    "cifar10": "CIFAR-10",
    "digits": "Scenes of digits",
}


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("dataset", choices=TITLES)
    add("--data", help="the data set: its folder, or a pack (.npz)")
    add("--protocol", choices=["paper", "unseen"], nargs="+", default=["paper", "unseen"])
    add("--bits", type=int, nargs="+", default=[16, 32, 48, 64])
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--methods", nargs="+", choices=PAPER_METHODS, default=PAPER_METHODS, metavar="METHOD")
    add("--ablations", action=argparse.BooleanOptionalAction, default=True)
    add("--curve-bits", type=int, default=48, help="length for ablations and curves (default 48)")
    add("--n-queries", type=int, help="number of queries, instead of the data set's")
    add("--output", type=Path, default=Path(__file__).parent / "results")
    add("--report", action="store_true", help="run nothing, report what there is")
    return parser, parser.parse_args()


def cells_of(args):
    """Return what is asked for, each once: all of a split before the next."""
    cells = {}
    for seed, protocol in product(args.seeds, args.protocol):
        for n_bits, method in product(args.bits, args.methods):
            cells[Cell(protocol, method, n_bits, seed)] = None
        if args.ablations:
            for method in ablated(args.methods):
                cells[Cell(protocol, method, args.curve_bits, seed)] = None
    return list(cells)


def ablated(methods):
    """Return the methods that have variants, and these."""
    variants = [name for name, (whose, _) in ABLATIONS.items() if whose in methods]
    return [*dict.fromkeys(ABLATIONS[name][0] for name in variants), *variants]


def check_same_data(records, file, sizes):
    """Raise if earlier results are of other data."""
    for record in records:
        expected = sizes.get(record["protocol"])
        if expected is not None and any(record[name] != n for name, n in expected.items()):
            got = {name: record[name] for name in expected}
            raise ValueError(
                f"{file} has results of other data: {got}, where these are {expected}. "
                "Delete it or name another --output."
            )


def run_missing(args, cells, raw_file, console):
    """Run the cells that lack; return why some failed."""
    data = DATASETS[args.dataset](args.data, args.output)
    n_labels = data.labels.shape[1]
    methods = paper_methods(data.kind)

    @cache
    def split(protocol, seed):
        return split_of(data, protocol, seed, n_queries=args.n_queries)

    sizes = {
        protocol: sizes_of(split(protocol, args.seeds[0]), n_labels) for protocol in args.protocol
    }
    check_same_data(read_records(raw_file), raw_file, sizes)

    def run(cell):
        own = split(cell.protocol, cell.seed)
        method = methods[cell.method]
        result = run_cell(method, data, cell.n_bits, cell.seed, own, scores_and_curves)
        record = {"dataset": args.dataset} | cell._asdict() | sizes[cell.protocol]
        return rounded(record | {"versions": versions()} | result)

    _, failures = run_cells(cells, run, raw_file, console)
    return failures


def report(args, cells, failures, raw_file, console):
    """Write the page of all records that there are."""
    records = read_records(raw_file)
    done = {cell_of(record) for record in records}
    about = {
        "title": TITLES[args.dataset],
        "dataset": args.dataset,
        "features": PIXELS if args.dataset == "digits" else FEATURES,
        "curve_bits": args.curve_bits,
        "missing": [cell for cell in cells if cell not in done],
        "failures": failures,
    }
    file = raw_file.with_suffix(".html")
    write_report(file, records, about)
    n_done = len(cells) - len(about["missing"])
    console.print(f"{n_done} of {len(cells)} results. Report: {file}", markup=False)


def main():
    """Run what lacks, and report."""
    parser, args = parse_args()
    console = Console(soft_wrap=True)
    cells = cells_of(args)
    raw_file = args.output / f"paper-{args.dataset}.jsonl"
    failures = {}
    try:
        if args.report and not read_records(raw_file):
            raise ValueError(f"{raw_file} has no results to report. Run without --report first.")
        args.output.mkdir(parents=True, exist_ok=True)
        if not args.report:
            failures = run_missing(args, cells, raw_file, console)
    except (OSError, ValueError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    if raw_file.exists():
        report(args, cells, failures, raw_file, console)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
