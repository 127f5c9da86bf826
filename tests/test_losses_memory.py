"""A memory of codes: which items a sample is compared with, of which losses, and what it keeps."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from test_deep_hasher import make_hasher, make_rows
from test_losses import (
    SPECS,
    make_batch,
    oracle_dpsh,
    oracle_hashnet,
    oracle_idhn,
    oracle_triplets,
    start,
    value_and_gradients,
)

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
    ranking_loss,
    tie_aware_ndcg_loss,
)

with_memory = pytest.mark.parametrize(
    "kind", [kind for kind in LOSSES.values() if kind().takes_memory]
)
with_lists = pytest.mark.parametrize("kind", [RankingLoss, TieAwareNDCGLoss])


@with_memory
def test_empty_memory_is_the_batch_alone(kind):
    projection, labels = make_batch()
    expected = value_and_gradients(kind().start(8, labels), projection, labels)
    remembering = MemoryLoss(kind(), size=1000).start(8, labels)
    assert remembering.n_remembered == 0
    torch.testing.assert_close(
        value_and_gradients(remembering, projection, labels), expected, rtol=0, atol=0
    )
    assert remembering.n_remembered == 12


@with_lists
def test_memory_is_more_items_without_gradient(kind):
    batches = [make_batch(seed) for seed in range(3)]
    spec = kind(list_size=1000, balance=0)
    if kind is TieAwareNDCGLoss:
        spec.set_params(straight_through=0)
    started = spec.start(8, batches[0][1])
    for batch in batches[:2]:
        started(*batch, 0.0)
    value, gradient = value_and_gradients(started, *batches[2])

    codes = [torch.tanh(projection.detach() / 2) for projection, _ in batches]
    constants = torch.cat([codes[1].float(), codes[0].float()]).double()
    labels = torch.cat([batches[1][1], batches[0][1]])
    projection, own = batches[2]
    own_codes = torch.tanh(projection / 2)
    distances = (8 - torch.cat([own_codes @ own_codes.T, own_codes @ constants.T], 1)) / 2
    relevance = torch.cat([own @ own.T, own @ labels.T], 1).long()
    mask = ~torch.eye(12, 36, dtype=torch.bool)
    lists = distances[mask].view(12, 35), relevance[mask].view(12, 35)
    if kind is RankingLoss:
        expected = ranking_loss(*lists, margin=5 / 8).sum() / 35 / own.any(1).sum()
    else:
        expected = tie_aware_ndcg_loss(*lists, n_bits=8).sum() / own.any(1).sum()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, projection))


def test_memory_forgets_the_oldest_and_evaluation_leaves_it_alone():
    started = RankingLoss(list_size=5).start(2, torch.zeros(1, 1))
    for step in range(4):
        projection = torch.full((2, 2), float(step))
        started(projection, torch.full((2, 1), step % 2.0), 0.0)
        started.eval()(projection + 9, torch.zeros(2, 1), 0.0)
        started.train()
        assert started.n_remembered == min(5, 2 * step + 2)
    steps = torch.tensor([3.0, 3.0, 2.0, 2.0, 1.0])
    torch.testing.assert_close(started.memory_codes, torch.tanh(steps / 2)[:, None].repeat(1, 2))
    assert started.memory_labels.flatten().tolist() == [1, 1, 0, 0, 1]
    started(torch.zeros(9, 2), torch.zeros(9, 1), 0.0)
    assert not started.memory_codes.any()


@dataclass(kw_only=True)
class Recording(HashingLoss):
    """A loss of somebody else that notes what the memory gives to it."""

    given: list
    weight: float = 1.0

    takes_memory = True

    def relax(self, projection, progress):
        return 100 * progress + projection

    def batch_loss(self, projection, labels, progress, *, memory_codes, memory_labels):
        del labels, progress
        self.given.append((memory_codes, memory_labels))
        return self.weight * projection.square().sum()


@pytest.mark.parametrize(("size", "n_from_memory"), [(3, 0), (11, 0), (12, 1), (30, 19)])
def test_samples_are_compared_with_no_more_items_than_asked(size, n_from_memory):
    projection, labels = make_batch()
    started = MemoryLoss(Recording(given=[]), size=size).start(8, labels)
    for _ in range(4):
        started(projection, labels, 0.0)
    codes, sets = started.loss.given[-1]
    assert codes.shape == (n_from_memory, 8)
    assert sets.shape == (n_from_memory, 5)
    assert len(started.memory_codes) == size


def test_memory_keeps_the_relaxed_codes_of_any_loss():
    projection, labels = make_batch(dtype=torch.float32)
    started = MemoryLoss(Recording(given=[], weight=2.0), size=23).start(8, labels)
    for progress in (0.0, 0.5, 1.0):
        value = started(projection, labels, progress)
    codes, sets = started.loss.given[-1]
    assert torch.equal(codes, 50 + projection.detach())
    assert torch.equal(sets, labels)
    assert torch.equal(value, 2 * projection.square().sum())


@with_lists
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_list_size_is_short_for_a_memory(kind, class_weight):
    _, labels = make_batch()
    short = kind(list_size=30, class_weight=class_weight).start(8, labels)
    long = MemoryLoss(kind(class_weight=class_weight), size=30).start(8, labels)
    for seed in range(4):
        results = [value_and_gradients(started, *make_batch(seed)) for started in (short, long)]
        torch.testing.assert_close(*results, rtol=0, atol=0)
    # So the state of either is that of the other.
    assert short.state_dict().keys() == long.state_dict().keys()


@pytest.mark.parametrize(
    ("spec", "relax", "oracle"),
    [
        (PairwiseLikelihoodLoss(quantization=0.7), lambda t: t, oracle_dpsh),
        (HashNetLoss(), lambda t: torch.tanh(4 * t), oracle_hashnet),
        (
            SoftPairLoss(scale=4, soft_weight=0.3, quantization=0.2),
            lambda t: t / (1 + t.abs()),
            oracle_idhn,
        ),
        (
            TripletLikelihoodLoss(quantization=0, margin=1.5),
            lambda t: t,
            partial(oracle_triplets, margin=1.5),
        ),
    ],
    ids=["dpsh", "hashnet", "idhn", "dtsh"],
)
@pytest.mark.parametrize(("size", "n_from_memory"), [(30, 19), (35, 24), (1000, 24)])
def test_pairs_and_triplets_equal_loops_over_batch_and_memory(
    spec, relax, oracle, size, n_from_memory
):
    batches = [make_batch(seed, n_labels=3) for seed in range(3)]
    started = MemoryLoss(spec, size=size).start(8, batches[0][1])
    for batch in batches[:2]:
        started(*batch, 0.3)
    projection, labels = batches[2]
    codes = torch.cat([relax(t.detach()).float() for t, _ in batches[1::-1]])[:n_from_memory]
    sets = torch.cat([batches[1][1], batches[0][1]])[:n_from_memory]
    expected = oracle(projection, labels, memory=(codes.double(), sets))
    assert started(projection, labels, 0.3).item() == pytest.approx(expected)


def test_sampled_list_comes_from_batch_and_memory():
    # A batch of one sample: its list is all that is remembered, one item of each kind.
    codes, labels = (
        make_batch(n=4)[0].detach(),
        torch.tensor([[1.0, 1, 0]] * 2 + [[1, 0, 0], [0, 0, 1]]),
    )
    labels = labels.double()
    loss = SampledRankingLoss(margin=2, balance=0, n_repeats=None)
    started = MemoryLoss(loss, size=3).start(8, labels)
    started(codes[1:], labels[1:], 0.0)
    relaxed = torch.tanh(codes / 2)
    distances = (8 - relaxed[:1] @ relaxed[1:].float().double().T) / 2
    expected = ranking_loss(distances, torch.tensor([[2, 1, 0]]), margin=2).sum()
    torch.testing.assert_close(started(codes[:1], labels[:1], 0.0), expected)


@pytest.mark.parametrize(
    "loss",
    [
        CentralSimilarityLoss(),
        OrthoHashLoss(),
        HyP2Loss(),
        RankingLoss(list_size=9),
        MemoryLoss(RankingLoss(), size=9),
        HashingLoss(),
    ],
    ids=repr,
)
def test_error_on_loss_that_takes_no_memory(loss):
    with pytest.raises(ValueError, match="must be a loss that compares samples") as error:
        MemoryLoss(loss, size=5)
    assert f"Got {loss!r} instead." in str(error.value)
    offered = str(error.value).partition("Got")[0]
    for kind in LOSSES.values():
        assert (kind.__name__ in offered) == kind().takes_memory


@pytest.mark.parametrize("loss", ["dtsh", RankingLoss, None], ids=str)
def test_error_on_memory_of_something_else(loss):
    with pytest.raises(ValueError, match="'loss' parameter of MemoryLoss must be an instance of"):
        MemoryLoss(loss, size=5)


def test_error_on_memory_around_a_loss_that_was_given_one():
    loss = MemoryLoss(RankingLoss(), size=5)
    with pytest.raises(ValueError, match="has no memory yet"):
        loss.set_params(loss__list_size=9)
    assert loss == MemoryLoss(RankingLoss(), size=5)
    loss.loss.set_params(list_size=9)
    with pytest.raises(ValueError, match="has no memory yet"):
        loss.start(8, torch.zeros(1, 3))


@pytest.mark.parametrize("loss", [TripletLikelihoodLoss(), HashNetLoss()], ids=repr)
def test_hasher_trains_with_a_memory(loss):
    X, Y = make_rows()
    plain, again, remembering = (
        make_hasher(loss=each).fit(X, Y)
        for each in (loss, MemoryLoss(loss, size=19), MemoryLoss(loss, size=50))
    )
    # Batches have 20 samples, each of which has 19 items without a memory.
    assert np.array_equal(again.project(X), plain.project(X))
    assert not np.array_equal(remembering.project(X), plain.project(X))


def test_hasher_refuses_labels_that_no_samples_share():
    X, _ = make_rows()
    loss = MemoryLoss(TripletLikelihoodLoss(), size=50)
    with pytest.raises(ValueError, match="No pair of the training samples shares a label"):
        make_hasher(loss=loss).fit(X, np.arange(len(X)))


def test_memory_is_part_of_the_state():
    projection, labels = make_batch(dtype=torch.float32)
    started = start(SPECS["ranking with memory"], 8, labels)
    other = RankingLoss(list_size=17).start(8, labels)
    other.load_state_dict(started.state_dict())
    results = [value_and_gradients(s, projection, labels) for s in (started, other)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
