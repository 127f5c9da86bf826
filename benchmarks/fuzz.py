"""Fuzz run: a right value or a named error within a second, never anything else.

    python benchmarks/fuzz.py --examples 10000 --seed 0
    python benchmarks/fuzz.py --kind metrics --case "MetricCase(...)"    # one that failed

Hypothesis draws cases of five kinds. `fit` fits a hasher on rows of any dtype, layout, magnitude
and fault with labels of any form, and compares codes, `score`, `predict` and `kneighbors` with
slow forms written here. `save` fits, saves, loads and compares attributes and results. `metrics`
compares every metric with an enumeration of all orders of ties. `deep` does with a tiny deep
hasher what `fit` and `save` do. `files` encodes odd image files and compares the codes with those
of the pixels that Pillow reads.

An outcome is right; or a named error: ValueError, TypeError or OSError whose message names what
was got; or a failure: another exception, a RuntimeWarning, a wrong value, or more than a second of
the processor or ten of the wall (the deep `fit` apart). Failures are collected with the case,
whose repr can be given to `--case`.
Counts by kind are appended to measured/fuzz.jsonl.
"""

import argparse
import itertools
import json
import os
import re
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from _records import append_record
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy import sparse

import skhash
import skhash.metrics
from skhash.codes import hamming_distances, pack_codes, unpack_codes

# Share of the examples of each kind.
SHARES = {"fit": 0.25, "save": 0.1, "metrics": 0.55, "deep": 0.03, "files": 0.07}
HASHERS = {
    "LSHHasher": {},
    "SpectralHasher": {},
    "ITQHasher": {"max_iter": 3},
    "CCAITQHasher": {"max_iter": 3},
    "KSHHasher": {"n_anchors": 8, "max_iter": 5},
    "SDHHasher": {"n_anchors": 8, "max_iter": 2},
    "HDMLHasher": {"max_epochs": 2},
    "MLHHasher": {"max_epochs": 2},
    "BREHasher": {"n_anchors": 8, "max_iter": 2, "n_pair_samples": 20, "n_partners": 5},
}
# What a message that names what was got mentions at least one of.
NAMED = re.compile(
    r"\b(X|y|Y|n_bits|n_anchors|n_neighbors|k|radius|codes|\w+_codes|\w+_labels|\w+_weights?|weights|file"
    r"|features?|samples?|components|labels?|array|classes|empty|float|parameter)\b|fuzz-file"
)


class WrongError(AssertionError):
    """A wrong value."""


def require(is_right, what):
    """Raise unless a value is right."""
    if not is_right:
        raise WrongError(what)


# Rows and labels


@dataclass(frozen=True)
class Rows:
    """Feature rows, by what is odd about them."""

    seed: int
    n: int
    d: int
    dtype: str
    layout: str
    structure: str
    scale: float
    offset: float
    fault: str

    def values(self):
        """Return the numbers, before dtype and layout."""
        rng = np.random.default_rng(self.seed)
        X = rng.normal(size=(self.n, self.d))
        if self.structure == "constant":
            X[:] = X[0]
        elif self.structure == "constant column":
            X[:, 0] = 1.0
        elif self.structure == "duplicates":
            X = X[rng.integers(0, max(1, self.n // 4), self.n)]
        elif self.structure == "binary":
            X = (X > 0).astype(float)
        return X

    def make(self):
        """Return X in its layout."""
        with np.errstate(all="ignore"):
            X = (self.values() * self.scale + self.offset).astype(self.dtype)
        if self.fault in ("nan", "inf") and X.dtype.kind in "fO":
            X[self.n // 2, -1] = float(self.fault)
        elif self.fault == "text":
            X = X.astype(object)
            X[0, 0] = "text"
        return LAYOUTS[self.layout](X)


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "C": lambda X: X,
    "F": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1, ::-1],
    "read-only": _read_only,
    "list": lambda X: X.tolist(),
    "frame": lambda X: pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])]),
    "sparse": lambda X: sparse.csr_array(np.nan_to_num(X.astype(float))),
    "1D": lambda X: X[:, 0],
    "3D": lambda X: X[:, :, None],
}
SIZES = {
    "seed": st.integers(0, 2**31),
    "dtype": st.sampled_from(["f8"] * 4 + ["f4"] * 3 + ["f2", ">f8", "i8", "i1", "u1", "?", "O"]),
}
PLAIN_ROWS = st.builds(
    Rows,
    **SIZES,
    n=st.sampled_from([20, 21, 33]),
    d=st.integers(3, 9),
    layout=st.sampled_from(["C", "F", "strided", "reversed", "read-only", "list", "frame"]),
    structure=st.sampled_from(["normal", "constant column", "duplicates", "binary"]),
    scale=st.sampled_from([1.0, 3.7, 100.0]),
    offset=st.sampled_from([0.0, -20.0]),
    fault=st.just("none"),
)
ODD_ROWS = st.builds(
    Rows,
    **SIZES,
    n=st.sampled_from([1, 2, 3, 7, 20, 33]),
    d=st.integers(1, 6),
    layout=st.sampled_from(["C"] * 6 + list(LAYOUTS)),
    structure=st.sampled_from(["normal", "duplicates", "binary", "constant"]),
    scale=st.sampled_from([1.0] * 4 + [1e-300, 1e-150, 1e-40, 1e-20, 1e20, 1e38, 1e150, 1e307]),
    offset=st.sampled_from([0.0] * 6 + [1e3, -1e8, 1e30]),
    fault=st.sampled_from(["none"] * 6 + ["nan", "inf", "text"]),
)


