"""Lists of signs, average precision of lists, and losses of losses."""

import numpy as np
import pytest
import torch
from test_deep_hasher import make_hasher, make_rows
from test_losses import make_batch, value_and_gradients

from skhash.deep.losses import (
    CentralSimilarityLoss,
    HashNetLoss,
    HyP2Loss,
    MemoryLoss,
    NestedLoss,
    RankingLoss,
    SequentialLoss,
    TieAwareAveragePrecisionLoss,
    TieAwareNDCGLoss,
    tie_aware_average_precision_loss,
    tie_aware_ndcg_loss,
)
from skhash.metrics import average_precision_score

TIE_AWARE = {
    TieAwareNDCGLoss: tie_aware_ndcg_loss,
    TieAwareAveragePrecisionLoss: tie_aware_average_precision_loss,
}
tie_aware = pytest.mark.parametrize("kind", TIE_AWARE)


# Average precision.


def make_lists(seed=0, shape=(5, 12), n_bits=9):
    generator = torch.Generator().manual_seed(seed)
    distances = n_bits * torch.rand(shape, generator=generator, dtype=torch.float64)
    return distances.requires_grad_(), torch.randint(0, 3, shape, generator=generator)


def oracle_average_precision(distances, relevance, n_bits):
    """The formula, bin by bin, of one list."""
    counts, hits = np.zeros(n_bits + 1), np.zeros(n_bits + 1)
    for d, r in zip(distances, relevance, strict=True):
        lower = min(int(d), n_bits - 1)
        for bin_, share in ((lower, 1 - (d - lower)), (lower + 1, d - lower)):
            counts[bin_] += share
            hits[bin_] += share * (r > 0)
    value, before, found = 0.0, 0.0, 0.0
    for c, h in zip(counts, hits, strict=True):
        value += h * (found + found + h + 1) / (before + before + c + 1)
        before, found = before + c, found + h
    return 1 - value / found if found else 0.0


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_a_loop_over_bins(seed):
    distances, relevance = make_lists(seed)
    relevance[0] = 0
    loss = tie_aware_average_precision_loss(distances, relevance, n_bits=9)
    expected = [
        oracle_average_precision(d, r, 9)
        for d, r in zip(distances.tolist(), relevance.tolist(), strict=True)
    ]
    torch.testing.assert_close(loss.detach(), torch.tensor(expected, dtype=torch.float64))
    assert loss[0] == 0


def test_average_precision_of_distances_that_differ_is_the_metric():
    # The first k bits of a code of 12 differ from a query of zeros.
    codes = np.tri(13, 12, -1, dtype=int)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        order = rng.permutation(13)
        labels = (rng.random((13, 1)) < 0.4).astype(int)
        metric = average_precision_score(np.zeros((1, 12)), [[1]], codes[order], labels)
        distances = torch.tensor(codes[order].sum(axis=1), dtype=torch.float64)[None]
        loss = tie_aware_average_precision_loss(
            distances, torch.tensor(labels[:, 0])[None], n_bits=12
        )
        # A query without a relevant item has no loss, and by default no average precision.
        assert loss.item() == pytest.approx(1 - metric if labels.any() else 0)


def test_average_precision_gradient_equals_finite_differences():
    distances, relevance = make_lists()
    assert torch.autograd.gradcheck(
        lambda d: tie_aware_average_precision_loss(d, relevance, n_bits=9), distances
    )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_average_precision_of_nothing(shape):
    loss = tie_aware_average_precision_loss(
        torch.zeros(shape), torch.zeros(shape, dtype=torch.long), n_bits=4
    )
    assert loss.shape == shape[:1]
    assert not loss.any()


def test_error_on_lists_of_average_precision():
    distances, relevance = make_lists()
    with pytest.raises(ValueError, match="n_bits should be an integer, at least 1, got 0"):
        tie_aware_average_precision_loss(distances, relevance, n_bits=0)
    with pytest.raises(ValueError, match="should both have shape"):
        tie_aware_average_precision_loss(distances, relevance[:3], n_bits=9)
    with pytest.raises(TypeError, match="relevance should be integer"):
        tie_aware_average_precision_loss(distances, distances, n_bits=9)


