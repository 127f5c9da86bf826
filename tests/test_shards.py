"""Databases in shards: every metric equals that of one pass bit for bit, wherever shards count."""

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from scipy import sparse
from test_metrics import ALL_METRICS, OPTIONS, make_problem, pack_problem

from skhash.codes import pack_codes
from skhash.metrics import HammingHistogram

# The ends of shards of 200 items: one, two, seven; of very different size, with an empty one.
CUTS = {
    "1": [200],
    "2": [100, 200],
    "7": [29, 58, 87, 116, 145, 174, 200],
    "uneven": [1, 3, 3, 190, 200, 200],
}
all_cuts = pytest.mark.parametrize("ends", CUTS.values(), ids=CUTS)


def make_large_problem(**options):
    return make_problem(3, n_queries=40, n_database=200, n_bits=12, **options)


def in_shards(database, ends):
    starts = [0, *ends[:-1]]
    return [
        tuple(side[start:end] for side in database)
        for start, end in zip(starts, ends, strict=True)
    ]


def open_saved(folder, number):
    """A shard as a worker opens it: a function of a module, so that processes find it."""
    codes, labels = (Path(folder) / f"{name}{number}.npy" for name in ("codes", "labels"))
    return np.load(codes, mmap_mode="r"), np.load(labels)


# Equal to one pass.


@all_cuts
@pytest.mark.parametrize("metric", ALL_METRICS)
def test_every_metric_equals_one_pass(metric, ends):
    query_codes, query_labels, *database = problem = make_large_problem()
    weights = np.linspace(0, 2, len(query_codes))
    histogram = HammingHistogram.from_shards(
        query_codes, query_labels, in_shards(database, ends), n_jobs=1
    )
    assert histogram == HammingHistogram.from_codes(*problem)
    assert histogram.counts.dtype == np.int64
    all_options = [{}, *({name: values[-1]} for name, values in OPTIONS.get(metric, {}).items())]
    cuts = [{}, {"k": 1}, {"k": 20}, {"k": 1000}, {"radius": 0}, {"radius": 3}]
    for cut in cuts:
        for options in all_options:
            for ties in ["mean", "best", "worst"]:
                values = histogram.evaluate(metric, **cut, ties=ties, **options)
                score = ALL_METRICS[metric]
                assert values.mean() == score(*problem, **cut, ties=ties, **options)
                expected = score(*problem, **cut, ties=ties, **options, sample_weight=weights)
                assert np.average(values, weights=weights) == expected


@all_cuts
def test_class_labels(ends):
    # A shard may lack classes, and have others than the queries.
    rng = np.random.default_rng(0)
    classes = np.array(["ant", "bee", "cow", "dog", "emu", "fox"])
    query_codes, _, database_codes, _ = make_large_problem()
    query_labels = rng.choice(classes[:4], len(query_codes))
    database = database_codes, np.sort(rng.choice(classes, len(database_codes)))
    histogram = HammingHistogram.from_shards(query_codes, query_labels, in_shards(database, ends))
    assert histogram == HammingHistogram.from_codes(query_codes, query_labels, *database)


