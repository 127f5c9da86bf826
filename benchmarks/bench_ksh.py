"""Time `KSHHasher`, which factors the similarity of labels, against the n x n form.

    python benchmarks/bench_ksh.py

The n x n form writes the similarity of all pairs of labelled samples as a matrix, multiplies by it
and takes each bit off it, as the authors' code does. Both sides get the same anchors, kernel
values, label sets, number of gradient steps and BLAS threads, in double precision; that of the
n x n form leaves out the kernel and the database, which the other side's time includes. They run
one after the other in one process. Printed are both times, their ratio, the number of codes'
bits that differ and the largest difference of the objectives. Samples are made up: label
sets, some rare and some frequent, move them in feature space. Run it on an idle machine.
"""

import argparse
import time

import numpy as np
import scipy
from scipy.linalg import eigh
from scipy.special import expit
from threadpoolctl import threadpool_limits

from skhash import KSHHasher


def make_data(n_samples, n_features, n_labels, n_sets):
    """Return features and label sets, of about three labels each, that they depend on.

    Sets are drawn from `n_sets` by Zipf's law. With 8,000, 5,000 samples have about 1,600
    distinct ones and 23,000 about 4,300, much as in MIRFLICKR-25K.
    """
    rng = np.random.default_rng(0)
    share = 3 * np.linspace(2, 0, n_labels, endpoint=False) / (n_labels + 1)
    sets = (rng.random((n_sets, n_labels)) < share).astype(np.uint8)
    weights = 1 / np.arange(2, n_sets + 2)
    Y = sets[rng.choice(n_sets, n_samples, p=weights / weights.sum())]
    centres = rng.normal(size=(n_labels, n_features))
    return Y @ centres + rng.normal(size=(n_samples, n_features)), Y


def pairwise_similarity(Y, similarity):
    """Return the similarity of all pairs of label sets."""
    Y = Y.astype(np.float64)
    shared = Y @ Y.T
    if similarity == "any":
        return np.where(shared > 0, 1.0, -1.0)
    lengths = np.sqrt(np.maximum(Y.sum(axis=1), 1))
    return 2 * shared / np.outer(lengths, lengths) - 1


def smooth(kernel, residue, a, max_iter, tol):
    """Nesterov's accelerated gradient from `a`, with a residue of n x n."""
    phi = 2 * expit(kernel @ a) - 1
    cost, before, beta, weight, next_weight = -phi @ residue @ phi, a, 1.0, 0.0, 1.0
    for _ in range(max_iter):
        probe = a + (weight - 1) / next_weight * (a - before)
        phi = 2 * expit(kernel @ probe) - 1
        pull = residue @ phi
        value, gradient = -phi @ pull, -kernel.T @ (pull * (1 - phi**2))
        for _ in range(51):
            reached = probe - gradient / beta
            phi = 2 * expit(kernel @ reached) - 1
            last_cost, new_cost = cost, -phi @ (residue @ phi)
            if new_cost <= value - gradient @ gradient / (2 * beta):
                break
            beta *= 2
        else:
            break
        before, a, cost = a, reached, new_cost
        weight, next_weight = next_weight, (1 + np.sqrt(1 + 4 * next_weight**2)) / 2
        if abs(cost - last_cost) / len(kernel) <= tol:
            break
    return a


def pairwise_ksh(kernel, Y, similarity, n_bits, max_iter, tol):
    """Return bits and objectives of KSH, with a residue of n x n."""
    n, gram = len(kernel), kernel.T @ kernel
    residue = n_bits * pairwise_similarity(Y, similarity)
    bits, objectives, last = [], [np.vdot(residue, residue)], kernel.shape[1] - 1
    for _ in range(n_bits):
        matrix = kernel.T @ residue @ kernel
        a = eigh(matrix, gram, subset_by_index=[last, last])[1][:, 0]
        a *= np.sqrt(n / (a @ gram @ a)) * np.sign(a[np.abs(a).argmax()])
        tried = [np.sign(kernel @ v) for v in (a, smooth(kernel, residue, a, max_iter, tol))]
        gains = [b @ residue @ b for b in tried]
        bits.append(tried[int(gains[1] > gains[0])])
        residue -= np.outer(bits[-1], bits[-1])
        objectives.append(objectives[-1] + n**2 - 2 * max(gains))
    return np.array(bits).T >= 0, np.array(objectives) / (n_bits * n) ** 2


def compare(X, Y, similarity, args):
    """Print the line of one similarity."""
    hasher = KSHHasher(
        args.bits,
        n_anchors=args.anchors,
        n_labeled=None,
        similarity=similarity,
        max_iter=args.max_iter,
        random_state=0,
    )
    start = time.perf_counter()
    hasher.fit(X, Y)
    seconds = time.perf_counter() - start
    kernel = hasher._kernel(X)
    start = time.perf_counter()
    bits, objectives = pairwise_ksh(kernel, Y, similarity, args.bits, args.max_iter, hasher.tol)
    slow_seconds = time.perf_counter() - start
    print(
        f"{similarity:>10} {len(X):8,} {seconds:12.2f} {slow_seconds:9.2f} "
        f"{slow_seconds / seconds:8.1f} {(hasher.transform(X) != bits).sum():12,} "
        f"{np.abs(hasher.objective_ - objectives).max():15.1e}",
        flush=True,
    )


def main():
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=5000, help="all of them labelled")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--labels", type=int, default=38)
    parser.add_argument("--sets", type=int, default=8000, help="label sets to draw from")
    parser.add_argument("--anchors", type=int, default=300)
    parser.add_argument("--bits", type=int, default=48)
    parser.add_argument("--max-iter", type=int, default=500, help="gradient steps for a bit")
    parser.add_argument("--similarity", nargs="*", default=["any", "graded"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    X, Y = make_data(args.samples, args.features, args.labels, args.sets)
    n_sets = len(np.unique(Y, axis=0))
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, {args.threads} thread(s)")
    print(f"{args.anchors} anchors, {args.bits} bits, {n_sets:,} distinct label sets")
    print("similarity  samples factored (s) n x n (s)    ratio  bits differ  objective diff")
    with threadpool_limits(args.threads):
        for similarity in args.similarity:
            compare(X, Y, similarity, args)


if __name__ == "__main__":
    main()
