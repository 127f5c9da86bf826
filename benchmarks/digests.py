"""Digests of what skhash computes, to show that a change of structure changes no number.

    python benchmarks/digests.py --write before.json      # at one commit
    python benchmarks/digests.py --compare before.json    # at another, on the same machine

Hashes the codes and projections of every hasher, loss, solver and stage of training, of trainings
that went on from a checkpoint and of files that were loaded, and the values of every metric,
scorer and display, on small data that come with scikit-learn. What rounds differently on another
machine has another digest there: compare on one machine, in one environment, with one thread.
"""

import argparse
import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skhash.metrics as metrics
from skhash import (
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash.codes import hamming_distances, pack_codes
from skhash.datasets import make_digit_scenes, retrieval_split
from skhash.deep.losses import LOSSES, CentralSimilarityLoss, RankingLoss, TieAwareNDCGLoss
from skhash.neighbors import HammingNeighbors


def digest(*values):
    """Return a hash of arrays and numbers, their shapes and dtypes."""
    total = hashlib.sha256()
    for value in values:
        array = np.ascontiguousarray(value)
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]


def tiny_network():
    """Return a backbone for images, with something to freeze."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
    )


class Data:
    """Rows and images, with label sets and classes, in parts for training and queries."""

    def __init__(self):
        X, y = load_digits(return_X_y=True)
        self.X, self.X_query, self.y, self.y_query = X[:600], X[600:800], y[:600], y[600:800]
        scenes = make_digit_scenes(n_samples=260, image_size=24, max_digits=3, random_state=0)
        rows = scenes.images[:, ::2, ::2].reshape(260, -1).astype(np.float32)
        split = retrieval_split(260, n_queries=60, random_state=0)
        self.images, self.queries = scenes.images[split.train], scenes.images[split.query]
        self.rows, self.row_queries = rows[split.train], rows[split.query]
        self.Y, self.Y_query = scenes.target[split.train], scenes.target[split.query]


def shallow_digests(data):
    """Yield (name, digest) of the shallow hashers."""
    hashers = {
        "lsh": LSHHasher(24, random_state=0),
        "lsh, not centred": LSHHasher(7, center=False, random_state=1),
        "itq": ITQHasher(16, random_state=0),
        "itq, sampled": ITQHasher(8, n_rotation_samples=100, tol=1e-3, random_state=0),
        "cca-itq": CCAITQHasher(12, random_state=0),
        "cca-itq, reg": CCAITQHasher(8, reg=0.01, reg_labels=0.1, random_state=0),
        "spectral": SpectralHasher(20),
        "ksh, any": KSHHasher(6, n_anchors=40, n_labeled=150, random_state=0),
        "ksh, graded": KSHHasher(6, n_anchors=40, similarity="graded", random_state=0),
        "sdh": SDHHasher(12, n_anchors=60, random_state=0),
        "hdml": HDMLHasher(12, max_epochs=5, random_state=0),
    }
    sides = {
        "classes": (data.X, data.y, data.X_query, data.y_query),
        "sets": (data.rows, data.Y, data.row_queries, data.Y_query),
    }
    for name, hasher in hashers.items():
        for side, (X, y, X_query, y_query) in sides.items():
            yield f"{name}, {side}", of_fitted(hasher.fit(X, y), X_query, y_query)
    for name in ("itq", "cca-itq"):
        hasher = hashers[name]
        for start in range(0, 600, 200):
            part = slice(start, start + 200)
            hasher = (hasher if start else type(hasher)(8, random_state=0)).partial_fit(
                data.X[part], data.y[part]
            )
        yield f"{name}, in parts", digest(hasher.project(data.X_query))


def of_fitted(hasher, X, y):
    """Return the digest of all that a fitted hasher says of queries."""
    return digest(
        hasher.database_codes_,
        hasher.database_labels_,
        hasher.project(X),
        hasher.transform(X),
        *hasher.kneighbors(X, 7),
        hasher.predict(X),
        hasher.score(X, y),
    )


# Parameters whose defaults have changed, as they were.
PLAIN = {
    "taps": "both",
    "input_dropout": 0.0,
    "encoding": "signs",
    "loss": "ranking",
    "n_heads": 1,
}
RELAXED = TieAwareNDCGLoss(straight_through=0)


def deep_digests(data):
    """Yield (name, digest) of losses, solvers, stages and inputs of the deep hasher."""
    base = {"n_bits": 12, "hidden_size": 32, "batch_size": 50, "device": "cpu", "random_state": 0}
    base |= PLAIN
    rows = base | {"max_epochs": 3}
    losses = dict(zip(LOSSES, LOSSES, strict=True)) | {"tie_aware_ndcg": RELAXED}
    variants = {f"loss {name}": rows | {"loss": loss} for name, loss in losses.items()}
    variants |= {
        "default": base | {"max_epochs": 4},
        "uniform": rows | {"loss": RankingLoss(weighting="uniform", margin=2.0)},
        "balanced": rows | {"loss": RankingLoss(class_weight="balanced", balance=1.0)},
        "memory": rows | {"loss": RankingLoss(list_size=120)},
        "memory, ndcg": rows
        | {"loss": TieAwareNDCGLoss(straight_through=0, list_size=90, class_weight="balanced")},
        "bernoulli": rows | {"loss": CentralSimilarityLoss(centers="bernoulli")},
        "dropout": rows | {"dropout": 0.5},
        "fca": rows | {"taps": "fca"},
        "fcb": rows | {"taps": "fcb", "dropout": 0.2},
        "sgd": rows | {"optimizer": "sgd", "learning_rate": 0.01},
        "sgd, fca": rows | {"optimizer": "sgd", "taps": "fca", "backbone_learning_rate": 1e-3},
        "stopping": base
        | {"max_epochs": 12, "early_stopping": True, "n_iter_no_change": 2, "tol": 0.01},
        "no epoch": rows | {"max_epochs": 0},
        "a head first": rows | {"head_epochs": 2},
        "bfloat16": rows | {"precision": "bfloat16"},
    }
    for name, params in variants.items():
        hasher = DeepRankingHasher(**params).fit(data.rows, data.Y)
        yield f"deep, {name}", deep_digest(hasher, data.row_queries, data.Y_query)
    hasher = DeepRankingHasher(**rows).fit(data.X, data.y)
    yield "deep, classes", deep_digest(hasher, data.X_query, data.y_query)
    paper = {"network": "mlp", "max_epochs": 3, "learning_rate": 3e-5}
    paper |= {"hidden_size": 32, "random_state": 0, "device": "cpu"}
    hasher = DeepRankingHasher.from_paper(12, **paper).fit(data.rows, data.Y)
    yield "deep, paper", deep_digest(hasher, data.row_queries, data.Y_query)
    images = base | {"precision": "float32"}
    variants = {
        "convnet": images | {"max_epochs": 2},
        "convnet, bfloat16": base | {"max_epochs": 1, "precision": "bfloat16"},
        "no flips, resized": images | {"max_epochs": 1, "flip": False, "image_size": (16, 20)},
        "two stages": images
        | {"max_epochs": 2, "head_epochs": 3, "network": tiny_network, "normalization": (100, 50)},
        "two stages, sgd": images
        | {"max_epochs": 1, "head_epochs": 1, "network": tiny_network, "optimizer": "sgd"},
        "two stages, stopping": images
        | {"max_epochs": 3, "head_epochs": 4, "network": tiny_network, "early_stopping": True}
        | {"n_iter_no_change": 1, "tol": 0.05, "backbone_learning_rate": 1e-4},
        "two stages, proxies": images
        | {"max_epochs": 1, "head_epochs": 1, "network": tiny_network, "loss": "hyp2"},
    }
    for name, params in variants.items():
        hasher = DeepRankingHasher(**params).fit(data.images, data.Y)
        yield f"deep, {name}", deep_digest(hasher, data.queries, data.Y_query)
    hasher = DeepRankingHasher(**rows, warm_start=True).fit(data.rows, data.Y)
    hasher.fit(data.rows[:120], data.Y[:120])
    yield "deep, warm start", deep_digest(hasher, data.row_queries, data.Y_query)
    for optimizer in ("adamw", "sgd"):
        hasher = DeepRankingHasher(**rows, optimizer=optimizer)
        for start in (0, 70, 140):
            hasher.partial_fit(data.rows[start : start + 70], data.Y[start : start + 70])
        hasher.set_database(data.rows, data.Y)
        yield f"deep, in parts, {optimizer}", deep_digest(hasher, data.row_queries, data.Y_query)


def deep_digest(hasher, X, y):
    """Return the digest of a fitted deep hasher: of its curves too."""
    history = [hasher.history_[name] for name in sorted(hasher.history_) if name != "seconds"]
    return digest(*history) + of_fitted(hasher, X, y)


class KilledError(Exception):
    """A training that is killed."""


class InterruptedLoss:
    """The ranking loss, until it is killed; then only the ranking loss."""

    def __init__(self, loss):
        self.loss, self.n_left = loss, None

    def __repr__(self):
        return f"InterruptedLoss({self.loss!r})"

    def start(self, n_bits, labels):
        """Return the loss of one training."""
        started = self.loss.start(n_bits, labels)
        started.register_forward_pre_hook(self._count)
        return started

    def _count(self, module, inputs):  # noqa: ARG002
        if self.n_left is not None:
            self.n_left -= 1
            if self.n_left < 0:
                raise KilledError


def file_digests(data):
    """Yield (name, digest) of trainings that were killed, and of saved files."""
    variants = {
        "rows": (data.rows, data.row_queries, RankingLoss(), 13, {"max_epochs": 5}),
        "memory": (data.rows, data.row_queries, RankingLoss(list_size=90), 13, {"max_epochs": 5}),
        "sgd": (data.rows, data.row_queries, RELAXED, 9, {"optimizer": "sgd", "max_epochs": 20}),
        "head": (data.images, data.queries, RankingLoss(), 6, {"head_epochs": 3, "max_epochs": 2}),
        "all": (data.images, data.queries, RankingLoss(), 18, {"head_epochs": 3, "max_epochs": 3}),
        "stopping": (
            data.rows,
            data.row_queries,
            RankingLoss(),
            20,
            {"early_stopping": True, "max_epochs": 8, "dropout": 0.5},
        ),
    }
    for name, (X, queries, loss, n_steps, params) in variants.items():
        with tempfile.TemporaryDirectory() as folder:
            params = {"network": tiny_network} | params if X.ndim == 4 else params
            loss = InterruptedLoss(loss)
            hasher = DeepRankingHasher(
                10, hidden_size=24, batch_size=50, device="cpu", random_state=0,
                precision="float32", checkpoint_dir=folder, **(PLAIN | params | {"loss": loss}),
            )  # fmt: skip
            loss.n_left = n_steps
            try:
                hasher.fit(X, data.Y)
            except KilledError:
                loss.n_left = None
            hasher.fit(X, data.Y)
            yield f"checkpoint, {name}", deep_digest(hasher, queries, data.Y_query)
    for hasher in (
        SDHHasher(9, n_anchors=30, random_state=0),
        DeepRankingHasher(
            9, hidden_size=16, max_epochs=1, random_state=0, **(PLAIN | {"loss": RankingLoss()})
        ),
    ):
        hasher.fit(data.rows, data.Y)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "hasher"
            hasher.save(file)
            loaded = type(hasher).load(file)
        yield f"loaded, {type(hasher).__name__}", of_fitted(loaded, data.row_queries, data.Y_query)


def metric_digests(data):
    """Yield (name, digest) of metrics, scorers, displays and search."""
    hasher = CCAITQHasher(10, random_state=0).fit(data.rows, data.Y)
    codes, database = hasher.transform(data.row_queries), hasher.transform(data.rows)
    problem = codes, data.Y_query, database, data.Y
    histogram = metrics.HammingHistogram.from_codes(*problem)
    yield "counts", digest(histogram.counts)
    alone = metrics.HammingHistogram.leave_one_out(database, data.Y)
    yield "counts, leave one out", digest(alone.counts)
    cuts = [{"k": k} for k in (None, 1, 7, 50)] + [{"radius": r} for r in (0, 2, 4)]
    for name in metrics.get_scorer_names():
        function = getattr(metrics, f"{name}_score")
        method = getattr(histogram, name)
        values = []
        for cut in cuts:
            for ties in ("mean", "best", "worst"):
                values.append(function(*problem, **cut, ties=ties))
                values.append(method(**cut, ties=ties, empty="nan"))
        values.append(method(k=[1, 5, 20]))
        if name.endswith("average_precision"):
            values.append(function(*problem, convention="authors"))
            values.append(function(*problem, convention="authors", k=30))
        if name == "ndcg":
            values.append(function(*problem, gain="linear"))
        yield f"metric {name}", digest(*values)
        scorer = metrics.get_scorer(f"{name}@20")
        yield (
            f"scorer {name}",
            digest(cross_val_score(LSHHasher(9, random_state=0), data.X, data.y, scoring=scorer)),
        )
    scorer = metrics.make_retrieval_scorer("ndcg", k=5, protocol="leave_one_out")
    pipeline = make_pipeline(StandardScaler(), LSHHasher(9, random_state=0))
    yield "scorer, left out", digest(cross_val_score(pipeline, data.X, data.y, scoring=scorer))
    interval = metrics.bootstrap_interval(histogram.ndcg(k=[5, 50]), random_state=0)
    yield "interval", digest(*interval)
    search = HammingNeighbors(9).fit(database)
    yield "neighbors", digest(*search.kneighbors(codes))
    yield "distances", digest(hamming_distances(pack_codes(codes), pack_codes(database)))
    yield from display_digests(hasher, data)


def display_digests(hasher, data):
    """Yield (name, digest) of the tables behind the displays."""
    queries = data.row_queries, data.Y_query
    display = metrics.RankingCurveDisplay.from_estimator(hasher, *queries)
    yield "display, curve", digest(display.k, display.values)
    display = metrics.RankingCurveDisplay.from_codes(
        hasher.transform(data.row_queries), data.Y_query, hasher.transform(data.rows), data.Y,
        metric="precision", name="x",
    )  # fmt: skip
    yield "display, curve of codes", digest(display.k, display.values)
    display = metrics.PrecisionRecallDisplay.from_estimator(hasher, *queries)
    yield "display, precision", digest(display.precision, display.recall, display.radius)
    display = metrics.CodeDiagnosticsDisplay.from_estimator(hasher)
    yield (
        "display, codes",
        digest(display.balance, display.correlation, display.n_sharing, display.n_effective),
    )
    display = metrics.RetrievalDisplay.from_estimator(
        hasher, data.row_queries[:3], data.Y_query[:3],
        query_images=data.queries[:3], database_images=data.images,
    )  # fmt: skip
    yield (
        "display, results",
        digest(np.array(display.queries), np.array(display.results), np.array(display.distances)),
    )


def all_digests():
    """Return {name: digest}."""
    torch.set_num_threads(1)
    data, digests = Data(), {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_bits=.* is more than")
        for group in (shallow_digests, deep_digests, file_digests, metric_digests):
            digests |= group(data)
    return digests


def main():
    """Write the digests, or compare them with those that were written."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    args = parser.parse_args()
    digests = all_digests()
    if args.write:
        args.write.write_text(json.dumps(digests, indent=1) + "\n")
    if args.compare:
        before = json.loads(args.compare.read_text())
        names = sorted(before.keys() | digests.keys())
        other = [name for name in names if before.get(name) != digests.get(name)]
        print(f"{len(names)} digests, {len(other)} differ" + "".join(f"\n  {n}" for n in other))
        raise SystemExit(bool(other))
    print(f"{len(digests)} digests")


if __name__ == "__main__":
    main()
