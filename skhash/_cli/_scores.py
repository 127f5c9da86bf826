"""Metrics of every query, a batch of queries at a time, for the commands that report them."""

from dataclasses import dataclass

import numpy as np
from sklearn.utils import gen_batches

import skhash
from skhash._cli._codes import read_codes
from skhash._cli._labels import read_labels_of
from skhash._cli._talk import progress

__all__ = ["METRICS", "Problem", "add_metric_arguments", "cuts_of", "score_queries"]

METRICS = {
    "ndcg": "NDCG",
    "acg": "ACG",
    "average_precision": "AP",
    "weighted_average_precision": "weighted AP",
    "precision": "precision",
    "recall": "recall",
    "reciprocal_rank": "reciprocal rank",
}
# Queries that are counted at once.
_BATCH = 1024


@dataclass
class Problem:
    """Codes and labels of items, and of queries if they are others.

    Parameters
    ----------
    items, queries : Codes
        Codes. Without queries each item ranks the others.

    y_items, y_queries : ndarray
        Their labels.
    """

    items: object
    y_items: np.ndarray
    queries: object = None
    y_queries: np.ndarray = None

    @classmethod
    def read(cls, codes, labels=None, queries=None, query_labels=None, n_bits=None):
        """Read codes and labels of files.

        Parameters
        ----------
        codes, queries : str or Codes
            Codes of items, and of queries if they are others.

        labels, query_labels : str
            Files of their labels; None: those of a model, or, for queries, those of `labels` by
            ids.

        n_bits : int
            Number of bits of a code, where codes are packed.

        Returns
        -------
        problem : Problem
            The problem.

        Raises
        ------
        ValueError
            If codes and labels do not match.
        """
        items = read_codes(codes, n_bits)
        y_items = _labels_of(items, codes, labels)
        if queries is None:
            return cls(items, y_items)
        queries_read = read_codes(queries, n_bits or items.n_bits)
        return cls(
            items, y_items, queries_read, _labels_of(queries_read, queries, query_labels or labels)
        )

    def packed(self):
        """Return packed codes and packed label sets: of queries, then of items."""
        pack = skhash.codes.pack_codes
        Y_items, Y_queries = _indicators(self.y_items, self.y_queries)
        items = self.items.codes, pack(Y_items)
        if self.queries is None:
            return *items, *items
        return self.queries.codes, pack(Y_queries), *items


def _labels_of(codes, path, labels):
    """Return the labels of codes, of a file or of their model."""
    if labels is not None:
        return read_labels_of(codes.ids, labels).of(codes.ids, len(codes))
    if codes.y is None:
        raise ValueError(f"{path} says no labels of its items. Give a file of them.")
    return codes.y


def _indicators(*ys):
    """Return label sets as indicator matrices of the same labels; None stays None."""
    given = [y for y in ys if y is not None]
    if len({y.ndim for y in given}) > 1:
        raise ValueError("Queries and items should both have class labels, or both label sets.")
    if given[0].ndim == 1:
        classes = np.unique(np.concatenate(given))
        return [None if y is None else y[:, None] == classes for y in ys]
    if len({y.shape[1] for y in given}) > 1:
        shapes = " and ".join(str(y.shape[1]) for y in given)
        raise ValueError(f"Queries and items should have the same labels, got {shapes} of them.")
    return [None if y is None else np.asarray(y) for y in ys]


def score_queries(problem, metrics, cuts, *, empty=0, what="scoring"):
    """Evaluate metrics for every query.

    Parameters
    ----------
    problem : Problem
        Codes and labels.

    metrics : list of str
        Names of metrics.

    cuts : list of (str, int or None)
        Pairs of "k" or "radius", and a number.

    empty : {0, 1, "nan"}, default=0
        Value of a query without any relevant item.

    what : str
        What the bar of progress is called.

    Returns
    -------
    values : dict of (str, (str, int or None)) to ndarray of shape (n_queries,)
        Value of each query, by metric and cut.
    """
    codes, labels, item_codes, item_labels = problem.packed()
    own, n_bits = problem.queries is None, problem.items.n_bits
    if own and len(codes) < 2:
        raise ValueError("Each item ranks the others: there should be 2 at least, got 1.")
    parts = {(metric, cut): [] for cut in cuts for metric in metrics}
    batches = list(gen_batches(len(codes), _BATCH))
    for rows in progress(batches, len(batches), what):
        histogram = skhash.metrics.HammingHistogram.from_packed(
            codes[rows], labels[rows], item_codes, item_labels, n_bits=n_bits
        )
        if own:
            histogram = _without_own(histogram, labels[rows])
        for (metric, (name, number)), found in parts.items():
            found.append(histogram.evaluate(metric, **{name: number}, empty=empty))
    return {key: np.concatenate(found) for key, found in parts.items()}


def _without_own(histogram, labels):
    """Return counts without each query itself, which is at distance 0 and shares all labels."""
    sizes = np.bitwise_count(labels).sum(axis=1)
    counts = histogram.counts.copy()
    counts[np.arange(len(counts)), 0, sizes] -= 1
    return skhash.metrics.HammingHistogram(counts)


def add_metric_arguments(parser):
    """Add the arguments that say which metrics.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Parser of a command.
    """
    add = parser.add_argument
    add(
        "--metrics",
        nargs="+",
        choices=list(METRICS),
        default=list(METRICS),
        metavar="NAME",
        help=f"of {', '.join(METRICS)} (default: all)",
    )
    add("--k", nargs="+", type=_rank, default=None, metavar="K", help="ranks, or 'all' (100)")
    add("--radius", nargs="+", type=int, default=[], metavar="R", help="also within this distance")
    add("--bits", type=int, metavar="N", help="length of codes, where they are packed")
    add("--empty", choices=["0", "1", "nan"], default="0", help="value of a query without match")
    add("--seed", type=int, default=0, metavar="N", help="of resampled queries (default 0)")


def _rank(text):
    """Return a number of ranks, None for all."""
    return None if text == "all" else int(text)


def cuts_of(args):
    """Return the cut-offs that were asked for, and what queries without match count.

    Parameters
    ----------
    args : argparse.Namespace
        With what :func:`add_metric_arguments` added.

    Returns
    -------
    cuts : list of (str, int or None)
        Pairs of "k" or "radius", and a number.

    empty : {0, 1, "nan"}
        The value.
    """
    k = args.k if args.k is not None else [] if args.radius else [100]
    cuts = [*(("k", number) for number in k), *(("radius", number) for number in args.radius)]
    return cuts, args.empty if args.empty == "nan" else int(args.empty)
