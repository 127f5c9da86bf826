"""Losses of a batch: loops over all pairs, finite differences, reductions, invariances, edges."""

import copy
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from skhash.deep.losses import (
    LOSSES,
    CentralSimilarityLoss,
    HashNetLoss,
    HyP2Loss,
    MemoryLoss,
    OrthoHashLoss,
    PairwiseLikelihoodLoss,
    RankingLoss,
    SampledRankingLoss,
    SoftPairLoss,
    TieAwareAveragePrecisionLoss,
    TieAwareNDCGLoss,
    TripletLikelihoodLoss,
    ranking_loss,
    tie_aware_average_precision_loss,
    tie_aware_ndcg_loss,
)
from skhash.deep.losses._base import others
from skhash.metrics import ndcg_score

# Losses of a batch. Each is tested with its defaults, and in the variants that have other code.

SPECS = {
    **{name: loss() for name, loss in LOSSES.items()},
    "uniform": RankingLoss(margin=2.5, weighting="uniform", balance=0),
    "ranking with memory": RankingLoss(list_size=17),
    "ranking, balanced, with memory": RankingLoss(list_size=17, class_weight="balanced"),
    "tie_aware_ndcg, balanced": TieAwareNDCGLoss(class_weight="balanced"),
    "dsrh, no weights": SampledRankingLoss(n_repeats=None),
    "tie_aware_ndcg with memory": TieAwareNDCGLoss(balance=1, list_size=50),
    "dsrh with memory": MemoryLoss(SampledRankingLoss(), size=40),
    "dpsh with memory": MemoryLoss(PairwiseLikelihoodLoss(), size=17),
    "hashnet with memory": MemoryLoss(HashNetLoss(), size=30),
    "idhn with memory": MemoryLoss(SoftPairLoss(), size=17),
    "dtsh with memory": MemoryLoss(TripletLikelihoodLoss(), size=50),
    "hashnet, alpha": HashNetLoss(alpha=0.5, growth=3),
    "dtsh, no margin": TripletLikelihoodLoss(margin=0),
    "csq, random": CentralSimilarityLoss(centers="bernoulli"),
    "orthohash, random": OrthoHashLoss(targets="bernoulli"),
    "hyp2, threshold": HyP2Loss(threshold=-0.3),
}
all_losses = pytest.mark.parametrize("name", SPECS)


def make_batch(seed=0, *, n=12, n_bits=8, n_labels=5, share=0.35, dtype=torch.float64):
    """Projections that need gradients, and label sets; one sample has no label."""
    generator = torch.Generator().manual_seed(seed)
    projection = torch.randn(n, n_bits, generator=generator, dtype=dtype)
    labels = (torch.rand(n, n_labels, generator=generator) < share).to(dtype)
    labels[-1] = 0
    return projection.requires_grad_(), labels


def start(spec, n_bits, labels, *, seed=0, n_batches=2):
    """Start a loss in the dtype of `labels`, its memory filled from other batches, and fixed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        started = spec.start(n_bits, labels).to(labels.dtype)
    for b in range(n_batches):
        shape = {"n": 12, "n_bits": n_bits, "n_labels": labels.shape[1], "dtype": labels.dtype}
        started(*make_batch(100 + b, **shape), 0.5)
    return started.eval()


def seeded(started, *args):
    """The loss of a batch, of always the same draws where it draws its lists."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return started(*args)


def value_and_gradients(started, projection, labels, progress=0.3):
    projection = projection.detach().clone().requires_grad_()
    loss = seeded(started, projection, labels, progress)
    assert loss.shape == ()
    tensors = [projection, *started.parameters()]
    return loss.detach(), *torch.autograd.grad(loss, tensors, allow_unused=True)


# Other tests run these lines too, and coverage would double its time.
@pytest.mark.no_cover
@all_losses
def test_gradient_of_loss_equals_finite_differences(name):
    projection, labels = make_batch(1, n=7, n_bits=5)
    spec = copy.deepcopy(SPECS[name])
    if hasattr(spec, "straight_through"):
        # A gradient that goes straight through a sign is none of finite differences.
        spec.set_params(straight_through=0)
    started = start(spec, 5, labels)
    loss = lambda *tensors: seeded(started, tensors[0], labels, 0.3)  # noqa: E731
    inputs = (projection, *started.parameters())
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in SPECS if "dsrh" not in name])
@pytest.mark.parametrize("seed", range(3))
def test_order_of_the_batch_does_not_matter(name, seed):
    projection, labels = make_batch(seed)
    started = start(SPECS[name], 8, labels)
    value, gradient, *of_parameters = value_and_gradients(started, projection, labels)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    permuted = value_and_gradients(started, projection[order], labels[order])
    torch.testing.assert_close(permuted, (value, gradient[order], *of_parameters))


