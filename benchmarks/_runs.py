"""Cells of a comparison, each a hasher on a split: run where they lack, kept as lines of JSON."""

import math
import time
import warnings
from functools import partial
from importlib.metadata import version
from statistics import mean
from typing import NamedTuple

import numpy as np
from _records import append_record, cut_off_unfinished, read_records
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import skhash
from skhash import DeepRankingHasher
from skhash.codes import unpack_codes
from skhash.datasets import retrieval_split
from skhash.metrics import HammingHistogram, ndcg_score

# Of a histogram, a value for each query.
METRICS = {
    "NDCG@100": partial(HammingHistogram.ndcg, k=100),
    "ACG@100": partial(HammingHistogram.acg, k=100),
    "wmAP": HammingHistogram.weighted_average_precision,
    "mAP": HammingHistogram.average_precision,
    "mAP@1000": partial(HammingHistogram.average_precision, k=1000, convention="authors"),
}
# Beside them, NDCG@100 of rankings that are not by Hamming distance, where a hasher has such.
OTHERS = ["signs", "asymmetric", "relaxed"]

# Numbers of ranks at which curves are kept.
RANKS = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000]

# What `retrieval_split` is asked for; the number of queries where a protocol has its own.
PROTOCOLS = {
    "unseen": {"train_in_database": False},
    "paper": {},
    "literature": {"n_queries": 1000, "n_train": 4000, "train_in_database": False},
    "labelled": {"n_queries": 1000, "n_train": 4000, "train_in_database": False},
}


class Cell(NamedTuple):
    """What is run once."""

    protocol: str
    method: str
    n_bits: int
    seed: int

    def __str__(self):
        return f"{self.method}, {self.n_bits} bits, seed {self.seed}, {self.protocol}"


def split_of(data, protocol, seed, **given):
    """Return the split of a seed by a protocol, of which given numbers take the place."""
    given = {name: value for name, value in given.items() if value is not None}
    options = {"n_queries": data.n_queries} | PROTOCOLS[protocol] | given
    return retrieval_split(len(data.target), random_state=seed, **options)


def run_cell(method, data, n_bits, seed, split, score):
    """Fit and score one hasher on one split; return a flat record."""
    make, view = method
    X, Y, labels = data.views[view], data.target, data.labels
    hasher = make(n_bits=n_bits, random_state=seed)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # More bits than canonical directions are expected here.
        warnings.filterwarnings("ignore", message="n_bits=.* is more than")
        hasher.fit(X[split.train], Y[split.train])
    fitted = time.perf_counter()
    codes = hasher.transform(X[split.query])
    transformed = time.perf_counter()
    if codes.shape[1] != n_bits:
        raise ValueError(f"The codes should have {n_bits} bits, got {codes.shape[1]}.")
    database = (
        unpack_codes(hasher.database_codes_, n_bits)
        if np.array_equal(split.database, split.train)
        else _encoded(hasher, X[split.database])
    )
    problem = codes, labels[split.query], database, labels[split.database]
    scores = score(HammingHistogram.from_codes(*problem))
    if hasattr(hasher, "bit_weights"):
        scores |= _other_rankings(hasher, problem, X[split.query], X[split.database])
    return {"fit_s": fitted - started, "transform_s": transformed - fitted} | scores


def _encoded(hasher, database):
    """Return the codes of the items of a database."""
    encode = getattr(hasher, "encode_database", hasher.transform)
    return encode(database)


def scores_of(histogram):
    """Return the mean of each metric over the queries."""
    return {name: float(metric(histogram).mean()) for name, metric in METRICS.items()}


def scores_and_curves(histogram):
    """Return these and curves, against the number of ranks and against the radius."""
    radii = np.arange(histogram.n_bits + 1)
    by_rank = {"NDCG": histogram.ndcg(k=RANKS), "ACG": histogram.acg(k=RANKS)}
    by_radius = {
        "precision": histogram.precision(radius=radii),
        "recall": histogram.recall(radius=radii),
    }
    return scores_of(histogram) | {
        "curves": {
            name: values.mean(axis=0).tolist() for name, values in (by_rank | by_radius).items()
        }
    }


def _other_rankings(hasher, problem, queries, database):
    """Return NDCG@100 of other rankings: asymmetric, of signs on both sides, of relaxed codes."""
    weights = hasher.bit_weights(queries)
    scores = {"asymmetric": ndcg_score(*problem, k=100, query_weights=weights)}
    if not isinstance(hasher, DeepRankingHasher):
        return scores
    _, query_labels, _, labels = problem
    relaxed, items = hasher.relaxed_codes(queries), hasher.relaxed_codes(database)
    scores["signs"] = ndcg_score(relaxed >= 0, query_labels, items >= 0, labels, k=100)
    return scores | {"relaxed": _relaxed_ndcg(relaxed @ items.T, query_labels, labels, 100)}


def _relaxed_ndcg(similarity, query_labels, labels, k):
    """Return NDCG@k of a ranking without ties, the most similar items first."""
    k = min(k, len(labels))
    discounts = 1 / np.log2(np.arange(2, k + 2))
    values = []
    for row, own in zip(similarity, query_labels, strict=True):
        gains = np.exp2(labels @ own.astype(np.float64)) - 1
        ideal = np.sort(gains)[: -k - 1 : -1] @ discounts
        order = np.argsort(-row, kind="stable")[:k]
        values.append(gains[order] @ discounts / ideal if ideal else 0.0)
    return float(mean(values))


def run_cells(cells, run, raw_file, console):
    """Run each cell that the raw results lack.

    Returns
    -------
    records : list of dict
        Records of the cells, in their order, without those that failed.

    failures : dict of Cell to str
        Why a cell has no record.
    """
    cut_off_unfinished(raw_file)
    done = {cell_of(record): record for record in read_records(raw_file)}
    records, failures = [], {}
    columns = [TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("", total=len(cells))
        for cell in cells:
            progress.update(task, description=str(cell))
            if cell not in done:
                # Hashers may raise anything, and the other cells are worth having.
                try:
                    record = run(cell)
                except Exception as error:
                    failures[cell] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    console.print(f"{cell}: {failures[cell]}", style="red", markup=False)
                else:
                    append_record(raw_file, record)
                    done[cell] = record
                    # A log has no bar that moves.
                    if not console.is_terminal:
                        console.print(f"{cell}: {record['fit_s']:.1f} s to fit", markup=False)
            if cell in done:
                records.append(done[cell])
            progress.advance(task)
    return records, failures


def cell_of(record):
    """Return what a record is of."""
    return Cell(*(record[name] for name in Cell._fields))


def sizes_of(split, n_labels):
    """Return how many samples and labels a cell has."""
    sizes = {f"n_{name}": len(split[name]) for name in ("query", "train", "database")}
    return sizes | {"n_labels": n_labels}


def versions():
    """Return the versions that figures may depend on."""
    names = "numpy", "scikit-learn", "torch"
    return {"scikit-hash": skhash.__version__} | {name: version(name) for name in names}


def rounded(value, digits=5):
    """Return a record with its floats rounded, at any depth."""
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part, digits) for part in value]
    return round(value, digits) if isinstance(value, float) and math.isfinite(value) else value
