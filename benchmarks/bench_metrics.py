"""Time `ndcg_score` and `HammingHistogram` against what else there is, in one run.

    python benchmarks/bench_metrics.py

First table: NDCG@100 of 1,000 queries and 100,000 items at 64 bits. skhash is given codes and
label sets; it validates, packs, counts and evaluates. scikit-learn's `ndcg_score` is given
distances and gains, and ranx a `Qrels` and a `Run`, made of dictionaries. Evaluation alone, of
what is made already (a `HammingHistogram`; `Qrels` and `Run`), has lines of its own. scikit-learn
and ranx are slow, so they get fewer queries and their seconds are scaled to all: their time is
proportional to queries. scikit-learn averages over ties as skhash does, and the difference of the
two values is printed. ranx takes ties in some order.

Second table: counting 5,000 queries and 200,000 items of 81 labels, the size of NUS-WIDE, against
one pass of `numpy.bitwise_xor` and `numpy.bitwise_count` over all pairs of the same packed codes,
a query at a time, of which nothing is kept. Then the peak of memory by `tracemalloc`, the table of
counts included, in runs of their own.

Third table: counting 1,000 queries and a million items by `HammingHistogram.from_shards`, a shard
after the other against one pass, in seconds of the processor; and in two processes, in seconds of
the clock, the start of the processes not counted. Shards are files of packed codes and label sets.

Lines of one thread are in seconds of the processor, which other load changes little; lines of
several are in seconds of the clock, with those of one beside them. The sides of a table run in
turns and medians are printed. Writes `measured/metrics.jsonl`.
"""

import argparse
import time
import tracemalloc
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import sklearn.metrics
from _records import write_records

from skhash.codes import hamming_distances, pack_codes, unpack_codes
from skhash.metrics import HammingHistogram, ndcg_score

N_BITS, N_LABELS, K = 64, 81, 100