@pytest.mark.parametrize("name", ["ranking", "tie_aware_ndcg", "dpsh", "hashnet", "idhn", "dtsh"])
def test_order_and_sense_of_bits_do_not_matter(name):
    projection, labels = make_batch()
    started = start(SPECS[name], 8, labels)
    order, signs = torch.randperm(8, generator=torch.Generator().manual_seed(0)), torch.ones(8)
    signs[::3] = -1
    torch.testing.assert_close(
        started((projection * signs)[:, order], labels, 0.3), started(projection, labels, 0.3)
    )


LABELS = {
    "no similar pair": torch.eye(6),
    "no labels": torch.zeros(6, 3),
    "equal labels": torch.tensor([[1.0, 0.0, 1.0]]).repeat(6, 1),
    "one label for all": torch.ones(6, 1),
    "one has labels": torch.eye(6)[[0]] * torch.eye(6)[0][:, None],
}


# Other tests run these lines too, and coverage would double its time.
@pytest.mark.no_cover
@all_losses
@pytest.mark.parametrize("n_bits", [1, 5, 16])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_values_and_gradients_are_finite(name, n_bits, labels, scale):
    projection, _ = make_batch(n=6, n_bits=n_bits, dtype=torch.float32)
    started = start(SPECS[name], n_bits, labels)
    for progress in (0.0, 1.0):
        results = value_and_gradients(started, scale * projection, labels, progress)
        assert all(result.isfinite().all() for result in results if result is not None)


@all_losses
def test_batch_of_one(name):
    projection, labels = make_batch(n=2, dtype=torch.float32)
    results = value_and_gradients(start(SPECS[name], 8, labels), projection[:1], labels[:1])
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize(
    "spec",
    [RankingLoss(balance=0), TieAwareNDCGLoss(), TripletLikelihoodLoss(quantization=0)],
    ids=repr,
)
def test_nothing_to_rank_costs_nothing(spec, labels):
    projection, labels = make_batch(n=6)[0], labels.double()
    value, gradient = value_and_gradients(start(spec, 8, labels), projection, labels)
    assert value.abs() < 1e-12
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", LOSSES)
def test_descent_brings_samples_with_shared_labels_together(name):
    _, labels = make_batch(3, n=40, n_labels=4, dtype=torch.float32)
    projection = make_batch(4, n=40, n_bits=16, dtype=torch.float32)[0].detach().requires_grad_()
    score = lambda: ndcg_score(  # noqa: E731
        *((projection >= 0).int().numpy(), labels.numpy()) * 2
    )
    started, before = start(SPECS[name], 16, labels).train(), score()
    optimizer = torch.optim.Adam([projection, *started.parameters()], lr=0.05)
    for step in range(150):
        optimizer.zero_grad()
        started(projection, labels, step / 150).backward()
        optimizer.step()
    # The sample without labels scores 0 always.
    assert score() * 40 / 39 > 0.85 > before * 40 / 39


# What each sample has with the others.


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
def test_lists_drop_the_diagonal(n, layout):
    matrix = torch.arange(4 * n * n).reshape(2 * n, 2 * n)
    matrix = {"rows": matrix[:n, :n].clone(), "columns": matrix[:n, :n].clone().T}.get(
        layout, matrix[::2, ::2]
    )
    expected = [[matrix[i, j].item() for j in range(n) if j != i] for i in range(n)]
    lists = others(matrix)
    assert lists.shape == (n, n - 1)
    assert lists.tolist() == expected


def test_gradient_flows_to_all_but_the_diagonal():
    matrix = torch.zeros(5, 5, requires_grad=True)
    weights = torch.arange(1.0, 21).reshape(5, 4)
    (others(matrix) * weights).sum().backward()
    assert torch.equal(others(matrix.grad), weights)
    assert not matrix.grad.diagonal().any()


