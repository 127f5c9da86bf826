"""Losses: loops over all pairs, finite differences, reductions, invariances, edges, errors."""

import copy
import itertools
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.utils.class_weight import compute_class_weight

from skhash.deep import losses
from skhash.deep.losses import (
    LOSSES,
    CentralSimilarityLoss,
    HashingLoss,
    HashNetLoss,
    HyP2Loss,
    OrthoHashLoss,
    PairwiseLikelihoodLoss,
    RankingLoss,
    SampledRankingLoss,
    SoftPairLoss,
    TieAwareNDCGLoss,
    TripletLikelihoodLoss,
    _others,
    get_loss,
    ranking_loss,
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
@pytest.mark.parametrize("n_elements", [1, 100, 250, 10**6])
def test_blocks_of_rows_change_nothing(weighting, n_elements, monkeypatch):
    lists, params = make_lists(shape=(7, 20)), {"margin": 2.5, "weighting": weighting}
    expected = value_and_gradient(*lists, **params)
    n_rows, sort_rows = [], losses._sorted_hinge

    def record(distances, *args):
        n_rows.append(len(distances))
        return sort_rows(distances, *args)

    monkeypatch.setattr(losses, "_TABLE_ELEMENTS", n_elements)
    monkeypatch.setattr(losses, "_sorted_hinge", record)
    value, gradient = value_and_gradient(*lists, **params)
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1])
    # Four levels of twenty items: 80 elements a row.
    assert n_rows == {1: [1] * 7, 100: [1] * 7, 250: [3, 3, 1], 10**6: [7]}[n_elements]


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


# Losses of a batch. Each is tested with its defaults, and in the variants that have other code.

