"""Measure `skhash.encode`: its time beside a plain loop, its memory, and what survives a kill.

    python benchmarks/bench_encode.py time kill memory ray ray-kill --data FOLDER --pack PACK.npz

FOLDER is for JPEG files, which are written from a pack of MIRFLICKR-25K (see `_packs.py`) if they
are not there, and for results. The hasher is `DeepRankingHasher` with 64 bits and a ResNet-18 of
random weights on images of 64 pixels (`--size`), trained for one epoch on 256 of the images. All
is on the CPU in float32 with one thread of torch. Seconds are of the processor: of the process,
for Ray of all processes that it starts, sampled until they end. Lines of JSON are added to
`benchmarks/measured/encode.jsonl`:

* `time`: a plain loop with Pillow, torchvision and torch (decode, resize, forward pass, signs,
  `numpy.packbits`), half of the files before and half after `encode` of all, and the ratio.
  `encode` makes codes by signs, as the loop does, and as the hasher does by default ("joint").
* `kill`: a process that encodes gets SIGKILL at random moments and is started again, so many
  times; whether its files are those of a process that nobody killed.
* `memory`: largest resident memory of a process before and after it encodes so many files, a fifth
  of them, all, and all four times, or so many rows of 64 features in a sparse memory-mapped file,
  to Parquet.
* `ray`: two processes of Ray encode; the ratio of the time to that of the plain loop, of which two
  processes, started for it, run a half each at the same time. The start of Ray, of its processes
  and their imports is measured by an encoding of 256 files, and given apart.
* `ray-kill`: one of the two gets SIGKILL half-way; whether the Parquet files are those of one
  process.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import psutil
import torch
from _records import append_record
from PIL import Image
from torchvision.models import resnet18
from torchvision.transforms.v2 import functional as transforms

import skhash

OUTPUT = Path(__file__).parent / "measured" / "encode.jsonl"
PACKAGES = ("numpy", "pillow", "pyarrow", "ray", "torch", "torchvision")
BATCH, SHARD = 128, 2048
N_FEATURES = 64


def make_network():
    """Return ResNet-18 up to its features."""
    network = resnet18()
    network.fc = torch.nn.Identity()
    return network


def write_files(folder, pack):
    """Write the JPEG files of a pack, unless they are there."""
    if folder.is_dir():
        return
    beside = folder.with_suffix(".part")
    beside.mkdir(parents=True, exist_ok=True)
    with np.load(pack, allow_pickle=False) as arrays:
        jpeg, offsets = arrays["jpeg"].tobytes(), arrays["offsets"].tolist()
    for number, (start, stop) in enumerate(pairwise(offsets)):
        (beside / f"{number:06}.jpg").write_bytes(jpeg[start:stop])
    beside.rename(folder)


def files_of(folder):
    """Return the paths of the files of a folder, sorted."""
    return sorted(map(str, Path(folder).iterdir()))


def make_hasher(paths, pack, size):
    """Return a hasher that has seen 256 of the images, in this size."""
    with np.load(pack, allow_pickle=False) as arrays:
        labels = arrays["labels"][:256]
    has_label = labels.any(axis=1)
    hasher = skhash.DeepRankingHasher(
        64,
        network=make_network,
        image_size=size,
        batch_size=BATCH,
        max_epochs=1,
        encoding="joint",
        device="cpu",
        precision="float32",
        random_state=0,
    )
    return hasher.fit([str(paths[row]) for row in np.flatnonzero(has_label)], labels[has_label])


# The plain loop


def decode(paths, size):
    """Return images as a batch, resized."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        images.append(transforms.resize(image, size, antialias=True))
    return torch.stack(images)


@torch.inference_mode()
def plain_loop(hasher, paths):
    """Return packed codes of files, and the seconds of decoding and of the rest."""
    codes, seconds = [], np.zeros(2)
    for start in range(0, len(paths), BATCH):
        times = [time.process_time()]
        images = decode(paths[start : start + BATCH], hasher.image_size_)
        times.append(time.process_time())
        images = images.contiguous(memory_format=torch.channels_last)
        codes.append(np.packbits(hasher.network_(images).numpy() >= 0, axis=1))
        times.append(time.process_time())
        seconds += np.diff(times)
    return np.concatenate(codes), seconds