# Ranking losses of a batch.


@pytest.mark.parametrize(
    "spec", [RankingLoss(), RankingLoss(margin=2, weighting="uniform", balance=1)], ids=repr
)
def test_ranking_loss_of_a_batch(spec):
    projection, labels = make_batch(dtype=torch.float32)
    codes = torch.tanh(projection / 2)
    distances = others((8 - codes @ codes.T) / 2)
    relevance = others((labels @ labels.T).long())
    margin = 5 * 8 / 64 if spec.margin == "auto" else spec.margin
    expected = ranking_loss(distances, relevance, margin=margin, weighting=spec.weighting).sum()
    expected = expected / (labels.any(dim=1).sum() * 11)
    expected = expected + spec.balance / 2 * codes.mean(dim=0).square().sum()
    assert torch.equal(spec.start(8, labels)(projection, labels, 0.7), expected)


def test_tie_aware_loss_of_codes_is_the_metric():
    projection, labels = make_batch()
    codes, sets = (projection > 0).int(), labels.int()
    total = 0
    for q in range(12):
        items = [i for i in range(12) if i != q]
        if (labels[items] @ labels[q]).any():
            total += 1 - ndcg_score(codes[[q]], sets[[q]], codes[items], sets[items])
    value = TieAwareNDCGLoss().start(8, labels)(1e4 * projection, labels, 0.0)
    assert value.item() == pytest.approx(total / labels.any(1).sum().item())


# Weights of queries.


def fixed_weights(spec, labels):
    return spec.start(8, labels).label_weights


@pytest.mark.parametrize("kind", [RankingLoss, TieAwareNDCGLoss])
def test_balanced_queries_of_equally_frequent_labels_weigh_alike(kind):
    projection, _ = make_batch()
    labels = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    plain, balanced = (
        kind(class_weight=weight).start(8, labels)(projection, labels, 0.0)
        for weight in (None, "balanced")
    )
    torch.testing.assert_close(balanced, plain)


def test_balanced_weights_are_those_of_scikit_learn():
    y = torch.tensor([0, 0, 0, 0, 0, 1, 1, 3, 2, 2, 2])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=y.numpy())
    weights = fixed_weights(RankingLoss(class_weight="balanced"), torch.eye(5).double()[y])
    torch.testing.assert_close(weights[:4], torch.tensor(expected))
    assert weights[4] == 0  # no sample has the label


@pytest.mark.parametrize(
    "spec",
    [RankingLoss(class_weight="balanced"), SampledRankingLoss(), SampledRankingLoss(n_repeats=7)],
    ids=repr,
)
def test_weights_of_queries_have_a_mean_of_1(spec):
    labels = make_batch(n=200, n_labels=6, share=0.2)[1] * (torch.arange(6) < 5)
    weights = labels @ fixed_weights(spec, labels)
    assert weights[labels.any(1)].mean().item() == pytest.approx(1)
    assert not fixed_weights(spec, 0 * labels).any()


def test_queries_are_repeated_as_the_authors_do():
    labels = torch.zeros(1000, 3, dtype=torch.float64)
    labels[:600, 0] = labels[500:520, 1] = 1
    weights = fixed_weights(SampledRankingLoss(), labels)
    # floor(3000 / 600) + 1 = 6 times and floor(3000 / 20) + 1 = 151 times.
    assert (weights[1] / weights[0]).item() == pytest.approx(151 / 6)
    assert weights[2] == 0


@pytest.mark.parametrize(
    ("kind", "of_lists"),
    [
        (RankingLoss, partial(ranking_loss, margin=5 / 8)),
        (
            partial(TieAwareNDCGLoss, straight_through=0),
            partial(tie_aware_ndcg_loss, n_bits=8),
        ),
        (
            partial(TieAwareAveragePrecisionLoss, straight_through=0),
            partial(tie_aware_average_precision_loss, n_bits=8),
        ),
    ],
    ids=["ranking", "tie_aware_ndcg", "tie_aware_average_precision"],
)
def test_balanced_loss_is_the_weighted_mean_of_lists(kind, of_lists):
    projection, labels = make_batch()
    started = kind(class_weight="balanced", balance=0).start(8, labels)
    weights, total = labels @ started.label_weights, 0
    for q in range(12):
        codes = torch.tanh(projection / 2)
        items = [i for i in range(12) if i != q]
        distances = (8 - codes[[q]] @ codes[items].T) / 2
        relevance = (labels[[q]] @ labels[items].T).long()
        total = total + weights[q] * of_lists(distances, relevance).sum()
    total = total / labels.any(1).sum() / (11 if kind is RankingLoss else 1)
    torch.testing.assert_close(started(projection, labels, 0.0), total)