SPECS = {
    **{name: loss() for name, loss in LOSSES.items()},
    "uniform": RankingLoss(margin=2.5, weighting="uniform", balance=0),
    "ranking with memory": RankingLoss(list_size=17),
    "ranking, balanced, with memory": RankingLoss(list_size=17, class_weight="balanced"),
    "tie_aware_ndcg, balanced": TieAwareNDCGLoss(class_weight="balanced"),
    "dsrh, no weights": SampledRankingLoss(n_repeats=None),
    "tie_aware_ndcg with memory": TieAwareNDCGLoss(balance=1, list_size=50),
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


@all_losses
def test_gradient_of_loss_equals_finite_differences(name):
    projection, labels = make_batch(1, n=7, n_bits=5)
    started = start(SPECS[name], 5, labels)
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
    lists = _others(matrix)
    assert lists.shape == (n, n - 1)
    assert lists.tolist() == expected


def test_gradient_flows_to_all_but_the_diagonal():
    matrix = torch.zeros(5, 5, requires_grad=True)
    weights = torch.arange(1.0, 21).reshape(5, 4)
    (_others(matrix) * weights).sum().backward()
    assert torch.equal(_others(matrix.grad), weights)
    assert not matrix.grad.diagonal().any()


# Ranking losses of a batch, and their memory.


@pytest.mark.parametrize(
    "spec", [RankingLoss(), RankingLoss(margin=2, weighting="uniform", balance=1)], ids=repr
)
def test_ranking_loss_of_a_batch(spec):
    projection, labels = make_batch(dtype=torch.float32)
    codes = torch.tanh(projection / 2)
    distances = _others((8 - codes @ codes.T) / 2)
    relevance = _others((labels @ labels.T).long())
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
        others = [i for i in range(12) if i != q]
        if (labels[others] @ labels[q]).any():
            total += 1 - ndcg_score(codes[[q]], sets[[q]], codes[others], sets[others])
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


@pytest.mark.parametrize("kind", [RankingLoss, TieAwareNDCGLoss])
def test_balanced_loss_is_the_weighted_mean_of_lists(kind):
    projection, labels = make_batch()
    started = kind(class_weight="balanced", balance=0).start(8, labels)
    weights, total = labels @ started.label_weights, 0
    for q in range(12):
        codes = torch.tanh(projection / 2)
        others = [i for i in range(12) if i != q]
        distances = (8 - codes[[q]] @ codes[others].T) / 2
        relevance = (labels[[q]] @ labels[others].T).long()
        total = total + weights[q] * kind()._list_losses(distances, relevance, 8).sum()
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


with_memory = pytest.mark.parametrize("kind", [RankingLoss, TieAwareNDCGLoss])


@with_memory
def test_empty_memory_is_the_batch_alone(kind):
    projection, labels = make_batch()
    expected = value_and_gradients(kind().start(8, labels), projection, labels)
    remembering = kind(list_size=1000).start(8, labels)
    assert remembering.n_remembered == 0
    torch.testing.assert_close(
        value_and_gradients(remembering, projection, labels), expected, rtol=0, atol=0
    )
    assert remembering.n_remembered == 12


@with_memory
def test_memory_is_more_items_without_gradient(kind):
    batches = [make_batch(seed) for seed in range(3)]
    started = kind(list_size=1000, balance=0).start(8, batches[0][1])
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


@pytest.mark.parametrize(("list_size", "n_from_memory"), [(3, 0), (11, 0), (12, 1), (30, 19)])
def test_lists_are_no_longer_than_asked(list_size, n_from_memory, monkeypatch):
    lengths = []
    monkeypatch.setattr(
        losses, "ranking_loss", lambda d, *_, **__: lengths.append(d.shape[1]) or d.sum(1)
    )
    projection, labels = make_batch()
    started = RankingLoss(list_size=list_size).start(8, labels)
    for _ in range(4):
        started(projection, labels, 0.0)
    assert lengths[-1] == 11 + n_from_memory
    assert len(started.memory_codes) == list_size


def test_memory_is_part_of_the_state():
    projection, labels = make_batch(dtype=torch.float32)
    started = start(SPECS["ranking with memory"], 8, labels)
    other = RankingLoss(list_size=17).start(8, labels)
    other.load_state_dict(started.state_dict())
    results = [value_and_gradients(s, projection, labels) for s in (started, other)]
    torch.testing.assert_close(*results, rtol=0, atol=0)


# Pairs.


def oracle_pairs(codes, labels, pair_loss):
    """Mean over ordered pairs of different samples."""
    n = len(codes)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    losses = [pair_loss((codes[i] @ codes[j]).item(), labels[i], labels[j]) for i, j in pairs]
    return sum(losses) / len(losses)


def likelihood(theta, similar):
    return math.log1p(math.exp(theta)) - similar * theta


def test_dpsh_equals_loop_over_pairs():
    projection, labels = make_batch()
    expected = oracle_pairs(
        projection, labels, lambda product, y, z: likelihood(product / 2, bool((y @ z) > 0))
    )
    expected += 0.7 * (projection - projection.sign()).square().mean().item()
    loss = PairwiseLikelihoodLoss(quantization=0.7).start(8, labels)
    assert loss(projection, labels, 0.0).item() == pytest.approx(expected)


def test_idhn_equals_loop_over_pairs():
    projection, labels = make_batch(2, n_labels=3, share=0.5)
    codes = projection / (1 + projection.abs())

    def pair_loss(product, y, z):
        similarity = (y @ z / (y.sum() * z.sum()).clamp(min=1).sqrt()).item()
        if min(abs(similarity), abs(similarity - 1)) < 1e-9:
            return likelihood(4 * product / 8, round(similarity))
        return 0.3 * 8 * ((product + 8) / 16 - similarity) ** 2

    expected = oracle_pairs(codes, labels, pair_loss) + 0.2 * (1 - codes.abs()).mean().item()
    loss = SoftPairLoss(scale=4, soft_weight=0.3, quantization=0.2).start(8, labels)
    assert loss(projection, labels, 0.0).item() == pytest.approx(expected)


def test_idhn_of_single_labels_is_the_likelihood_of_dpsh():
    projection, _ = make_batch()
    labels = torch.eye(3, dtype=torch.float64).repeat(4, 1)
    codes = projection / (1 + projection.abs())
    value = SoftPairLoss(quantization=0).start(8, labels)(projection, labels, 0.0)
    dpsh = PairwiseLikelihoodLoss(quantization=0).start(8, labels)
    torch.testing.assert_close(value, dpsh(math.sqrt(2 * 5 / 8) * codes, labels, 0.0))


def test_hashnet_equals_loop_over_pairs():
    projection, labels = make_batch()
    similar = _others(labels @ labels.T) > 0
    n_pairs, n_similar = similar.numel(), similar.sum().item()

    def pair_loss(product, y, z):
        if y @ z == 0:
            return n_pairs / (n_pairs - n_similar) * likelihood(10 / 8 * product, 0)
        jaccard = ((y @ z) / ((y + z) > 0).sum()).item()
        return jaccard * n_pairs / n_similar * likelihood(10 / 8 * product, 1)

    codes = torch.tanh(math.sqrt(1 + 50 * 0.3) * projection)
    loss = HashNetLoss().start(8, labels)(projection, labels, 0.3)
    assert loss.item() == pytest.approx(oracle_pairs(codes, labels, pair_loss))


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


def oracle_triplets(projection, labels, margin):
    """Mean over queries of the mean over their triplets, triplet by triplet."""
    theta, shared = (projection @ projection.T / 2).tolist(), (labels @ labels.T).tolist()
    means = []
    for q in range(len(theta)):
        items = [i for i in range(len(theta)) if i != q]
        triplets = [
            math.log1p(math.exp(margin - theta[q][p] + theta[q][n]))
            for p in items
            for n in items
            if shared[q][p] > shared[q][n]
        ]
        means += [sum(triplets) / len(triplets)] if triplets else []
    return sum(means) / len(means)


@pytest.mark.parametrize("margin", ["auto", 0, 1.5])
@pytest.mark.parametrize("n_elements", [1, 500, 10**6])
def test_dtsh_equals_loop_over_triplets(margin, n_elements, monkeypatch):
    monkeypatch.setattr(losses, "_TABLE_ELEMENTS", n_elements)
    projection, labels = make_batch()
    loss = TripletLikelihoodLoss(margin=margin, quantization=0.3).start(8, labels)
    expected = oracle_triplets(projection, labels, 4 if margin == "auto" else margin)
    expected += 0.3 * (projection - projection.sign()).square().mean().item()
    assert loss(projection, labels, 0.0).item() == pytest.approx(expected)


# Codes of labels.


def started_codes(kind, n_labels, n_bits):
    return start(CentralSimilarityLoss(centers=kind), n_bits, torch.zeros(1, n_labels)).centers


@pytest.mark.parametrize("n_bits", [1, 2, 5, 8, 12, 48, 64])
def test_hadamard_centers_are_far_apart(n_bits):
    order = 2 ** (n_bits - 1).bit_length()
    centers = started_codes("hadamard", 2 * order, n_bits)
    assert (centers.abs() == 1).all()
    distances = _others((n_bits - centers @ centers.T) / 2)
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


def test_random_centers_are_the_best_of_some_draws(monkeypatch):
    nearest = lambda codes: _others(codes @ codes.T).max()  # noqa: E731
    best = started_codes("bernoulli", 20, 32)
    monkeypatch.setattr(losses, "_CENTER_TRIES", 1)
    assert nearest(best) < nearest(started_codes("bernoulli", 20, 32))


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


# What a loss is as an object.


@all_losses
def test_loss_is_a_value(name):
    spec = SPECS[name]
    assert eval(repr(spec), vars(losses)) == spec
    copies = [pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), clone(spec, safe=False)]
    assert all(other == spec and hash(other) == hash(spec) for other in copies)
    with pytest.raises(AttributeError):
        spec.balance = 3


class _WithLoss(BaseEstimator):
    def __init__(self, loss=None):
        self.loss = loss


def test_loss_is_a_parameter_of_an_estimator():
    estimator = _WithLoss(RankingLoss(margin=2))
    copied = clone(estimator)
    assert copied.loss == RankingLoss(margin=2)
    assert "RankingLoss(margin=2" in repr(estimator)
    assert copied.set_params(loss=HyP2Loss()).get_params() == {"loss": HyP2Loss()}


@all_losses
def test_started_loss_can_be_pickled_and_shows_what_it_is(name):
    projection, labels = make_batch()
    started = start(SPECS[name], 8, labels)
    other = pickle.loads(pickle.dumps(started))
    results = [value_and_gradients(s, projection, labels) for s in (started, other)]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert repr(SPECS[name]) in repr(started)


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
    ],
    ids=str,
)
def test_error_on_hyper_parameter(loss, params):
    ((name, value),) = params.items()
    message = f"The '{name}' parameter of {loss.__name__} must be .* Got {value!r} instead"
    with pytest.raises(ValueError, match=message):
        loss(**params)


def test_hyper_parameters_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        RankingLoss(2.0)
