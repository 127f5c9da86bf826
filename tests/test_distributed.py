"""Training in several processes: the same as in one, whatever it draws, and after a death."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from torch import distributed

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="needs torch.distributed")

SCRIPT = Path(__file__).with_name("distributed_script.py")


def run(folder, n_processes, *names, options=(), **environment):
    """Run the script, under torchrun where there are several; return what each process found."""
    command = [sys.executable]
    if n_processes > 1:
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(n_processes)]
        # A port that is free, and names of machines that need no network.
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", *options]
        command += ["--local-addr", "127.0.0.1"]
    places = {"PYTHONPATH": str(SCRIPT.parents[1]), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder), *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", **places, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(n_processes)], done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    (found,), _ = run(tmp_path_factory.mktemp("alone"), 1, "fits", "steps", "mortal")
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return *run(folder, 2, "fits", "mortal", "writers", "refusals"), folder


def test_more_processes_than_samples(tmp_path):
    found, _ = run(tmp_path, 4, "refusals")
    for process in found:
        message = "A batch should have a sample for each of 4 processes, got 3 samples"
        assert message in str(process["refusals: batch"])


@pytest.mark.parametrize("n_processes", [2, 4])
def test_steps_are_those_of_one_process(alone, n_processes, tmp_path):
    # In float64, through dropout, mirror images, batch normalisation, proxies and draws of a loss.
    found, _ = run(tmp_path, n_processes, "steps")
    names = [name for name in alone if name.startswith("steps")]
    assert len(names) == 8
    for process in found:
        for name in names:
            largest = np.abs(alone[name]).max()
            assert_allclose(process[name], alone[name], rtol=0, atol=1e-9 * largest, err_msg=name)


def test_fits_are_those_of_one_process(alone, two):
    # In float32: what rounds in another order differs by some 1e-6 after a few steps.
    found, *_ = two
    names = [name for name in alone if name.startswith("fits")]
    assert len(names) == 22
    for process in found:
        for name in names:
            if name.endswith("database"):
                continue
            largest = np.abs(alone[name]).max()
            assert_allclose(process[name], alone[name], rtol=0, atol=1e-3 * largest, err_msg=name)
    for name in names:
        if name.endswith("database"):
            differing = np.bitwise_count(found[0][name] ^ alone[name]).sum()
            assert differing <= 0.01 * 8 * alone[name].size
            assert_array_equal(found[0][name], found[1][name])


def test_the_first_process_alone_writes(two):
    _, log, folder = two
    assert (folder / "checkpoints" / "training.ckpt").exists()
    assert (folder / "of-rank-0.called").exists()
    assert not (folder / "of-rank-1.called").exists()
    assert log.count("epoch 2 of 2: loss") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("X", "should be given the same, got other X in the process of rank 1"),
        ("y", "got other y in the process of rank 1"),
        ("parameters", "got other learning_rate in the process of rank 1"),
        ("keep", "on_interrupt='keep' has no effect where processes train together"),
    ],
)
def test_processes_are_given_the_same(name, message, two):
    found, *_ = two
    for process in found:
        assert message in str(process[f"refusals: {name}"])


def test_a_killed_process_goes_on_from_the_checkpoint(two, tmp_path):
    found, *_ = two
    options = ["--max-restarts", "1"]
    after, _ = run(tmp_path, 2, "mortal", options=options, KILLED="yes")
    for process, undisturbed in zip(after, found, strict=True):
        assert process["mortal: began_with"]
        assert not undisturbed["mortal: began_with"]
        assert_array_equal(process["mortal: projection"], undisturbed["mortal: projection"])
