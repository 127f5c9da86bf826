"""Checkpoints: training that is killed and started again, files that are damaged or foreign."""

import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from test_deep_hasher import (
    all_kinds,
    check_error,
    global_states,
    make_hasher,
    make_images,
    make_rows,
    plain_backbone,
    save_files,
    tiny_backbone,
)
from test_training import Recording, assert_same_state, state_of

from skhash.deep._checkpoint import Checkpoint, described, digest
from skhash.deep._inputs import FeatureRows, ImageArray, ImageFiles
from skhash.deep.losses import RankingLoss

# The file.


def make_checkpoint(folder, **identity):
    return Checkpoint(folder / "deep" / "er", {"n_bits": "8", "X": "abc"} | identity)


def test_state_comes_back(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    assert checkpoint.load() is None
    for value in (1.5, 2.5):
        state = {"tensor": torch.full((3, 2), value), "list": [1, 2.5, "a", None, True]}
        checkpoint.save(state)
        loaded = make_checkpoint(tmp_path).load()
        assert torch.equal(loaded.pop("tensor"), state.pop("tensor"))
        assert loaded == state
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["training.ckpt"]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_error_on_a_file_that_was_not_written_to_its_end(tmp_path, share):
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.save({"tensor": torch.zeros(100)})
    whole = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"checkpoint '.*training\.ckpt' is damaged"):
        checkpoint.load()