@dataclass(frozen=True)
class Labels:
    """Label sets, by their form."""

    form: str
    seed: int
    n_labels: int
    shift: int

    def indicator(self, n):
        """Return an indicator matrix."""
        rng = np.random.default_rng(self.seed)
        return (rng.random((n, self.n_labels)) < 0.4).astype(np.uint8)

    def make(self, n):
        """Return y for n samples, `shift` too many."""
        n = max(0, n + self.shift)
        classes = np.random.default_rng(self.seed).integers(0, self.n_labels, n)
        return FORMS[self.form](self.indicator(n), classes)


def _missing(Y, classes):  # noqa: ARG001
    y = classes.astype(object)
    y[: len(y) // 2 + 1] = None
    return y


FORMS = {
    "none": lambda _, c: None,
    "uint8": lambda Y, c: Y,
    "bool": lambda Y, c: Y.astype(bool),
    "float": lambda Y, c: Y.astype(np.float32),
    "matrix list": lambda Y, c: Y.tolist(),
    "csr": lambda Y, c: sparse.csr_matrix(Y),
    "csc": lambda Y, c: sparse.csc_array(Y.astype(float)),
    "frame": lambda Y, c: pd.DataFrame(Y, columns=[f"label {i}" for i in range(Y.shape[1])]),
    "zeros": lambda Y, c: np.zeros_like(Y),
    "int": lambda Y, c: c,
    "big-endian": lambda Y, c: c.astype(">i8"),
    "int8": lambda Y, c: c.astype("i1") - 3,
    "uint64": lambda Y, c: c.astype("u8") + np.uint64(2**63),
    "whole floats": lambda Y, c: c.astype("f4"),
    "text": lambda Y, c: np.array([f"é{i}" for i in c], dtype="U3"),
    "text list": lambda Y, c: [f"class {i}" for i in c],
    "objects": lambda Y, c: np.array([f"class {i}" for i in c], dtype=object),
    "bytes": lambda Y, c: c.astype("S2"),
    "truth": lambda Y, c: c > 0,
    "categorical": lambda Y, c: pd.Series(pd.Categorical([f"c{i}" for i in c])),
    "nullable": lambda Y, c: pd.Series(c, dtype="Int64"),
    "dates": lambda Y, c: c.astype("M8[D]"),
    "one class": lambda Y, c: np.zeros(len(c), int),
    "missing": _missing,
    "twos": lambda Y, c: Y * 2,
    "fractions": lambda Y, c: c + 0.5,
    "complex": lambda Y, c: c + 1j,
    "ragged": lambda Y, c: [list(range(i)) for i in c],
    "3D": lambda Y, c: Y[:, :, None],
    "NaN": lambda Y, c: np.where(c == c.max(initial=0), np.nan, c),
}
BROKEN = {"missing", "twos", "fractions", "complex", "ragged", "3D", "NaN"}
UNIQUE = {"seed": st.integers(0, 2**31), "n_labels": st.integers(1, 9)}
PLAIN_LABELS = st.builds(
    Labels,
    **UNIQUE,
    form=st.sampled_from(sorted(FORMS.keys() - BROKEN - {"none", "zeros", "one class"})),
    shift=st.just(0),
)
ODD_LABELS = st.builds(
    Labels,
    **UNIQUE,
    form=st.sampled_from(["uint8", "int", *FORMS]),
    shift=st.sampled_from([0] * 6 + [1, -1]),
)
ROWS_AND_LABELS = st.one_of(
    st.tuples(PLAIN_ROWS, PLAIN_LABELS),
    st.tuples(PLAIN_ROWS, PLAIN_LABELS),
    st.tuples(PLAIN_ROWS, ODD_LABELS),
    st.tuples(ODD_ROWS, PLAIN_LABELS),
)


# Slow forms


def groups_of(distances):
    """Return the rows at each distance, by distance."""
    return [np.flatnonzero(distances == at) for at in np.unique(distances)]


def slow_ndcg(distances, relevance, k):
    """NDCG of one query: each rank of a group of ties expects the mean gain of the group."""
    gains = 2.0 ** np.asarray(relevance) - 1
    order = np.concatenate([np.full(len(g), gains[g].mean()) for g in groups_of(distances)])
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))[:k]
    ideal = (np.sort(gains)[::-1][:k] * discounts).sum()
    return (order[:k] * discounts).sum() / ideal if ideal else 0.0


