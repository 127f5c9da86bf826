"""What a loss is as an object: its parameters, copies, files, and errors about them."""

import copy
import math
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from test_deep_hasher import make_hasher, make_rows
from test_losses import SPECS, all_losses, make_batch, start, value_and_gradients

from skhash import DeepRankingHasher
from skhash.deep import losses
from skhash.deep.losses import (
    LOSSES,
    CentralSimilarityLoss,
    HashingLoss,
    HashNetLoss,
    HyP2Loss,
    MemoryLoss,
    OrthoHashLoss,
    PairwiseLikelihoodLoss,
    RankingLoss,
    SampledRankingLoss,
    SoftPairLoss,
    TieAwareNDCGLoss,
    TripletLikelihoodLoss,
    get_loss,
)


@all_losses
def test_loss_is_a_value(name):
    spec = SPECS[name]
    assert eval(repr(spec), vars(losses)) == spec
    copies = [pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), clone(spec)]
    assert all(other == spec and other is not spec for other in copies)


class _WithLoss(BaseEstimator):
    def __init__(self, loss=None):
        self.loss = loss


def test_loss_is_a_parameter_of_an_estimator():
    estimator = _WithLoss(RankingLoss(margin=2))
    copied = clone(estimator)
    assert copied.loss == RankingLoss(margin=2)
    assert "RankingLoss(margin=2" in repr(estimator)
    copied.set_params(loss=HyP2Loss(), loss__beta=2)
    expected = {"loss": HyP2Loss(beta=2), "loss__beta": 2, "loss__threshold": "auto"}
    assert copied.get_params() == expected


# Parameters, as scikit-learn knows them.


@all_losses
def test_parameters_are_those_of_the_constructor(name):
    spec = SPECS[name]
    params = spec.get_params(deep=False)
    assert type(spec)(**params) == spec
    assert all(getattr(spec, key) is value for key, value in params.items())
    assert clone(spec).set_params(**params) == spec


def test_parameters_are_set():
    loss = RankingLoss()
    assert loss.set_params(margin=3, weighting="uniform") is loss
    assert loss == RankingLoss(margin=3, weighting="uniform")
    assert loss.set_params() is loss


def test_parameters_of_the_loss_in_a_memory():
    loss = MemoryLoss(TripletLikelihoodLoss(margin=2), size=9)
    assert loss.get_params() == {
        "loss": TripletLikelihoodLoss(margin=2),
        "loss__margin": 2,
        "loss__quantization": 0.1,
        "size": 9,
    }
    copied = clone(loss).set_params(loss__margin=4, size=5)
    assert copied == MemoryLoss(TripletLikelihoodLoss(margin=4), size=5)
    assert loss == MemoryLoss(TripletLikelihoodLoss(margin=2), size=9)


def test_parameters_are_set_through_the_hasher():
    loss = MemoryLoss(RankingLoss(), size=50)
    hasher = clone(DeepRankingHasher(loss=loss))
    hasher.set_params(loss__size=60, loss__loss__margin=3)
    assert hasher.loss == MemoryLoss(RankingLoss(margin=3), size=60)
    assert loss == MemoryLoss(RankingLoss(), size=50)


def test_error_on_unknown_parameter():
    loss = RankingLoss(margin=2)
    names = r"\['balance', 'class_weight', 'list_size', 'margin', 'weighting'\]"
    with pytest.raises(ValueError, match=f"Invalid parameter 'alpha'.*{names}"):
        loss.set_params(balance=1, alpha=3)
    assert loss == RankingLoss(margin=2)
    with pytest.raises(ValueError, match=r"Invalid parameter 'alpha'.*\['margin', 'quantiz"):
        MemoryLoss(TripletLikelihoodLoss(), size=5).set_params(loss__alpha=3)


