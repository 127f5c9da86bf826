"""Compare codes of several methods on the same queries.

A table has the mean of each metric with its interval. A second one has the differences to the
first method, query by query, with intervals and p-values: of a permutation test that exchanges
the two methods at random for each query, two-sided, one comparison at a time. A method is codes
each of which ranks the others, or QUERIES,DATABASE; with NAME= in front it has that name.
"""

import json
from pathlib import Path

import numpy as np

import skhash
from skhash._cli._scores import METRICS, Problem, add_metric_arguments, cuts_of, score_queries
from skhash._cli._tables import FORMATS, Table, render
from skhash._cli._talk import say
from skhash._io import replaced_file

NAME = "compare"
HELP = "several methods: metrics, paired differences, p-values"
EXAMPLES = """\
  skhash compare itq.npy ksh.npy deep.npy --labels labels.npy
  skhash compare ITQ=q1.npy,db1.npy KSH=q2.npy,db2.npy --labels db_labels.npy \\
      --query-labels q_labels.npy --format latex --out table.tex
  skhash compare a.parquet b.parquet --labels labels.csv --metrics ndcg --k 10 100 --format html
"""


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    add = parser.add_argument
    add("methods", metavar="[NAME=]CODES", nargs="+", help="codes, or QUERIES,DATABASE")
    add("--labels", metavar="LABELS", help="labels of the items, or 'folders'")
    add("--query-labels", metavar="LABELS", help="labels of the queries of QUERIES,DATABASE")
    add("--baseline", metavar="NAME", help="the method to compare with (default: the first)")
    add("--format", choices=[*FORMATS, "json"], default="text", help="(default: text)")
    add("--out", metavar="FILE", help="file to write (default: standard output)")
    add_metric_arguments(parser)


def run(args):
    """Run the command."""
    cuts, empty = cuts_of(args)
    methods = dict(map(_named, args.methods))
    if len(methods) < max(2, len(args.methods)):
        raise ValueError(f"Expected two methods or more, of different names, got {args.methods}.")
    baseline = args.baseline or next(iter(methods))
    if baseline not in methods:
        raise ValueError(f"--baseline should be one of {', '.join(methods)}, got {baseline!r}.")
    values = _score_all(methods, args, cuts, empty)
    report = {
        "baseline": baseline,
        "n_queries": len(next(iter(values[baseline].values()))),
        "metrics": [
            _mean(name, key, found, args.seed)
            for name, of_method in values.items()
            for key, found in of_method.items()
        ],
        "differences": [
            _difference(name, key, found, values[baseline][key], args.seed)
            for name, of_method in values.items()
            if name != baseline
            for key, found in of_method.items()
        ],
    }
    _write(report, list(next(iter(values.values()))), args)


def _named(text):
    """Return the name of a method, and its files: of queries, if any, and of the database."""
    name, equals, files = text.partition("=")
    files = (files if equals else text).split(",")
    if len(files) > 2:
        raise ValueError(f"A method is CODES or QUERIES,DATABASE, got {text!r}.")
    return (name if equals else Path(files[-1]).stem), files


def _score_all(methods, args, cuts, empty):
    """Return the values of each query by method, all in the order of the first."""
    values, first = {}, None
    for name, files in methods.items():
        queries = files[0] if len(files) == 2 else None
        problem = Problem.read(files[-1], args.labels, queries, args.query_labels, args.bits)
        found = score_queries(problem, args.metrics, cuts, empty=empty, what=f"scoring {name}")
        ranked = problem.items if queries is None else problem.queries
        first = ranked if first is None else first
        order = _order(ranked, first, name)
        values[name] = {key: value[order] for key, value in found.items()}
    return values


def _order(queries, first, name):
    """Return the rows of queries in the order of those of the first method, or raise."""
    if len(queries) != len(first):
        raise ValueError(
            f"Methods should be compared on the same queries: {name} has {len(queries)}, the "
            f"first has {len(first)}."
        )
    if queries.ids is None or first.ids is None:
        return slice(None)
    rows = {str(key): row for row, key in enumerate(queries.ids)}
    missing = [key for key in map(str, first.ids) if key not in rows]
    if missing:
        raise ValueError(f"{name} has no query {missing[0]!r}, which the first method has.")
    return np.array([rows[str(key)] for key in first.ids])


def _mean(name, key, values, seed):
    """Return the mean of a metric and its interval."""
    known = values[~np.isnan(values)]
    ends = skhash.metrics.bootstrap_interval(known, random_state=seed)
    mean = float(known.mean())
    return _keyed(name, key) | {"mean": mean, "interval": [float(end) for end in ends]}


def _difference(name, key, values, others, seed):
    """Return how much higher a metric is than that of another method, on the same queries."""
    found = skhash.metrics.paired_difference(values, others, random_state=seed)
    return _keyed(name, key) | {
        "difference": float(found.difference),
        "interval": [float(found.low), float(found.high)],
        "p_value": float(found.p_value),
    }


def _keyed(name, key):
    metric, (cut, number) = key
    return {"method": name, "metric": metric, cut: number}


def _write(report, keys, args):
    """Print the report, or write it to the file that was asked for."""
    if args.format == "json":
        text = json.dumps(report, indent=2)
    else:
        text = render(_tables(report, keys), args.format)
    if args.out is None:
        print(text)
        return
    with replaced_file(args.out) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    say(f"wrote {args.out}")


def _tables(report, keys):
    """Return a table of means, and one of differences."""
    columns = ["method", *map(_heading, keys)]
    means, n = {}, report["n_queries"]
    for row in report["metrics"]:
        means.setdefault(row["method"], []).append(f"{row['mean']:.4f} {_interval(row)}")
    rows = [[name, *cells] for name, cells in means.items()]
    title = f"Mean over {n} queries [95 % interval]"
    n_keys = len(keys)
    differences = [
        [
            row["method"],
            columns[1 + i % n_keys],
            f"{row['difference']:+.4f}",
            _interval(row, "+"),
            _p_text(row["p_value"]),
        ]
        for i, row in enumerate(report["differences"])
    ]
    heads = ["method", "metric", "difference", "95 % interval", "p"]
    against = f"Difference to {report['baseline']} on the same queries"
    return [Table(title, columns, rows), Table(against, heads, differences, names=(0, 1))]


def _heading(key):
    metric, (cut, number) = key
    if cut == "radius":
        return f"{METRICS[metric]}, radius {number}"
    return METRICS[metric] if number is None else f"{METRICS[metric]}@{number}"


def _interval(row, sign=""):
    low, high = row["interval"]
    return f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def _p_text(p_value):
    return f"{p_value:.4f}" if p_value >= 0.0001 else "< 0.0001"