def slow_shares(distances, Y, k):
    """Share of the votes of the k nearest items that each label has."""
    votes, left = np.zeros(Y.shape[1]), k
    for group in groups_of(distances):
        taken = min(left, len(group))
        votes += Y[group].sum(axis=0) * taken / len(group)
        left -= taken
    return votes / k


METRICS = {
    "precision": lambda r, n, **_: sum(x > 0 for x in r[:n]) / n,
    "recall": lambda r, n, **_: sum(x > 0 for x in r[:n]) / sum(x > 0 for x in r),
    "acg": lambda r, n, **_: sum(r[:n]) / n,
    "reciprocal_rank": lambda r, n, **_: next((1 / (i + 1) for i in range(n) if r[i]), 0.0),
    "ndcg": lambda r, n, gain="exponential": _dcg(r[:n], gain) / _dcg(sorted(r)[::-1][:n], gain),
    "average_precision": lambda r, n, convention="skhash": _mean_at_relevant(
        r, [int(x > 0) for x in r], n, convention
    ),
    "weighted_average_precision": lambda r, n, convention="skhash": _mean_at_relevant(
        r, r, n, convention
    ),
}
OPTIONS = {
    "ndcg": ("gain", ["exponential", "linear"]),
    "average_precision": ("convention", ["skhash", "authors"]),
    "weighted_average_precision": ("convention", ["skhash", "authors"]),
}


def _dcg(r, gain):
    gains = r if gain == "linear" else [2.0**x - 1 for x in r]
    return sum(g / np.log2(i + 2) for i, g in enumerate(gains))


def _mean_at_relevant(r, worth, n, convention):
    at = [sum(worth[: i + 1]) / (i + 1) for i in range(n) if r[i]]
    n_averaged = len(at) if convention == "authors" else min(n, sum(x > 0 for x in r))
    return sum(at) / n_averaged if at else 0.0


def enumerated(metric, distances, relevance, n_ranks, ties, options):
    """Value of one query, of all orders of the items at equal distance."""
    if not n_ranks:
        return 0.0
    parts = [itertools.permutations(relevance[g].tolist()) for g in groups_of(distances)]
    orders = Counter(tuple(itertools.chain(*order)) for order in itertools.product(*parts))
    values = {order: METRICS[metric](list(order), n_ranks, **options) for order in orders}
    if ties == "mean":
        return sum(values[o] * n for o, n in orders.items()) / sum(orders.values())
    return (max if ties == "best" else min)(values.values())


# Metrics


