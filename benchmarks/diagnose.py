"""Draw how well the bits of the deep hasher's codes are used, by signs and as a whole.

    python benchmarks/diagnose.py --dataset coco17 --data coco17_128.npz

Trains `DeepRankingHasher` once by default on the training set of `compare.py --protocol unseen`,
split 0, and draws the codes of images that it has not seen, as signs of their relaxed codes and as
the items that a database holds. Writes two pictures into ``--output`` and prints how many bits are
nearly constant.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from _data import DATASETS
from _runs import split_of

from skhash import DeepRankingHasher
from skhash.metrics import CodeDiagnosticsDisplay


def encode(data, n_bits):
    """Return codes of the database of split 0, as signs and as items."""
    split = split_of(data, "unseen", 0)
    X, Y = data.views["features"], data.target
    hasher = DeepRankingHasher(n_bits, random_state=0).fit(X[split.train], Y[split.train])
    unseen = X[split.database]
    return {
        "signs": (hasher.relaxed_codes(unseen) >= 0).astype(np.uint8),
        "items": hasher.encode_database(unseen),
    }


def describe(name, codes):
    """Return a line about the shares of ones."""
    share = codes.mean(axis=0)
    rarer = np.minimum(share, 1 - share)
    return (
        f"{name}: shares of ones from {share.min():.2f} to {share.max():.2f}; "
        f"{(rarer < 0.05).sum()} of {len(share)} bits are the same for 95 % of the images"
    )


def main():
    """Train, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=["mirflickr25k", "coco17"], default="coco17")
    parser.add_argument("--data", required=True, help="the pack of the data set (.npz)")
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    data = DATASETS[args.dataset](args.data, args.output)
    for name, codes in encode(data, args.bits).items():
        print(describe(name, codes))
        display = CodeDiagnosticsDisplay.from_codes(codes)
        display.figure_.suptitle(f"{args.dataset}, {args.bits} bits, {name}")
        display.figure_.savefig(args.output / f"{args.dataset}-codes-{name}.png", dpi=100)
        plt.close(display.figure_)


if __name__ == "__main__":
    main()
