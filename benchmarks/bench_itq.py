"""Time `ITQHasher.fit` against faiss' `ITQTransform`, and compare their quantisation errors.

    python benchmarks/bench_itq.py                      # features made up
    python benchmarks/bench_itq.py --features FILE.npy  # rows of a file

faiss centres the rows, scales each to unit length, and takes the principal components of the
result. The rows given to both are therefore centred and scaled in turns until they are both, so
that this changes nothing. Both sides get all rows for training (faiss otherwise takes a part),
float32, 50 turns and the same number of threads, and both encode the training rows, as
`ITQHasher.fit` does. The runs alternate in one process.

Printed are the medians of times and of their ratios, and the quantisation error on the training
rows: the mean squared distance of a projection to its signs, per bit, projections scaled to a
root mean square of 1. ITQ ends in local minima, which the initial rotation decides, so errors are
means over the seeds of the runs, with their standard deviation. The third error is that of the
authors' alternation in plain NumPy, in double precision, on the principal components of faiss. It
is there because faiss 1.15.1 multiplies the two factors of its SVD with one transposition too
many: its error does not fall from turn to turn, and stays near that of a random rotation.
"""

import argparse
import time
from statistics import median

import faiss
import numpy as np
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from skhash import ITQHasher


def make_rows(n_samples, n_features):
    """Return rows of a Gaussian mixture whose variances fall off as those of real features do."""
    rng = np.random.default_rng(0)
    scale = np.arange(1, n_features + 1) ** -0.5
    centres = rng.normal(size=(100, n_features)) * scale
    return centres[rng.integers(100, size=n_samples)] + rng.normal(
        size=(n_samples, n_features)
    ) * (scale / 2)


def centred_and_normalised(rows):
    """Return rows with a mean of 0, each of unit length, float32."""
    rows = rows.astype(np.float64)
    for _ in range(100):
        rows = normalize(rows - rows.mean(axis=0))
        if np.abs(rows.mean(axis=0)).max() < 1e-9:
            break
    return rows.astype(np.float32)


def quantization_error(projection):
    """Return the mean squared distance to the signs, per bit, of a projection scaled to 1."""
    V = projection / np.sqrt(np.mean(projection.astype(np.float64) ** 2))
    return np.mean((np.where(V >= 0, 1, -1) - V) ** 2)


def run_skhash(rows, n_bits, seed):
    """Return seconds of `fit`, and the quantisation error."""
    hasher = ITQHasher(n_bits, n_rotation_samples=len(rows), random_state=seed)
    start = time.perf_counter()
    hasher.fit(rows)
    seconds = time.perf_counter() - start
    return seconds, quantization_error(hasher.project(rows))


def run_faiss(rows, n_bits, seed):
    """Return seconds of `train` and of encoding the training set, and the quantisation error."""
    transform = faiss.ITQTransform(rows.shape[1], n_bits, True)
    transform.max_train_per_dim = len(rows)
    transform.itq.max_iter = 50
    transform.itq.seed = seed
    start = time.perf_counter()
    transform.train(rows)
    projection = transform.apply(rows)
    np.packbits(projection >= 0, axis=1)
    seconds = time.perf_counter() - start
    return seconds, quantization_error(projection)


def run_reference(rows, n_bits, seed):
    """Return the quantisation error of the authors' alternation on the components of faiss."""
    pca = faiss.PCAMatrix(rows.shape[1], n_bits)
    pca.train(rows)
    V = pca.apply(rows).astype(np.float64)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(n_bits, n_bits)))[0]
    for _ in range(50):
        left, _, right = np.linalg.svd(V.T @ np.where(V @ rotation >= 0, 1.0, -1.0))
        rotation = left @ right
    return quantization_error(V @ rotation)


def compare(rows, n_bits, n_runs):
    """Print the line of one length of codes."""
    runs = [(run_skhash(rows, n_bits, s), run_faiss(rows, n_bits, s)) for s in range(n_runs)]
    (seconds, errors), (faiss_seconds, faiss_errors) = (
        np.array(side).T for side in zip(*runs, strict=True)
    )
    references = [run_reference(rows, n_bits, seed) for seed in range(n_runs)]
    cells = [
        f"{np.mean(values):.4f}±{np.std(values, ddof=1):.4f}"
        for values in (errors, faiss_errors, references)
    ]
    print(
        f"{len(rows):8,} {rows.shape[1]:9,} {n_bits:5} {median(seconds):8.2f} "
        f"{median(faiss_seconds):7.2f} {median(faiss_seconds / seconds):7.2f}   "
        + "  ".join(cells)
        + f" {np.mean(errors) / np.mean(references) - 1:+7.2%}",
        flush=True,
    )


def main():
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", help="file (.npy) of rows; made up if not given")
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    rows = np.load(args.features) if args.features else make_rows(args.samples, args.dimensions)
    rows = centred_and_normalised(rows)
    print(f"numpy {np.__version__}, faiss {faiss.__version__}, {args.threads} thread(s)")
    print(f"{'fit, s':>38} {'':14} quantisation error a bit")
    print(
        " samples  features  bits   skhash   faiss   ratio   skhash         faiss          "
        "reference     skhash"
    )
    faiss.omp_set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        for n_bits in args.bits:
            compare(rows, n_bits, args.runs)


if __name__ == "__main__":
    main()