@dataclass(frozen=True)
class MetricCase:
    """A call of a metric."""

    metric: str
    seed: int
    n_queries: int
    n_database: int
    n_bits: int
    n_labels: int
    form: str
    cut: tuple
    ties: str
    empty: object
    option: int
    code_form: str
    sample_weight: bool
    query_weights: bool
    fault: str

    def run(self, folder):  # noqa: ARG002
        """Compare the metric with the enumeration; a faulty call has to raise."""
        rng = np.random.default_rng(self.seed)
        codes = [rng.integers(0, 2, (n, self.n_bits)) for n in (self.n_queries, self.n_database)]
        labels, relevance = self.labels(rng)
        params = self.params(rng)
        expected = self.expected(codes, relevance, params)
        arguments = self.arguments(codes, labels, params)
        try:
            got = getattr(skhash.metrics, f"{self.metric}_score")(*arguments, **params)
        except (ValueError, TypeError):
            is_due = self.fault != "none" or expected == "raises"
            require(is_due, f"valid call refused: {traceback.format_exc(limit=0)}")
            raise
        require(self.fault == "none" and expected != "raises", f"faulty call returned {got}")
        require(np.isclose(got, expected, atol=1e-9, equal_nan=True), f"{got} is not {expected}")

    def labels(self, rng):
        """Return the label sets of queries and database, and the numbers of shared labels."""
        sizes = self.n_queries, self.n_database
        sets = [(rng.random((n, self.n_labels)) < 0.5).astype(np.uint8) for n in sizes]
        classes = [rng.integers(0, self.n_labels, n) for n in sizes]
        made = [FORMS[self.form](Y, c) for Y, c in zip(sets, classes, strict=True)]
        if self.form in ("uint8", "bool", "float", "csr", "frame", "matrix list"):
            return made, sets[0].astype(int) @ sets[1].T
        same = [c > 0 if self.form == "truth" else c for c in classes]
        return made, (same[0][:, None] == same[1]).astype(int)

    def params(self, rng):
        """Return the keywords of the call."""
        params = {"ties": self.ties, "empty": self.empty}
        if self.cut:
            params[self.cut[0]] = self.cut[1]
        if self.metric in OPTIONS:
            name, values = OPTIONS[self.metric]
            params[name] = values[self.option]
        if self.sample_weight:
            params["sample_weight"] = rng.integers(0, 3, self.n_queries).astype(float)
        if self.query_weights:
            shape = self.n_queries, self.n_bits
            params["query_weights"] = rng.choice([0, 0.5, 1, 2], shape)
        return params

    def expected(self, codes, relevance, params):
        """Return the right value, "raises" if there is none."""
        weights, sample_weight = params.get("query_weights"), params.get("sample_weight")
        radius_of_weights = weights is not None and "radius" in params
        if radius_of_weights or (sample_weight is not None and not sample_weight.any()):
            return "raises"
        differ = codes[0][:, None] != codes[1]
        distances = (differ * (1 if weights is None else weights[:, None])).sum(axis=2)
        values = [self.of_query(*pair, params) for pair in zip(distances, relevance, strict=True)]
        if "raises" in values:
            return "raises"
        rows = [i for i, value in enumerate(values) if not np.isnan(value)]
        weights = np.ones(len(values)) if sample_weight is None else sample_weight
        total = weights[rows].sum()
        return (weights[rows] * np.array(values)[rows]).sum() / total if total else np.nan

    def of_query(self, distances, relevance, params):
        """Return the value of one query."""
        if not relevance.any():
            return {"nan": np.nan, "raise": "raises"}.get(self.empty, self.empty)
        n_ranks = min(params.get("k", len(distances)), len(distances))
        if "radius" in params:
            n_ranks = int((distances <= params["radius"]).sum())
        options = {name: params[name] for name in ("gain", "convention") if name in params}
        return enumerated(self.metric, distances, relevance, n_ranks, self.ties, options)

    def arguments(self, codes, labels, params):
        """Return the arguments in their form, with their fault."""
        codes = [CODE_FORMS[self.code_form](c) for c in codes]
        if self.code_form == "packed":
            params["n_bits"] = self.n_bits
        arguments = [codes[0], labels[0], codes[1], labels[1]]
        METRIC_FAULTS[self.fault](arguments, params)
        return arguments


def _spoil(value, at=2):
    def spoil(arguments, params):  # noqa: ARG001
        spoilt = np.array(arguments[at], dtype=float)
        spoilt[0, 0] = value
        arguments[at] = spoilt

    return spoil


def _put(at, change):
    def put(arguments, params):  # noqa: ARG001
        arguments[at] = change(arguments[at])

    return put


