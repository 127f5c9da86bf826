"""What surrounds a training: threads, shared modules, held-out sets, interrupts, progress."""

import logging
import threading
import warnings

import numpy as np
import pytest
import sklearn
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_deep_hasher import (
    all_kinds,
    check_error,
    global_states,
    make_hasher,
    make_images,
    make_rows,
    tiny_backbone,
)
from test_training import Recording, assert_same_state, state_of

import skhash
from skhash.deep.losses import StartedLoss, TieAwareNDCGLoss
from skhash.deep.sampling import split_held_out
from skhash.metrics import ndcg_score

# Threads.

DRAWING = {"dropout": 0.3, "input_dropout": 0.3, "max_epochs": 4}


def fit(X, Y, seed):
    return make_hasher(**DRAWING, random_state=seed).fit(X, Y)


def learn_parts(X, Y, seed):
    hasher = make_hasher(**DRAWING, random_state=seed)
    for _ in range(4):
        hasher.partial_fit(X, Y)
    return hasher


def fit_lists(X, Y, seed):
    return make_hasher(**DRAWING, loss="dsrh", head_epochs=1, random_state=seed).fit(X, Y)


@all_kinds
@pytest.mark.parametrize("learn", [fit, learn_parts, fit_lists])
def test_threads_give_the_codes_that_each_gives_alone(make, learn):
    X, Y = make()
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected, before = [learn(X, Y, seed) for seed in range(4)], global_states()
        hashers = Parallel(n_jobs=4, backend="threading")(
            delayed(learn)(X, Y, seed) for seed in range(4)
        )
    finally:
        torch.set_num_threads(n_threads)
    assert global_states() == before
    for hasher, one in zip(hashers, expected, strict=True):
        assert_same_state(state_of(hasher), state_of(one))
        assert hasher.loss_curve_ == one.loss_curve_


def test_a_file_is_read_while_another_thread_trains(tmp_path):
    X, Y = make_rows()
    make_hasher().fit(X, Y).save(tmp_path / "hasher")
    before, done = global_states(), threading.Event()

    def read():
        while not done.is_set():
            skhash.load(tmp_path / "hasher")

    thread = threading.Thread(target=read)
    thread.start()
    hasher = fit(X, Y, 0)
    done.set()
    thread.join()
    assert global_states() == before
    assert_same_state(state_of(hasher), state_of(fit(X, Y, 0)))


class Drawing(Recording):
    """A callback that draws from torch's global generator, and trains in a thread of its own."""

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        torch.rand(5)
        if context.task_name == "epoch":
            thread = threading.Thread(target=fit, args=(X, y, 7))
            thread.start()
            thread.join()
        return super().on_fit_task_end(
            estimator, context, X=X, y=y, fitted_estimator=fitted_estimator
        )


def test_a_callback_may_draw_and_train():
    X, Y = make_rows()
    hasher = make_hasher(**DRAWING, random_state=0).set_callbacks(Drawing()).fit(X, Y)
    assert_same_state(state_of(hasher), state_of(fit(X, Y, 0)))


# Modules that are returned twice.


@all_kinds
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_module_that_is_returned_twice_is_not_shared(make, wrapped):
    X, Y = make()
    module = torch.nn.Linear(6, 5) if make is make_rows else tiny_backbone()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    hasher = make_hasher(network=lambda: torch.nn.Sequential(module) if wrapped else module)
    first = hasher.fit(X, Y).project(X)
    second = clone(hasher).fit(X, Y)
    assert_array_equal(hasher.project(X), first)
    assert_array_equal(second.project(X), first)
    assert_same_state(module.state_dict(), before)
    # Nor do folds leak.
    scores = [cross_val_score(hasher, X, Y, cv=3) for _ in range(2)]
    assert_array_equal(*scores)


def test_a_file_does_not_change_the_module_of_another_hasher(tmp_path):
    X, Y = make_rows()
    module = torch.nn.Linear(6, 5)
    hasher = make_hasher(network=lambda: module).fit(X, Y)
    hasher.save(tmp_path / "hasher")
    before = module.weight.clone()
    loaded = skhash.load(tmp_path / "hasher", network=lambda: module)
    assert_array_equal(loaded.project(X), hasher.project(X))
    assert torch.equal(module.weight, before)