def encode_timed(hasher, source, out, **options):
    """Encode anew, and return seconds of the processor and of the clock."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.process_time(), time.perf_counter()
    skhash.encode(hasher, source, out, shard_size=SHARD, **options)
    return time.process_time() - start[0], time.perf_counter() - start[1]


def bench_time(given):
    """Time `encode` beside the plain loop."""
    paths, hasher = given.paths, given.hasher
    half = len(paths) // 2
    plain_loop(hasher, paths[:BATCH])
    before, first = plain_loop(hasher, paths[:half])
    seconds = {}
    for encoding in ("signs", "joint"):
        hasher.encoding_ = encoding
        seconds[encoding] = encode_timed(hasher, paths, given.folder / f"time-{encoding}")
    after, second = plain_loop(hasher, paths[half:])
    plain = first + second
    stored = skhash.export.read_shards(given.folder / "time-signs")
    differ = np.bitwise_count(stored.codes ^ np.concatenate([before, after])).sum()
    yield {
        "what": "time",
        "n_files": len(paths),
        "plain_seconds": {"decode and resize": plain[0], "forward pass": plain[1]},
        "encode_seconds": {name: times[0] for name, times in seconds.items()},
        "encode_clock_seconds": {name: times[1] for name, times in seconds.items()},
        "ratios": {name: times[0] / plain.sum() for name, times in seconds.items()},
        "bits_that_differ": int(differ),
    }


# Processes that are killed or measured


def start(given, source, out, **options):
    """Start a process that runs an order, of which `finish` returns what it measured."""
    order = {"hasher": str(given.hasher_file), "source": str(source), "out": str(out), **options}
    command = [sys.executable, __file__, "run", "--order", json.dumps(order)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(running):
    """Wait for a process that encodes, and return what it measured."""
    printed, _ = running.communicate()
    if running.returncode:
        raise RuntimeError(f"A process that encodes ended with {running.returncode}.")
    return json.loads(printed.splitlines()[-1])


def run(order):
    """Encode as ordered and print the largest memory before and after, or time a plain loop."""
    torch.set_num_threads(1)
    hasher = joblib.load(order.pop("hasher"))
    if "plain" in order:
        files = files_of(order["source"])[slice(*order["plain"])]
        print(json.dumps({"seconds": plain_loop(hasher, files)[1].sum()}))
        return
    source, out, n_files = order.pop("source"), order.pop("out"), order.pop("n_files", None)
    if n_files is not None:
        files = files_of(source)
        source = [files[row % len(files)] for row in range(n_files)]
        order["ids"] = np.arange(n_files)
    before = largest_memory()
    skhash.encode(hasher, source, out, **order)
    print(json.dumps({"mib_before": before, "mib": largest_memory()}))


def largest_memory():
    """Return the largest resident memory of this process so far, in MiB.

    What `resource.getrusage` has for it is not below that of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def content(folder):
    """Return the bytes of all files by their names."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def bench_kill(given):
    """Kill a process at random moments until one ends."""
    rng, options = random.Random(0), {"shard_size": 512, "n_files": len(given.paths)}
    out, undisturbed = given.folder / "killed", given.folder / "undisturbed"
    for folder in (out, undisturbed):
        shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    finish(start(given, given.images, undisturbed, **options))
    longest, shards = time.perf_counter() - began, []
    for _ in range(given.kills):
        running = start(given, given.images, out, **options)
        try:
            running.wait(rng.uniform(0.05, 1.5 / given.kills) * longest)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            running.wait()
        shards.append(len(list(out.glob("codes-*.npy"))))
    finish(start(given, given.images, out, **options))
    yield {
        "what": "kill",
        "n_files": len(given.paths),
        "shards_at_kills": shards,
        "n_shards": len(list(out.glob("codes-*.npy"))),
        "same_files": content(out) == content(undisturbed),
    }


def bench_memory(given):
    """Measure the largest memory by the number of files and of rows."""
    out = given.folder / "memory"
    options = {"file_format": "parquet", "shard_size": SHARD}
    for n_files in (len(given.paths) // 5, len(given.paths), 4 * len(given.paths)):
        shutil.rmtree(out, ignore_errors=True)
        measured = finish(start(given, given.images, out, n_files=n_files, **options))
        yield {"what": "memory", "n_files": n_files, **measured}
    rows = given.folder / "rows.npy"
    X = np.random.default_rng(0).normal(size=(1000, N_FEATURES))
    joblib.dump(skhash.LSHHasher(64, random_state=0).fit(X), given.folder / "rows.joblib")
    given.hasher_file = given.folder / "rows.joblib"
    for n_rows in (10**5, 10**6, 4 * 10**6):
        shutil.rmtree(out, ignore_errors=True)
        shape = (n_rows, N_FEATURES)
        np.lib.format.open_memmap(rows, mode="w+", dtype=np.float32, shape=shape)
        measured = finish(start(given, rows, out, file_format="parquet"))
        rows.unlink()
        yield {"what": "memory", "n_rows": n_rows, **measured}


# Ray


class Watch:
    """Sums the time of the processor of all processes below this one, and may kill one."""

    def __init__(self, kill_at=None):
        self.seconds, self._kill_at, self._stop = {}, kill_at, threading.Event()
        self.killed = None
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._start = time.process_time()
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        self.total = time.process_time() - self._start + sum(self.seconds.values())

    def _watch(self):
        while not self._stop.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    times = process.cpu_times()
                    self.seconds[process.pid] = times.user + times.system
                    name = "".join(process.cmdline())
                except psutil.NoSuchProcess:
                    continue
                if self._kill_at is not None and self._kill_at() and "MapWorker" in name:
                    process.kill()
                    self.killed, self._kill_at = process.pid, None


RAY = {"file_format": "parquet", "engine": "ray", "n_workers": 2}


def bench_ray(given):
    """Time an encoding by two processes of Ray beside the plain loop."""
    half, few = len(given.paths) // 2, given.paths[: 2 * BATCH]
    parts = [(0, half), (half, len(given.paths))]
    loops = [start(given, given.images, None, plain=part) for part in parts]
    plain = sum(finish(loop)["seconds"] for loop in loops)
    with Watch() as at_start:
        encode_timed(given.hasher, few, given.folder / "ray-few", **RAY)
    with Watch() as watch:
        _, clock = encode_timed(given.hasher, given.paths, given.folder / "ray", **RAY)
    startup = at_start.total - len(few) / len(given.paths) * plain
    yield {
        "what": "ray",
        "n_files": len(given.paths),
        "n_cpus": os.cpu_count(),
        "plain_seconds": plain,
        "ray_seconds": watch.total,
        "ray_clock_seconds": clock,
        "start_seconds": startup,
        "ratio": watch.total / plain,
        "ratio_without_start": (watch.total - startup) / plain,
    }


def bench_ray_kill(given):
    """Encode with two processes of Ray, of which one is killed half-way."""
    out, local = given.folder / "ray", given.folder / "local"
    half = len(given.paths) // SHARD // 2
    with Watch(lambda: len(list(out.glob("codes-*.parquet"))) >= half) as watch:
        encode_timed(given.hasher, given.paths, out, **RAY)
    encode_timed(given.hasher, given.paths, local, file_format="parquet")
    ids = skhash.export.read_shards(out).ids
    yield {
        "what": "ray-kill",
        "n_files": len(given.paths),
        "killed": watch.killed is not None,
        "n_ids": len(ids),
        "n_distinct_ids": len(np.unique(ids)),
        "same_files": content(out) == content(local),
    }


TASKS = {"time": bench_time, "kill": bench_kill, "memory": bench_memory}
TASKS |= {"ray": bench_ray, "ray-kill": bench_ray_kill}


def rounded(value):
    """Return a value with four digits of each number."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=[*TASKS, "run"])
    parser.add_argument("--order", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pack", type=Path)
    parser.add_argument("--n-files", type=int)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    if given.tasks == ["run"]:
        run(json.loads(given.order))
        return
    torch.set_num_threads(1)
    given.images, given.folder = given.data / "jpeg", given.data / "results"
    write_files(given.images, given.pack)
    given.folder.mkdir(exist_ok=True)
    given.paths = files_of(given.images)[: given.n_files]
    given.hasher = make_hasher(given.paths, given.pack, given.size)
    given.hasher_file = given.data / "hasher.joblib"
    joblib.dump(given.hasher, given.hasher_file)
    versions = {package: version(package) for package in PACKAGES}
    for task in given.tasks:
        for line in TASKS[task](given):
            line = rounded(line) | {"size": given.size, "versions": versions}
            print(line)
            append_record(given.output, line)


if __name__ == "__main__":
    main()