METRIC_FAULTS = {
    "none": lambda a, p: None,
    "code 2": _spoil(7.5),
    "code NaN": _spoil(np.nan, 0),
    "code inf": _spoil(np.inf),
    "codes short": _put(2, lambda c: np.asarray(c)[:-1]),
    "codes 1D": _put(0, lambda c: np.asarray(c)[:, 0]),
    "codes narrow": _put(0, lambda c: np.asarray(c)[:, :0]),
    "labels long": _put(1, lambda y: np.zeros(50, int)),
    "labels none": _put(1, lambda y: None),
    "labels text": _put(3, lambda y: "text"),
    "database empty": _put(2, lambda c: np.asarray(c)[:0]),
    "k 0": lambda a, p: p.update(k=0),
    "k half": lambda a, p: p.update(k=1.5),
    "k text": lambda a, p: p.update(k="1"),
    "both cuts": lambda a, p: p.update(k=1, radius=1),
    "radius -1": lambda a, p: p.update(radius=-1),
    "ties": lambda a, p: p.update(ties="middle"),
    "empty": lambda a, p: p.update(empty=2),
    "weights negative": lambda a, p: p.update(sample_weight=-np.ones(len(a[0]))),
    "weights NaN": lambda a, p: p.update(sample_weight=np.full(len(a[0]), np.nan)),
    "weights short": lambda a, p: p.update(sample_weight=np.ones(len(a[0]) + 1)),
    "bit weights": lambda a, p: p.update(query_weights=-np.ones(np.shape(a[0]))),
    "n_bits": lambda a, p: p.update(n_bits=1000),
}
CODE_FORMS = {
    "int64": lambda c: c,
    "bool": lambda c: c.astype(bool),
    "float": lambda c: np.asfortranarray(c, dtype=np.float32),
    "list": lambda c: c.tolist(),
    "frame": pd.DataFrame,
    "packed": pack_codes,
}
METRIC_CASES = st.builds(
    MetricCase,
    metric=st.sampled_from(sorted(METRICS)),
    seed=st.integers(0, 2**31),
    n_queries=st.integers(1, 4),
    n_database=st.integers(1, 6),
    n_bits=st.sampled_from([1, 2, 3, 8, 9]),
    n_labels=st.integers(1, 5),
    form=st.sampled_from(
        [
            *("uint8", "bool", "float", "csr", "frame", "matrix list", "int", "text"),
            *("objects", "truth", "big-endian", "text list"),
        ]
    ),
    cut=st.one_of(
        st.just(()),
        st.tuples(st.just("k"), st.integers(1, 8)),
        st.tuples(st.just("radius"), st.integers(0, 10)),
    ),
    ties=st.sampled_from(["mean", "best", "worst"]),
    empty=st.sampled_from([0, 1, "nan", "raise"]),
    option=st.integers(0, 1),
    code_form=st.sampled_from(sorted(CODE_FORMS)),
    sample_weight=st.booleans(),
    query_weights=st.booleans(),
    fault=st.sampled_from(["none"] * 40 + sorted(METRIC_FAULTS)),
)


# Hashers


def rows_of(X, rows):
    """Return some rows of X in whatever form."""
    return X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]


def equal_bits(codes, others, projection, what):
    """Require equal codes, except where a projection is 0 up to rounding."""
    most = np.abs(projection).max(initial=0)
    differ = (codes != others) & (np.abs(projection) > 1e-4 * most)
    require(not differ.any(), f"{what}: {differ.sum()} bits differ")


def check_codes(hasher, X, y):
    """Compare all that a fitted hasher says with slow forms of its codes."""
    projection, codes = hasher.project(X), hasher.transform(X)
    require(np.isfinite(projection).all(), "projection is not finite")
    require(codes.dtype == np.uint8 and codes.shape == projection.shape, "form of the codes")
    require(np.array_equal(codes, projection >= 0), "codes are not the signs")
    equal_bits(hasher.transform(rows_of(X, slice(0, 1))), codes[:1], projection[:1], "one row")
    half = slice(None, None, 2)
    equal_bits(hasher.transform(rows_of(X, half)), codes[half], projection[half], "half the rows")
    database = unpack_codes(hasher.database_codes_, hasher.n_bits)
    distances = (codes[:, None] != database).sum(axis=2)
    check_search(hasher, X, distances)
    require(
        np.array_equal(distances, hamming_distances(pack_codes(codes), hasher.database_codes_)),
        "distances",
    )
    if y is not None:
        check_labels(hasher, X, y, distances)


def check_search(hasher, X, distances):
    """Compare `kneighbors` with a stable sort."""
    k = min(3, distances.shape[1])
    near, rows = hasher.kneighbors(X, k)
    require(np.array_equal(rows, distances.argsort(axis=1, kind="stable")[:, :k]), "kneighbors")
    require(np.array_equal(near, np.sort(distances, axis=1)[:, :k]), "distances of kneighbors")