# Signs of the items.


def loss_to_signs(kind, projection, labels):
    """Value and gradient of the loss of relaxed queries and binary items, list by list."""
    n, n_bits = projection.shape
    codes = torch.tanh(projection.detach() / 2)
    queries, items = (tensor.clone().requires_grad_() for tensor in (codes, codes))
    total = 0
    for q in range(n):
        rest = [i for i in range(n) if i != q]
        # The value at the sign, as a function of the item.
        binary = items[rest] + (torch.sign(codes[rest]) - codes[rest])
        distances = (n_bits - queries[[q]] @ binary.T) / 2
        relevance = (labels[[q]] @ labels[rest].T).long()
        total = total + TIE_AWARE[kind](distances, relevance, n_bits=n_bits).sum()
    total = total / labels.any(1).sum()
    gradients = torch.autograd.grad(total, [queries, items])
    return total.detach(), sum(gradients) * (1 - codes.square()) / 2


@tie_aware
def test_signs_of_items_and_the_gradient_straight_through(kind):
    projection, labels = make_batch()
    started = kind(straight_through=1.0).start(8, labels)
    value, gradient = value_and_gradients(started, projection, labels)
    expected, expected_gradient = loss_to_signs(kind, projection, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


@tie_aware
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_share_of_lists_of_signs(kind, share):
    projection, labels = make_batch()
    relaxed, binary, mixed = (
        value_and_gradients(kind(straight_through=s).start(8, labels), projection, labels)
        for s in (0, 1, share)
    )
    for r, b, m in zip(relaxed, binary, mixed, strict=True):
        torch.testing.assert_close(m, (1 - share) * r + share * b)


@tie_aware
def test_signs_of_a_memory(kind):
    batches = [make_batch(seed) for seed in range(2)]
    labels = batches[0][1]
    started = kind(straight_through=1.0, list_size=100).start(8, labels)
    started(*batches[0], 0.0)
    # Remembered codes count by their signs alone.
    other = kind(straight_through=1.0, list_size=100).start(8, labels)
    other(3 * batches[0][0], labels, 0.0)
    for one, two in zip(
        value_and_gradients(started, *batches[1]),
        value_and_gradients(other, *batches[1]),
        strict=True,
    ):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
def test_error_on_the_share(share):
    with pytest.raises(ValueError, match="'straight_through' parameter of TieAwareNDCGLoss"):
        TieAwareNDCGLoss(straight_through=share)


# Nested codes.


@pytest.mark.parametrize("weights", [None, (1, 2, 5)])
@pytest.mark.parametrize("loss", [RankingLoss(), TieAwareNDCGLoss()], ids=["ranking", "ndcg"])
def test_nested_loss_is_the_mean_over_lengths(loss, weights):
    projection, labels = make_batch()
    started = NestedLoss(loss, lengths=(2, 5, 8), weights=weights).start(8, labels)
    value, gradient = value_and_gradients(started, projection, labels)
    shares = np.ones(3) / 3 if weights is None else np.array(weights) / sum(weights)
    expected, expected_gradient = 0, torch.zeros_like(gradient)
    for length, share in zip((2, 5, 8), shares, strict=True):
        single = loss.start(length, labels)
        part, part_gradient = value_and_gradients(single, projection[:, :length], labels)
        expected = expected + share * part
        expected_gradient[:, :length] += share * part_gradient
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_nested_loss_keeps_tensors_for_each_length():
    labels = torch.eye(3, dtype=torch.float64)
    started = NestedLoss(HyP2Loss(), lengths=(4, 8)).start(8, labels)
    assert sorted(parameter.shape[1] for parameter in started.parameters()) == [4, 8]
    centers = NestedLoss(CentralSimilarityLoss(), lengths=(4, 8)).start(8, labels)
    assert [part.centers.shape for part in centers.parts] == [(3, 4), (3, 8)]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lengths": (8, 4)}, r"'lengths' .* ascending ints above 0. Got \(8, 4\) instead"),
        ({"lengths": (4, 4)}, "'lengths' parameter of NestedLoss must be ascending"),
        ({"lengths": (0, 4)}, "'lengths' parameter of NestedLoss must be ascending"),
        ({"lengths": (1.5, 4)}, "'lengths' parameter of NestedLoss must be ascending"),
        ({"lengths": ()}, "'lengths' parameter of NestedLoss must be ascending"),
        ({"lengths": 8}, "'lengths' parameter of NestedLoss must be an array-like"),
        ({"lengths": (4, 8), "weights": (1,)}, "'weights' .* each of the 2 lengths. Got"),
        ({"lengths": (4, 8), "weights": (1, 0)}, "'weights' .* a number above 0"),
        ({"loss": "ranking"}, "'loss' parameter of NestedLoss must be an instance"),
    ],
)
def test_error_on_parameters_of_a_nested_loss(params, message):
    with pytest.raises(ValueError, match=message):
        NestedLoss(**({"loss": RankingLoss()} | params))