class Starts:
    """A loss that returns what it was given."""

    def __init__(self, started):
        self.started = started

    def start(self, *_):
        return self.started


def test_error_on_a_started_loss_that_is_returned_twice():
    X, Y = make_rows()
    proxies = StartedLoss(TieAwareNDCGLoss(), proxies=torch.zeros(2))
    proxies.forward = lambda projection, *_: projection.square().mean()
    hasher = make_hasher(loss=Starts(proxies)).fit(X, Y)
    with pytest.raises(ValueError, match="should return a new module for each training, got one"):
        hasher.fit(X, Y)
    # Without tensors there is nothing to be shared.
    hasher = make_hasher(loss=Starts(StartedLoss(TieAwareNDCGLoss())))
    assert_array_equal(hasher.fit(X, Y).project(X), hasher.fit(X, Y).project(X))


# Random features.


@pytest.mark.parametrize(
    ("network", "would_do"),
    [
        ("timm:test_resnet", "'pretrained' or the file of a state dict"),
        ("convnet", "Set weights, to the file of a state dict"),
        ("auto", "network='convnet' with weights=None"),
    ],
)
def test_warning_of_a_head_on_random_features(network, would_do):
    X, Y = make_images(20, size=32)
    hasher = make_hasher(network=network, head_epochs=1, max_epochs=0)
    with pytest.warns(UserWarning, match=rf"head_epochs=1 trains the head on .*{would_do}"):
        hasher.fit(X, Y)


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (make_images, {"network": tiny_backbone, "head_epochs": 1}),
        (make_images, {"network": "convnet"}),
        (make_rows, {"head_epochs": 1}),
    ],
)
def test_no_warning_of_features_that_may_mean_something(make, params, tmp_path):
    X, Y = make(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hasher = make_hasher(**params, warm_start=True).fit(X, Y)
        # Learnt by the last call.
        hasher.set_params(head_epochs=1).fit(X, Y)
        backbone = hasher.network_.backbone.state_dict()
        if params.get("network") == "convnet":
            torch.save(backbone, tmp_path / "weights.pt")
            weights = {"weights": tmp_path / "weights.pt", "head_epochs": 1}
            make_hasher(**params, **weights).fit(X, Y)


# Held-out sets.


@all_kinds
@pytest.mark.parametrize("head_epochs", [0, 3])
@pytest.mark.parametrize("single", [False, True])
def test_given_samples_are_held_out(make, head_epochs, single):
    X, Y = make(100)
    y = Y.argmax(axis=1) if single else Y
    params = {"early_stopping": True, "head_epochs": head_epochs, "learning_rate": 3e-2}
    hasher = make_hasher(**params, max_epochs=8, n_iter_no_change=3)
    hasher.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    # All of X is learnt from, and is the database.
    assert len(hasher.database_codes_) == 60
    plain = make_hasher(**params | {"early_stopping": False}, max_epochs=8).fit(X[:60], y[:60])
    assert hasher.loss_curve_[0] == plain.loss_curve_[0]
    # The score is that of a fifth of the held-out samples over the rest.
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    queries, database = split_held_out(40, seed=seed)
    assert (len(queries), len(database)) == (8, 32)
    codes = hasher.transform(X[60:])
    Y_val = np.eye(3, dtype=np.uint8)[y[60:]] if single else Y[60:]
    score = ndcg_score(codes[queries], Y_val[queries], codes[database], Y_val[database], k=100)
    assert score == pytest.approx(max(hasher.history_["validation_score"][head_epochs:]))


def test_given_samples_are_not_learnt_from():
    X, Y = make_rows()
    params = {"early_stopping": True, "n_iter_no_change": 99}
    losses = [
        make_hasher(**params).fit(X[:40], Y[:40], X_val=X[40:], y_val=y_val).loss_curve_
        for y_val in (Y[40:], 1 - Y[40:])
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("params", "n_val", "match"),
    [
        ({}, 20, "X_val and y_val have no effect with early_stopping=False. Set early_stopping"),
        ({"validation_fraction": 0.2}, 20, "validation_fraction=0.2 has no effect with X_val and"),
        ({}, 1, "X_val should have at least 2 samples, a query and a database of one; got 1"),
    ],
)
def test_error_on_held_out_sets_that_do_not_fit(params, n_val, match):
    X, Y = make_rows()
    hasher = make_hasher(early_stopping="fraction" in match or n_val == 1, **params)
    with pytest.raises(ValueError, match=match):
        hasher.fit(X, Y, X_val=X[:n_val], y_val=Y[:n_val])
    assert vars(hasher).keys() == hasher.get_params().keys()


def test_error_on_malformed_held_out_sets():
    X, Y = make_rows()
    hasher = make_hasher(early_stopping=True)
    cases = [
        (X, None, "X_val is provided, but y_val was not provided. Pass both"),
        (None, Y, "y_val is provided, but X_val was not provided. Pass both"),
        (X[:, :3], Y, "X has 3 features, but DeepRankingHasher is expecting 6"),
        (X, Y[:5], "inconsistent numbers of samples"),
        (X, Y[:, :2], r"X_val and y_val do not go .*, as in fit, got shape \(60, 2\)"),
        (make_images()[0], Y, "X should be features, as in fit, got images"),
    ]
    for X_val, y_val, match in cases:
        with pytest.raises(ValueError, match=match):
            hasher.fit(X, Y, X_val=X_val, y_val=y_val)
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        hasher.fit(X, Y.argmax(axis=1), X_val=X, y_val=Y.argmax(axis=1) + 1)


def test_held_out_samples_go_through_a_pipeline():
    X, Y = make_rows(80)
    X = 100 + 3 * X
    with sklearn.config_context(enable_metadata_routing=True):
        hasher = make_hasher(early_stopping=True).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), hasher, transform_input=["X_val"])
        pipeline.fit(X[:60], Y[:60], X_val=X[60:], y_val=Y[60:])
    Z = StandardScaler().fit(X[:60]).transform(X)
    expected = make_hasher(early_stopping=True).fit(Z[:60], Y[:60], X_val=Z[60:], y_val=Y[60:])
    assert pipeline[-1].history_["validation_score"] == expected.history_["validation_score"]