# Lists of three.


def test_sampled_list_of_two_other_samples_is_the_whole_list():
    projection, _ = make_batch(n=3)
    labels = torch.eye(2, dtype=torch.float64)[[0, 0, 1]]
    sampled = SampledRankingLoss(n_repeats=None, balance=0).start(8, labels)
    # The mean over 3 queries, divided by the length 2, is no sum over them.
    expected = 6 * RankingLoss(balance=0).start(8, labels)(projection, labels, 0.0)
    torch.testing.assert_close(sampled(projection, labels, 0.0), expected)


def test_sampled_lists_are_drawn_from_all_items_alike():
    projection, labels = make_batch(n=7, n_labels=3, share=0.5)
    codes = torch.tanh(projection / 2).detach()
    shared, distances = (labels @ labels.T).long(), (8 - codes @ codes.T) / 2
    expected = 0
    for q in range(7):
        items = [i for i in range(7) if i != q]
        most = max(int(shared[q, i]) for i in items)
        groups = [
            [i for i in items if shared[q, i] == most > 0],
            [i for i in items if 0 < shared[q, i] < most],
            [i for i in items if shared[q, i] == 0],
        ]
        lists = list(itertools.product(*(group for group in groups if group)))
        values = [ranking_loss(distances[[q]][:, i], shared[[q]][:, i], margin=2) for i in lists]
        expected += torch.cat(values).mean().item()
    started = SampledRankingLoss(margin=2, n_repeats=None, balance=0).start(8, labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = torch.stack([started(projection.detach(), labels, 0.0) for _ in range(4000)])
    assert len(values.unique()) > 10
    assert abs(values.mean().item() - expected) < 5 * values.std().item() / math.sqrt(4000)


def test_sampled_loss_is_a_sum():
    labels = torch.eye(2)[[0, 0, 1, 1]]
    twice = SampledRankingLoss(margin=3, balance=0).start(8, labels)
    alike = torch.ones(4, 8)
    # Four queries, each with a pair at equal distance that pays the margin.
    assert twice(alike, labels, 0.0) == pytest.approx(12)
    balanced = SampledRankingLoss(margin=3, balance=2).start(8, labels)
    assert balanced(alike, labels, 0.0) == pytest.approx(12 + 8 * math.tanh(0.5) ** 2)


def test_sampled_loss_with_uniform_weights_counts_pairs():
    # The lists of the first two samples share 3, 1 and 0 labels with them: three pairs each; the
    # third has no pair of 3 labels, and one item of 1 label, of which there are two.
    labels = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]).float()
    loss = SampledRankingLoss(margin=2, balance=0, n_repeats=None, weighting="uniform")
    alike = torch.ones(4, 8)
    assert loss.start(8, labels)(alike, labels, 0.0) == pytest.approx(2 * (3 + 3 + 1))


# Pairs.


def with_items(own, more):
    """The samples of a batch and, behind them, what a memory holds, if there is one."""
    return own if more is None else torch.cat([own, more])


def oracle_pairs(codes, labels, pair_loss, memory=(None, None)):
    """Mean over pairs of a sample with each other sample and each item of the memory."""
    items, sets = with_items(codes, memory[0]), with_items(labels, memory[1])
    pairs = [(i, j) for i in range(len(codes)) for j in range(len(items)) if i != j]
    losses = [pair_loss((codes[i] @ items[j]).item(), labels[i], sets[j]) for i, j in pairs]
    return sum(losses) / len(losses)


def likelihood(theta, similar):
    return math.log1p(math.exp(theta)) - similar * theta


def oracle_dpsh(projection, labels, memory=(None, None)):
    """DPSH with a quantisation of 0.7."""
    pair_loss = lambda product, y, z: likelihood(product / 2, bool((y @ z) > 0))  # noqa: E731
    quantization = (projection - projection.sign()).square().mean().item()
    return oracle_pairs(projection, labels, pair_loss, memory) + 0.7 * quantization