def test_error_on_lengths_that_do_not_end_with_the_code():
    with pytest.raises(ValueError, match=r"last of the lengths .* should be n_bits=8, .*\(4, 9\)"):
        NestedLoss(RankingLoss(), lengths=(4, 9)).start(8, torch.eye(3))


# One loss after another.


@pytest.mark.parametrize(
    ("progress", "position", "own"),
    [(0, 0, 0), (0.3, 0, 0.5), (0.59, 0, 0.59 / 0.6), (0.6, 1, 0), (0.8, 1, 0.5), (1, 1, 1)],
)
def test_losses_follow_each_other(progress, position, own):
    projection, labels = make_batch()
    # The value of the last one depends on the progress.
    losses = RankingLoss(), HashNetLoss()
    started = SequentialLoss(*losses, switch=0.6).start(8, labels)
    alone = losses[position].start(8, labels)
    assert started(projection, labels, progress).item() == pytest.approx(
        alone(projection, labels, own).item()
    )


def test_parameters_of_losses_of_losses():
    loss = SequentialLoss(RankingLoss(), NestedLoss(TieAwareNDCGLoss(), lengths=(4, 8)))
    loss.set_params(first__margin=3.0, last__loss__balance=0.5, switch=0.4)
    assert loss.first.margin == 3.0
    assert loss.last.loss.balance == 0.5
    with pytest.raises(ValueError, match="'switch' parameter of SequentialLoss"):
        loss.set_params(switch=1.0)
    assert loss.switch == 0.4
    assert loss.needs_shared_labels
    assert not SequentialLoss(CentralSimilarityLoss(), HyP2Loss()).needs_shared_labels


# In the hasher.


@pytest.mark.parametrize(
    "loss",
    [
        NestedLoss(TieAwareNDCGLoss(), lengths=(3, 8)),
        NestedLoss(MemoryLoss(RankingLoss(), size=50), lengths=(3, 8), weights=[1.0, 2.0]),
        SequentialLoss(RankingLoss(), TieAwareAveragePrecisionLoss()),
        TieAwareNDCGLoss(straight_through=0.25),
    ],
    ids=["nested", "nested with memory", "sequential", "signs"],
)
def test_hasher_learns_with_it_saves_it_and_goes_on(loss, tmp_path):
    X, Y = make_rows()
    hasher = make_hasher(loss=loss, max_epochs=10, learning_rate=3e-3).fit(X, Y)
    assert np.isfinite(hasher.loss_curve_).all()
    random = make_hasher(max_epochs=0).fit(X, Y)
    assert hasher.score(X, Y) > random.score(X, Y)
    hasher.save(tmp_path / "hasher")
    loaded = type(hasher).load(tmp_path / "hasher")
    assert loaded.loss == hasher.loss
    np.testing.assert_array_equal(loaded.project(X), hasher.project(X))
    checkpointed = make_hasher(loss=loss, max_epochs=2, checkpoint_dir=tmp_path / "c").fit(X, Y)
    again = make_hasher(loss=loss, max_epochs=2, checkpoint_dir=tmp_path / "c").fit(X, Y)
    np.testing.assert_array_equal(again.project(X), checkpointed.project(X))