def test_a_checkpoint_tells_held_out_samples_apart(tmp_path):
    X, Y = make_rows()
    hasher = make_hasher(early_stopping=True, checkpoint_dir=tmp_path)
    held_out = {"X_val": X[40:], "y_val": Y[40:]}
    first = hasher.fit(X[:40], Y[:40], **held_out).history_
    assert hasher.fit(X[:40], Y[:40], **held_out).history_ == first
    for change, name in (({"X_val": X[40:] + 1}, "X_val"), ({"y_val": 1 - Y[40:]}, "y_val")):
        with pytest.raises(ValueError, match=f"differs in {name}\\."):
            hasher.fit(X[:40], Y[:40], **held_out | change)
    with pytest.raises(ValueError, match="differs in X_val, y_val"):
        hasher.fit(X[:40], Y[:40])


# Interrupts.


class Interrupting:
    """Stands for Ctrl-C in a given batch of the training, counted from 0."""

    def __init__(self, at):
        self.at, self.n_batches = at, 0

    def __call__(self):
        self.n_batches += 1
        if self.n_batches - 1 == self.at:
            raise KeyboardInterrupt


def interrupted(monkeypatch, at, X, Y, **params):
    """Fit a hasher with Ctrl-C in a step; a step of the solver is where time is spent."""
    interrupt, step = Interrupting(at), torch.optim.AdamW.step

    def interrupted_step(*args):
        interrupt()
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted_step)
        return make_hasher(**params).fit(X, Y)