@pytest.mark.parametrize("n_labels", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("n_bits", [1, 8, 12, 65])
def test_packed(n_bits, n_labels):
    problem = make_problem(n_bits=n_bits, n_labels=n_labels, n_database=200)
    expected = HammingHistogram.from_codes(*problem)
    packed = pack_problem(problem)
    shards = in_shards((packed[2], problem[3]), CUTS["7"])
    queries = packed[0], problem[1]
    assert HammingHistogram.from_shards(*queries, shards, n_bits=n_bits) == expected
    shards = in_shards(packed[2:], CUTS["uneven"])
    options = {"n_bits": n_bits, "n_labels": n_labels}
    assert HammingHistogram.from_shards(*packed[:2], shards, **options) == expected


def test_forms_of_shards(tmp_path):
    query_codes, query_labels, *database = problem = make_large_problem()
    expected = HammingHistogram.from_codes(*problem)
    shards = in_shards(database, CUTS["uneven"])
    for number, (codes, labels) in enumerate(shards):
        np.save(tmp_path / f"codes{number}.npy", codes)
        np.save(tmp_path / f"labels{number}.npy", labels)
    numbers = range(len(shards))
    paths = [(tmp_path / f"codes{n}.npy", str(tmp_path / f"labels{n}.npy")) for n in numbers]
    forms = {
        "lists": [[codes.tolist(), labels.tolist()] for codes, labels in shards if len(codes)],
        "sparse labels": [(codes, sparse.csr_array(labels)) for codes, labels in shards],
        "generator": iter(shards),
        "paths": paths,
        "functions": [partial(open_saved, tmp_path, number) for number in numbers],
        "functions that return paths": [lambda path=path: path for path in paths],
    }
    for name, given in forms.items():
        histogram = HammingHistogram.from_shards(query_codes, query_labels, given)
        assert histogram == expected, name


@pytest.mark.parametrize("working_memory", [None, 0, 1e-3])
def test_memory_does_not_matter(working_memory):
    query_codes, query_labels, *database = problem = make_large_problem()
    shards = in_shards(database, CUTS["2"])
    options = {"working_memory": working_memory}
    histogram = HammingHistogram.from_shards(query_codes, query_labels, shards, **options)
    assert histogram == HammingHistogram.from_codes(*problem)


# Where shards are counted.


class ListsBackend(ThreadingBackend):
    """Threads that return lists alone, as the processes of multiprocessing and Ray do."""

    supports_return_generator = False


register_parallel_backend("lists", ListsBackend)


@pytest.mark.parametrize("backend", ["loky", "threading", "sequential", "lists"])
@all_cuts
def test_backends(backend, ends, tmp_path):
    query_codes, query_labels, *database = problem = make_large_problem()
    shards = in_shards(database, ends)
    for number, (codes, labels) in enumerate(shards):
        np.save(tmp_path / f"codes{number}.npy", codes)
        np.save(tmp_path / f"labels{number}.npy", labels)
    paths = [partial(open_saved, tmp_path, number) for number in range(len(shards))]
    with parallel_config(backend=backend, n_jobs=2):
        histogram = HammingHistogram.from_shards(query_codes, query_labels, paths)
    assert histogram == HammingHistogram.from_codes(*problem)


RAY = """
import numpy as np
import ray
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from ray.util.joblib import register_ray

from skhash.metrics import HammingHistogram

def open_shard(number):
    rng = np.random.default_rng(number)
    codes = rng.integers(0, 256, (50 * number, 8), dtype=np.uint8)
    return codes, rng.integers(0, 2, (len(codes), 5), dtype=np.uint8)

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
register_ray()
queries, shards = open_shard(1), [lambda number=number: open_shard(number) for number in range(7)]
whole = [np.concatenate(side) for side in zip(*(shard() for shard in shards), strict=True)]
with parallel_config(backend="ray", n_jobs=2):
    histogram = HammingHistogram.from_shards(*queries, shards, n_bits=64)
ray.shutdown()
assert histogram == HammingHistogram.from_codes(*queries, *whole, n_bits=64)
assert histogram.n_database == 50 * 21
print("equal")
"""


def test_ray():
    pytest.importorskip("ray")
    # A process of its own: Ray changes classes of joblib, and leaves threads behind.
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    command = [sys.executable, "-c", RAY]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.stdout.endswith("equal\n"), done.stderr


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_shards_are_opened_as_they_are_needed(n_jobs):
    # As many shards and tables are held at a time as run or wait, not as many as there are.
    query_codes, query_labels, *database = make_large_problem()
    n_yielded, n_opened, lock, ahead = 0, 0, threading.Lock(), []

    def open_shard():
        nonlocal n_opened
        with lock:
            n_opened += 1
            ahead.append(n_yielded - n_opened)
        return database

    def shards():
        nonlocal n_yielded
        for _ in range(30):
            n_yielded += 1
            yield open_shard

    with parallel_config(backend="threading"):
        histogram = HammingHistogram.from_shards(
            query_codes, query_labels, shards(), n_jobs=n_jobs
        )
    assert histogram.n_database == 30 * 200
    assert max(ahead) <= 2 * n_jobs


# Errors.


@pytest.mark.parametrize("shards", [[], [([], [])], iter([]), [(np.empty((0, 4)), [])] * 2])
def test_no_items_are_an_error(shards):
    query_codes, query_labels, *_ = make_problem()
    with pytest.raises(ValueError, match="Found no items in shards"):
        HammingHistogram.from_shards(query_codes, query_labels, shards)


WRONG = {
    "bits": (ValueError, "the same number of bits", lambda shard: (shard[0][:, :5], shard[1])),
    "labels": (ValueError, "the same number of labels", lambda shard: (shard[0], shard[1][:, :2])),
    "length": (ValueError, "inconsistent numbers", lambda shard: (shard[0], shard[1][1:])),
    "array": (TypeError, "A shard should be a pair .* got ndarray", lambda shard: shard[0]),
    "three": (TypeError, "A shard should be a pair .* got tuple", lambda shard: (*shard, 1)),
    "path": (FileNotFoundError, "nowhere.npy", lambda shard: ("nowhere.npy", shard[1])),
}


@pytest.mark.parametrize(("error", "message", "change"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("backend", ["sequential", "threading", "lists"])
def test_errors_say_which_shard(backend, error, message, change):
    query_codes, query_labels, *database = make_large_problem()
    shards = in_shards(database, CUTS["7"])
    shards[4] = change(shards[4])
    with parallel_config(backend=backend, n_jobs=2), pytest.raises(error, match=message) as raised:
        HammingHistogram.from_shards(query_codes, query_labels, shards)
    assert "This is of shards[4]." in raised.value.__notes__


def test_errors_of_processes_say_which_shard():
    query_codes, query_labels, *database = make_large_problem()
    shards = [tuple(database), ("nowhere.npy", database[1])]
    with parallel_config(backend="loky"), pytest.raises(FileNotFoundError) as raised:
        HammingHistogram.from_shards(query_codes, query_labels, shards, n_jobs=2)
    assert "This is of shards[1]." in raised.value.__notes__


def test_errors_of_packed_label_sets():
    query_codes, query_labels, *database = make_problem(density=1)
    packed = pack_codes(query_labels)
    shards = [(database[0], pack_codes(database[1]))]
    count = partial(HammingHistogram.from_shards, query_codes)
    assert count(packed, shards, n_labels=5).n_database == 23
    for n_labels in (4, 9):
        message = f"query_labels: packed label sets of n_labels={n_labels} take"
        with pytest.raises(ValueError, match=message):
            count(packed, shards, n_labels=n_labels)
    with pytest.raises(ValueError, match="query_labels must be a 2D uint8 array"):
        count(query_labels[:, 0], shards, n_labels=5)
    with pytest.raises(ValueError, match="database_labels: packed label sets"):
        count(packed, [(database[0], 255 - 0 * shards[0][1])], n_labels=5)


def test_errors_of_parameters():
    query_codes, query_labels, *database = make_problem()
    with pytest.raises(ValueError, match=r"The 'shards' parameter .* Got 3 instead"):
        HammingHistogram.from_shards(query_codes, query_labels, 3)
    with pytest.raises(ValueError, match="The 'n_labels' parameter"):
        HammingHistogram.from_shards(query_codes, query_labels, [tuple(database)], n_labels=0)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        HammingHistogram.from_shards(query_codes, query_labels, [tuple(database)], n_jobs=0)