@pytest.mark.parametrize(
    "params", [{"size": 0}, {"loss__margin": -1}, {"loss": CentralSimilarityLoss()}]
)
def test_error_on_parameter_that_is_set_changes_nothing(params):
    loss = MemoryLoss(TripletLikelihoodLoss(), size=5)
    with pytest.raises(ValueError, match=r"The '(size|margin|loss)' parameter of"):
        loss.set_params(**{"size": 7, "loss__quantization": 3} | params)
    assert loss == MemoryLoss(TripletLikelihoodLoss(), size=5)


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        (RankingLoss(), {"margin": 7}),
        (RankingLoss(list_size=30), {"margin": 7, "list_size": 1}),
        (MemoryLoss(TripletLikelihoodLoss(), size=30), {"loss__margin": 7, "size": 1}),
        (HyP2Loss(), {"threshold": -0.5}),
    ],
    ids=repr,
)
def test_training_that_has_started_keeps_its_parameters(loss, params):
    projection, labels = make_batch()
    loss = clone(loss)
    before, after = (start(loss, 8, labels) for _ in range(2))
    loss.set_params(**params)
    results = [value_and_gradients(started, projection, labels) for started in (before, after)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    other = value_and_gradients(start(loss, 8, labels), projection, labels)
    assert not torch.equal(other[0], results[0][0])


def test_grid_over_parameters_of_the_loss():
    X, y = load_digits(return_X_y=True)
    hasher = DeepRankingHasher(
        8, loss=RankingLoss(), hidden_size=16, max_epochs=2, device="cpu", random_state=0
    )
    grid = {"loss__margin": [0.5, 4], "loss__weighting": ["ndcg", "uniform"]}
    search = GridSearchCV(hasher, grid, cv=2).fit(X[:300], y[:300])
    assert len(set(search.cv_results_["mean_test_score"])) == 4
    assert search.best_estimator_.loss == RankingLoss(
        margin=search.best_params_["loss__margin"],
        weighting=search.best_params_["loss__weighting"],
    )
    assert hasher.loss == RankingLoss()


def test_grid_over_losses_and_a_memory():
    X, y = load_digits(return_X_y=True)
    hasher = DeepRankingHasher(8, hidden_size=16, max_epochs=1, device="cpu", random_state=0)
    grid = [
        {"loss": [PairwiseLikelihoodLoss(), "csq"]},
        {"loss": [MemoryLoss(TripletLikelihoodLoss(), size=200)], "loss__loss__margin": [1, 4]},
    ]
    search = GridSearchCV(hasher, grid, cv=2).fit(X[:200], y[:200])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# Files.


@pytest.mark.parametrize(
    "loss", [MemoryLoss(HashNetLoss(alpha=2), size=30), RankingLoss(list_size=30)], ids=repr
)
def test_saved_hasher_has_its_loss(loss, tmp_path):
    X, Y = make_rows()
    hasher = make_hasher(loss=loss).fit(X, Y)
    hasher.save(tmp_path / "hasher")
    loaded = DeepRankingHasher.load(tmp_path / "hasher")
    assert loaded.loss == loss
    np.testing.assert_array_equal(loaded.fit(X, Y).project(X), hasher.project(X))


def test_saved_loss_without_a_newer_parameter_has_its_default(tmp_path):
    X, Y = make_rows()
    hasher = make_hasher(loss=RankingLoss(margin=3)).fit(X, Y)
    # As an older version, which did not have the parameter, would have written it.
    del hasher.loss.list_size
    hasher.save(tmp_path / "hasher")
    assert DeepRankingHasher.load(tmp_path / "hasher").loss == RankingLoss(margin=3)


# Started losses.


@all_losses
def test_started_loss_can_be_pickled_and_shows_what_it_is(name):
    projection, labels = make_batch()
    started = start(SPECS[name], 8, labels)
    other = pickle.loads(pickle.dumps(started))
    results = [value_and_gradients(s, projection, labels) for s in (started, other)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert repr(getattr(SPECS[name], "loss", SPECS[name])) in repr(started)


@all_losses
def test_training_set_is_not_kept(name):
    labels = torch.zeros(12345, 5)
    tensors = [*(started := SPECS[name].start(8, labels)).parameters(), *started.buffers()]
    assert all(12345 not in tensor.shape for tensor in tensors)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_by_name(name):
    assert get_loss(name) == LOSSES[name]()
    spec = LOSSES[name]()
    assert get_loss(spec) is spec


def test_any_object_that_starts_is_a_loss():
    own = SimpleNamespace(start=lambda n_bits, labels: torch.nn.Linear(n_bits, labels.shape[1]))
    assert get_loss(own) is own


def test_any_object_that_starts_is_a_parameter_of_a_hasher():
    X, Y = make_rows()
    own = SimpleNamespace(start=lambda *_: SquaredLength())
    hasher = make_hasher(loss=own)
    assert not any(name.startswith("loss__") for name in clone(hasher).get_params())
    assert np.isfinite(clone(hasher).fit(X, Y).project(X)).all()


class SquaredLength(torch.nn.Module):
    def forward(self, projection, *_):
        return projection.square().sum()


def test_error_on_name_of_loss():
    with pytest.raises(
        ValueError, match=r"one of 'ranking', .*'hyp2', or an object, got 'triplet'"
    ):
        get_loss("triplet")


@pytest.mark.parametrize(
    ("loss", "got"),
    [(3, "3"), (None, "None"), (torch.nn.MSELoss(), r"MSELoss\(\)"), (HyP2Loss, "class HyP2Loss")],
    ids=str,
)
def test_error_on_object_that_is_no_loss(loss, got):
    with pytest.raises(TypeError, match=rf"start\(n_bits, labels\), such as .*, got .*{got}"):
        get_loss(loss)


def test_error_on_loss_without_value():
    with pytest.raises(NotImplementedError, match="HashingLoss should define batch_loss"):
        HashingLoss().start(2, torch.zeros(1, 1))(torch.zeros(1, 2), torch.zeros(1, 1), 0.0)


@pytest.mark.parametrize(
    ("loss", "params"),
    [
        (RankingLoss, {"margin": 0}),
        (RankingLoss, {"margin": "large"}),
        (RankingLoss, {"weighting": "dcg"}),
        (RankingLoss, {"balance": -0.1}),
        (RankingLoss, {"list_size": 0}),
        (RankingLoss, {"list_size": 2.5}),
        (RankingLoss, {"class_weight": "rare"}),
        (SampledRankingLoss, {"n_repeats": -1}),
        (SampledRankingLoss, {"margin": 0}),
        (SampledRankingLoss, {"weighting": "dcg"}),
        (TieAwareNDCGLoss, {"balance": math.inf}),
        (TieAwareNDCGLoss, {"list_size": "all"}),
        (PairwiseLikelihoodLoss, {"quantization": -1}),
        (HashNetLoss, {"alpha": 0}),
        (HashNetLoss, {"growth": math.nan}),
        (SoftPairLoss, {"scale": 0}),
        (SoftPairLoss, {"soft_weight": -1}),
        (SoftPairLoss, {"quantization": None}),
        (TripletLikelihoodLoss, {"margin": -1}),
        (TripletLikelihoodLoss, {"quantization": -1}),
        (CentralSimilarityLoss, {"centers": "random"}),
        (CentralSimilarityLoss, {"quantization": math.inf}),
        (OrthoHashLoss, {"margin": -0.2}),
        (OrthoHashLoss, {"scale": 0}),
        (OrthoHashLoss, {"targets": None}),
        (HyP2Loss, {"beta": -1}),
        (HyP2Loss, {"threshold": 1.5}),
        (partial(MemoryLoss, RankingLoss()), {"size": 0}),
        (partial(MemoryLoss, RankingLoss()), {"size": 2.5}),
    ],
    ids=str,
)
def test_error_on_hyper_parameter(loss, params):
    ((name, value),) = params.items()
    kind = getattr(loss, "func", loss).__name__
    message = f"The '{name}' parameter of {kind} must be .* Got {value!r} instead"
    with pytest.raises(ValueError, match=message):
        loss(**params)


def test_hyper_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        RankingLoss(2.0)
