"""What a trainer does: history, early stopping, going on, parts, callbacks."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from test_deep_hasher import (
    all_kinds,
    check_error,
    global_states,
    make_hasher,
    make_images,
    make_rows,
    projection,
    tiny_backbone,
)

from skhash.deep._devices import seeded
from skhash.deep._solvers import AdamWSolver, PaperSolver
from skhash.deep._trainer import BestWeights
from skhash.deep.losses import RankingLoss
from skhash.deep.networks import build_network
from skhash.deep.sampling import held_out_rows
from skhash.metrics import make_retrieval_scorer, ndcg_score


def state_of(hasher):
    return {name: tensor.clone() for name, tensor in hasher.network_.state_dict().items()}


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# The generators.


@pytest.mark.parametrize(("name", "index"), [("cuda", 1), ("cuda:0", 0), ("cuda:1", 1)])
def test_the_generator_is_that_of_the_device(name, index, monkeypatch):
    others = [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "default_generators", others)
    with seeded(0, torch.device(name)) as generators:
        assert generators[0] is torch.default_generator
        assert generators[1:] == [others[index]]


# The history.


@pytest.mark.parametrize(("head_epochs", "max_epochs"), [(0, 0), (0, 3), (2, 0), (2, 3)])
def test_history_has_an_entry_for_each_epoch(head_epochs, max_epochs):
    X, Y = make_rows()
    hasher = make_hasher(head_epochs=head_epochs, max_epochs=max_epochs).fit(X, Y)
    assert list(hasher.history_) == ["loss", "learning_rate", "seconds"]
    assert {len(values) for values in hasher.history_.values()} == {head_epochs + max_epochs}
    assert hasher.history_["loss"] == hasher.loss_curve_
    assert all(type(value) is float for values in hasher.history_.values() for value in values)
    assert all(seconds > 0 for seconds in hasher.history_["seconds"])


def test_history_shows_the_schedule():
    X, Y = make_rows()
    rates = make_hasher(max_epochs=10, learning_rate=0.01).fit(X, Y).history_["learning_rate"]
    assert max(rates) <= 0.01
    assert np.argmax(rates) <= 1
    assert (np.diff(rates[1:]) < 0).all()
    hasher = make_hasher(max_epochs=10, learning_rate=0.01, optimizer="sgd").fit(X, Y)
    # Biases of the hash layer have the largest rate.
    assert hasher.history_["learning_rate"] == pytest.approx([0.02] * 5 + [0.002] * 5)


@pytest.mark.parametrize(
    "solver",
    [AdamWSolver(0.1, "auto", 0.0, head_is_trained=False), PaperSolver(0.05, "auto", 0.0)],
    ids=["adamw", "sgd"],
)
@pytest.mark.parametrize("n_steps", [1, 2, 7, 200])
def test_rates_never_exceed_the_peak(solver, n_steps):
    network = build_network("mlp", 4, input_shape=(3,))
    started = solver.start(network, torch.nn.Identity(), trains_backbone=True, n_steps=n_steps)
    rates = []
    for _ in range(n_steps):
        rates.append(started.rate)
        network(torch.ones(2, 3)).sum().backward()
        started.step()
    assert 0 < max(rates) <= 0.1
    assert min(rates) >= 0


# Early stopping.


class Weights:
    """Stands for a network: what `BestWeights` needs of one."""

    def __init__(self):
        self.value = 0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


@pytest.mark.parametrize(
    ("scores", "patience", "tol", "n_used", "best"),
    [
        ([0.1, 0.2, 0.3], 1, 0.0, 3, 2),
        ([0.3, 0.2, 0.1, 0.9], 2, 0.0, 3, 0),
        ([0.3, 0.2, 0.4, 0.1, 0.1], 2, 0.0, 5, 2),
        # Too little to go on for, but the better weights all the same.
        ([0.3, 0.35, 0.38, 0.9], 2, 0.1, 3, 2),
        ([0.0, 0.0], 1, 0.0, 2, 0),
    ],
)
def test_best_weights(scores, patience, tol, n_used, best):
    network, kept = Weights(), BestWeights(patience, tol)
    for epoch, score in enumerate(scores):
        network.value = epoch
        kept.update(score, network)
        if kept.exhausted():
            break
    assert epoch + 1 == n_used
    kept.restore(network)
    assert network.value == best


def test_without_scores_the_weights_stay():
    network = Weights()
    network.value = 3
    BestWeights(2, 0.0).restore(network)
    assert network.value == 3


@all_kinds
@pytest.mark.parametrize("head_epochs", [0, 3])
def test_early_stopping_keeps_the_best_epoch(make, head_epochs):
    X, Y = make(80)
    params = {"early_stopping": True, "validation_fraction": 0.3, "head_epochs": head_epochs}
    # In one step each epoch at so high a rate scores rise and fall.
    params |= {"max_epochs": 12, "n_iter_no_change": 3, "learning_rate": 3e-2, "batch_size": 60}
    hasher = make_hasher(**params).fit(X, Y)
    scores = hasher.history_["validation_score"]
    assert len(scores) == hasher.n_iter_ <= head_epochs + 12
    # By default the seed is drawn from random_state.
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    _, queries, database = held_out_rows(80, 0.3, seed=seed)
    codes = hasher.transform(X)
    score = ndcg_score(codes[queries], Y[queries], codes[database], Y[database], k=100)
    assert score == pytest.approx(max(scores[head_epochs:]))
    assert len(hasher.database_codes_) == 80


def test_early_stopping_stops():
    X, Y = make_rows()
    params = {"early_stopping": True, "max_epochs": 50, "n_iter_no_change": 2, "tol": 1.0}
    hasher = make_hasher(**params).fit(X, Y)
    # The first score always improves, and the next two cannot by more than 1.
    assert hasher.n_iter_ == 3
    both = make_hasher(head_epochs=50, **params).fit(X, Y)
    assert both.n_iter_ == 6


def test_held_out_samples_are_not_learnt_from():
    X, Y = make_rows(50)
    params = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 99}
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    _, *held_out = held_out_rows(50, 0.2, seed=seed)
    other = Y.copy()
    for part in held_out:
        other[part] = 1 - other[part]
    losses = [make_hasher(**params).fit(X, labels).loss_curve_ for labels in (Y, other)]
    assert losses[0] == losses[1]


def test_verbose_prints_scores(capsys):
    make_hasher(verbose=True, early_stopping=True, max_epochs=1).fit(*make_rows())
    assert "NDCG@100 of held-out samples: 0." in capsys.readouterr().out


def test_error_if_too_little_is_left_to_learn_from():
    X, Y = make_rows(4)
    Y[:] = 1
    match = r"validation_fraction=0.9 of 4 training samples leaves 0"
    check_error(ValueError, match, X, Y, early_stopping=True, validation_fraction=0.9)


# Going on.


@all_kinds
def test_warm_start_starts_from_the_last_network(make):
    X, Y = make()
    hasher = make_hasher(warm_start=True, max_epochs=1)
    first = state_of(hasher.fit(X, Y))
    assert_same_state(state_of(hasher.set_params(max_epochs=0).fit(X, Y)), first)
    assert hasher.loss_curve_ == []
    hasher.set_params(max_epochs=5, learning_rate=3e-3).fit(X, Y)
    assert hasher.n_iter_ == 5
    fresh = make_hasher(max_epochs=5, learning_rate=3e-3).fit(X, Y)
    assert hasher.loss_curve_[0] < fresh.loss_curve_[0]
    # Without it, what was learnt before is forgotten.
    hasher.set_params(warm_start=False)
    assert_same_state(state_of(hasher.fit(X, Y)), state_of(fresh))


def test_warm_start_keeps_the_standardisation_of_a_trained_head():
    X, Y = make_images()
    hasher = make_hasher(warm_start=True, head_epochs=1, network=tiny_backbone).fit(X, Y)
    before = state_of(hasher)
    hasher.set_params(head_epochs=1, max_epochs=0, learning_rate=1e-12, weight_decay=0.0)
    after = state_of(hasher.fit(X, Y))
    assert_array_equal(after["feature_mean"], before["feature_mean"])
    torch.testing.assert_close(after, before)


def test_warm_start_of_a_network_of_another_shape():
    X, Y = make_rows()
    hasher = make_hasher(warm_start=True).fit(X, Y)
    before = state_of(hasher)
    with pytest.raises(ValueError, match="warm_start=True goes on from the network of the last"):
        hasher.set_params(n_bits=9).fit(X, Y)
    assert_same_state(state_of(hasher), before)
    hasher.set_params(warm_start=False).fit(X, Y)


# Parts.


@all_kinds
def test_parts_train_the_network(make):
    X, Y = make(160)
    hasher = make_hasher(learning_rate=3e-3, hidden_size=64, dropout=0.1)
    for _ in range(15):
        for part in (slice(0, 60), slice(60, 120)):
            assert hasher.partial_fit(X[part], Y[part]) is hasher
    assert hasher.n_iter_ == len(hasher.loss_curve_) == 30
    assert np.mean(hasher.loss_curve_[-4:]) < 0.8 * np.mean(hasher.loss_curve_[:2])
    assert len(hasher.database_codes_) == 0
    with pytest.raises(ValueError, match="database of this DeepRankingHasher is empty"):
        hasher.score(X, Y)
    score = hasher.set_database(X[:120], Y[:120]).score(X[120:], Y[120:])
    random = make_hasher(max_epochs=0, hidden_size=64).fit(X[:120], Y[:120])
    assert score > random.score(X[120:], Y[120:])


@all_kinds
@pytest.mark.parametrize("loss", ["hyp2", RankingLoss(list_size=50)], ids=["hyp2", "memory"])
def test_parts_are_seeded_and_can_be_interrupted_by_pickling(make, loss):
    X, Y = make()
    parts = [slice(0, 25), slice(25, 60), slice(0, 25)]
    whole, broken = (make_hasher(loss=loss) for _ in range(2))
    before = global_states()
    for part in parts:
        whole.partial_fit(X[part], Y[part])
    assert global_states() == before
    for part in parts:
        torch.rand(3)
        broken = pickle.loads(pickle.dumps(broken.partial_fit(X[part], Y[part])))
    assert_same_state(state_of(broken), state_of(whole))
    assert broken.loss_curve_ == whole.loss_curve_


def test_solver_goes_on_from_part_to_part():
    X, Y = make_rows()
    params = {"loss": RankingLoss(balance=0.0), "batch_size": 60}
    hasher = make_hasher(**params).partial_fit(X, Y)
    forgetful = copy.deepcopy(hasher)
    forgetful._partial["solver"] = {}
    assert not np.array_equal(
        hasher.partial_fit(X, Y).project(X), forgetful.partial_fit(X, Y).project(X)
    )


@pytest.mark.parametrize("names", [("adamw", "sgd"), ("sgd", "adamw")], ids="-".join)
def test_another_solver_starts_without_the_steps_of_the_last(names):
    X, Y = make_rows()
    hasher = make_hasher(optimizer=names[0]).partial_fit(X, Y)
    forgetful = copy.deepcopy(hasher)
    forgetful._partial["solver"] = {}
    for other in (hasher, forgetful):
        other.set_params(optimizer=names[1]).partial_fit(X, Y)
    assert_same_state(state_of(hasher), state_of(forgetful))


def test_error_on_another_n_bits_in_a_part():
    X, Y = make_rows()
    hasher = make_hasher().partial_fit(X, Y)
    before = state_of(hasher)
    with pytest.raises(ValueError, match="goes on with a network of n_bits=8, got n_bits=9"):
        hasher.set_params(n_bits=9).partial_fit(X, Y)
    assert_same_state(state_of(hasher), before)


def test_parts_after_fit_go_on_and_fit_starts_afresh():
    X, Y = make_rows()
    hasher = make_hasher().fit(X, Y)
    before, n_iter = state_of(hasher), hasher.n_iter_
    hasher.set_params(learning_rate=1e-12, weight_decay=0.0).partial_fit(X, Y)
    torch.testing.assert_close(state_of(hasher), before)
    assert hasher.n_iter_ == n_iter + 1
    hasher.set_params(learning_rate=1e-3, weight_decay=5e-4).fit(X, Y)
    assert_same_state(state_of(hasher), before)
    assert not hasattr(hasher, "_partial")


def test_parts_of_classes():
    X, _ = make_rows()
    y = np.array(["a", "b", "c"])[np.arange(60) % 3]
    hasher = make_hasher().partial_fit(X[y != "c"], y[y != "c"], classes=["a", "b", "c"])
    hasher.partial_fit(X, y).set_database(X, y)
    assert set(hasher.predict(X)) <= {"a", "b", "c"}
    with pytest.raises(ValueError, match="classes that fit has not seen"):
        make_hasher().partial_fit(X[y != "c"], y[y != "c"]).partial_fit(X, y)


def test_progress_ends_with_max_epochs():
    X, Y = make_rows(40)
    seen = []

    class Loss:
        def start(self, *_):
            return Started()

    class Started(torch.nn.Module):
        def forward(self, projection, _, progress):
            seen.append(progress)
            return projection.square().mean()

    hasher = make_hasher(loss=Loss(), max_epochs=2)
    for _ in range(3):
        hasher.partial_fit(X, Y)
    assert seen == [0, 0.25, 0.5, 0.75, 1, 1]


@all_kinds
def test_error_in_a_part_leaves_the_hasher_as_it_was(make):
    X, Y = make()
    hasher = make_hasher().partial_fit(X, Y)
    state, history = state_of(hasher), copy.deepcopy(hasher.history_)
    partial = hasher._partial
    for error, labels in (("1 sample", Y[:1]), ("inconsistent", Y[:30]), ("requires y", None)):
        with pytest.raises(ValueError, match=error):
            hasher.partial_fit(X[:1] if error == "1 sample" else X, labels)
    bad = np.full_like(X, 3e38) if X.dtype.kind == "f" else None
    if bad is not None:
        with pytest.raises(ValueError, match="X should be between"):
            hasher.partial_fit(bad, Y)
    assert_same_state(state_of(hasher), state)
    assert hasher.history_ == history
    assert hasher._partial is partial
    fresh = make_hasher()
    with pytest.raises(ValueError, match="1 sample"):
        fresh.partial_fit(X[:1], Y[:1])
    assert vars(fresh).keys() == fresh.get_params().keys()


# Compilation.


@all_kinds
@pytest.mark.parametrize("head_epochs", [0, 1])
def test_compiled_training(make, head_epochs, monkeypatch):
    X, Y = make()
    calls, compile_ = [], torch.compile

    def compiled(forward):
        calls.append(forward)
        # Without the compiler of the machine, which takes long, or may be missing.
        return compile_(forward, backend="eager")

    monkeypatch.setattr(torch, "compile", compiled)
    params = {"head_epochs": head_epochs, "max_epochs": 2}
    hasher = make_hasher(compile=True, **params).fit(X, Y)
    assert len(calls) == 1 + head_epochs
    assert_array_equal(hasher.project(X), projection(make_hasher(**params), X, Y))
    pickle.dumps(hasher)


# Callbacks.


class Recording:
    """A callback that notes what it is told, and can stop."""

    def __init__(self, stop_at=None, fail_at=None):
        self.stop_at, self.fail_at, self.events, self.estimators = stop_at, fail_at, [], []

    def setup(self, estimator, context):  # noqa: ARG002
        self.events.append("setup")

    def teardown(self, estimator, context):  # noqa: ARG002
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):  # noqa: ARG002
        self.events.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):  # noqa: ARG002
        self.events.append(f"end {context.task_name} {context.task_id}")
        self.estimators.append((fitted_estimator, X, y))
        if context.task_name == "epoch" and context.task_id == self.fail_at:
            raise RuntimeError("from the callback")
        return context.task_name == "epoch" and context.task_id == self.stop_at


@pytest.mark.parametrize("params", [{}, {"head_epochs": 1, "max_epochs": 1}])
def test_callbacks_are_told_of_each_epoch(params):
    callback = Recording()
    make_hasher(**params).set_callbacks(callback).fit(*make_rows())
    epochs = [f"{event} epoch {i}" for i in range(2) for event in ("begin", "end")]
    assert callback.events == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]


def test_callbacks_can_stop_and_fail():
    X, Y = make_rows()
    hasher = make_hasher(max_epochs=9).set_callbacks(Recording(stop_at=1)).fit(X, Y)
    assert hasher.n_iter_ == 2
    # The epochs of both stages are one level of tasks.
    assert hasher.set_params(head_epochs=5).fit(X, Y).n_iter_ == 2
    failing = Recording(fail_at=0)
    fresh = make_hasher().set_callbacks(failing)
    with pytest.raises(RuntimeError, match="from the callback"):
        fresh.fit(X, Y)
    assert failing.events[-1] == "teardown"
    assert vars(fresh).keys() - fresh.get_params().keys() == {"_skl_callbacks"}
    # An error before training, too, is followed by a teardown.
    with pytest.raises(ValueError, match="inconsistent"):
        fresh.fit(X, Y[1:])
    assert failing.events[-2:] == ["setup", "teardown"]


@all_kinds
@pytest.mark.parametrize("single", [False, True])
def test_callbacks_get_a_hasher_as_of_then(make, single):
    X, Y = make()
    Y = Y.argmax(axis=1) if single else Y
    callback = Recording()
    hasher = make_hasher(max_epochs=2).set_callbacks(callback).fit(X, Y)
    (first, given_X, given_Y), (second, *_), (last, *_) = callback.estimators
    assert_array_equal(given_X, X)
    assert_array_equal(given_Y, Y)
    assert_array_equal(second.project(X), hasher.project(X))
    assert_array_equal(last.project(X), hasher.project(X))
    assert second.score(X, Y) == hasher.score(X, Y)
    assert not np.array_equal(first.project(X), hasher.project(X))
    # To be asked for it changes nothing.
    assert_array_equal(hasher.project(X), projection(make_hasher(max_epochs=2), X, Y))


def test_callbacks_of_scikit_learn(capsys):
    X, Y = make_rows()
    monitor = ScoringMonitor(scoring={"ndcg": make_retrieval_scorer("ndcg", k=100)})
    hasher = make_hasher(max_epochs=3).set_callbacks(ProgressBar(), monitor).fit(X, Y)
    scores = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(scores) == 3
    assert scores[-1]["ndcg"] == pytest.approx(hasher.score(X, Y))
    assert "DeepRankingHasher" in capsys.readouterr().out
    assert clone(hasher)._skl_callbacks == hasher._skl_callbacks


def test_callbacks_within_a_search():
    X, Y = make_rows()
    callback = Recording()
    search = GridSearchCV(
        make_hasher(max_epochs=1).set_callbacks(callback), {"n_bits": [4, 8]}, cv=2
    )
    search.fit(X, Y)
    assert callback.events.count("setup") == callback.events.count("teardown") == 5
