"""Losses of lists: loops over all pairs, finite differences, reductions, invariances, errors."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skhash.deep.losses import (
    ranking_loss,
    tie_aware_average_precision_loss,
    tie_aware_ndcg_loss,
)
from skhash.metrics import ndcg_score

WEIGHTINGS = ["ndcg", "uniform"]
all_weightings = pytest.mark.parametrize("weighting", WEIGHTINGS)


def make_lists(seed=0, *, shape=(4, 9), levels=(0, 1, 2, 3), scale=8.0, dtype=torch.float64):
    """Distances without ties or kinks, and relevances drawn from `levels`."""
    generator = torch.Generator().manual_seed(seed)
    distances = scale * torch.rand(shape, generator=generator, dtype=dtype)
    chosen = torch.randint(len(levels), shape, generator=generator)
    return distances.requires_grad_(), torch.tensor(levels)[chosen]


def value_and_gradient(distances, relevance, **params):
    distances = distances.detach().clone().requires_grad_()
    loss = ranking_loss(distances, relevance, **params)
    return loss.detach(), *torch.autograd.grad(loss.sum(), distances)


# The oracle: the definition, pair by pair, in Python's own floats.


def oracle_row(distances, relevance, margin, weighting):
    """Value and gradient of one list."""
    ranked = sorted(relevance, reverse=True)
    ideal = sum((2**r - 1) / math.log2(1 + p) for p, r in enumerate(ranked, 1))
    value, gradient = 0.0, [0.0] * len(distances)
    for i, (d_i, r_i) in enumerate(zip(distances, relevance, strict=True)):
        for j, (d_j, r_j) in enumerate(zip(distances, relevance, strict=True)):
            if r_i > r_j and margin + d_i - d_j > 0:
                weight = (2**r_i - 2**r_j) / ideal if weighting == "ndcg" else 1.0
                value += weight * (margin + d_i - d_j)
                gradient[i] += weight
                gradient[j] -= weight
    return value, gradient


def check_against_oracle(distances, relevance, margin, weighting):
    value, gradient = value_and_gradient(distances, relevance, margin=margin, weighting=weighting)
    rows = [
        oracle_row(d, r, margin, weighting)
        for d, r in zip(distances.tolist(), relevance.tolist(), strict=True)
    ]
    expected_value, expected_gradient = (
        torch.tensor(part, dtype=torch.float64) for part in zip(*rows, strict=True)
    )
    torch.testing.assert_close(value, expected_value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-9)
    return expected_value


@all_weightings
@pytest.mark.parametrize("levels", [(0, 1), (0, 3, 7), (1, 2), tuple(range(12)), (0, 81)])
@pytest.mark.parametrize("margin", [0.0, 0.7, 5, 100])
def test_equals_loop_over_pairs(weighting, levels, margin):
    lists = make_lists(shape=(5, 24), levels=levels)
    assert (check_against_oracle(*lists, margin, weighting) > 0).all()


@st.composite
def grids(draw):
    """Lists of one length with distances and margin on a grid of halves: ties and kinks."""
    n_rows, n_items = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    table = lambda entries: draw(  # noqa: E731
        st.lists(
            st.lists(entries, min_size=n_items, max_size=n_items),
            min_size=n_rows,
            max_size=n_rows,
        )
    )
    distances = torch.tensor(table(st.integers(-6, 12)), dtype=torch.float64) / 2
    relevance = torch.tensor(table(st.sampled_from([0, 1, 2, 3, 7])))
    return distances, relevance, draw(st.integers(0, 8)) / 2


@all_weightings
@settings(max_examples=60, deadline=None)
@given(lists=grids())
def test_equals_loop_over_pairs_with_ties_and_kinks(weighting, lists):
    check_against_oracle(*lists, weighting)


@all_weightings
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.integers(1, 4),
    n_items=st.integers(1, 20),
    levels=st.lists(st.integers(0, 40), min_size=1, max_size=6, unique=True),
    margin=st.floats(0, 12),
)
def test_equals_loop_over_pairs_on_random_lists(weighting, seed, n_rows, n_items, levels, margin):
    lists = make_lists(seed, shape=(n_rows, n_items), levels=levels)
    check_against_oracle(*lists, margin, weighting)


def test_pair_at_a_kink_contributes_nothing():
    # 2 + 1 - 3 = 0 counts neither in the value nor, on either side, in the gradient.
    distances, relevance = torch.tensor([[1.0, 3.0]]), torch.tensor([[1, 0]])
    value, gradient = value_and_gradient(distances, relevance, margin=2.0)
    assert value.item() == 0
    assert not gradient.any()


def test_both_sides_of_a_pair_agree_where_rounding_makes_a_kink():
    # In floats 1e-20 + 5 is 5, so 5 is no nearer than it; yet 1e-20 is farther than 5 - 5.
    distances = torch.tensor([[1e-20, 5.0]], dtype=torch.float64)
    _, gradient = value_and_gradient(distances, torch.tensor([[1, 0]]), margin=5.0)
    assert gradient.sum() == 0


@all_weightings
def test_gradient_equals_finite_differences(weighting):
    distances, relevance = make_lists(2, shape=(3, 8), levels=(0, 3, 7))
    gaps = (1.3 + distances[:, :, None] - distances[:, None, :]).abs()
    assert gaps.min() > 1e-4  # no kink within reach of the differences
    loss = lambda d: ranking_loss(d, relevance, margin=1.3, weighting=weighting)  # noqa: E731
    assert torch.autograd.gradcheck(loss, distances, eps=1e-6, rtol=1e-6, atol=1e-6)


# Reductions.


@pytest.mark.parametrize("d_i", [0.0, 1.5, 4.0])
@pytest.mark.parametrize(("r_i", "r_j"), [(1, 0), (5, 2), (81, 80)])
def test_two_items_are_one_hinge(d_i, r_i, r_j):
    distances = torch.tensor([[2.25, d_i]], dtype=torch.float64)
    relevance, hinge = torch.tensor([[r_j, r_i]]), max(0, 1 + d_i - 2.25)
    uniform = ranking_loss(distances, relevance, margin=1, weighting="uniform")
    assert uniform.item() == hinge
    ideal = (2**r_i - 1) + (2**r_j - 1) / math.log2(3)
    expected = (2**r_i - 2**r_j) / ideal * hinge
    assert ranking_loss(distances, relevance, margin=1).item() == pytest.approx(
        expected, rel=1e-12
    )


@all_weightings
def test_binary_relevance_is_sum_of_hinges_between_two_groups(weighting):
    distances, relevance = make_lists(1, shape=(3, 40), levels=(0, 1))
    for d, r, loss in zip(
        distances,
        relevance.bool(),
        ranking_loss(distances, relevance, margin=2, weighting=weighting),
        strict=True,
    ):
        expected = (2 + d[r][:, None] - d[~r][None, :]).clamp(min=0).sum()
        if weighting == "ndcg":
            expected /= sum(1 / math.log2(1 + p) for p in range(1, r.sum() + 1))
        torch.testing.assert_close(loss, expected)


@all_weightings
def test_perfect_order_beyond_the_margin_costs_nothing(weighting):
    relevance = torch.tensor([[0, 3, 1, 3, 0, 7]])
    value, gradient = value_and_gradient(
        -4.0 * relevance, relevance, margin=3.9, weighting=weighting
    )
    assert value.item() == 0
    assert not gradient.any()


@all_weightings
@pytest.mark.parametrize("level", [0, 1, 81])
def test_equal_relevance_costs_nothing(weighting, level):
    distances, _ = make_lists()
    relevance = torch.full(distances.shape, level)
    value, gradient = value_and_gradient(distances, relevance, margin=3, weighting=weighting)
    assert not value.any()
    assert not gradient.any()


@all_weightings
def test_row_without_relevant_item_costs_nothing_among_others(weighting):
    distances, relevance = make_lists()
    relevance[1] = 0
    value, gradient = value_and_gradient(distances, relevance, margin=3, weighting=weighting)
    assert value[1] == 0
    assert not gradient[1].any()
    assert value[[0, 2, 3]].all()
    assert gradient[[0, 2, 3]].any(dim=1).all()


@all_weightings
def test_rows_do_not_see_each_other(weighting):
    distances, relevance = make_lists(shape=(6, 20), levels=(0, 3, 7))
    relevance[2, relevance[2] == 7] = 3  # levels of one row are not those of another
    params = {"margin": 2.5, "weighting": weighting}
    value, gradient = value_and_gradient(distances, relevance, **params)
    for q in range(6):
        alone = value_and_gradient(distances[q : q + 1], relevance[q : q + 1], **params)
        torch.testing.assert_close(alone, (value[q : q + 1], gradient[q : q + 1]))


@all_weightings
def test_upstream_gradient_weights_the_rows(weighting):
    distances, relevance = make_lists()
    params = {"margin": 2.5, "weighting": weighting}
    _, gradient = value_and_gradient(distances, relevance, **params)
    upstream = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=torch.float64)
    loss = ranking_loss(distances, relevance, **params)
    (weighted,) = torch.autograd.grad(loss, distances, upstream)
    torch.testing.assert_close(weighted, upstream[:, None] * gradient)


def test_gradient_reaches_what_distances_depend_on():
    distances, relevance = make_lists()
    _, gradient = value_and_gradient(distances, relevance, margin=2.5)
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    ranking_loss(factor * distances.detach() / 2, relevance, margin=2.5).sum().backward()
    torch.testing.assert_close(factor.grad, (gradient * distances.detach() / 2).sum())


# Invariances.


@all_weightings
def test_permuting_items_permutes_the_gradient(weighting):
    distances, relevance = make_lists(shape=(3, 30), levels=(0, 3, 7))
    params = {"margin": 2.5, "weighting": weighting}
    value, gradient = value_and_gradient(distances, relevance, **params)
    order = torch.stack(
        [torch.randperm(30, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    )
    permuted = value_and_gradient(distances.gather(1, order), relevance.gather(1, order), **params)
    torch.testing.assert_close(permuted, (value, gradient.gather(1, order)))


@all_weightings
@pytest.mark.parametrize("constant", [-3.25, 100.0])
def test_adding_a_constant_to_distances_changes_nothing(weighting, constant):
    distances, relevance = make_lists(shape=(3, 30))
    params = {"margin": 2.5, "weighting": weighting}
    torch.testing.assert_close(
        value_and_gradient(distances + constant, relevance, **params),
        value_and_gradient(distances, relevance, **params),
        rtol=1e-9,
        atol=1e-9,
    )


@all_weightings
def test_scales_with_distances_and_margin(weighting):
    distances, relevance = make_lists(shape=(3, 30))
    value, gradient = value_and_gradient(distances, relevance, margin=2.5, weighting=weighting)
    scaled = value_and_gradient(4 * distances, relevance, margin=10, weighting=weighting)
    torch.testing.assert_close(scaled, (4 * value, gradient))


@all_weightings
def test_gradient_of_each_row_sums_to_zero(weighting):
    _, gradient = value_and_gradient(
        *make_lists(shape=(5, 50), levels=(0, 1, 5)), margin=2.5, weighting=weighting
    )
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(gradient.sum(1), torch.zeros(5, dtype=torch.float64))


@all_weightings
def test_blocks_of_rows_change_nothing(weighting):
    # Four levels of 1,000 items: tables of 2**23 elements hold 2,097 rows, and these are 3 blocks.
    distances, relevance = make_lists(shape=(4300, 1000))
    params = {"margin": 2.5, "weighting": weighting}
    value, gradient = value_and_gradient(distances, relevance, **params)
    for rows in (slice(5), slice(2090, 2105), slice(4190, 4198), slice(4295, 4300)):
        alone = value_and_gradient(distances[rows], relevance[rows], **params)
        torch.testing.assert_close((value[rows], gradient[rows]), alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_integer_types_of_relevance(dtype):
    distances, relevance = make_lists()
    expected = value_and_gradient(distances, relevance, margin=2.5)
    other = value_and_gradient(distances, relevance.to(dtype), margin=2.5)
    torch.testing.assert_close(other, expected, rtol=0, atol=0)


def test_boolean_relevance_is_binary():
    distances, relevance = make_lists(levels=(0, 1))
    expected = ranking_loss(distances, relevance, margin=2.5)
    assert torch.equal(ranking_loss(distances, relevance.bool(), margin=2.5), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_value_and_gradient_have_the_dtype_of_distances(dtype):
    distances, relevance = make_lists(shape=(4, 200))
    distances = distances.detach().to(dtype)
    value, gradient = value_and_gradient(distances, relevance, margin=2.5)
    assert value.dtype == gradient.dtype == dtype
    # Sums are taken in float64: rounding is that of the result alone.
    exact = value_and_gradient(distances.double(), relevance, margin=2.5)
    assert torch.equal(value, exact[0].to(dtype))
    torch.testing.assert_close(gradient, exact[1].to(dtype))


def test_strided_lists():
    distances, relevance = make_lists(shape=(20, 4))
    value, gradient = value_and_gradient(distances.T, relevance.T, margin=2.5)
    expected = value_and_gradient(distances.T.contiguous(), relevance.T.contiguous(), margin=2.5)
    torch.testing.assert_close((value, gradient), expected, rtol=0, atol=0)


def test_input_is_left_alone():
    distances, relevance = make_lists()
    before = distances.detach().clone(), relevance.clone()
    ranking_loss(distances, relevance, margin=2.5).sum().backward()
    assert torch.equal(distances, before[0])
    assert torch.equal(relevance, before[1])


def exact_ranking_loss(distances, relevance, margin):
    """The loss of one list by enumeration, its gains and their ratios of whole numbers."""
    gains = [2**r - 1 for r in relevance]
    most = max(gains) or 1
    ideal = sum(
        float(Fraction(gain, most)) / math.log2(2 + rank)
        for rank, gain in enumerate(sorted(gains, reverse=True))
    )
    pairs = [(i, j) for i, j in product(range(len(gains)), repeat=2) if gains[i] > gains[j]]
    return sum(
        float(Fraction(gains[i] - gains[j], most)) * max(0, margin + distances[i] - distances[j])
        for i, j in pairs
    ) / (ideal or 1)


def test_gains_are_exact_ratios_at_any_number_of_labels():
    # Lists of many shared labels beside lists of few, and of none.
    largest = torch.tensor([3, 60, 1030, 2000, 100_000, 0])[:, None]
    generator = torch.Generator().manual_seed(0)
    below = torch.randint(0, 4, (6, 12), generator=generator)
    relevance = (largest - below).clamp(min=0)
    relevance[2, 3], relevance[3, 5] = 1, 0
    distances = 8 * torch.rand(6, 12, dtype=torch.float64, generator=generator)
    value, gradient = value_and_gradient(distances, relevance, margin=2.5)
    expected = [
        exact_ranking_loss(d, r, 2.5)
        for d, r in zip(distances.tolist(), relevance.tolist(), strict=True)
    ]
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
    assert gradient.isfinite().all()
    assert (gradient[:5] != 0).any(dim=1).all()


@pytest.mark.parametrize(
    "loss_of", [tie_aware_ndcg_loss, tie_aware_average_precision_loss], ids=["ndcg", "ap"]
)
def test_losses_of_perfect_lists_are_not_negative(loss_of):
    # Rounding alone would put some of them below 0.
    generator = torch.Generator().manual_seed(0)
    relevance = torch.randint(0, 4, (2000, 30), generator=generator)
    value = loss_of(3.0 - relevance, relevance, n_bits=3)
    assert ((value >= 0) & (value < 0.2)).all()
    exact = (3.0 - relevance).double().requires_grad_()
    loss_of(exact, relevance, n_bits=3).sum().backward()
    assert exact.grad.isfinite().all()


def test_81_shared_labels_do_not_overflow():
    # The gain of 81 swamps all others: the loss is that of the one item which has it.
    distances, relevance = make_lists(shape=(2, 50), dtype=torch.float32)
    relevance[:, 17] = 81
    value, gradient = value_and_gradient(distances, relevance, margin=2.5)
    d = distances.detach()
    hinges = (2.5 + d[:, 17:18] - d).clamp(min=0).sum(1) - 2.5
    assert gradient.isfinite().all()
    torch.testing.assert_close(value, hinges)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
@all_weightings
def test_no_items_or_no_rows(shape, weighting):
    distances = torch.zeros(shape, requires_grad=True)
    loss = ranking_loss(
        distances, torch.zeros(shape, dtype=torch.long), margin=1, weighting=weighting
    )
    assert loss.shape == shape[:1]
    assert not loss.any()
    loss.sum().backward()
    assert distances.grad.shape == shape


# Errors.


@pytest.mark.parametrize(
    ("shapes", "got"),
    [
        (((3, 4), (3, 5)), r"got \(3, 4\) and \(3, 5\)"),
        (((3, 4), (1, 4)), r"got \(3, 4\) and \(1, 4\)"),
        (((4,), (4,)), r"got \(4,\) and \(4,\)"),
        (((2, 3, 4), (2, 3, 4)), r"got \(2, 3, 4\) and \(2, 3, 4\)"),
    ],
)
def test_error_on_shapes(shapes, got):
    distances, relevance = torch.zeros(shapes[0]), torch.zeros(shapes[1], dtype=torch.long)
    with pytest.raises(ValueError, match=rf"shape \(n_queries, n_items\), {got}"):
        ranking_loss(distances, relevance, margin=1)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.complex64])
def test_error_on_dtype_of_distances(dtype):
    zeros = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(TypeError, match=f"distances should be floating, got {dtype}"):
        ranking_loss(zeros.to(dtype), zeros, margin=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_error_on_dtype_of_relevance(dtype):
    zeros = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=f"relevance should be integer, got {dtype}"):
        ranking_loss(zeros, zeros.to(dtype), margin=1)


def test_error_on_negative_relevance():
    with pytest.raises(ValueError, match="relevance should be at least 0, got -2"):
        ranking_loss(torch.zeros(1, 3), torch.tensor([[1, -2, -1]]), margin=1)


@pytest.mark.parametrize("margin", [-1e-9, -1, math.nan, math.inf, -math.inf, "5", None])
def test_error_on_margin(margin):
    with pytest.raises(ValueError, match=rf"finite number, at least 0, got {margin!r}"):
        ranking_loss(torch.zeros(1, 3), torch.tensor([[1, 2, 1]]), margin=margin)


@pytest.mark.parametrize("weighting", ["NDCG", "dcg", None])
def test_error_on_weighting(weighting):
    with pytest.raises(ValueError, match=rf"'ndcg' or 'uniform', got {weighting!r}"):
        ranking_loss(torch.zeros(1, 3), torch.tensor([[1, 2, 1]]), margin=1, weighting=weighting)


def test_error_on_second_derivative():
    distances, relevance = make_lists()
    loss = ranking_loss(distances, relevance, margin=2.5).square().sum()
    (gradient,) = torch.autograd.grad(loss, distances, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# Tie-aware NDCG.


def oracle_tie_aware(distances, relevance, n_bits):
    """Tie-aware NDCG loss of one list, item by item and bin by bin, in Python's own floats."""
    counts, gain_sums = [0.0] * (n_bits + 1), [0.0] * (n_bits + 1)
    for d, r in zip(distances, relevance, strict=True):
        for b in range(n_bits + 1):
            share = max(0.0, 1 - abs(min(max(d, 0.0), n_bits) - b))
            counts[b] += share
            gain_sums[b] += share * (2**r - 1)
    discount_sum = lambda x: sum(  # noqa: E731
        min(1.0, x - p + 1) / math.log2(1 + p) for p in range(1, math.ceil(x) + 1)
    )
    dcg, before = 0.0, 0.0
    for count, gain_sum in zip(counts, gain_sums, strict=True):
        if count > 0:
            dcg += gain_sum / count * (discount_sum(before + count) - discount_sum(before))
            before += count
    ranked = sorted(relevance, reverse=True)
    ideal = sum((2**r - 1) / math.log2(1 + p) for p, r in enumerate(ranked, 1))
    return 1 - dcg / ideal if ideal else 0.0


