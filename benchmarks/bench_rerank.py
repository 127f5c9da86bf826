"""How much of an exact search two stages find: recall of the first 100 against candidates.

    python benchmarks/bench_rerank.py features.npy labels.npy

The files hold rows of features, and their label sets as an indicator matrix. A hasher of 48 bits is
trained with codes of 16, 32 and 48 bits nested in one another. 2,000 rows are queries, 5,000 are
learnt from, and all others are the database.
"""

import argparse
import time

import numpy as np

from skhash import DeepRankingHasher
from skhash.datasets import retrieval_split
from skhash.deep.losses import NestedLoss, TieAwareNDCGLoss

N_BITS = 48
N_NEIGHBORS = 100
CANDIDATES = (100, 200, 500, 1000, 2000, 5000)


def fitted(features, labels, n_train):
    """Return a hasher with its database, and the rows that are queries."""
    split = retrieval_split(
        len(features), n_queries=2000, n_train=n_train, train_in_database=False, random_state=0
    )
    loss = NestedLoss(TieAwareNDCGLoss(), lengths=(16, 32, N_BITS))
    hasher = DeepRankingHasher(N_BITS, loss=loss, device="cpu", random_state=0)
    hasher.fit(features[split.train], labels[split.train])
    hasher.set_database(features[split.database], labels[split.database])
    return hasher, split.query


def timed(search, *args, **kwargs):
    """Return what a search finds, and milliseconds of the processor that a query took."""
    start = time.process_time()
    rows = search(*args, return_distance=False, **kwargs)
    return rows, 1000 * (time.process_time() - start) / len(rows)


def recall(rows, exact):
    """Return the mean share of the exact neighbours that were found."""
    pairs = zip(rows, exact, strict=True)
    return np.mean([len(np.intersect1d(found, right)) / len(right) for found, right in pairs])


def main():
    """Print a table of recall and time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features")
    parser.add_argument("labels")
    parser.add_argument("--n-train", type=int, default=5000)
    args = parser.parse_args()
    features, labels = np.load(args.features), np.load(args.labels)
    hasher, queries = fitted(features, labels, args.n_train)
    X = features[queries]
    for asymmetric in (True, False):
        exact, duration = timed(hasher.kneighbors, X, N_NEIGHBORS, asymmetric=asymmetric)
        print(f"asymmetric={asymmetric}: all {len(hasher.database_codes_)}, {duration:.3f} ms")
        for coarse_bits in (None, 32, 16) if asymmetric else (32, 16):
            for n_candidates in CANDIDATES:
                rows, duration = timed(
                    hasher.kneighbors,
                    X,
                    N_NEIGHBORS,
                    asymmetric=asymmetric,
                    n_candidates=n_candidates,
                    coarse_bits=coarse_bits,
                )
                found = recall(rows, exact)
                print(f"{coarse_bits} bits, {n_candidates}: {found:.4f}, {duration:.3f} ms")


if __name__ == "__main__":
    main()
