"""Saving and loading: what is read is what was written, and nothing else is read."""

import itertools
import json
import os
import re
import stat
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skhash
from skhash import (
    BREHasher,
    CCAITQHasher,
    DeepRankingHasher,
    HDMLHasher,
    ITQHasher,
    KSHHasher,
    LSHHasher,
    MLHHasher,
    SDHHasher,
    SpectralHasher,
)
from skhash._persistence import read_state, write_state
from skhash.codes import pack_codes
from skhash.datasets import make_digit_scenes
from skhash.deep.losses import HashNetLoss, HyP2Loss, RankingLoss, TieAwareNDCGLoss

SHALLOW = [
    LSHHasher(12, random_state=0),
    SpectralHasher(12),
    ITQHasher(8, random_state=0),
    CCAITQHasher(3, random_state=np.random.RandomState(5)),
    KSHHasher(12, n_anchors=20, random_state=0),
    SDHHasher(12, n_anchors=20, random_state=0),
    HDMLHasher(12, max_epochs=2, random_state=0),
    MLHHasher(12, max_epochs=2, random_state=0),
    BREHasher(12, max_iter=2, random_state=0),
]
deep = partial(
    DeepRankingHasher,
    12,
    hidden_size=16,
    taps="both",
    dropout=0.1,
    max_epochs=2,
    device="cpu",
    random_state=0,
)


@pytest.fixture(scope="module")
def rows():
    """Feature rows and label sets."""
    rng = np.random.default_rng(0)
    Y = (rng.random((120, 4)) < 0.4).astype(np.uint8)
    return (Y @ rng.normal(size=(4, 10)) + 0.3 * rng.normal(size=(120, 10))), Y


@pytest.fixture(scope="module")
def images():
    """Images and label sets."""
    return make_digit_scenes(60, image_size=16, max_digits=1, return_X_y=True, random_state=0)


def saved(hasher, tmp_path, **params):
    """Return the hasher as it comes back from a file."""
    hasher.save(tmp_path / "hasher.safetensors")
    return type(hasher).load(tmp_path / "hasher.safetensors", **params)


def assert_same(loaded, hasher, X):
    """Compare parameters, attributes, projections and searches, bit for bit."""
    # Compared by what they do.
    skipped = {"network_", "random_state", "_partial", "_parts", "_sums", "_sample"}
    for name in vars(hasher).keys() - skipped:
        value = getattr(hasher, name)
        mine = getattr(loaded, name)
        assert type(mine) is type(value), name
        if isinstance(value, np.ndarray):
            assert mine.dtype.str == value.dtype.str, name
        np.testing.assert_equal(mine, value)
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))
    np.testing.assert_array_equal(loaded.kneighbors(X)[1], hasher.kneighbors(X)[1])


@pytest.mark.parametrize("hasher", SHALLOW, ids=lambda hasher: type(hasher).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shallow_hashers_come_back(hasher, dtype, rows, tmp_path):
    X, Y = rows
    hasher = clone(hasher).fit(X.astype(dtype), Y)
    loaded = saved(hasher, tmp_path)
    assert_same(loaded, hasher, X.astype(dtype))
    np.testing.assert_array_equal(loaded.predict(X), hasher.predict(X))
    assert loaded.score(X, Y) == hasher.score(X, Y)
    # A RandomState goes on from where it was.
    assert_same(loaded.fit(X, Y), hasher.fit(X, Y), X)


@pytest.mark.parametrize("classes", [["a", "bc"], [3, 1], [True, False], [2.0, 5.0]])
def test_class_labels_come_back(classes, rows, tmp_path):
    X, Y = rows
    hasher = LSHHasher(8, random_state=0).fit(X, np.array(classes)[Y[:, 0]])
    loaded = saved(hasher, tmp_path)
    assert loaded.classes_.dtype == hasher.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), hasher.predict(X))


# Whatever `fit` takes: every dtype of X and y, by every hasher.