def test_error_on_a_file_that_was_changed(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.save({"tensor": torch.zeros(100)})
    whole = checkpoint.path.read_bytes()
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 1
        checkpoint.path.write_bytes(changed)
        with pytest.raises(ValueError, match="is damaged"):
            checkpoint.load()
    for other in (b"", b"text", b"[]\n", b"{}\nabc", pickle.dumps({"a": 1})):
        checkpoint.path.write_bytes(other)
        with pytest.raises(ValueError, match="is damaged"):
            checkpoint.load()


def test_no_code_of_a_file_is_run(tmp_path):
    checkpoint = make_checkpoint(tmp_path)
    checkpoint.save({"function": os.getcwd})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        checkpoint.load()


def test_error_on_a_file_of_another_training(tmp_path):
    make_checkpoint(tmp_path).save({})
    for identity, names in (
        ({"X": "b"}, "X"),
        ({"X": "b", "n_bits": "9", "new": "1"}, "X, n_bits, new"),
    ):
        with pytest.raises(ValueError, match=f"another training, which differs in {names}\\."):
            make_checkpoint(tmp_path, **identity).load()


# What tells trainings apart.


def test_parameters_are_described_alike_in_any_process():
    assert (
        described(tiny_backbone)
        == f"{__name__.replace('checkpoint', 'deep_hasher')}.tiny_backbone"
    )
    assert described(functools.partial(tiny_backbone, 3)) == described(
        functools.partial(tiny_backbone, 3)
    )
    assert described(functools.partial(tiny_backbone, 3)) != described(
        functools.partial(plain_backbone, 3)
    )
    # Functions are shown with an address.
    partial = functools.partial(tiny_backbone, [3], layer=make_rows)
    assert "0x" in repr(partial)
    assert "0x" not in described(partial)
    assert described(Path("a/b")) == described("a/b")
    assert described(np.float64(0.5)) == described(0.5)
    assert described(RankingLoss(margin=2)) != described(RankingLoss(margin=3))


def closure(value):
    return lambda: value


def recursive(value):
    def function(n):
        return value if n == 0 else function(n - 1)

    return function


def seeded_linear(seed):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return torch.nn.Linear(2, 3)


class Shown:
    """Says in its `repr` what it is."""

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Shown({self.value!r})"


@dataclass(repr=False)
class Fields:
    """Has no `repr`, but fields."""

    value: object


LONG = np.arange(5000.0)
NEARLY_LONG = np.where(LONG == 2500, 0, LONG)

# Of each kind, what makes the same value each time, and what makes another.
TOLD_APART = {
    "lambda": (lambda: lambda: 1, lambda: lambda: 2),
    "operator": (lambda: lambda n: n + 1, lambda: lambda n: n - 1),
    "default": (lambda: lambda n=1: n, lambda: lambda n=2: n),
    "closure": (lambda: closure(1), lambda: closure(2)),
    "closure of a set": (lambda: closure({"a", "b"}), lambda: closure({"a", "c"})),
    "closure of a module": (lambda: closure(seeded_linear(0)), lambda: closure(seeded_linear(1))),
    "attribute of a module": (lambda: torch.nn.Dropout(0.1), lambda: torch.nn.Dropout(0.2)),
    "function that calls itself": (lambda: recursive(1), lambda: recursive(2)),
    "partial": (
        lambda: functools.partial(make_rows, 3),
        lambda: functools.partial(make_rows, n=3),
    ),
    "method": (lambda: Shown(1).__repr__, lambda: Shown(2).__repr__),
    # Their texts leave out what is in the middle.
    "array": (LONG.copy, NEARLY_LONG.copy),
    "dtype": (LONG.copy, lambda: LONG.astype(np.float32)),
    "array in a tuple": (lambda: (LONG, 1), lambda: (NEARLY_LONG, 1)),
    "tensor": (lambda: torch.tensor(LONG), lambda: torch.tensor(NEARLY_LONG)),
    "object array": (lambda: np.array([Shown(1)]), lambda: np.array([Shown(2)])),
    "repr": (lambda: Shown(1), lambda: Shown(2)),
    "dataclass": (lambda: Fields(LONG), lambda: Fields(NEARLY_LONG)),
    "dict": (lambda: {"a": 1, "b": LONG}, lambda: {"a": 1, "b": NEARLY_LONG}),
}


@pytest.mark.parametrize(("make", "other"), TOLD_APART.values(), ids=TOLD_APART)
def test_values_are_told_apart(make, other):
    assert described(make()) == described(make())
    assert described(make()) != described(other())


class Plain:
    """A loss that says nothing of its parameter."""

    def __init__(self, margin=1):
        self.margin = margin

    def start(self, n_bits, labels):
        return RankingLoss(margin=self.margin).start(n_bits, labels)

    def __call__(self):
        return torch.nn.Linear(6, self.margin)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", Plain()),
        ("network", Plain()),
        ("network", Plain().__call__),
        ("network", closure(Plain())),
        ("network", functools.partial(Plain.__call__, Plain())),
        ("loss", Shown([object()])),
    ],
)
def test_error_on_what_cannot_be_told_apart(name, value, tmp_path):
    match = (
        f"{name}=.* does not go with checkpoint_dir: .* Give the class a __repr__ or get_params"
    )
    params = {name: value, "checkpoint_dir": tmp_path}
    if isinstance(value, Shown):
        value.start = Plain().start
    check_error(ValueError, match, *make_rows(), **params)
    assert not list(tmp_path.iterdir())


def test_loss_with_a_text_of_its_own(tmp_path):
    class Told(Plain):
        def __repr__(self):
            return f"Told({self.margin})"

    X, Y = make_rows()
    make_hasher(loss=Told(1), checkpoint_dir=tmp_path).fit(X, Y)
    make_hasher(loss=Told(1), checkpoint_dir=tmp_path).fit(X, Y)
    check_error(ValueError, "differs in loss", X, Y, loss=Told(2), checkpoint_dir=tmp_path)


def test_file_of_weights_is_told_by_its_content(tmp_path):
    X, Y = make_images()
    for seed in (0, 1):
        torch.save(tiny_backbone().state_dict(), tmp_path / f"{seed}.pt")
    params = {"network": tiny_backbone, "checkpoint_dir": tmp_path / "checkpoint"}
    make_hasher(weights=tmp_path / "0.pt", **params).fit(X, Y)
    (tmp_path / "0.pt").rename(tmp_path / "moved.pt")
    make_hasher(weights=tmp_path / "moved.pt", **params).fit(X, Y)
    check_error(ValueError, "differs in weights", X, Y, weights=tmp_path / "1.pt", **params)