@all_kinds
@pytest.mark.parametrize("params", [{}, {"head_epochs": 2}])
@pytest.mark.parametrize("at", [3, 5, 7, 10, 11])
def test_the_last_whole_epoch_is_kept(make, params, at, monkeypatch):
    X, Y = make()
    callback, before = Recording(stop_at=at // 3 - 1), global_states()
    expected = make_hasher(max_epochs=4, **params).set_callbacks(callback).fit(X, Y)
    n_epochs = 4 + params.get("head_epochs", 0)
    message = rf"interrupted by the user. What it had learnt after epoch {at // 3} of {n_epochs}"
    with pytest.warns(UserWarning, match=message):
        hasher = interrupted(monkeypatch, at, X, Y, max_epochs=4, on_interrupt="keep", **params)
    assert hasher.n_iter_ == at // 3 == len(hasher.loss_curve_)
    assert {len(values) for values in hasher.history_.values()} == {at // 3}
    assert_same_state(state_of(hasher), state_of(expected))
    assert_array_equal(hasher.database_codes_, expected.database_codes_)
    assert not hasher.network_.training
    assert global_states() == before


def test_an_interrupt_with_early_stopping_keeps_the_best_epoch(monkeypatch):
    X, Y = make_rows(80)
    params = {"early_stopping": True, "max_epochs": 8, "learning_rate": 3e-2, "head_epochs": 2}
    params |= {"batch_size": 40, "n_iter_no_change": 9}
    whole = make_hasher(**params).set_callbacks(Recording(stop_at=5)).fit(X, Y)
    with pytest.warns(UserWarning, match="after epoch 6 of 10"):
        hasher = interrupted(monkeypatch, 13, X, Y, on_interrupt="keep", **params)
    assert hasher.history_["validation_score"] == whole.history_["validation_score"]
    assert_same_state(state_of(hasher), state_of(whole))


@pytest.mark.parametrize("params", [{}, {"on_interrupt": "keep"}])
def test_an_interrupt_that_keeps_nothing_leaves_the_hasher_as_it_was(params, monkeypatch):
    X, Y = make_rows()
    hasher = make_hasher(**params).fit(X, Y)
    before, states = vars(hasher).copy(), global_states()
    step = torch.optim.AdamW.step
    # In the first epoch, or without the wish that anything be kept.
    interrupt = Interrupting(1 if params else 4)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *a: [interrupt(), step(*a)])
    with pytest.raises(KeyboardInterrupt):
        hasher.fit(X, Y)
    assert vars(hasher) == before
    assert global_states() == states


@pytest.mark.parametrize("on_interrupt", ["raise", "keep"])
def test_a_checkpoint_outlasts_an_interrupt(on_interrupt, monkeypatch, tmp_path):
    X, Y = make_rows()
    expected = make_hasher(max_epochs=4).fit(X, Y)
    params = {"max_epochs": 4, "checkpoint_dir": tmp_path, "on_interrupt": on_interrupt}
    if on_interrupt == "keep":
        with pytest.warns(UserWarning, match="after epoch 2 of 4"):
            assert interrupted(monkeypatch, 7, X, Y, **params).n_iter_ == 2
        # Also in the first epoch after it was taken up.
        with pytest.warns(UserWarning, match="after epoch 2 of 4"):
            assert interrupted(monkeypatch, 1, X, Y, **params).n_iter_ == 2
    else:
        with pytest.raises(KeyboardInterrupt):
            interrupted(monkeypatch, 7, X, Y, **params)
    again = make_hasher(**params | {"on_interrupt": "raise"}).fit(X, Y)
    assert_same_state(state_of(again), state_of(expected))


def test_error_on_another_word_for_an_interrupt():
    check_error(ValueError, "'on_interrupt' parameter", *make_rows(), on_interrupt=True)


# Progress.

HEAD = "[DeepRankingHasher] "


def test_verbose_tells_stage_epoch_loss_rate_and_time(capsys):
    hasher = make_hasher(verbose=True, head_epochs=2, max_epochs=1, network=tiny_backbone)
    hasher.fit(*make_images())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        HEAD + where
        for where in ("head, epoch 1 of 2", "head, epoch 2 of 2", "network, epoch 1 of 1")
    ]
    for line, loss, rate in zip(
        lines, hasher.loss_curve_, hasher.history_["learning_rate"], strict=True
    ):
        assert f": loss {loss:.4f}, rate {rate:.3g}, " in line
    assert [line.endswith(" s left") for line in lines] == [True, False, False]