def test_dpsh_equals_loop_over_pairs():
    projection, labels = make_batch()
    loss = PairwiseLikelihoodLoss(quantization=0.7).start(8, labels)
    value = loss(projection, labels, 0.0).item()
    assert value == pytest.approx(oracle_dpsh(projection, labels))


def oracle_idhn(projection, labels, memory=(None, None)):
    """IDHN with a scale of 4, a soft weight of 0.3 and a quantisation of 0.2."""
    codes = projection / (1 + projection.abs())

    def pair_loss(product, y, z):
        similarity = (y @ z / (y.sum() * z.sum()).clamp(min=1).sqrt()).item()
        if min(abs(similarity), abs(similarity - 1)) < 1e-9:
            return likelihood(4 * product / 8, round(similarity))
        return 0.3 * 8 * ((product + 8) / 16 - similarity) ** 2

    quantization = (1 - codes.abs()).mean().item()
    return oracle_pairs(codes, labels, pair_loss, memory) + 0.2 * quantization


def test_idhn_equals_loop_over_pairs():
    projection, labels = make_batch(2, n_labels=3, share=0.5)
    loss = SoftPairLoss(scale=4, soft_weight=0.3, quantization=0.2).start(8, labels)
    value = loss(projection, labels, 0.0).item()
    assert value == pytest.approx(oracle_idhn(projection, labels))


def test_idhn_of_single_labels_is_the_likelihood_of_dpsh():
    projection, _ = make_batch()
    labels = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    codes = projection / (1 + projection.abs())
    value = SoftPairLoss(quantization=0).start(8, labels)(projection, labels, 0.0)
    dpsh = PairwiseLikelihoodLoss(quantization=0).start(8, labels)
    torch.testing.assert_close(value, dpsh(math.sqrt(2 * 5 / 8) * codes, labels, 0.0))


def oracle_hashnet(projection, labels, memory=(None, None)):
    """HashNet with its defaults, at a progress of 0.3."""
    similar = labels @ with_items(labels, memory[1]).T > 0
    similar = similar[~torch.eye(*similar.shape, dtype=torch.bool)]
    n_pairs, n_similar = similar.numel(), similar.sum().item()

    def pair_loss(product, y, z):
        if y @ z == 0:
            return n_pairs / (n_pairs - n_similar) * likelihood(10 / 8 * product, 0)
        jaccard = ((y @ z) / ((y + z) > 0).sum()).item()
        return jaccard * n_pairs / n_similar * likelihood(10 / 8 * product, 1)

    codes = torch.tanh(math.sqrt(1 + 50 * 0.3) * projection)
    return oracle_pairs(codes, labels, pair_loss, memory)


def test_hashnet_equals_loop_over_pairs():
    projection, labels = make_batch()
    loss = HashNetLoss().start(8, labels)(projection, labels, 0.3)
    assert loss.item() == pytest.approx(oracle_hashnet(projection, labels))


def test_hashnet_of_balanced_pairs_weighs_all_alike():
    projection, _ = make_batch(n=4)
    # Three of one label and one of another: 6 ordered pairs are similar, and 6 are not.
    labels = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 1]]
    value = HashNetLoss(alpha=0.4).start(8, labels)(projection, labels, 0.0)
    dpsh = PairwiseLikelihoodLoss(quantization=0).start(8, labels)
    codes = math.sqrt(2 * 0.4) * torch.tanh(projection)
    torch.testing.assert_close(value, 2 * dpsh(codes, labels, 0.0))


def test_hashnet_continues_to_signs():
    projection, labels = make_batch()
    started = HashNetLoss(growth=24).start(8, labels)
    plain = HashNetLoss(growth=0).start(8, labels)
    torch.testing.assert_close(
        started(projection, labels, 1.0), plain(5 * projection, labels, 0.9)
    )
    torch.testing.assert_close(started(projection, labels, 0.0), plain(projection, labels, 0.5))


# Triplets.