def test_digest_tells_data_apart(tmp_path):
    X, Y = make_images(20)
    rows, _ = make_rows(20)
    changed = X.copy()
    changed[7, 3, 3, 1] ^= 1
    files = ImageFiles(save_files(X, tmp_path), (8, 8))
    sources = [ImageArray(X), ImageArray(changed), ImageArray(X[:19]), FeatureRows(rows)]
    assert len({digest(source, Y)[0] for source in sources}) == len(sources)
    assert digest(files, Y) == digest(ImageArray(X), Y)
    assert digest(ImageArray(np.asfortranarray(X)), Y) == digest(ImageArray(X), Y)
    assert digest(ImageArray(X), Y)[1] != digest(ImageArray(X), 1 - Y)[1]


# Interrupted and started again.

RUNS = {
    "plain": {},
    "both stages": {"head_epochs": 2},
    "early stopping": {"head_epochs": 2, "early_stopping": True, "learning_rate": 3e-2},
    "sgd": {"optimizer": "sgd"},
    "proxies": {"loss": "hyp2", "head_epochs": 1},
    "memory": {"loss": RankingLoss(list_size=50)},
    "random lists": {"loss": "dsrh"},
}


@all_kinds
@pytest.mark.parametrize("params", RUNS.values(), ids=RUNS)
def test_interrupted_in_every_epoch(make, params, tmp_path):
    X, Y = make()
    params = {"max_epochs": 3, **params}
    expected = make_hasher(**params).fit(X, Y)
    n_errors, before = 0, global_states()
    while n_errors <= expected.n_iter_:
        # A new object each time, as in another process; the first epoch of each run is saved.
        hasher = make_hasher(checkpoint_dir=tmp_path, verbose=n_errors, **params)
        try:
            hasher.set_callbacks(Recording(fail_at=1)).fit(X, Y)
            break
        except RuntimeError:
            n_errors += 1
    assert n_errors == expected.n_iter_ - 1
    assert_same_state(state_of(hasher), state_of(expected))
    assert_array_equal(hasher.database_codes_, expected.database_codes_)
    histories = [dict(h.history_, seconds=None) for h in (hasher, expected)]
    assert histories[0] == histories[1]
    assert hasher.loss_curve_ is hasher.history_["loss"]
    assert global_states() == before


def test_training_that_is_done_is_not_done_again(tmp_path, monkeypatch):
    X, Y = make_rows()
    expected = make_hasher(checkpoint_dir=tmp_path).fit(X, Y)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("a step was taken"))
    hasher = make_hasher(checkpoint_dir=str(tmp_path), n_neighbors=3).fit(X, Y)
    assert_same_state(state_of(hasher), state_of(expected))


def test_a_callback_that_stopped_has_stopped(tmp_path):
    X, Y = make_rows()
    params = {"checkpoint_dir": tmp_path, "head_epochs": 3, "max_epochs": 3}
    stopped = make_hasher(**params).set_callbacks(Recording(stop_at=1)).fit(X, Y)
    again = make_hasher(**params).fit(X, Y)
    assert again.n_iter_ == stopped.n_iter_ == 2
    assert_same_state(state_of(again), state_of(stopped))


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"n_bits": 9}, "n_bits"),
        ({"random_state": 1}, "random_state"),
        ({"loss": RankingLoss(margin=2)}, "loss"),
        ({"max_epochs": 3, "loss": "csq"}, "loss, max_epochs"),
        ({"hidden_size": 17}, "hidden_size"),
    ],
    ids=str,
)
def test_error_on_a_checkpoint_of_other_parameters(params, name, tmp_path):
    X, Y = make_rows()
    make_hasher(checkpoint_dir=tmp_path).fit(X, Y)
    match = rf"training\.ckpt' is of another training, which differs in {name}\. Set checkpoint"
    check_error(ValueError, match, X, Y, checkpoint_dir=tmp_path, **params)


