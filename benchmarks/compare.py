"""Compare hashers on one data set: methods x code lengths x seeds.

    python benchmarks/compare.py                            # digit scenes, about 3 minutes
    python benchmarks/compare.py --dataset mirflickr25k --data mirflickr25k_128.npz
    python benchmarks/compare.py --dataset coco17 --data coco17_128.npz
    python benchmarks/compare.py --dataset mirflickr25k-losses --data mirflickr25k_128.npz

Each seed draws its own split, and seeds the hashers. ``--protocol`` says what is ranked:

* ``unseen``: half of what is no query is the training set, the other half the database. The
  images that are ranked were never seen in training.
* ``paper``: all that is no query is both. The hashers rank their own training set.
* ``literature``: 1,000 queries, 4,000 training images, the rest (20,000 of MIRFLICKR-25K) is the
  database.
* ``labelled``: as ``literature``, without the images that have no label.

No hyper-parameter is chosen here: they are constants of this file, chosen on parts of the training
sets (see ``benchmarks/README.md``).

Prints a table of NDCG@100, also with weights of the bits of a query ("asymmetric") and, of deep
hashers, by relaxed codes of both sides ("relaxed"), of ACG@100, weighted mAP, mAP, and mAP@1000 as
HashNet and others count it, all exact under ties, mean and standard deviation over seeds. Writes
the raw results as JSON lines, the table as Markdown and a plot of NDCG@100 against the number of
bits into ``--output``.
"""

import argparse
import json
import math
import time
import warnings
from collections import defaultdict
from functools import partial
from itertools import cycle, product
from pathlib import Path
from statistics import mean, stdev
from typing import ClassVar

import numpy as np
from _records import read_records
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.preprocessing import normalize

from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash.codes import unpack_codes
from skhash.datasets import fetch_mirflickr25k, make_digit_scenes, retrieval_split
from skhash.deep.losses import NestedLoss, RankingLoss, TieAwareNDCGLoss
from skhash.metrics import (
    acg_score,
    average_precision_score,
    ndcg_score,
    weighted_average_precision_score,
)

METRICS = {
    "NDCG@100": partial(ndcg_score, k=100),
    "ACG@100": partial(acg_score, k=100),
    "wmAP": weighted_average_precision_score,
    "mAP": average_precision_score,
    "mAP@1000": partial(average_precision_score, k=1000, convention="authors"),
}

# What `retrieval_split` is asked for; the number of queries where a protocol has its own.
PROTOCOLS = {
    "unseen": {"train_in_database": False},
    "paper": {},
    "literature": {"n_queries": 1000, "n_train": 4000, "train_in_database": False},
    "labelled": {"n_queries": 1000, "n_train": 4000, "train_in_database": False},
}


# Beside them, NDCG@100 of rankings that are not by Hamming distance, where a hasher has such.
OTHERS = ["signs", "asymmetric", "relaxed"]