ALL = [*SHALLOW, deep()]
X_DTYPES = ["f2", "f4", "f8", ">f4", ">f8", "g", "i1", "u2", "i8", ">i4", "?", "O"]
Y_DTYPES = ["i1", "u8", "i8", ">i8", "f2", "f4", ">f4", "f8", "g", "?", "U", ">U3", "O", "T"]
Y_DTYPES += ["M8[D]", ">M8[ns]", "m8[h]"]
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "columns": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1][::-1],
}


class Frame:
    """What is asked of a data frame of any package: names of columns, and an array."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape
        self.columns = [f"label {i}" for i in range(values.shape[1])]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype, copy=copy)

    def __len__(self):
        return len(self.values)


def as_classes(y, dtype):
    """Return classes in a dtype, as strings where it is one of objects."""
    if dtype == "T":
        return y.astype(str).astype(np.dtypes.StringDType())
    return (y.astype("i8") if dtype[-1] != "O" else y.astype(str)).astype(dtype)


def make_y(Y, form, dtype):
    """Return label sets, or one class each, in a form that `fit` takes."""
    if form == "classes":
        return as_classes(Y[:, 0] + 2 * Y[:, 1] if dtype != "?" else Y[:, 0], dtype)
    if form == "names":
        return Frame(Y)
    if form == "sparse":
        return csr_array(Y)
    return np.asfortranarray(Y.astype("?" if dtype[-1] in "UT[D]" else "u1"))


@pytest.mark.parametrize("hasher", ALL, ids=lambda hasher: type(hasher).__name__)
@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(X_DTYPES),
    order=st.sampled_from(list(ORDERS)),
    form=st.sampled_from(["classes", "classes", "names", "sets", "sparse"]),
    label_dtype=st.sampled_from(Y_DTYPES),
)
def test_what_was_learnt_of_any_dtype_comes_back(
    hasher, dtype, order, form, label_dtype, rows, tmp_path_factory
):
    X, Y = rows
    X = ORDERS[order](np.rint(3 * X).clip(0, 9).astype(dtype))
    y = make_y(Y, form, label_dtype)
    # One class has one canonical direction less than there are classes.
    hasher = clone(hasher).set_params(n_bits=1 if isinstance(hasher, CCAITQHasher) else 8)
    if isinstance(hasher, DeepRankingHasher):
        hasher.set_params(max_epochs=1)
    fitted = hasher.fit(X, y)
    loaded = saved(fitted, tmp_path_factory.mktemp("saved"))
    assert_same(loaded, fitted, X)
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.predict(X).dtype == fitted.predict(X).dtype
    assert loaded.score(X, y) == fitted.score(X, y)


def test_without_labels_and_with_feature_names(rows, tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows[0], columns=[f"f{i}" for i in range(rows[0].shape[1])])
    hasher = ITQHasher(4, random_state=0).fit(X).set_output(transform="pandas")
    loaded = saved(hasher, tmp_path)
    assert loaded.database_labels_ is None
    pandas.testing.assert_frame_equal(loaded.transform(X), hasher.transform(X))
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(X[::-1].rename(columns={"f0": "g0"}))


@pytest.mark.parametrize("make", [ITQHasher, partial(CCAITQHasher, 3)])
def test_learning_in_parts_goes_on(make, rows, tmp_path):
    X, Y = rows
    hasher = make(random_state=0).set_params(n_bits=3).partial_fit(X[:60], Y[:60])
    loaded = saved(hasher, tmp_path)
    for each in (loaded, hasher):
        each.partial_fit(X[60:], Y[60:]).set_database(X, Y)
    assert_same(loaded, hasher, X)


@pytest.mark.parametrize(
    "loss", ["ranking", "dpsh", TieAwareNDCGLoss(list_size=50), HashNetLoss(), HyP2Loss()], ids=str
)
def test_deep_hasher_comes_back(loss, rows, tmp_path):
    X, Y = rows
    hasher = deep(loss=loss).fit(X, Y)
    state = torch.get_rng_state()
    loaded = saved(hasher, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(loaded, hasher, X)
    assert loaded.loss == hasher.loss
    assert not loaded.network_.training
    assert all(parameter.requires_grad for parameter in loaded.network_.parameters())
    for each in (loaded, hasher):
        each.set_params(warm_start=True).fit(X, Y)
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))
    for each in (loaded, hasher):
        each.partial_fit(X, Y)
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))


@pytest.mark.parametrize("taps", ["fca", "fcb"])
def test_deep_hasher_of_images_comes_back(taps, images, tmp_path):
    X, Y = images
    params = {"normalization": ([90, 100, 110], 50), "image_size": (12, 14), "dropout": 0.0}
    hasher = deep(taps=taps, **params).fit(X, Y)
    loaded = saved(hasher, tmp_path)
    assert loaded.image_size_ == (12, 14)
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))
    np.testing.assert_array_equal(loaded.database_codes_, hasher.database_codes_)


def test_what_partial_fit_keeps_for_the_solver_is_left_out(rows, tmp_path):
    X, Y = rows
    hasher = deep().partial_fit(X, Y).set_database(X, Y)
    loaded = saved(hasher, tmp_path)
    assert not hasattr(loaded, "_partial")
    assert_same(loaded, hasher, X)


def rewritten(hasher, old_params, tmp_path):
    """Return what is read of the hasher's file with the parameters of a former version."""
    hasher.save(tmp_path / "old")
    types = DeepRankingHasher._saved_types()
    state = read_state(tmp_path / "old", types)
    state["params"] = old_params(state["params"])
    write_state(tmp_path / "old", state, types)
    return skhash.load(tmp_path / "old")


