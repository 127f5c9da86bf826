"""What runs on a GPU: ``pytest tests/test_cuda.py`` on a machine that has one.

Kernels of GPUs may add in any order, so that two trainings are compared up to a few bits.
"""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from test_deep_hasher import all_kinds, global_states, make_hasher, make_images, make_rows

from skhash import DeepRankingHasher
from skhash.codes import unpack_codes
from skhash.deep.losses import LOSSES, ranking_loss, tie_aware_ndcg_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def assert_nearly_same_codes(one, other):
    """Compare the databases of two hashers."""
    bits, others = (unpack_codes(hasher.database_codes_, 8) for hasher in (one, other))
    assert (bits == others).mean() > 0.95


@all_kinds
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_fit_and_transform(make, device):
    X, Y = make()
    hasher = make_hasher(device=device, head_epochs=1).fit(X, Y)
    assert hasher.network_.mean.is_cuda
    assert hasher.transform(X).shape == (60, 8)
    assert_array_equal(hasher.transform(X), hasher.project(X) >= 0)


@all_kinds
@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_trains(make, loss):
    hasher = make_hasher(device="cuda", loss=loss).fit(*make())
    assert np.isfinite(hasher.loss_curve_).all()


@pytest.mark.parametrize("loss", [{"margin": 3.0}, {"n_bits": 8}], ids=["hinge", "ndcg"])
def test_losses_are_those_of_the_cpu(loss):
    function = ranking_loss if "margin" in loss else tie_aware_ndcg_loss
    generator = torch.Generator().manual_seed(0)
    distances = 8 * torch.rand(5, 40, generator=generator, dtype=torch.float64)
    relevance = torch.randint(4, (5, 40), generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        moved = distances.to(device).requires_grad_()
        value = function(moved, relevance.to(device), **loss)
        value.sum().backward()
        results.append((value.detach().cpu(), moved.grad.cpu()))
    for mine, other in zip(*results, strict=True):
        assert_allclose(mine, other, rtol=1e-9, atol=1e-9)


@all_kinds
def test_same_seed_same_codes(make):
    X, Y = make()
    first, second = (make_hasher(device="cuda").fit(X, Y) for _ in range(2))
    assert_nearly_same_codes(first, second)


@all_kinds
def test_pickle_loads_on_the_cpu(make):
    X, Y = make()
    hasher = make_hasher(device="cuda", precision="float32").fit(X, Y)
    copied = pickle.loads(pickle.dumps(hasher))
    assert copied.network_.mean.device.type == "cpu"
    assert hasher.network_.mean.is_cuda
    copied.set_params(device="cpu")
    assert_allclose(copied.project(X), hasher.project(X), rtol=0.02, atol=0.02)


@all_kinds
def test_saved_file_loads_on_the_cpu(make, tmp_path):
    X, Y = make()
    hasher = make_hasher(device="cuda", precision="float32").fit(X, Y)
    hasher.save(tmp_path / "hasher.safetensors")
    assert hasher.network_.mean.is_cuda
    loaded = DeepRankingHasher.load(tmp_path / "hasher.safetensors", device="cpu")
    assert_array_equal(loaded.database_codes_, hasher.database_codes_)
    assert_allclose(loaded.project(X), hasher.project(X), rtol=0.02, atol=0.02)


def test_onnx_leaves_the_network_where_it_is(tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    hasher = make_hasher(device="cuda").fit(*make_rows())
    hasher.to_onnx(tmp_path / "hasher.onnx")
    assert hasher.network_.mean.is_cuda
    assert (tmp_path / "hasher.onnx").stat().st_size


def test_generators_are_left_alone():
    before = global_states(), torch.cuda.get_rng_state().tolist()
    make_hasher(device="cuda").fit(*make_images())
    assert (global_states(), torch.cuda.get_rng_state().tolist()) == before


@all_kinds
def test_parts_survive_pickling(make):
    X, Y = make()
    hasher = make_hasher(device="cuda", loss="hyp2").partial_fit(X, Y)
    copied = pickle.loads(pickle.dumps(hasher))
    assert copied.network_.mean.device.type == "cpu"
    for other in (hasher, copied):
        other.partial_fit(X, Y).set_database(X, Y)
    assert_nearly_same_codes(copied, hasher)


@all_kinds
def test_training_goes_on_from_a_checkpoint(make, tmp_path):
    X, Y = make()
    params = {"device": "cuda", "checkpoint_dir": tmp_path, "loss": "hyp2", "max_epochs": 3}

    class Killed(BaseException):
        pass

    class Dying(DeepRankingHasher):
        def _train_epoch(self, stage, run, optimizer, epoch, schedule=None):
            if epoch == 2:
                raise Killed
            super()._train_epoch(stage, run, optimizer, epoch, schedule)

    with pytest.raises(Killed):
        Dying(**make_hasher(**params).get_params()).fit(X, Y)
    assert list(tmp_path.iterdir())
    resumed = make_hasher(**params).fit(X, Y)
    assert resumed.n_iter_ == 3
    assert_nearly_same_codes(resumed, make_hasher(**params | {"checkpoint_dir": None}).fit(X, Y))


@all_kinds
def test_compiled_training(make):
    hasher = make_hasher(device="cuda", compile=True).fit(*make())
    assert np.isfinite(hasher.loss_curve_).all()
