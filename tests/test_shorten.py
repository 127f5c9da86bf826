"""Shorter codes of a fitted hasher, and what the defaults are chosen by."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from test_deep_hasher import make_hasher, make_images, make_rows, tiny_backbone

from skhash import DeepRankingHasher
from skhash.codes import pack_codes
from skhash.deep.losses import (
    CentralSimilarityLoss,
    NestedLoss,
    RankingLoss,
    SequentialLoss,
    TieAwareNDCGLoss,
)
from skhash.deep.networks import HeadEnsemble


@pytest.mark.parametrize("make", [make_rows, make_images])
@pytest.mark.parametrize("n_bits", [1, 5, 8, 11])
def test_shorter_codes_are_the_first_bits(make, n_bits, tmp_path):
    X, Y = make()
    hasher = make_hasher(n_bits=11).fit(X, Y)
    projection, state = hasher.project(X), torch.get_rng_state()
    short = hasher.shorten(n_bits)
    assert torch.equal(torch.get_rng_state(), state)
    assert_allclose(short.project(X), projection[:, :n_bits], rtol=1e-5, atol=1e-6)
    assert_array_equal(short.database_codes_, pack_codes(projection[:, :n_bits] >= 0))
    assert_array_equal(short.database_labels_, hasher.database_labels_)
    assert len(short.get_feature_names_out()) == n_bits
    assert short.get_params() == hasher.get_params() | {"n_bits": n_bits}
    # The hasher itself is left as it was.
    assert hasher.n_bits == 11
    assert_array_equal(hasher.project(X), projection)
    short.save(tmp_path / "short")
    loaded = DeepRankingHasher.load(tmp_path / "short")
    assert_array_equal(loaded.project(X), short.project(X))
    short.partial_fit(X, Y)


def test_shorter_codes_of_a_nested_loss():
    X, Y = make_rows()
    nested = NestedLoss(RankingLoss(), lengths=(3, 6, 9), weights=(1, 2, 3))
    hasher = make_hasher(n_bits=9, loss=nested).fit(X, Y)
    assert hasher.shorten(9).loss == nested
    six, three = hasher.shorten(6), hasher.shorten(3)
    assert six.loss == NestedLoss(RankingLoss(), lengths=(3, 6), weights=(1, 2))
    assert three.loss == RankingLoss()
    assert hasher.shorten(5).loss == NestedLoss(RankingLoss(), lengths=(3, 5), weights=(1, 2))
    for short in (six, three):
        short.fit(X, Y)


@pytest.mark.parametrize("n_bits", [0, 9, 2.0, None])
def test_error_on_a_length(n_bits):
    hasher = make_hasher().fit(*make_rows())
    with pytest.raises(ValueError, match="n_bits should be an int from 1 to 8, the length of the"):
        hasher.shorten(n_bits)
    with pytest.raises(NotFittedError):
        make_hasher().shorten(3)


# Defaults by input.


def chosen(X, Y, **params):
    """The probability of dropout of the features, and the loss by its curve."""
    params = {"n_bits": 8, "hidden_size": 16, "max_epochs": 3, "batch_size": 20} | params
    hasher = DeepRankingHasher(device="cpu", random_state=0, **params).fit(X, Y)
    head = hasher.network_.head
    head = head[0] if isinstance(head, HeadEnsemble) else head
    return head.input_dropout.p, hasher.loss_curve_


def make_classes(make):
    """The same samples with one class each."""
    X, Y = make()
    return X, Y.argmax(axis=1)


NDCG, SEQUENCE = TieAwareNDCGLoss(), SequentialLoss(RankingLoss(), TieAwareNDCGLoss())
CENTRES = CentralSimilarityLoss()


@pytest.mark.parametrize(
    ("make", "params", "loss", "dropout"),
    [
        (make_rows, {}, NDCG, 6 / 1030),
        (partial(make_rows, n_features=1280), {}, NDCG, 0.5),
        (make_images, {}, SEQUENCE, 0.0),
        (make_images, {"head_epochs": 1, "network": tiny_backbone}, NDCG, 36 / 1060),
        (make_images, {"network": tiny_backbone}, SEQUENCE, 0.0),
        (partial(make_classes, make_rows), {}, CENTRES, 6 / 1030),
        (partial(make_classes, make_images), {}, SEQUENCE, 0.0),
    ],
    ids=[
        "rows",
        "long rows",
        "images",
        "frozen backbone",
        "backbone from random weights",
        "rows, one class each",
        "images, one class each",
    ],
)
def test_defaults_depend_on_what_the_head_reads(make, params, loss, dropout):
    X, Y = make()
    dropout_of_default, curve = chosen(X, Y, **params)
    assert dropout_of_default == dropout
    assert curve == chosen(X, Y, loss=loss, input_dropout=dropout, **params)[1]


def test_default_with_pretrained_weights(tmp_path):
    X, Y = make_images()
    torch.save(tiny_backbone().state_dict(), tmp_path / "weights")
    params = {"network": tiny_backbone, "weights": tmp_path / "weights"}
    dropout, curve = chosen(X, Y, **params)
    assert dropout == 36 / 1060
    assert curve == chosen(X, Y, loss=NDCG, input_dropout=dropout, **params)[1]


def test_dropout_of_features_is_for_training_alone():
    X, Y = make_rows()
    with_it, without = (
        make_hasher(input_dropout=p, max_epochs=0).fit(X, Y).project(X) for p in (0.9, 0.0)
    )
    assert_array_equal(with_it, without)
    trained, plain = (make_hasher(input_dropout=p).fit(X, Y).project(X) for p in (0.9, 0.0))
    assert not np.array_equal(trained, plain)


@pytest.mark.parametrize("p", [-0.1, 1.0, "half"])
def test_error_on_the_dropout_of_features(p):
    with pytest.raises(ValueError, match="'input_dropout' parameter of DeepRankingHasher"):
        make_hasher(input_dropout=p).fit(*make_rows())


def test_error_on_parameters_of_a_loss_that_is_not_chosen_yet():
    with pytest.raises(
        ValueError, match="loss='auto' has no parameter to set, got 'loss__margin'"
    ):
        DeepRankingHasher().set_params(loss__margin=2)
    assert DeepRankingHasher().set_params(loss="ranking", loss__margin=2).loss.margin == 2


@pytest.mark.parametrize(
    ("n", "batch_size", "n_epochs"), [(40, 20, 250), (90, 20, 100), (240, 20, 42), (241, 20, 40)]
)
def test_automatic_number_of_epochs_on_rows(n, batch_size, n_epochs):
    X, Y = make_rows(n)
    hasher = make_hasher(max_epochs="auto", batch_size=batch_size, hidden_size=2).fit(X, Y)
    assert hasher.n_iter_ == n_epochs


def test_automatic_number_of_epochs_on_images():
    assert make_hasher(max_epochs="auto").fit(*make_images(40)).n_iter_ == 20