def make_side(n_samples, seed):
    """Return random packed codes and label sets: 2.3 labels a sample, few of them frequent."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n_samples, N_BITS // 8), dtype=np.uint8)
    frequency = np.minimum(0.3, 0.5 / np.arange(1, N_LABELS + 1))
    return codes, pack_codes(rng.random((n_samples, N_LABELS)) < frequency)


def seconds_of(function, clock=time.process_time):
    """Return the seconds that a call takes."""
    start = clock()
    function()
    return clock() - start


def medians_in_turns(functions, n_repeats, clock=time.process_time):
    """Return the median seconds of each function, called in turns."""
    runs = [[seconds_of(function, clock) for function in functions] for _ in range(n_repeats)]
    return [median(seconds) for seconds in zip(*runs, strict=True)]


def relevance_of(queries, database):
    """Return the shared labels of all pairs."""
    labels, others = (unpack_codes(side[1], N_LABELS) for side in (queries, database))
    return (labels.astype(np.float32) @ others.T.astype(np.float32)).astype(np.int64)


class Table:
    """Lines that are printed, and kept with the size of what was measured.

    Parameters
    ----------
    title : str
        What the lines are of.

    **size : dict
        What every record has.
    """

    def __init__(self, title, **size):
        self.size, self.records = size, []
        print(title)
        print(f"{'':44} {'seconds':>10} {'ratio':>9}")

    def add(self, name, seconds, reference, **cell):
        """Print and keep a line: seconds, and their ratio to those of the reference."""
        ratio = seconds / reference
        print(f"{name:44} {seconds:10.3f} {ratio:9.2f}")
        self.records.append(self.size | cell | {"side": name, "seconds": seconds, "ratio": ratio})


def compare_evaluations(n_queries, n_items, n_few, n_repeats):
    """Print the first table and return its records."""
    queries, database = make_side(n_queries, 0), make_side(n_items, 1)
    few, scale = tuple(side[:n_few] for side in queries), n_queries / n_few
    unpack = lambda side: (unpack_codes(side[0], N_BITS), unpack_codes(side[1], N_LABELS))  # noqa: E731
    distances = hamming_distances(few[0], database[0]).astype(np.float64)
    relevance = relevance_of(few, database)
    gains, problem = np.exp2(relevance) - 1, (*unpack(queries), *unpack(database))
    ours = lambda: ndcg_score(*problem, k=K)  # noqa: E731
    histogram = HammingHistogram.from_codes(*problem)
    evaluate = lambda: histogram.ndcg(K)  # noqa: E731
    theirs = lambda: sklearn.metrics.ndcg_score(gains, -distances, k=K)  # noqa: E731
    seconds, alone, sklearn_seconds = medians_in_turns([ours, evaluate, theirs], n_repeats)
    table = Table(
        f"NDCG@{K}, {n_queries:,} queries x {n_items:,} items, {N_BITS} bits, one thread",
        table="ndcg",
        n_queries=n_queries,
        n_items=n_items,
    )
    table.add("skhash ndcg_score, from codes", seconds, seconds)
    table.add("skhash, of a HammingHistogram alone", alone, seconds)
    table.add(f"scikit-learn ndcg_score, {n_few} queries", scale * sklearn_seconds, seconds)
    compare_ranx(table, distances, relevance, scale, seconds, n_repeats)
    difference = ndcg_score(*unpack(few), *problem[2:], k=K) - theirs()
    print(f"difference of skhash and scikit-learn on these {n_few} queries: {difference:.1e}\n")
    return table.records


def compare_ranx(table, distances, relevance, scale, reference, n_repeats):
    """Add the lines of ranx, if it is there."""
    try:
        import ranx
    except ImportError:
        print("ranx is not installed")
        return

    def make(n_queries):
        names = [str(item) for item in range(distances.shape[1])]
        qrels, run = {}, {}
        for query in range(n_queries):
            relevant = np.flatnonzero(relevance[query]).tolist()
            qrels[str(query)] = {names[item]: int(relevance[query, item]) for item in relevant}
            run[str(query)] = dict(zip(names, (-distances[query]).tolist(), strict=True))
        return ranx.Qrels(qrels), ranx.Run(run)

    evaluate = lambda made: ranx.evaluate(*made, f"ndcg_burges@{K}", threads=1)  # noqa: E731
    made = make(len(distances))
    evaluate(made)
    functions = [lambda: make(len(distances)), lambda: evaluate(made)]
    making, evaluation = (scale * seconds for seconds in medians_in_turns(functions, n_repeats))
    table.add(f"ranx evaluate alone, {len(distances)} queries", evaluation, reference)
    table.add("ranx, Qrels and Run made of distances", making + evaluation, reference)


def compare_counting(n_queries, n_items, n_jobs, n_repeats):
    """Print the second table and return its records."""
    queries, database = make_side(n_queries, 0), make_side(n_items, 1)
    words, others = (side[0].view(np.uint64)[:, 0] for side in (queries, database))

    def popcounts():
        for word in words:
            np.bitwise_count(np.bitwise_xor(word, others))

    def count(n_jobs=1, working_memory=None):
        return HammingHistogram.from_packed(
            *queries, *database, n_bits=N_BITS, n_jobs=n_jobs, working_memory=working_memory
        )

    functions = [popcounts, count]
    reference, seconds = medians_in_turns(functions, n_repeats)
    table = Table(
        f"Counting {n_queries:,} queries x {n_items:,} items, {N_BITS} bits, {N_LABELS} labels",
        table="counting",
        n_queries=n_queries,
        n_items=n_items,
    )
    table.add("NumPy xor and bitwise_count alone", reference, reference)
    table.add("HammingHistogram, one thread", seconds, reference)
    functions.append(lambda: count(n_jobs))
    reference, one, several = medians_in_turns(functions, n_repeats, time.perf_counter)
    table.add("by the clock: NumPy alone", reference, reference)
    table.add("by the clock: HammingHistogram, one thread", one, reference)
    table.add(f"by the clock: HammingHistogram, n_jobs={n_jobs}", several, reference)
    n_pairs = n_queries * n_items
    print(f"ns per pair: {1e9 * seconds / n_pairs:.2f}; all metrics @{K} of it:")
    evaluate_all(count())
    for working_memory in (None, 8, 1):
        print_peak(lambda memory=working_memory: count(working_memory=memory), working_memory)
    return table.records


def compare_shards(n_queries, n_items, n_jobs, n_repeats):
    """Print the third table and return its records."""
    queries, database = make_side(n_queries, 0), make_side(n_items, 1)
    one_pass = lambda: HammingHistogram.from_packed(*queries, *database, n_bits=N_BITS)  # noqa: E731
    options = {"n_bits": N_BITS, "n_labels": N_LABELS}
    whole = one_pass()
    table = Table(
        f"Shards: {n_queries:,} queries x {n_items:,} items, {N_BITS} bits, {N_LABELS} labels",
        table="shards",
        n_queries=n_queries,
        n_items=n_items,
    )
    with TemporaryDirectory() as folder:
        for n_shards in (1, 4, 10, 40):
            shards = save_shards(Path(folder), database, n_shards)
            count = partial(HammingHistogram.from_shards, *queries, shards, **options)
            reference, one = medians_in_turns([one_pass, count], n_repeats)
            cell = {"n_shards": n_shards, "n_jobs": 1}
            table.add(f"{n_shards} shards, one after the other", one, reference, **cell)
            # The first call starts the processes.
            assert count(n_jobs=n_jobs) == whole
            functions = [one_pass, partial(count, n_jobs=n_jobs)]
            reference, several = medians_in_turns(functions, n_repeats, time.perf_counter)
            cell["n_jobs"] = n_jobs
            name = f"{n_shards} shards, by the clock: n_jobs={n_jobs}"
            table.add(name, several, reference, **cell)
    return table.records


def save_shards(folder, database, n_shards):
    """Write the codes and labels of shards, and return their paths."""
    shards = []
    for number, rows in enumerate(np.array_split(np.arange(len(database[0])), n_shards)):
        paths = tuple(folder / f"{name}{number}.npy" for name in ("codes", "labels"))
        for path, side in zip(paths, database, strict=True):
            np.save(path, side[rows])
        shards.append(paths)
    return shards


def evaluate_all(histogram):
    """Print the seconds of each metric."""
    for name in ("ndcg", "acg", "average_precision", "weighted_average_precision", "recall"):
        seconds = [
            seconds_of(lambda ties=ties: getattr(histogram, name)(K, ties=ties))  # noqa: B023
            for ties in ("mean", "best", "worst")
        ]
        print(f"  {name:42} {' '.join(f'{value:9.3f}' for value in seconds)}  mean, best, worst")


def print_peak(function, working_memory):
    """Print the peak of the memory that a call takes."""
    tracemalloc.start()
    histogram = function()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    table = histogram.counts.nbytes
    print(
        f"working_memory={working_memory}: peak {peak / 2**20:.1f} MiB, of which the counts take "
        f"{table / 2**20:.1f} MiB"
    )


def main():
    """Parse the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, nargs=2, default=[1000, 5000], help="of each table")
    parser.add_argument("--items", type=int, nargs=2, default=[100_000, 200_000])
    parser.add_argument("--few", type=int, default=20, help="queries of the slow sides")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    output = Path(__file__).parent / "measured" / "metrics.jsonl"
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    print(f"NumPy {np.__version__}, scikit-learn {sklearn.__version__}, median of {args.repeats}")
    queries, items = args.queries, args.items
    records = compare_evaluations(queries[0], items[0], args.few, args.repeats)
    records += compare_counting(queries[1], items[1], args.n_jobs, args.repeats)
    records += compare_shards(queries[0], 10 * items[0], args.n_jobs, args.repeats)
    write_records(args.output, records)


if __name__ == "__main__":
    main()