def check_labels(hasher, X, y, distances):
    """Compare `score` and `predict` with slow forms, and `score` of a shuffled database."""
    Y = dense(y, hasher.classes_)
    pairs = zip(distances, Y.astype(int) @ Y.T, strict=True)
    expected = np.mean([slow_ndcg(*pair, 100) for pair in pairs])
    score = hasher.score(X, y)
    require(np.isclose(score, expected, atol=1e-9), f"score {score} is not {expected}")
    if len(Y) >= hasher.n_neighbors:
        check_predicted(hasher, X, y, distances, Y)
    order = np.random.default_rng(0).permutation(len(Y))
    database = hasher.database_codes_
    hasher.set_database_codes(database[order], rows_of_labels(y, order))
    require(np.isclose(hasher.score(X, y), score, atol=1e-9), "score of a shuffled database")
    hasher.set_database_codes(database, y)


def rows_of_labels(y, rows):
    """Return some rows of y in whatever form."""
    return y.tocsr()[rows] if sparse.issparse(y) else rows_of(y, rows)


def dense(y, classes):
    """Return y as an indicator matrix."""
    y = y.toarray() if sparse.issparse(y) else np.asarray(y)
    return (y[:, None] == classes).astype(np.uint8) if y.ndim == 1 else y.astype(np.uint8)


def check_predicted(hasher, X, y, distances, Y):
    """Compare `predict` with the slow votes, except where these are equal up to rounding."""
    shares = np.array([slow_shares(row, Y, hasher.n_neighbors) for row in distances])
    predicted = dense(hasher.predict(X), hasher.classes_)
    if np.ndim(y) == 1 and not sparse.issparse(y):
        chosen = (shares * predicted).sum(axis=1)
        is_right = np.isclose(chosen, shares.max(axis=1))
    else:
        is_right = (predicted == (shares > 0.5)) | np.isclose(shares, 0.5)
    require(is_right.all(), "predict")


def check_refused(hasher, X):
    """Require that a row of another length, and one with NaN, is refused by name."""
    width = np.shape(X)[1]
    for row in (np.zeros((1, width + 1)), np.full((1, width), np.nan)):
        try:
            hasher.transform(row)
        except ValueError:
            continue
        raise WrongError(f"transform takes {row}")


def check_loaded(hasher, X, y, folder):
    """Compare a hasher with itself from a file."""
    path = folder / "fuzz-file.safetensors"
    hasher.save(path)
    loaded = skhash.load(path)
    for name, value in vars(hasher).items():
        if not name.endswith("_") or name == "network_":
            continue
        mine = getattr(loaded, name)
        require(type(mine) is type(value), f"type of {name}")
        if isinstance(value, np.ndarray):
            require(mine.dtype == value.dtype, f"dtype of {name}")
            np.testing.assert_array_equal(mine, value, err_msg=name)
    require(np.array_equal(loaded.project(X), hasher.project(X)), "loaded projection")
    if y is not None:
        require(loaded.score(X, y) == hasher.score(X, y), "loaded score")
    path.write_bytes(path.read_bytes()[:-1])
    try:
        skhash.load(path)
    except ValueError:
        return
    raise WrongError("load takes a damaged file")


@dataclass(frozen=True)
class FitCase:
    """A shallow hasher, its rows and labels."""

    hasher: str
    n_bits: int
    given: tuple
    saves: bool = False

    def run(self, folder):
        """Fit, and compare all that follows."""
        X = self.given[0].make()
        y = self.given[1].make(self.given[0].n)
        hasher = getattr(skhash, self.hasher)(self.n_bits, **HASHERS[self.hasher])
        if "random_state" in hasher.get_params():
            hasher.set_params(random_state=0)
        hasher = self.fitted(hasher, X, y)
        if self.saves:
            check_loaded(hasher, X, y, folder)
            return
        check_codes(hasher, X, y)
        check_refused(hasher, X)
        if (
            self.hasher == "LSHHasher"
            and self.given[0].dtype == "f8"
            and self.given[0].layout == "C"
        ):
            self.check_scaled(hasher, X, y)

    def fitted(self, hasher, X, y):
        """Return the fitted hasher; what is faulty has to raise, and leaves it unfitted."""
        rows, labels = self.given
        try:
            hasher.fit(X, y)
        except Exception:
            require(not any(name.endswith("_") for name in vars(hasher)), "fitted in part")
            raise
        is_faulty = labels.form in BROKEN or labels.shift
        require(not is_faulty or self.excused(y), "faulty labels are taken")
        require(rows.fault != "text", "text is taken")
        return hasher

    def excused(self, y):
        """Whether labels that are drawn as broken happen to be whole."""
        if y is not None and self.given[1].shift:
            return max(0, self.given[0].n + self.given[1].shift) == self.given[0].n
        return y is None or (self.given[1].form == "twos" and not np.any(y))

    def check_scaled(self, hasher, X, y):
        """Require the same codes of rows times a power of two."""
        if not 1e-100 < np.abs(X).max() < 1e80:
            return
        scaled = type(hasher)(**hasher.get_params()).fit(4 * X, y)
        equal_bits(scaled.transform(4 * X), hasher.transform(X), hasher.project(X), "scaled rows")


