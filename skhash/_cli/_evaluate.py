"""Evaluate codes of whatever source: all metrics, with intervals over queries.

Codes and labels are .npy or Parquet files, codes also those of a model, of an index of faiss or of
a folder that encode wrote. Codes are of 0 and 1, of -1 and 1, or packed. Labels go with codes by
ids where both have them, and else row by row. A model has labels of its own. Without --queries
each item ranks the others.
"""

import numpy as np

import skhash
from skhash._cli._scores import METRICS, Problem, add_metric_arguments, cuts_of, score_queries
from skhash._cli._tables import Table, render
from skhash._cli._talk import print_json

NAME = "evaluate"
HELP = "all metrics of codes and labels, with intervals"
EXAMPLES = """\
  skhash evaluate codes.npy labels.npy
  skhash evaluate database.npy labels.npy --queries q.npy --query-labels ql.npy --k 10 100 all
  skhash evaluate codes.parquet labels.csv --metrics ndcg precision --radius 2 --json
  skhash evaluate photos.model
  skhash evaluate photos-codes folders
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("codes", metavar="CODES", help="codes of the items")
    add("labels", metavar="LABELS", nargs="?", help="of the items; 'folders': of their ids")
    add("--queries", metavar="CODES", help="codes of queries, if they are no items")
    add("--query-labels", metavar="LABELS", help="their labels")
    add_metric_arguments(parser)
    add("--json", action="store_true", help="print JSON")


def run(args):
    """Run the command."""
    cuts, empty = cuts_of(args)
    problem = Problem.read(args.codes, args.labels, args.queries, args.query_labels, args.bits)
    values = score_queries(problem, args.metrics, cuts, empty=empty)
    rows = [_summary(*key, found, args.seed) for key, found in values.items()]
    about = {
        "n_bits": problem.items.n_bits,
        "n_items": len(problem.items),
        "n_queries": len(next(iter(values.values()))),
    }
    if args.json:
        print_json(about | {"protocol": _protocol(problem), "metrics": rows})
        return
    title = f"{about['n_bits']} bits, {about['n_queries']} queries, {about['n_items']} items"
    cells = [[METRICS[row["metric"]], _cut_text(row), *_numbers(row)] for row in rows]
    print(render([Table(title, ["metric", "at", "mean", "95 % interval"], cells)], "text"))


def _protocol(problem):
    return "leave_one_out" if problem.queries is None else "database"


def _summary(metric, cut, values, seed):
    """Return the mean of a metric and its interval, None where there is none."""
    row = {"metric": metric, cut[0]: cut[1], "mean": None, "interval": None}
    known = values[~np.isnan(values)]
    if len(known):
        row["mean"] = float(known.mean())
    if len(known) > 1:
        ends = skhash.metrics.bootstrap_interval(known, random_state=seed)
        row["interval"] = [float(end) for end in ends]
    return row


def _cut_text(row):
    if "radius" in row:
        return f"radius {row['radius']}"
    return "all" if row["k"] is None else str(row["k"])


def _numbers(row):
    mean, ends = row["mean"], row["interval"]
    text = "-" if mean is None else f"{mean:.4f}"
    return [text, "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"]