@pytest.mark.parametrize("n_bits", [1, 2, 7, 40])
@pytest.mark.parametrize("levels", [(0, 1), (0, 3, 7), (1, 2), (0, 81)])
def test_tie_aware_equals_loop_over_items_and_bins(n_bits, levels):
    distances, relevance = make_lists(shape=(5, 17), levels=levels, scale=n_bits)
    expected = [
        oracle_tie_aware(d, r, n_bits)
        for d, r in zip(distances.tolist(), relevance.tolist(), strict=True)
    ]
    loss = tie_aware_ndcg_loss(distances, relevance, n_bits=n_bits)
    assert loss.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_bits", "n_labels"), [(1, 3), (4, 5), (16, 1), (64, 90)])
def test_tie_aware_at_integer_distances_is_the_metric(n_bits, n_labels, dtype):
    rng = np.random.default_rng(n_bits)
    queries, database = rng.integers(2, size=(6, n_bits)), rng.integers(2, size=(200, n_bits))
    # Few labels make relevances few, and many make gains that no float32 holds.
    Y, Y_database = (rng.random((n, n_labels)) < 0.9 for n in (6, 200))
    Y[0] = False
    distances = torch.tensor((queries[:, None] != database).sum(2)).to(dtype)
    relevance = torch.tensor(Y.astype(int) @ Y_database.T.astype(int))
    loss = tie_aware_ndcg_loss(distances, relevance, n_bits=n_bits)
    assert loss[0] == 0  # where the metric of a query without relevant items is 0 too
    for q in range(1, 6):
        score = ndcg_score(queries[[q]], Y[[q]], database, Y_database)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        assert loss[q].item() == pytest.approx(1 - score, abs=tolerance)