def oracle_triplets(projection, labels, margin, memory=(None, None)):
    """Mean over queries of the mean over their triplets, triplet by triplet."""
    theta = (projection @ with_items(projection, memory[0]).T / 2).tolist()
    shared = (labels @ with_items(labels, memory[1]).T).tolist()
    means = []
    for q in range(len(theta)):
        items = [i for i in range(len(theta[q])) if i != q]
        triplets = [
            math.log1p(math.exp(margin - theta[q][p] + theta[q][n]))
            for p in items
            for n in items
            if shared[q][p] > shared[q][n]
        ]
        means += [sum(triplets) / len(triplets)] if triplets else []
    return sum(means) / len(means)


@pytest.mark.parametrize("margin", ["auto", 0, 1.5])
def test_dtsh_equals_loop_over_triplets(margin):
    projection, labels = make_batch()
    loss = TripletLikelihoodLoss(margin=margin, quantization=0.3).start(8, labels)
    expected = oracle_triplets(projection, labels, 4 if margin == "auto" else margin)
    expected += 0.3 * (projection - projection.sign()).square().mean().item()
    assert loss(projection, labels, 0.0).item() == pytest.approx(expected)


def test_dtsh_of_more_triplets_than_are_held_at_once():
    # 220 samples have some 10 million triplets; tables hold 2**23 of them.
    projection, labels = make_batch(n=220, n_labels=3)
    started = TripletLikelihoodLoss(quantization=0).start(8, labels)
    value, gradient = value_and_gradients(started, projection, labels)
    theta, shared = others(projection @ projection.T / 2), others(labels @ labels.T)
    means = []
    for s, r in zip(theta, shared, strict=True):
        triplets = r[:, None] > r
        if triplets.any():
            gaps = (s[:, None] - s)[triplets]
            means.append(torch.nn.functional.softplus(4 - gaps).mean())
    expected = torch.stack(means).mean()
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, projection))


# Codes of labels.


def started_codes(kind, n_labels, n_bits):
    return start(CentralSimilarityLoss(centers=kind), n_bits, torch.zeros(1, n_labels)).centers


@pytest.mark.parametrize("n_bits", [1, 2, 5, 8, 12, 48, 64])
def test_hadamard_centers_are_far_apart(n_bits):
    order = 2 ** (n_bits - 1).bit_length()
    centers = started_codes("hadamard", 2 * order, n_bits)
    assert (centers.abs() == 1).all()
    distances = others((n_bits - centers @ centers.T) / 2)
    assert distances.min() >= n_bits - order / 2
    if order == n_bits > 1:
        assert distances.unique().tolist() == [n_bits / 2, n_bits]


def test_hadamard_centers_of_few_labels_are_orthogonal():
    centers = started_codes("auto", 16, 16)
    assert torch.equal(centers @ centers.T, 16 * torch.eye(16))


def test_random_centers_where_hadamard_does_not_suffice():
    auto, random = (started_codes(kind, 33, 16) for kind in ("auto", "bernoulli"))
    assert torch.equal(auto, random)
    assert (auto.abs() == 1).all()
    with pytest.raises(ValueError, match="at most 32 Hadamard centers, but there are 33 labels"):
        started_codes("hadamard", 33, 16)


def test_random_centers_are_the_best_of_some_draws():
    nearest = lambda codes: others(codes @ codes.T).max().item()  # noqa: E731
    generator = torch.Generator().manual_seed(0)
    draws = (2.0 * torch.randint(2, (20, 32), generator=generator) - 1 for _ in range(200))
    assert nearest(started_codes("bernoulli", 20, 32)) <= np.quantile([*map(nearest, draws)], 0.15)


@pytest.mark.parametrize("name", ["csq", "orthohash", "hyp2"])
def test_seed_of_torch_decides_the_start(name):
    labels = torch.zeros(1, 9)
    first, same, other = (
        start(SPECS[name], 12, labels, seed=seed, n_batches=0).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["ranking", "tie_aware_ndcg", "dpsh", "hashnet", "idhn", "dtsh"])
def test_start_without_random_tensors_leaves_the_generator_alone(name):
    before = torch.get_rng_state()
    SPECS[name].start(12, torch.zeros(1, 9))
    assert torch.equal(torch.get_rng_state(), before)


def test_csq_of_single_labels_is_the_cross_entropy_to_their_centers():
    projection, _ = make_batch()
    labels = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    started = start(CentralSimilarityLoss(quantization=0.5), 8, labels)
    codes = torch.tanh(projection)
    expected = torch.nn.functional.binary_cross_entropy(
        (1 + codes) / 2, (1 + started.centers.repeat(3, 1)) / 2
    )
    expected = expected + 0.5 * (1 - codes.abs()).square().mean()
    torch.testing.assert_close(started(projection, labels, 0.0), expected)


