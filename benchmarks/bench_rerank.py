"""What a search in two stages finds of an exact one, and how long both take.

    python benchmarks/bench_rerank.py                            # time, of random codes
    python benchmarks/bench_rerank.py features.npy labels.npy    # and recall, of learnt ones

Time is that of the processor on one core, for a million random codes of 48 bits. For recall, the
files hold rows of features, and their label sets as an indicator matrix. A hasher of 48 bits is
trained with codes of 16, 32 and 48 bits nested in one another. 2,000 rows are queries, 5,000 are
learnt from, and all others are the database. Writes `measured/rerank.jsonl`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from _records import write_records

from skhash import DeepRankingHasher
from skhash.datasets import retrieval_split
from skhash.deep.losses import NestedLoss, TieAwareNDCGLoss
from skhash.neighbors import HammingNeighbors

N_BITS = 48
N_NEIGHBORS = 100
CANDIDATES = (100, 200, 500, 1000, 2000, 5000)


def times(n_codes=10**6, n_queries=200):
    """Yield milliseconds that a query takes among random codes."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (n_codes, N_BITS // 8), dtype=np.uint8)
    queries = rng.integers(0, 256, (n_queries, N_BITS // 8), dtype=np.uint8)
    weights = np.abs(rng.normal(size=(n_queries, N_BITS)))
    search = HammingNeighbors(N_NEIGHBORS, n_bits=N_BITS).fit(codes)
    plain, asymmetric = {}, {"weights": weights}
    for name, given in [("all bits", plain), ("asymmetric", asymmetric)]:
        yield {"search": name, "ms": duration(search, queries, **given)}
    for n in CANDIDATES:
        ms = duration(search, queries, **asymmetric, n_candidates=n)
        yield {"search": "asymmetric", "candidates": n, "ms": ms}
        ms = duration(search, queries, n_candidates=n, coarse_bits=16)
        yield {"search": "all bits", "candidates": n, "bits": 16, "ms": ms}


def duration(search, queries, **given):
    """Return milliseconds that a query takes, once the search is prepared."""
    search.kneighbors(queries[:1], **{k: v[:1] if k == "weights" else v for k, v in given.items()})
    start = time.process_time()
    search.kneighbors(queries, **given)
    return 1000 * (time.process_time() - start) / len(queries)


def fitted(features, labels):
    """Return a hasher with its database, and the rows that are queries."""
    split = retrieval_split(
        len(features), n_queries=2000, n_train=5000, train_in_database=False, random_state=0
    )
    loss = NestedLoss(TieAwareNDCGLoss(), lengths=(16, 32, N_BITS))
    hasher = DeepRankingHasher(N_BITS, loss=loss, device="cpu", random_state=0)
    hasher.fit(features[split.train], labels[split.train])
    hasher.set_database(features[split.database], labels[split.database])
    return hasher, split.query


def recalls(features, labels):
    """Yield which share of the exact neighbours is found."""
    hasher, queries = fitted(features, labels)
    codes, weights = hasher.transform(features[queries]), hasher.bit_weights(features[queries])
    search = HammingNeighbors(N_NEIGHBORS, n_bits=N_BITS).fit(hasher.database_codes_)
    codes = np.packbits(codes, axis=1)
    for name, given, lengths in [
        ("asymmetric", {"weights": weights}, (None, 32, 16)),
        ("all bits", {}, (32, 16)),
    ]:
        exact = search.kneighbors(codes, return_distance=False, **given)
        for n_bits in lengths:
            for n in CANDIDATES:
                stages = {"n_candidates": n, "coarse_bits": n_bits}
                rows = search.kneighbors(codes, return_distance=False, **given, **stages)
                place = {"search": name, "candidates": n, "bits": n_bits or N_BITS}
                yield place | {"recall": recall(rows, exact)}


def recall(rows, exact):
    """Return the mean share of the exact neighbours that were found."""
    pairs = zip(rows, exact, strict=True)
    return np.mean([len(np.intersect1d(found, right)) / len(right) for found, right in pairs])


def main():
    """Measure and write both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", help="features.npy labels.npy")
    output = Path(__file__).parent / "measured" / "rerank.jsonl"
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    lines = [*times(), *(recalls(*map(np.load, args.files)) if args.files else ())]
    write_records(args.output, lines)
    print(args.output.read_text(), end="")


if __name__ == "__main__":
    main()