def test_error_on_a_checkpoint_of_other_data(tmp_path):
    X, Y = make_rows()
    make_hasher(checkpoint_dir=tmp_path).fit(X, Y)
    check_error(ValueError, "differs in X", X + 1, Y, checkpoint_dir=tmp_path)
    check_error(ValueError, "differs in y", X, 1 - Y, checkpoint_dir=tmp_path)
    check_error(ValueError, "differs in X, y", X[:59], Y[:59], checkpoint_dir=tmp_path)


def test_error_on_a_checkpoint_of_another_version(tmp_path, monkeypatch):
    X, Y = make_rows()
    make_hasher(checkpoint_dir=tmp_path).fit(X, Y)
    # A file that another version has written.
    monkeypatch.setattr("skhash.deep._checkpoint.__version__", "another")
    check_error(ValueError, "differs in the version of skhash", X, Y, checkpoint_dir=tmp_path)


def test_error_on_a_damaged_checkpoint(tmp_path):
    X, Y = make_rows()
    make_hasher(checkpoint_dir=tmp_path).fit(X, Y)
    path = tmp_path / "training.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    check_error(ValueError, r"training\.ckpt' is damaged", X, Y, checkpoint_dir=tmp_path)


def test_error_on_a_checkpoint_of_a_function_of_the_same_name(tmp_path):
    X, Y = make_rows()

    def make_backbone(n):
        def backbone():
            return torch.nn.Linear(X.shape[1], n)

        # As a function of a module that was edited in between.
        backbone.__qualname__ = "backbone"
        return backbone

    make_hasher(checkpoint_dir=tmp_path, network=make_backbone(5)).fit(X, Y)
    match = r"training\.ckpt' is of another training: its network does not fit"
    check_error(ValueError, match, X, Y, checkpoint_dir=tmp_path, network=make_backbone(6))


# More epochs.


@all_kinds
@pytest.mark.parametrize("params", RUNS.values(), ids=RUNS)
def test_more_epochs_go_on_from_what_is_there(make, params, tmp_path):
    X, Y = make()
    first, second, straight = [], [], make_hasher(**{**params, "max_epochs": 5}).fit(X, Y)
    for hashers, folder in ((first, tmp_path / "a"), (second, tmp_path / "b")):
        for n in (2, 5):
            hasher = make_hasher(**{**params, "max_epochs": n}, checkpoint_dir=folder)
            hashers.append(hasher.fit(X, Y))
    n_done = first[0].n_iter_
    assert first[1].loss_curve_[:n_done] == first[0].loss_curve_
    # The rates are those of the longer training from there on.
    rates = [hasher.history_["learning_rate"] for hasher in (first[1], straight)]
    if not params.get("early_stopping"):
        assert first[1].n_iter_ == n_done + 3
        assert rates[0][n_done:] == rates[1][n_done:]
    # Twice the same steps give the same codes.
    assert_same_state(state_of(first[1]), state_of(second[1]))


def test_more_epochs_after_the_stage_of_the_head_alone(tmp_path):
    X, Y = make_images()
    params = {"head_epochs": 1, "checkpoint_dir": tmp_path}
    make_hasher(max_epochs=0, **params).fit(X, Y)
    hasher = make_hasher(max_epochs=2, **params).fit(X, Y)
    expected = make_hasher(head_epochs=1, max_epochs=2).fit(X, Y)
    assert_same_state(state_of(hasher), state_of(expected))
    match = "differs in max_epochs. max_epochs may be raised, not lowered. Set checkpoint_dir"
    check_error(ValueError, match, X, Y, max_epochs=1, **params)


def test_auto_is_the_number_that_it_stands_for(tmp_path):
    X, Y = make_images()
    make_hasher(max_epochs=20, checkpoint_dir=tmp_path).fit(X, Y)
    make_hasher(max_epochs="auto", checkpoint_dir=tmp_path).fit(X, Y)
    assert make_hasher(max_epochs=21, checkpoint_dir=tmp_path).fit(X, Y).n_iter_ == 21
    check_error(ValueError, "not lowered", X, Y, max_epochs="auto", checkpoint_dir=tmp_path)