def test_csq_takes_the_majority_of_centers():
    projection, labels = make_batch(share=0.5)
    started = start(CentralSimilarityLoss(quantization=0), 8, labels)
    single = torch.eye(12, dtype=torch.float64)[:11]
    targets = torch.ones(12, 8, dtype=torch.float64)
    for target, label_set in zip(targets, labels[:-1].bool(), strict=False):
        votes = zip(started.centers[label_set].sum(0).tolist(), started.ties.tolist(), strict=True)
        target[:] = torch.tensor([math.copysign(1, vote or tie) for vote, tie in votes])
    assert (labels.sum(1) == 2).any()  # sets whose centres can be in balance
    own = start(CentralSimilarityLoss(quantization=0), 8, single)
    own.centers = targets
    torch.testing.assert_close(started(projection, labels, 0.0), own(projection[:11], single, 0.0))


def test_orthohash_of_single_labels_is_the_cross_entropy_of_cosines():
    projection, _ = make_batch()
    y = torch.arange(12) % 4
    labels = torch.eye(4, dtype=torch.float64)[y]
    started = start(OrthoHashLoss(margin=0, scale=3), 8, labels)
    cosines = torch.nn.functional.cosine_similarity(
        projection[:, None], started.targets[None], dim=2
    )
    expected = torch.nn.functional.cross_entropy(3 * cosines, y)
    torch.testing.assert_close(started(projection, labels, 0.0), expected)


def test_orthohash_equals_loop_over_labels():
    projection, labels = make_batch()
    started = start(OrthoHashLoss(), 8, labels)
    losses = []
    for t, y in zip(projection, labels.tolist(), strict=True):
        logits = [
            8 * (torch.cosine_similarity(t, target, dim=0).item() - 0.2 * has)
            for target, has in zip(started.targets, y, strict=True)
        ]
        total = math.log(sum(map(math.exp, logits)))
        if sum(y):
            losses.append(sum(h * (total - z) for h, z in zip(y, logits, strict=True)) / sum(y))
    expected = sum(losses) / len(losses)
    assert started(projection, labels, 0.0).item() == pytest.approx(expected)


def test_hyp2_equals_loop_over_proxies_and_pairs():
    projection, labels = make_batch(share=0.4)
    started = start(HyP2Loss(beta=0.7, threshold=-0.1), 8, labels)
    cosine = lambda a, b: torch.cosine_similarity(a, b, dim=0).item()  # noqa: E731
    near, far, pairs = [], [], []
    for t, y in zip(projection, labels, strict=True):
        for proxy, has in zip(started.proxies, y, strict=True):
            (near if has else far).append(cosine(t, proxy))
        for u, z in zip(projection, labels, strict=True):
            if y.sum() > 1 and z.sum() > 1 and y @ z == 0:
                pairs.append(cosine(t, u))
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    expected = mean([1 - c for c in near]) + mean([max(0, c + 0.1) for c in far])
    expected += 0.7 * mean([max(0, c + 0.1) for c in pairs])
    assert started(projection, labels, 0.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n_labels", "n_bits", "distance"),
    # Simplex, Reed and Muller's, Golay's and repetition codes; one word; too few bits.
    [
        (4, 3, 2),
        (8, 7, 4),
        (32, 16, 8),
        (64, 32, 16),
        (4096, 24, 8),
        (2, 9, 9),
        (1, 9, 9),
        (20, 1, 0),
    ],
)
def test_hyp2_threshold_of_known_codes(n_labels, n_bits, distance):
    projection, labels = make_batch(n_bits=n_bits, n_labels=n_labels, share=3 / n_labels)
    results = [
        start(HyP2Loss(threshold=threshold), n_bits, labels)(projection, labels, 0.0)
        for threshold in ("auto", 1 - 2 * distance / n_bits)
    ]
    torch.testing.assert_close(*results)
    if distance:
        other = start(HyP2Loss(threshold=1 - 2 * (distance - 1) / n_bits), n_bits, labels)
        assert other(projection, labels, 0.0) < results[0]