def test_tie_aware_gradient_equals_finite_differences():
    distances, relevance = make_lists(5, shape=(3, 9), levels=(0, 1, 3))
    loss = lambda d: tie_aware_ndcg_loss(d, relevance, n_bits=8)  # noqa: E731
    assert torch.autograd.gradcheck(loss, distances, eps=1e-6, rtol=1e-5, atol=1e-7)


def test_tie_aware_is_continuous_at_integers():
    distances, relevance = make_lists(3, shape=(4, 30), scale=6)
    distances = distances.detach().round()
    near = (distances + 1e-7 * torch.linspace(-1, 1, 30)).clamp(0, 6)
    losses = (tie_aware_ndcg_loss(d, relevance, n_bits=6) for d in (distances, near))
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_tie_aware_pulls_the_relevant_item_out_of_a_tie():
    distances = torch.tensor([[2.0, 2.0, 2.0]], requires_grad=True)
    tie_aware_ndcg_loss(distances, torch.tensor([[0, 1, 0]]), n_bits=4).sum().backward()
    assert distances.grad[0, 1] > 0
    assert (distances.grad[0, [0, 2]] < 0).all()


def test_tie_aware_rows_and_items_have_no_order():
    distances, relevance = make_lists(shape=(4, 20))
    loss = tie_aware_ndcg_loss(distances, relevance, n_bits=8)
    flipped = tie_aware_ndcg_loss(distances.flip(0, 1), relevance.flip(0, 1), n_bits=8)
    torch.testing.assert_close(flipped, loss.flip(0))


