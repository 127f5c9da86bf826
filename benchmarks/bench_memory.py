"""What hashers hold in memory beside an array of features that is mapped from a file.

    python benchmarks/bench_memory.py --file features.npy --hasher LSH ITQ
    python benchmarks/bench_memory.py --file features.npy --parts 50000

The file is made if it is not there: correlated features of ten classes, some at once. Each hasher
runs in a process of its own, which polls the anonymous memory of the process (RssAnon of Linux)
every 2 ms during a call, and takes off what there was before it. Pages of the file that the system
keeps for as long as nobody else needs them do not count. A line of JSON is written for each call:
peak and time of the CPU.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import skhash

MEASURED = Path(__file__).parent / "measured" / "memory.jsonl"
# Memory does not depend on the number of turns, time does.
FEW_TURNS = {
    "SDH": {"max_iter": 1},
    "MLH": {"max_epochs": 1},
    "HDML": {"max_epochs": 1},
    "DeepRanking": {"max_epochs": 1, "device": "cpu"},
}
HASHERS = ("LSH", "ITQ", "CCAITQ", "Spectral", "KSH", "SDH", "BRE", *list(FEW_TURNS)[1:])
N_QUERIES = 1000


def labels_of(n_samples):
    """Return classes of samples."""
    return np.random.default_rng(1).integers(10, size=n_samples)


def make_file(path, n_samples, n_features, dtype):
    """Write features of which a few directions tell the class."""
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", dtype, (n_samples, n_features))
    centres, mix = rng.normal(size=(2, 10, 32)), rng.normal(size=(32, n_features)) / 6
    y = labels_of(n_samples)
    for start in range(0, n_samples, 2**14):
        rows = slice(start, start + 2**14)
        own = centres[0][y[rows]] + 0.7 * rng.normal(size=(len(y[rows]), 32))
        values = own @ mix + 0.3 * rng.normal(size=(len(own), n_features))
        if np.dtype(dtype).kind == "u":
            values = np.clip(128 + 24 * values, 0, 255)
        X[rows] = values
    X.flush()


def anonymous_bytes():
    """Return the memory of this process that is no file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def measured(call):
    """Return what a call takes at most beside what there was, and its time of the CPU."""
    gc.collect()
    # What was freed would hide as much of what the call takes.
    ctypes.CDLL(None).malloc_trim(0)
    before = peak = anonymous_bytes()
    done = threading.Event()

    def poll():
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    poller, start = threading.Thread(target=poll), time.process_time()
    poller.start()
    call()
    seconds = time.process_time() - start
    done.set()
    poller.join()
    return {"peak_bytes": peak - before, "cpu_seconds": round(seconds, 1)}


def calls(name, X, y, n_part):
    """Yield (name of a call, call) of one hasher."""
    hasher = getattr(skhash, f"{name}Hasher")(32, **FEW_TURNS.get(name, {}))
    if hasattr(hasher, "random_state"):
        hasher.set_params(random_state=0)
    if n_part is None:
        yield "fit", lambda: hasher.fit(X, y)
        yield "transform", lambda: hasher.transform(X)
        yield "set_database", lambda: hasher.set_database(X, y)
        yield "score", lambda: hasher.score(X[:N_QUERIES], y[:N_QUERIES])
    elif hasattr(hasher, "partial_fit"):

        def fit_parts():
            for start in range(0, len(X), n_part):
                rows = slice(start, start + n_part)
                hasher.partial_fit(np.array(X[rows]), y[rows])

        yield f"partial_fit, {n_part} at once", fit_parts


def measure(name, path, n_part):
    """Print a line for each call of one hasher."""
    X = np.load(path, mmap_mode="r")
    y = labels_of(len(X))
    for what, call in calls(name, X, y, n_part):
        line = {"hasher": name, "params": FEW_TURNS.get(name, {}), "call": what}
        line |= {"shape": X.shape, "dtype": X.dtype.name, "array_bytes": X.nbytes}
        print(json.dumps(line | measured(call)), flush=True)


def main():
    """Make the file, and run one process a hasher."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--hasher", nargs="+", choices=HASHERS, default=HASHERS)
    parser.add_argument("--parts", type=int, help="rows of a part of partial_fit, for that alone")
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure(args.hasher[0], args.file, args.parts)
        return
    if not args.file.exists():
        make_file(args.file, args.rows, args.features, args.dtype)
    for name in args.hasher:
        command = [sys.executable, __file__, "--file", args.file, "--hasher", name, "--child"]
        if args.parts:
            command += ["--parts", str(args.parts)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(lines, end="", flush=True)
        with args.out.open("a") as file:
            file.write(lines)


if __name__ == "__main__":
    main()