@pytest.mark.parametrize("loss", ["ranking", "csq"])
def test_files_of_former_versions_of_the_deep_hasher(loss, rows, tmp_path):
    of_loss = {"margin": 2.0, "weighting": "uniform", "balance": 0.3, "class_weight": None}
    hasher = deep(loss=RankingLoss(**of_loss) if loss == "ranking" else loss).fit(*rows)

    def old_params(params):
        return params | of_loss | {"loss": loss, "flip": True, "accumulation": 1}

    loaded = rewritten(hasher, old_params, tmp_path)
    assert loaded.get_params() == hasher.get_params()
    assert_same(loaded, hasher, rows[0])
    loaded.fit(*rows)


def test_files_of_former_versions_of_sdh(rows, tmp_path):
    hasher = SDHHasher(12, n_anchors=20, reg=0.5, reg_labels=2.0, random_state=0).fit(*rows)

    def old_params(params):
        del params["reg_labels"]
        return params | {"reg": 2.0, "reg_projection": 0.5, "gamma": None}

    loaded = rewritten(hasher, old_params, tmp_path)
    assert loaded.get_params() == hasher.get_params()
    assert_same(loaded, hasher, rows[0])


def make_backbone():
    """A network that a file without code cannot hold."""
    return torch.nn.Sequential(torch.nn.Linear(10, 6), torch.nn.ReLU())


def test_functions_are_given_again(rows, tmp_path):
    X, Y = rows
    hasher = deep(network=make_backbone).fit(X, Y)
    file = tmp_path / "hasher.safetensors"
    hasher.save(file)
    with pytest.raises(ValueError, match=r"with network=<function make_backbone .*network=\.\.\."):
        DeepRankingHasher.load(file)
    loaded = DeepRankingHasher.load(file, network=make_backbone)
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))
    with pytest.raises(ValueError, match="not the one that was saved"):
        DeepRankingHasher.load(file, network="mlp")