def test_error_on_a_file_in_place_of_the_directory(tmp_path, monkeypatch):
    # Before the first step, not after the first epoch.
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: pytest.fail("a step was taken"))
    path = tmp_path / "file"
    path.touch()
    check_error(FileExistsError, "file", *make_rows(), checkpoint_dir=path)


def test_error_on_training_that_cannot_be_taken_up(tmp_path):
    X, Y = make_rows()
    for state in (None, np.random.RandomState(0)):
        match = "random_state should be an int with checkpoint_dir"
        check_error(ValueError, match, X, Y, checkpoint_dir=tmp_path, random_state=state)
    match = "checkpoint_dir does not go with warm_start"
    check_error(ValueError, match, X, Y, checkpoint_dir=tmp_path, warm_start=True)
    check_error(ValueError, "'checkpoint_dir' parameter", X, Y, checkpoint_dir=3)
    assert list(tmp_path.iterdir()) == []


# Killed. One process imports torch; each training is a fork of it.

PROGRAM = """
import os, signal, sys, time
import numpy as np, torch
from test_deep_hasher import make_hasher, make_images
from pathlib import Path
from skhash import DeepRankingHasher
from skhash.deep._checkpoint import Checkpoint

torch.set_num_threads(1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_at_call(owner, name, n, after):
    inner, calls = getattr(owner, name), []
    def outer(*args, **kwargs):
        calls.append(1)
        if len(calls) == n and not after:
            die()
        result = inner(*args, **kwargs)
        if len(calls) == n and after:
            die()
        return result
    setattr(owner, name, outer)

def train(folder, result, slow=False):
    X, Y = make_images()
    if slow:
        inner = Checkpoint.save
        def save(*args):
            inner(*args)
            time.sleep(60)
        Checkpoint.save = save
    params = {"head_epochs": 2, "max_epochs": 2, "loss": "hyp2", "early_stopping": True}
    hasher = make_hasher(checkpoint_dir=folder, **params).fit(X, Y)
    np.save(result, hasher.project(X))

def forked(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

# Each stands for a process that is killed at that point.
KILLS = [
    ("torch.optim.AdamW", "step", 1, False),  # the first step
    ("torch.optim.AdamW", "step", 5, True),  # amid the second epoch
    ("os", "fsync", 1, False),  # before what was written is on the disk
    ("Path", "replace", 1, False),  # with the file beside the old one
    ("Path", "replace", 1, True),
    ("Checkpoint", "save", 1, True),  # at the end of an epoch
    ("DeepRankingHasher", "_project", 1, False),  # when all epochs are done
]


def run_program(program, *args):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])
    }
    command = [sys.executable, "-c", PROGRAM + program, *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_at_any_moment(tmp_path):
    program = f"""
folder, result, expected = sys.argv[1:]
codes = []
for owner, name, n, after in {KILLS!r}:
    def killed():
        die_at_call(eval(owner), name, n, after)
        train(folder, result)
    codes.append(forked(killed))
codes.append(forked(lambda: train(folder, result)))
codes.append(forked(lambda: train(folder + "2", expected)))
print(codes)
"""
    paths = [tmp_path / name for name in ("checkpoints", "result.npy", "expected.npy")]
    output, _ = run_program(program, *paths).communicate(timeout=120)
    assert json.loads(output) == [-signal.SIGKILL] * len(KILLS) + [0, 0]
    assert_array_equal(np.load(paths[1]), np.load(paths[2]))


def test_killed_from_outside(tmp_path):
    X, Y = make_images()
    process = run_program("train(sys.argv[1], 'never', slow=True)", tmp_path)
    deadline = time.monotonic() + 100
    while not (tmp_path / "training.ckpt").exists():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    params = {"head_epochs": 2, "max_epochs": 2, "loss": "hyp2", "early_stopping": True}
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        hasher, expected = (
            make_hasher(checkpoint_dir=folder, **params).fit(X, Y)
            for folder in (tmp_path, tmp_path / "other")
        )
    finally:
        torch.set_num_threads(n_threads)
    assert hasher.history_["seconds"][0] != expected.history_["seconds"][0]
    assert_same_state(state_of(hasher), state_of(expected))
