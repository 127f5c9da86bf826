"""Batches: partitions into nearly equal sizes, and determinism."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skhash.deep.sampling import epoch_batches, held_out_rows


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(1, 300),
    batch_size=st.integers(2, 64),
    seed=st.integers(0, 2**31 - 2),
    epoch=st.integers(0, 50),
)
def test_batches_are_a_partition_into_nearly_equal_sizes(n_samples, batch_size, seed, epoch):
    batches = epoch_batches(n_samples, batch_size, seed=seed, epoch=epoch)
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    # A batch of one has no lists, so in batches of 2 an odd sample makes a third.
    odd = batch_size == 2 and n_samples % 2 == 1 and n_samples > 1
    assert max(sizes) <= batch_size + odd
    assert min(sizes) > 1 or n_samples == 1
    # No fewer batches would do.
    assert (len(batches) - 1) * batch_size < n_samples
    rows = np.concatenate(batches)
    assert rows.dtype == np.int64
    assert np.array_equal(np.sort(rows), np.arange(n_samples))


def test_batches_are_a_function_of_seed_and_epoch():
    draw = lambda seed, epoch: np.concatenate(  # noqa: E731
        epoch_batches(100, 32, seed=seed, epoch=epoch)
    ).tolist()
    keys = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders = [draw(*key) for key in keys]
    assert orders == [draw(*key) for key in reversed(keys)][::-1]
    # No two alike, (0, 1) and (1, 0) among them.
    assert len({tuple(order) for order in orders}) == len(keys)


def test_batches_are_random():
    # Each sample is in the first of two batches about half of the time.
    first = [epoch_batches(40, 20, seed=0, epoch=epoch)[0] for epoch in range(400)]
    share = np.bincount(np.concatenate(first), minlength=40) / 400
    assert np.abs(share - 0.5).max() < 5 * 0.5 / 20


def test_global_generator_is_left_alone():
    before = np.random.get_state()  # noqa: NPY002
    epoch_batches(100, 32, seed=0, epoch=0)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2:] == after[2:]
    assert np.array_equal(before[1], after[1])


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(4, 300),
    fraction=st.floats(0.01, 0.6),
    seed=st.integers(0, 2**31 - 2),
)
def test_held_out_rows_are_the_other_rows(n_samples, fraction, seed):
    n_held_out = max(2, round(fraction * n_samples))
    if n_samples - n_held_out < 2:
        return
    rows, queries, database = held_out_rows(n_samples, fraction, seed=seed)
    parts = [rows, queries, database]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n_samples))
    assert len(queries) == max(1, n_held_out // 5)
    assert len(database) == n_held_out - len(queries)
    for part in parts:
        assert np.array_equal(part, np.unique(part))
    again = held_out_rows(n_samples, fraction, seed=seed)
    assert np.array_equal(again[0], rows)


def test_held_out_rows_are_random():
    splits = [held_out_rows(40, 0.5, seed=s) for s in range(400)]
    for part, share in enumerate([0.5, 0.1, 0.4]):
        counts = sum(np.isin(np.arange(40), split[part]) for split in splits)
        assert np.abs(counts / 400 - share).max() < 5 * np.sqrt(share * (1 - share) / 400)


def test_error_if_too_few_rows_are_left():
    with pytest.raises(ValueError, match=r"0\.5 of 3 training samples leaves 1"):
        held_out_rows(3, 0.5, seed=0)