def test_more_verbose_tells_each_batch(capsys):
    X, Y = make_images()
    hasher = make_hasher(verbose=2, max_epochs=1, network=tiny_backbone).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    for n in (1, 2, 3):
        assert lines[n - 1].startswith(f"{HEAD}network, epoch 1 of 1, batch {n} of 3: loss ")
    assert lines[3].startswith(f"{HEAD}network, epoch 1 of 1: loss ")
    # The database, and later queries.
    hasher.transform(X[:50])
    later = lines[4:] + capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in later] == [
        f"{HEAD}encoding: {n} of {n_all}" for n_all in (60, 50) for n in (20, 40, min(60, n_all))
    ]
    assert [line.endswith(" left") for line in later] == 2 * [True, True, False]
    make_hasher(verbose=2).partial_fit(X, Y)
    assert capsys.readouterr().out.startswith(f"{HEAD}part 1, batch 1 of 3: loss ")


class Slow(torch.nn.Module):
    """A backbone in which time passes: a clock goes on by four seconds for each batch."""

    def forward(self, x):
        Slow.now += 4.0
        return x.flatten(1)


def test_long_epochs_and_encodings_tell_every_ten_seconds(capsys, monkeypatch):
    X, Y = make_images(180)
    Slow.now = 0.0
    # A slow machine.
    monkeypatch.setattr("time.perf_counter", lambda: Slow.now)
    hasher = make_hasher(verbose=1, max_epochs=2, network=Slow).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    said = [line.removeprefix(HEAD).split(":")[0] for line in lines]
    first = ["network, epoch 1 of 2" + more for more in (", batch 3 of 9", ", batch 6 of 9")]
    assert said[:2] == first
    assert lines[0].endswith(", 1 min 0 s left")
    assert lines[1].endswith(", 48 s left")
    capsys.readouterr()
    hasher.transform(X)
    assert [line.removeprefix(HEAD) for line in capsys.readouterr().out.splitlines()] == [
        "encoding: 60 of 180, 24 s left",
        "encoding: 120 of 180, 12 s left",
        "encoding: 180 of 180",
    ]


def test_lines_go_to_the_log(caplog, capsys):
    X, Y = make_rows()
    with caplog.at_level(logging.INFO, logger="skhash"):
        make_hasher(verbose=True).fit(X, Y)
        assert [record.name for record in caplog.records] == ["skhash"] * 2
        assert {record.levelno for record in caplog.records} == {logging.INFO}
        assert caplog.messages[0].startswith(f"{HEAD}network, epoch 1 of 2: loss ")
        caplog.clear()
        make_hasher().fit(X, Y)
        assert caplog.messages == []
    with caplog.at_level(logging.DEBUG, logger="skhash"):
        make_hasher().fit(X, Y)
    assert len(caplog.messages) == 2
    assert capsys.readouterr().out == ""


def test_batches_of_many_are_tasks_of_callbacks():
    X, Y = make_rows(40)
    callback = Recording()
    make_hasher(max_epochs=2, batch_size=2).set_callbacks(callback).fit(X, Y)
    batches = [f"{event} batch {i}" for i in range(20) for event in ("begin", "end")]
    epochs = [[f"begin epoch {i}", *batches, f"end epoch {i}"] for i in range(2)]
    inside = [event for epoch in epochs for event in epoch]
    assert callback.events == ["setup", "begin fit 0", *inside, "end fit 0", "teardown"]
    # A hasher is made for epochs alone: to encode the database for each batch would take long.
    made = [estimator is not None for estimator, *_ in callback.estimators]
    assert made == ([False] * 20 + [True]) * 2 + [True]


class StopsAtBatch(Recording):
    """A callback that ends an epoch, and then the training."""

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        super().on_fit_task_end(estimator, context, X=X, y=y, fitted_estimator=fitted_estimator)
        return len(self.estimators) > 25


def test_callbacks_can_stop_at_a_batch():
    callback = StopsAtBatch()
    hasher = make_hasher(max_epochs=9, batch_size=2).set_callbacks(callback)
    assert hasher.fit(*make_rows(40)).n_iter_ == 2
    assert callback.events[-4:] == ["end batch 4", "end epoch 1", "end fit 0", "teardown"]


def test_progress_bar_shows_epochs_of_many_batches(capsys):
    hasher = make_hasher(max_epochs=2, batch_size=2).set_callbacks(ProgressBar())
    hasher.fit(*make_rows(40))
    shown = capsys.readouterr().out
    assert "DeepRankingHasher - epoch #1" in shown