def fit_cases(*, saves):
    """Return the strategy of shallow hashers."""
    return st.builds(
        FitCase,
        hasher=st.sampled_from(sorted(HASHERS)),
        n_bits=st.sampled_from([1, 2, 3, 5, 8, 9]),
        given=ROWS_AND_LABELS,
        saves=st.just(saves),
    )


@dataclass(frozen=True)
class DeepCase:
    """A tiny deep hasher, its rows and labels."""

    n_bits: int
    n_heads: int
    loss: str
    given: tuple

    def run(self, folder):
        """Fit, and compare all that follows."""
        X, y = self.given[0].make(), self.given[1].make(self.given[0].n)
        hasher = tiny(self.n_bits, n_heads=self.n_heads, loss=self.loss)
        start, worked = time.perf_counter(), time.process_time()
        try:
            hasher.fit(X, y)
        finally:
            CLOCK["apart"] += time.perf_counter() - start
            CLOCK["worked"] += time.process_time() - worked
        check_codes(hasher, X, y)
        check_refused(hasher, X)
        check_loaded(hasher, X, y, folder)


def tiny(n_bits, **params):
    """Return a deep hasher that learns nothing much."""
    return skhash.DeepRankingHasher(
        n_bits, hidden_size=8, max_epochs=1, device="cpu", random_state=0, **params
    )


DEEP_CASES = st.builds(
    DeepCase,
    n_bits=st.sampled_from([1, 4, 9]),
    n_heads=st.integers(1, 2),
    loss=st.sampled_from(["auto", "ranking", "tie_aware_ndcg", "csq"]),
    given=ROWS_AND_LABELS,
)


# Files


@dataclass(frozen=True)
class FileCase:
    """An image file, by what is odd about it."""

    seed: int
    mode: str
    format: str
    size: tuple
    orientation: int
    damage: str
    suffix: str

    def run(self, folder):
        """Compare the codes of the file with those of the pixels, or require its name."""
        path = folder / f"fuzz-file{self.suffix}"
        self.write(path)
        hasher = image_hasher()
        encoded = hasher.encode_files([path], on_error="skip", method="transform")
        pixels = pixels_of(path)
        if pixels is None:
            require(len(encoded.skipped) == 1 and encoded.skipped[0][1], "not skipped")
            self.check_named(hasher, path)
        require(not encoded.skipped, f"skipped: {encoded.skipped}")
        require(np.array_equal(encoded.codes, hasher.transform([str(path)])), "transform")
        same = hasher.transform(pixels[None]), encoded.codes
        equal_bits(*same, hasher.project(pixels[None]), "codes of the pixels")

    def check_named(self, hasher, path):
        """Require an error that names the file, and raise it."""
        try:
            hasher.transform([path])
        except (ValueError, OSError) as error:
            require(path.name in str(error), f"not named: {error}")
            raise
        raise WrongError("transform takes what encode_files skips")

    def write(self, path):
        """Write the file."""
        if self.damage == "folder":
            path.mkdir()
        elif self.damage != "missing":
            path.write_bytes(DAMAGES[self.damage](self.whole(path), self.seed))

    def whole(self, path):
        """Return the bytes of the whole file, in PNG where the format has no such pixels."""
        rng = np.random.default_rng(self.seed)
        image = Image.fromarray(rng.integers(0, 256, (*self.size, 3), dtype=np.uint8))
        if self.mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, self.size).astype(np.uint16))
        elif self.mode != "LAB":
            image = image.convert(self.mode)
        exif = Image.Exif()
        exif[274] = self.orientation
        for file_format in (self.format, "PNG", "TIFF"):
            try:
                image.save(path, file_format, exif=exif)
            except (OSError, KeyError, ValueError):
                continue
            return path.read_bytes()
        raise RuntimeError(f"no format holds {self.mode}")


def _flipped(data, at):
    position = at % len(data)
    return data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]