def test_parameters_can_be_replaced(rows, tmp_path):
    X, Y = rows
    loaded = saved(deep().fit(X, Y), tmp_path, n_neighbors=2, verbose=True)
    assert (loaded.n_neighbors, loaded.verbose) == (2, True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'n_neighbours'"):
        DeepRankingHasher.load(tmp_path / "hasher.safetensors", n_neighbours=2)


@pytest.mark.parametrize("hasher", ALL, ids=lambda hasher: type(hasher).__name__)
def test_error_on_another_length_of_codes(hasher, rows, tmp_path):
    hasher = clone(hasher).set_params(n_bits=3).fit(*rows)
    loaded = saved(hasher, tmp_path, n_bits=3, n_neighbors=2)
    np.testing.assert_array_equal(loaded.transform(rows[0]), hasher.transform(rows[0]))
    file = tmp_path / "hasher.safetensors"
    for load in (type(hasher).load, skhash.load):
        with pytest.raises(ValueError, match="a hasher with n_bits=3, got n_bits=8"):
            load(file, n_bits=8)


def test_device_of_another_machine_can_be_replaced(rows, tmp_path):
    X, Y = rows
    hasher = deep().fit(X, Y).set_params(device="cuda:7")
    hasher.save(tmp_path / "hasher.safetensors")
    loaded = DeepRankingHasher.load(tmp_path / "hasher.safetensors", device="cpu")
    np.testing.assert_array_equal(
        loaded.transform(X), hasher.set_params(device="cpu").transform(X)
    )


class Opaque:
    """A value of a class that no file holds."""


def test_callbacks_and_routing_are_left_out(rows, tmp_path):
    X, Y = rows
    hasher = LSHHasher(8, random_state=0).fit(X, Y)
    hasher._metadata_request = hasher._skl_callbacks = Opaque()
    assert_same(saved(hasher, tmp_path), LSHHasher(8, random_state=0).fit(X, Y), X)


def test_error_on_what_cannot_be_saved(rows, tmp_path):
    X, Y = rows
    file = tmp_path / "hasher.safetensors"
    with pytest.raises(NotFittedError):
        LSHHasher().save(file)
    hasher = LSHHasher(8, random_state=0).fit(X, Y)
    hasher.extra_ = {"list": [Opaque()]}
    with pytest.raises(TypeError, match=r"cannot write learnt\.extra_\.list\.0, .* type Opaque"):
        hasher.save(file)
    hasher.extra_ = np.array([1 + 2j])
    with pytest.raises(TypeError, match=r"learnt\.extra_, an array of dtype complex128"):
        hasher.save(file)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_others_may_read_the_file_as_the_umask_says(mask, mode, rows, tmp_path):
    hasher, file = LSHHasher(8, random_state=0).fit(rows[0]), tmp_path / "hasher"
    before = os.umask(mask)
    try:
        for _ in range(2):
            hasher.save(file)
            assert stat.S_IMODE(file.stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("hasher", ALL, ids=lambda hasher: type(hasher).__name__)
def test_error_on_a_missing_folder_comes_first(hasher, rows, tmp_path):
    hasher = clone(hasher).set_params(n_bits=3).fit(*rows)
    # What cannot be written is not looked at before the folder is.
    hasher.extra_ = Opaque()
    with pytest.raises(FileNotFoundError, match="no such folder") as caught:
        hasher.save(tmp_path / "missing" / "hasher")
    assert caught.value.filename == str(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="A file is there"):
        hasher.save(tmp_path / "file" / "hasher")
    with pytest.raises(IsADirectoryError, match="give a file in it"):
        hasher.save(tmp_path)


def test_error_of_the_disk_is_an_os_error(rows, tmp_path, monkeypatch):
    def fail(_, path, **_kwargs):
        raise SafetensorError(f"I/O error at {path}")

    # What safetensors raises where a disk is full.
    monkeypatch.setattr("skhash._persistence.save_file", fail)
    with pytest.raises(OSError, match="could not be written: I/O error at"):
        LSHHasher(8, random_state=0).fit(rows[0]).save(tmp_path / "hasher")
    assert not list(tmp_path.iterdir())


def test_error_of_writing_leaves_the_old_file(rows, tmp_path, monkeypatch):
    X, _ = rows
    file = tmp_path / "hasher.safetensors"
    LSHHasher(8, random_state=0).fit(X).save(file)
    before = file.read_bytes()

    def fail(_, path, **_kwargs):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    # A disk that is full halfway.
    monkeypatch.setattr("skhash._persistence.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        LSHHasher(16, random_state=0).fit(X).save(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_error_on_foreign_and_damaged_files(rows, tmp_path):
    X, Y = rows
    file = tmp_path / "hasher.safetensors"
    with pytest.raises(FileNotFoundError):
        LSHHasher.load(file)
    LSHHasher(8, random_state=0).fit(X, Y).save(file)
    with pytest.raises(ValueError, match=r"holds a LSHHasher, not a ITQHasher.*LSHHasher\.load"):
        ITQHasher.load(file)
    content = file.read_bytes()
    for cut in (0, 5, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="damaged"):
            LSHHasher.load(file)
    save_file({"weight": np.zeros(3)}, file)
    with pytest.raises(ValueError, match="tensors of another kind"):
        LSHHasher.load(file)


def test_load_finds_the_class(rows, tmp_path):
    X, Y = rows
    file = tmp_path / "hasher"
    for hasher in (LSHHasher(8, random_state=0), ITQHasher(3, random_state=0), deep()):
        hasher.fit(X, Y).save(file)
        loaded = skhash.load(file)
        assert type(loaded) is type(hasher)
        np.testing.assert_array_equal(loaded.transform(X), hasher.transform(X))
        assert skhash.load(file, n_neighbors=9).n_neighbors == 9


class OwnHasher(LSHHasher):
    """A hasher that is not part of the package."""


def test_load_errors(rows, tmp_path):
    file = tmp_path / "hasher"
    with pytest.raises(FileNotFoundError):
        skhash.load(file)
    OwnHasher(8, random_state=0).fit(rows[0]).save(file)
    with pytest.raises(ValueError, match=r"not part of skhash: read it with OwnHasher\.load"):
        skhash.load(file)
    assert isinstance(OwnHasher.load(file), OwnHasher)
    save_file({"weight": np.zeros(3)}, file)
    with pytest.raises(ValueError, match="tensors of another kind"):
        skhash.load(file)
    file.write_bytes(b"{}")
    with pytest.raises(ValueError, match="damaged"):
        skhash.load(file)


@pytest.mark.parametrize("where", ["tensors", "text"])
def test_error_on_any_changed_byte(where, rows, tmp_path):
    X, Y = rows
    file = tmp_path / "hasher.safetensors"
    LSHHasher(8, random_state=0).fit(X, Y).save(file)
    content = bytearray(file.read_bytes())
    # In the text, another value of a parameter.
    at = len(content) - 3 if where == "tensors" else re.search(rb"n_bits\W+8", content).end() - 1
    content[at] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged"):
        LSHHasher.load(file)


def test_error_on_a_later_format(rows, tmp_path, monkeypatch):
    file = tmp_path / "hasher.safetensors"
    # What a later version will write.
    monkeypatch.setattr("skhash._persistence._FORMAT", 99)
    LSHHasher(8, random_state=0).fit(rows[0]).save(file)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 99, of a later version"):
        LSHHasher.load(file)


def test_file_is_safetensors_and_json(rows, tmp_path):
    hasher = LSHHasher(8, random_state=0).fit(*rows)
    hasher.save(tmp_path / "hasher.safetensors")
    with safe_open(tmp_path / "hasher.safetensors", framework="numpy") as file:
        content = json.loads(file.metadata()["skhash"])
        assert content["state"]["params"]["dict"]["n_bits"] == 8
        codes = file.get_tensor("learnt.database_codes_")
    np.testing.assert_array_equal(codes, hasher.database_codes_)


def test_values_come_back_as_they_were(tmp_path):
    state = {
        "numbers": [1, 2.5, -0.0, float("inf"), float("-inf"), True, None, 10**30],
        "tuple": ((), (1, "a"), {"key": [{}]}),
        "scalars": [np.float32(1.1), np.int64(3), np.bool_(False)],
        "arrays": [np.arange(6.0).reshape(2, 3).T, np.zeros((0, 4), np.uint8), np.array(3.0)],
        "strings": [
            np.array(["a", "bcd"]),
            np.array(["a", "b"], dtype=object),
            np.array([["a", "bcd"], ["", "\ud800\0x"]], dtype=">U5"),
            np.empty((0, 3), "U2"),
            np.empty((2, 0), object),
            np.str_("scalar"),
            np.array("0D", dtype=object),
        ],
        "byte order": [np.arange(6).astype(">i8").reshape(2, 3).T, np.array([1.5], ">f2")],
        "long": [np.array([1, 3, 7], "g") / 11, np.longdouble(1) / 3, np.empty((0, 2), "g")],
        "times": [
            np.array(["2020", "NaT"], "M8[D]"),
            np.array([5], ">m8[h]"),
            np.datetime64(3, "s"),
        ],
        "path": Path("a") / "b",
        "dtype": np.dtype(np.float32),
        # Names of kinds of nodes are data like any others.
        "confusing": {"list": 1, "array": "x", "float": 2},
    }
    write_state(tmp_path / "state", state)
    read = read_state(tmp_path / "state")
    np.testing.assert_equal(read, state)
    names = ("arrays", "scalars", "strings", "byte order", "long", "times")
    pairs = [zip(read[name], state[name], strict=True) for name in names]
    for mine, value in itertools.chain(*pairs):
        assert type(mine) is type(value)
        assert mine.dtype.str == value.dtype.str
        assert mine.shape == value.shape
        assert mine.flags.f_contiguous == value.flags.f_contiguous
    assert [type(item) for item in read["numbers"]] == [type(item) for item in state["numbers"]]
    assert np.isnan(read_state_of({"nan": float("nan")}, tmp_path)["nan"])


def read_state_of(state, tmp_path):
    """Return a state as it comes back."""
    write_state(tmp_path / "state", state)
    return read_state(tmp_path / "state")


# -- ONNX ---------------------------------------------------------------------------------------


def run_onnx(hasher, inputs, tmp_path):
    """Return what onnxruntime makes of the inputs."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    hasher.to_onnx(tmp_path / "hasher.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "hasher.onnx", providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def assert_packed_codes(packed, hasher, X):
    """Compare with `transform`, but for bits within rounding of the threshold."""
    projection = hasher.project(X)
    assert packed.dtype == np.uint8
    assert packed.shape == (len(X), -(-hasher.n_bits // 8))
    differ = np.unpackbits(packed ^ pack_codes(projection >= 0), axis=1)
    assert not differ[:, hasher.n_bits :].any()
    near = np.abs(projection) < 1e-4 * np.abs(projection).max()
    assert near.mean() < 0.01
    assert not (differ[:, : hasher.n_bits].astype(bool) & ~near).any()


@pytest.mark.parametrize("n_bits", [1, 8, 13])
def test_onnx_of_rows(n_bits, rows, tmp_path):
    X, Y = rows[0].astype(np.float32), rows[1]
    hasher = deep().set_params(n_bits=n_bits).fit(X, Y)
    training = [p.requires_grad for p in hasher.network_.parameters()]
    packed = run_onnx(hasher, X, tmp_path)
    assert_packed_codes(packed, hasher, X)
    np.testing.assert_array_equal(run_onnx(hasher, X[:1], tmp_path), packed[:1])
    assert [p.requires_grad for p in hasher.network_.parameters()] == training


def test_onnx_of_images(images, tmp_path):
    X, Y = images
    hasher = deep(precision="float32", normalization=([90, 100, 110], 50)).fit(X, Y)
    assert_packed_codes(run_onnx(hasher, X, tmp_path), hasher, X)


def test_onnx_errors(rows, tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        deep().to_onnx(tmp_path / "hasher.onnx")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        deep().fit(*rows).to_onnx(tmp_path / "missing" / "hasher.onnx")
    pytest.importorskip("onnx", reason="onnx is not installed")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install scikit-hash\[onnx\]"):
        deep().fit(*rows).to_onnx(tmp_path / "hasher.onnx")
    assert not list(tmp_path.iterdir())