class RandomOrder:
    """Give all samples one code, so that the exact expectation is over a random order."""

    def __init__(self, n_bits):
        self.n_bits = n_bits

    def fit(self, X, Y):  # noqa: ARG002
        """Keep a database of equal codes."""
        self.database_codes_ = np.zeros((len(X), -(-self.n_bits // 8)), np.uint8)
        return self

    def transform(self, X):
        """Return equal codes."""
        return np.zeros((len(X), self.n_bits), np.uint8)


class Nested:
    """Make a hasher of 48 bits of which the first 16 and 32 are codes too, and shorten it."""

    # By seed: all lengths are of one training.
    trained: ClassVar[dict] = {}

    def __init__(self, n_bits, random_state):
        self.n_bits, self.random_state = n_bits, random_state

    def fit(self, X, Y):
        """Train 48 bits, unless that was done for another length, and keep the first ones."""
        if self.random_state not in self.trained:
            loss = NestedLoss(TieAwareNDCGLoss(), lengths=(16, 32, 48))
            whole = DeepRankingHasher(48, loss=loss, random_state=self.random_state).fit(X, Y)
            self.trained[self.random_state] = whole
        self.hasher = self.trained[self.random_state].shorten(self.n_bits)
        self.database_codes_ = self.hasher.database_codes_
        self.transform, self.encode_database = self.hasher.transform, self.hasher.encode_database
        return self


# A method is what makes the hasher, and which view of the data it is given.
SHALLOW = {
    "random order": (lambda n_bits, random_state: RandomOrder(n_bits), "features"),  # noqa: ARG005
    "LSH": (LSHHasher, "features"),
    "Spectral": (lambda n_bits, random_state: SpectralHasher(n_bits), "features"),  # noqa: ARG005
    "ITQ": (ITQHasher, "features"),
    "CCA-ITQ": (partial(CCAITQHasher, reg=0.03), "features"),
    "KSH": (partial(KSHHasher, similarity="graded"), "features"),
    "SDH": (SDHHasher, "features"),
    "BRE": (BREHasher, "features"),
    "MLH": (MLHHasher, "features"),
    "HDML": (HDMLHasher, "features"),
}


def digit_scenes(path, cache):  # noqa: ARG001
    """Return views of the data, labels, number of queries and methods for digit scenes."""
    scenes = make_digit_scenes(image_size=24, max_digits=3, random_state=0)
    rows = scenes.images.reshape(len(scenes.images), -1) / np.float32(255)
    deep = partial(
        DeepRankingHasher,
        network="convnet",
        flip=False,
        max_epochs=12,
        batch_size=64,
        learning_rate=3e-3,
    )
    # These stop early for speed; on held-out training scenes no NDCG@100 moves by .01.
    quick = {
        "KSH": (partial(KSHHasher, similarity="graded", max_iter=50), "features"),
        "MLH": (partial(MLHHasher, max_epochs=20), "features"),
        "HDML": (partial(HDMLHasher, max_epochs=50), "features"),
    }
    methods = SHALLOW | quick | {"Deep": (deep, "images")}
    return {"features": rows, "images": scenes.images}, scenes.target, 500, methods


def mirflickr25k(path, cache):
    """Return views of the data, labels, number of queries and methods for MIRFLICKR-25K."""
    data = fetch_mirflickr25k(path, cache=cache / "mirflickr25k_images.npy")
    return photographs(data.images, data.target, cache / "mirflickr25k_features.npy")


def coco17(path, cache):
    """Return the same for 15,925 images of MS-COCO with 17 labels."""
    from _packs import read_pack

    images, target = read_pack(path, cache / "coco17_images.npy")
    return photographs(images, target, cache / "coco17_features.npy")


def coco17_classes(path, cache):
    """Return the same for those of the images that have one label, which is their class."""
    views, Y, n_queries, methods = coco17(path, cache)
    of_one = Y.sum(axis=1) == 1
    return {name: view[of_one] for name, view in views.items()}, Y[of_one], n_queries, methods


def photographs(images, target, feature_file):
    """Return views, labels, number of queries and methods for photographs."""
    from _efficientnet import PIXELS, cached_features, mirrored_efficientnet_lite0

    features = cached_features(images, feature_file)
    # Roots tame the few large activations, unit length the differences in contrast.
    features = normalize(np.sqrt(features))
    finetuned = partial(
        DeepRankingHasher,
        network=mirrored_efficientnet_lite0,
        normalization=PIXELS,
        loss="tie_aware_ndcg",
        head_epochs=20,
        max_epochs=2,
        backbone_learning_rate=1e-4,
    )
    # What ranks its own training set best: nothing keeps it from learning that by heart.
    memorising = partial(
        DeepRankingHasher,
        loss=TieAwareNDCGLoss(straight_through=0),
        taps="both",
        input_dropout=0,
        hidden_size=1024,
        n_heads=1,
        max_epochs=20,
    )
    # All labels instead of 2,000, and more anchors than 300: at 2,000 training images of held-out
    # parts .006 better; SDH is better with its 1,000 anchors than with 2,000.
    more = partial(KSHHasher, similarity="graded", n_anchors=1000, n_labeled=20_000)
    methods = SHALLOW | {
        "KSH, all labels": (more, "features"),
        "Deep, features": (DeepRankingHasher, "features"),
        "Deep, nested": (Nested, "features"),
        "Deep, memorising": (memorising, "features"),
        "Deep, fine-tuned": (finetuned, "images"),
    }
    return {"features": features, "images": images}, target, 2000, methods


# The rate, of 3e-4, 1e-3 and 3e-3, at which a loss does best on held-out images.
LOSS_RATES = {
    "ranking": 1e-3,
    "tie_aware_average_precision": 1e-3,
    "dsrh": 1e-3,
    "dpsh": 1e-3,
    "hashnet": 1e-3,
    "idhn": 3e-3,
    "dtsh": 1e-3,
    "csq": 3e-3,
    "orthohash": 3e-3,
    "hyp2": 3e-4,
}


def mirflickr25k_losses(path, cache):
    """Return the same for losses and ablations of the deep hasher, on the features alone."""
    views, Y, n_queries, _ = mirflickr25k(path, cache)
    deep = DeepRankingHasher
    # On features both layers before the codes start at random. At the paper's rates, which are
    # for pretrained ones, training diverges; of 1e-4, 3e-5 and 1e-5 this is the best.
    rates = {"learning_rate": 3e-5, "backbone_learning_rate": 3e-5}
    hashers = {
        "paper": partial(deep.from_paper, network="mlp", max_epochs=10, **rates),
        "default": deep,
        "default, no dropout": partial(deep, input_dropout=0),
        "default, both layers": partial(deep, taps="both"),
        "default, no signs": partial(deep, loss=TieAwareNDCGLoss(straight_through=0)),
        "default, list of 2,000": partial(deep, loss=TieAwareNDCGLoss(list_size=2000)),
        "ranking, uniform": partial(deep, loss=RankingLoss(weighting="uniform")),
        "ranking, balance=0": partial(deep, loss=RankingLoss(balance=0)),
        "ranking, balanced labels": partial(deep, loss=RankingLoss(class_weight="balanced")),
        "ranking, list of 2,000": partial(deep, loss=RankingLoss(list_size=2000)),
    }
    hashers |= {
        name: partial(deep, loss=name, learning_rate=rate) for name, rate in LOSS_RATES.items()
    }
    return views, Y, n_queries, {name: (make, "features") for name, make in hashers.items()}


def run(make, X, Y, n_bits, seed, split_options):
    """Fit and score one hasher on one split; return a flat record."""
    split = retrieval_split(len(Y), random_state=seed, **split_options)
    hasher = make(n_bits=n_bits, random_state=seed)
    started = time.perf_counter()
    with warnings.catch_warnings():
        # More bits than canonical directions are expected here.
        warnings.filterwarnings("ignore", message="n_bits=.* is more than")
        hasher.fit(X[split.train], Y[split.train])
    fitted = time.perf_counter()
    codes = hasher.transform(X[split.query])
    transformed = time.perf_counter()
    database = (
        unpack_codes(hasher.database_codes_, n_bits)
        if np.array_equal(split.database, split.train)
        else encoded(hasher, X[split.database])
    )
    scores = {
        name: metric(codes, Y[split.query], database, Y[split.database])
        for name, metric in METRICS.items()
    }
    if hasattr(hasher, "bit_weights"):
        problem = codes, Y[split.query], database, Y[split.database]
        scores |= other_rankings(hasher, problem, X[split.query], X[split.database])
    return {"fit_s": fitted - started, "transform_s": transformed - fitted} | scores


def encoded(hasher, database):
    """Return the codes of the items of a database."""
    encode = getattr(hasher, "encode_database", hasher.transform)
    return encode(database)


def other_rankings(hasher, problem, queries, database):
    """Return NDCG@100 of other rankings: asymmetric, of signs on both sides, of relaxed codes."""
    weights = hasher.bit_weights(queries)
    scores = {"asymmetric": ndcg_score(*problem, k=100, query_weights=weights)}
    if not isinstance(hasher, DeepRankingHasher):
        return scores
    _, query_labels, _, labels = problem
    relaxed, items = hasher.relaxed_codes(queries), hasher.relaxed_codes(database)
    scores["signs"] = ndcg_score(relaxed >= 0, query_labels, items >= 0, labels, k=100)
    return scores | {"relaxed": relaxed_ndcg(relaxed @ items.T, query_labels, labels, 100)}


def relaxed_ndcg(similarity, query_labels, labels, k):
    """Return NDCG@k of a ranking without ties, the most similar items first."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    values = []
    for row, own in zip(similarity, query_labels, strict=True):
        gains = np.exp2(labels @ own.astype(np.float64)) - 1
        ideal = np.sort(gains)[: -k - 1 : -1] @ discounts
        order = np.argsort(-row, kind="stable")[:k]
        values.append(gains[order] @ discounts / ideal if ideal else 0.0)
    return mean(values)


def run_all(views, Y, split_options, methods, args, raw_file, console):
    """Run every combination not yet in the raw results; return all records asked for."""
    wanted = list(product(args.seeds, args.bits, methods))
    done = _read_records(raw_file) if args.resume else {}
    records = []
    columns = [TextColumn("{task.description:<36}"), BarColumn(), MofNCompleteColumn()]
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        raw_file.open("a" if args.resume else "w") as raw,
    ):
        task = progress.add_task("", total=len(wanted))
        for seed, n_bits, method in wanted:
            progress.update(task, description=f"{method}, {n_bits} bits, seed {seed}")
            record = done.get((method, n_bits, seed))
            if record is None:
                make, view = methods[method]
                record = {"dataset": args.dataset, "protocol": args.protocol, "method": method}
                record |= {"n_bits": n_bits, "seed": seed}
                record |= run(make, views[view], Y, n_bits, seed, split_options)
                raw.write(json.dumps(record) + "\n")
                raw.flush()
            records.append(record)
            progress.advance(task)
    return records


def _read_records(raw_file):
    """Return what an earlier run left, by method, bits and seed."""
    return {(r["method"], r["n_bits"], r["seed"]): r for r in read_records(raw_file)}


def summarise(records):
    """Return {(method, n_bits): {name: (mean, spread)}}, in the order of the records."""
    groups = defaultdict(list)
    for record in records:
        groups[record["method"], record["n_bits"]].append(record)
    names = [*METRICS, *OTHERS, "fit_s"]
    return {
        key: {name: _mean_spread([r.get(name, math.nan) for r in group]) for name in names}
        for key, group in groups.items()
    }


def _mean_spread(values):
    """Return mean and sample standard deviation (NaN for a single value)."""
    # A hasher that is no deep one lacks some rankings.
    if any(math.isnan(value) for value in values):
        return math.nan, math.nan
    return mean(values), stdev(values) if len(values) > 1 else math.nan


def table_rows(summary):
    """Return the header and the rows of the table, as strings, by bits and then method."""
    first, *metrics = METRICS
    yield ["bits", "method", first, *OTHERS, *metrics, "fit s"]
    for (method, n_bits), cells in sorted(summary.items(), key=lambda item: item[0][1]):
        scores = [_score_cell(*cells[name]) for name in [first, *OTHERS, *metrics]]
        yield [str(n_bits), method, *scores, f"{cells['fit_s'][0]:.1f}"]


def _score_cell(score, spread):
    """Return a score and its spread, if it has one, as a short string."""
    if math.isnan(score):
        return ""
    if math.isnan(spread):
        return f"{score:.3f}"
    # In 80 columns: no spaces, and no 0 before the point of a spread.
    return f"{score:.3f}±{f'{spread:.3f}'.removeprefix('0')}"


def print_table(summary, title, console):
    """Show what fits into 80 columns of the table in the terminal; the file has all."""
    shown = ["bits", "method", "NDCG@100", "asymmetric", "ACG@100", "mAP", "fit s"]
    header, *rows = table_rows(summary)
    rows = [[row[header.index(name)] for name in shown] for row in rows]
    header = shown
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 1 else "right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*row, end_section=following is not None and following[0] != row[0])
    console.print(table)


def write_markdown(summary, file):
    """Write the table as Markdown."""
    header, *rows = table_rows(summary)
    rule = ["--:" if i != 1 else ":--" for i in range(len(header))]
    file.write_text("".join(f"| {' | '.join(row)} |\n" for row in [header, rule, *rows]))


def plot(summary, title, file):
    """Plot NDCG@100 against bits, a line a method, bars of one standard deviation."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = defaultdict(list)
    for (method, n_bits), cells in summary.items():
        lines[method].append((n_bits, *cells["NDCG@100"]))
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    # Of more than 20 lines, the first ones look like the last.
    looks = cycle(product(("-", ":"), "x.+svoD^P*"))
    for (method, points), (style, marker) in zip(lines.items(), looks, strict=False):
        bits, scores, spread = zip(*sorted(points), strict=True)
        axes.errorbar(bits, scores, spread, marker=marker, ls=style, capsize=3, label=method)
    axes.set(xlabel="bits", ylabel="NDCG@100, exact under ties", title=title, ylim=(0, None))
    axes.set_xticks(sorted({n_bits for _, n_bits in summary}))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


DATASETS = {
    "digits": digit_scenes,
    "mirflickr25k": mirflickr25k,
    "coco17": coco17,
    "coco17-classes": coco17_classes,
    "mirflickr25k-losses": mirflickr25k_losses,
}


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--dataset", choices=DATASETS, default="digits")
    add("--protocol", choices=PROTOCOLS, default="unseen")
    add("--data", help="the pack of the data set (.npz); of MIRFLICKR-25K also its folder")
    add("--n-train", type=int, help="number of training images, instead of the protocol's")
    add("--bits", type=int, nargs="+", default=[16, 32, 64])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--methods", nargs="+", help="which methods to run; all if not given")
    add("--output", type=Path, default=Path(__file__).parent / "results")
    add("--resume", action="store_true", help="keep the raw results there are, run what lacks")
    return parser.parse_args()


def main():
    """Run the comparison."""
    args = parse_args()
    console = Console()
    args.output.mkdir(parents=True, exist_ok=True)
    views, Y, n_queries, methods = DATASETS[args.dataset](args.data, args.output)
    if args.protocol == "labelled":
        labelled = Y.any(axis=1)
        views, Y = {name: view[labelled] for name, view in views.items()}, Y[labelled]
    split_options = {"n_queries": n_queries} | PROTOCOLS[args.protocol]
    if args.n_train is not None:
        split_options["n_train"] = args.n_train
    if args.methods:
        unknown = set(args.methods) - set(methods)
        if unknown:
            raise SystemExit(f"--methods should be among {list(methods)}, got {sorted(unknown)}.")
        methods = {name: methods[name] for name in methods if name in args.methods}
    stem = f"{args.dataset}-{args.protocol}" + (f"-{args.n_train}" if args.n_train else "")
    raw_file = args.output / f"{stem}.jsonl"
    records = run_all(views, Y, split_options, methods, args, raw_file, console)
    summary = summarise(records)
    sizes = {name: len(rows) for name, rows in retrieval_split(len(Y), **split_options).items()}
    title = (
        f"{args.dataset}, {args.protocol}: {sizes['query']:,} queries, training set of "
        f"{sizes['train']:,}, database of {sizes['database']:,}, {len(args.seeds)} seeds"
    )
    print_table(summary, title, console)
    write_markdown(summary, args.output / f"{stem}.md")
    plot(summary, stem, args.output / f"{stem}.png")
    console.print(f"Raw results, table and plot: {args.output}/{stem}.{{jsonl,md,png}}")


if __name__ == "__main__":
    main()