DAMAGES = {
    "none": lambda data, at: data,
    "cut": lambda data, at: data[: at % len(data)],
    "flipped": _flipped,
    "empty": lambda data, at: b"",
    "text": lambda data, at: b"no image\n" * 20,
    "trailing": lambda data, at: data + bytes(100),
    "zeros": lambda data, at: bytes(len(data)),
    "twice": lambda data, at: data + data,
}
FILE_CASES = st.builds(
    FileCase,
    seed=st.integers(0, 2**31),
    mode=st.sampled_from(
        ["RGB"] * 3 + ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"] + ["I", "F"]
    ),
    format=st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "ICO", "TGA"]),
    size=st.sampled_from([(1, 1), (1, 40), (16, 16), (17, 9), (64, 3), (80, 80)]),
    orientation=st.integers(0, 9),
    damage=st.sampled_from(["none"] * 8 + [*DAMAGES, "cut", "flipped", "folder", "missing"]),
    suffix=st.sampled_from([".png", ".jpg", "", ".txt", ".PNG", " é.gif"]),
)


def pixels_of(path):
    """Return the pixels that Pillow reads, upright; None if it cannot, or white is not known."""
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode in ("F", "LAB") or (image.mode == "I" and image.format != "PPM"):
                return None
            turned = upright(image)
            if image.mode.startswith("I"):
                turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
            return np.array(turned.convert("RGB"))
    except Exception:
        return None


def upright(image):
    """Return an image as its EXIF says, as it is if that is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def image_hasher(made=[]):  # noqa: B006
    """Return a deep hasher of images, fitted once."""
    if not made:
        images, Y = skhash.datasets.make_digit_scenes(
            40, image_size=16, max_digits=1, return_X_y=True, random_state=0
        )
        made.append(tiny(16).fit(images, Y))
    return made[0]


# The run

STRATEGIES = {
    "fit": fit_cases(saves=False),
    "save": fit_cases(saves=True),
    "metrics": METRIC_CASES,
    "deep": DEEP_CASES,
    "files": FILE_CASES,
}
# Seconds of the case that are not to count.
CLOCK = {"apart": 0.0, "worked": 0.0}


def outcome(case):
    """Run a case: return the outcome, what is said of a failure, and the seconds."""
    CLOCK.update(apart=0.0, worked=0.0)
    start, worked = time.perf_counter(), time.process_time()
    result, said = "right", ""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        try:
            case.run(Path(folder))
        except (ValueError, TypeError, OSError) as error:
            result, said = type(error).__name__, str(error)
            if not NAMED.search(said):
                result, said = "failure", f"unnamed {traceback.format_exc(limit=-3)}"
        except Exception:
            result, said = "failure", traceback.format_exc(limit=-3)
    # Other processes slow down the clock of the wall, and what waits does not work.
    waited = (time.perf_counter() - start - CLOCK["apart"]) / 10
    seconds = max(time.process_time() - worked - CLOCK["worked"], waited)
    if seconds > 1 and result != "failure":
        result, said = "failure", f"took {seconds:.2f} s"
    return result, said, seconds


def run_kind(kind, n_examples, number):
    """Run the examples of a kind: return the record and the failures."""
    counts, failures, times = Counter(), [], []

    @seed(number)
    @settings(
        max_examples=n_examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[kind])
    def run(case):
        result, said, seconds = outcome(case)
        counts[result] += 1
        times.append(seconds)
        if result == "failure":
            failures.append({"case": repr(case), "said": said})

    start = time.perf_counter()
    run()
    record = {
        "kind": kind,
        "seed": number,
        "examples": len(times),
        "outcomes": dict(counts),
        "seconds": round(time.perf_counter() - start, 1),
        "slowest": round(max(times), 3),
    }
    return record, failures


def main():
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=sorted(SHARES), help="only this kind")
    parser.add_argument("--case", help="repr of one case to run")
    default = Path(__file__).parent / "measured" / "fuzz.jsonl"
    parser.add_argument("--output", type=Path, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    image_hasher()
    if args.case:
        print(*outcome(eval(args.case)))
        return
    for kind in [args.kind] if args.kind else SHARES:
        n_examples = round(SHARES[kind] * args.examples)
        record, failures = run_kind(kind, n_examples, args.seed)
        append_record(args.output, {**record, "failures": failures})
        print(json.dumps(record))
        for failure in failures:
            print(f"  {failure['case']}\n    {failure['said']}")


if __name__ == "__main__":
    main()
