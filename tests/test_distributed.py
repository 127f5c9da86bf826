"""Training in several processes: the same as in one, whatever it draws, and after a death."""

import os
import subprocess
import sys
from pathlib import Path

import distributed_script as script
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from torch import distributed

import skhash

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not distributed.is_available(), reason="needs torchrun with gloo"
)


def run(folder, n_processes, *names):
    """Run functions of the script under torchrun; return where they wrote, and its log."""
    path = Path(script.__file__)
    # A port that is free, and addresses that need no network.
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--max-restarts", "1"]
    options += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(n_processes)]
    own = {"PYTHONPATH": str(path.parents[1]), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = "lo"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, str(path), str(folder), *names],
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return folder, done.stdout


def of_rank(folder, name, rank):
    """Return what a process of a rank found."""
    return dict(np.load(folder / f"{name}-{rank}.npz"))


@pytest.fixture(scope="module")
def fits_alone():
    return script.fits()


@pytest.fixture(scope="module")
def steps_alone():
    return script.steps()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    names = ("fits", "steps", "writers", "readers", "seedless", "children", "refusals")
    # The last one starts the processes again.
    return run(tmp_path_factory.mktemp("two"), 2, *names, "undisturbed", "killed")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return run(tmp_path_factory.mktemp("four"), 4, "fits", "steps", "refusals")


@pytest.fixture(params=[2, 4])
def several(request, two, four):
    """Return the number of processes, and where they wrote."""
    return request.param, (two if request.param == 2 else four)[0]


def assert_close(found, expected, tol):
    """Assert that arrays differ by no more than a part of the largest value."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        atol = tol * np.abs(values).max()
        assert_allclose(found[name], values, rtol=0, atol=atol, err_msg=name)


def test_steps_are_those_of_one_process(steps_alone, several):
    # In float64, through dropout, mirror images, statistics of batches, proxies and AdamW.
    n_processes, folder = several
    for rank in range(n_processes):
        assert_close(of_rank(folder, "steps", rank), steps_alone, 1e-9)


def test_fits_are_those_of_one_process(fits_alone, several):
    # In float32; sums are taken in another order.
    n_processes, folder = several
    for rank in range(n_processes):
        found = of_rank(folder, "fits", rank)
        for name in [name for name in fits_alone if "database" in name]:
            assert_array_equal(found.pop(name), fits_alone[name], err_msg=name)
        expected = {name: values for name, values in fits_alone.items() if "data" not in name}
        assert_close(found, expected, 1e-4)
        assert len(found["early, loss"]) < 20


def test_the_first_process_writes_and_decides(two):
    folder, log = two
    assert (folder / "of-rank-0/checkpoint/training.ckpt").exists()
    assert (folder / "of-rank-0/called").read_text().startswith("setup\nbegin\n")
    assert [path.name for path in (folder / "of-rank-1").iterdir()] == ["hasher.skhash"]
    assert log.count("epoch 2 of 4: loss") == 1
    for rank in (0, 1):
        # Its callback stops after two epochs, that of the other process would after one.
        assert of_rank(folder, "writers", rank)["epochs"] == 2


def test_a_network_of_several_processes_is_an_ordinary_one(two):
    rows, _, _ = script.make_data()
    saved = [skhash.load(two[0] / f"of-rank-{rank}/hasher.skhash") for rank in (0, 1)]
    assert_array_equal(saved[0].project(rows), saved[1].project(rows))
    assert_array_equal(saved[0].database_codes_, saved[1].database_codes_)


def test_each_process_reads_its_share(two):
    for rank in (0, 1):
        assert of_rank(two[0], "readers", rank)["in two epochs"] == 150


def test_the_first_process_draws_the_seed(two):
    first, second = (of_rank(two[0], "seedless", rank)["projection"] for rank in (0, 1))
    assert_array_equal(first, second)


def test_children_train_alone(two):
    rows, _, Y = script.make_data()
    found = of_rank(two[0], "children", 0)
    assert_close(found, {"projection": script.of_child(rows, Y)}, 1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("X", "should be given the same, got other X in the process of rank 1"),
        ("y", "got other y in the process of rank 1"),
        ("X_val", "got other X_val, y_val in the process of rank 1"),
        ("parameter", "got other learning_rate in the process of rank 1"),
        ("keep", "on_interrupt='keep' has no effect where processes train together"),
    ],
)
def test_processes_are_given_the_same(name, message, two):
    for rank in (0, 1):
        assert message in str(of_rank(two[0], "refusals", rank)[name])


def test_more_processes_than_samples(four):
    for rank in range(4):
        message = "A batch should have a sample for each of 4 processes, got 3 samples"
        assert message in str(of_rank(four[0], "refusals", rank)["batch"])


def test_a_killed_process_goes_on_from_the_checkpoint(two):
    for rank in (0, 1):
        found = of_rank(two[0], "killed", rank)
        undisturbed = of_rank(two[0], "undisturbed", rank)
        assert found["began with"]
        assert not undisturbed["began with"]
        assert_array_equal(found["projection"], undisturbed["projection"])