def test_tie_aware_clips_distances():
    distances, relevance = torch.tensor([[-2.0, 9.0, 3.0]]), torch.tensor([[1, 2, 0]])
    loss = tie_aware_ndcg_loss(distances, relevance, n_bits=4)
    assert torch.equal(loss, tie_aware_ndcg_loss(distances.clamp(0, 4), relevance, n_bits=4))


def test_tie_aware_of_nan_is_nan_in_its_row_alone():
    distances = torch.tensor([[1.0, math.nan, 2.0], [1.0, 0.0, 2.0]], requires_grad=True)
    loss = tie_aware_ndcg_loss(distances, torch.tensor([[1, 0, 2]] * 2), n_bits=4)
    assert loss.isnan().tolist() == [True, False]


def test_tie_aware_of_nothing():
    assert tie_aware_ndcg_loss(torch.zeros(0, 3), torch.zeros(0, 3).long(), n_bits=4).shape == (0,)
    assert tie_aware_ndcg_loss(torch.zeros(2, 0), torch.zeros(2, 0).long(), n_bits=4).tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize("n_bits", [0, -3, 2.5, None])
def test_tie_aware_error_on_n_bits(n_bits):
    with pytest.raises(ValueError, match=f"an integer, at least 1, got {n_bits}"):
        tie_aware_ndcg_loss(torch.zeros(1, 3), torch.tensor([[1, 2, 1]]), n_bits=n_bits)


def test_tie_aware_checks_lists():
    with pytest.raises(ValueError, match=r"got \(1, 3\) and \(1, 2\)"):
        tie_aware_ndcg_loss(torch.zeros(1, 3), torch.tensor([[1, 2]]), n_bits=2)
    with pytest.raises(TypeError, match="relevance should be integer"):
        tie_aware_ndcg_loss(torch.zeros(1, 2), torch.zeros(1, 2), n_bits=2)
