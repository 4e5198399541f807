"""The order of batches depends on the seed, the client's rank and its own number of samples alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron_core.data import BatchOrder, batch_indices
from heron_core.errors import DataError

SEEDS = st.integers(0, 2**63 - 1)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """(num_samples, batch_size), at least one batch."""
    batch_size = draw(st.integers(1, 12))
    return draw(st.integers(batch_size, 60)), batch_size


@given(size=sizes(), seed=SEEDS, rank=st.integers(0, 50), number=st.integers(0, 3))
def test_a_pass_shows_no_sample_twice_and_drops_the_partial_batch(
    size: tuple[int, int], seed: int, rank: int, number: int
) -> None:
    num_samples, batch_size = size
    order = BatchOrder(seed, rank, num_samples, batch_size)
    first = number * order.batches_per_pass
    batches = [order.at(first + i) for i in range(order.batches_per_pass)]
    assert all(batch.shape == (batch_size,) and batch.dtype == np.int64 for batch in batches)
    seen = np.concatenate(batches)
    assert len(np.unique(seen)) == len(seen) == num_samples - num_samples % batch_size
    assert seen.min() >= 0 and seen.max() < num_samples


@given(size=sizes(), seed=SEEDS, positions=st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_positions_in_any_order_give_the_same_batches(
    size: tuple[int, int], seed: int, positions: list[int]
) -> None:
    kept = BatchOrder(seed, 2, *size)
    for position in positions:
        assert np.array_equal(kept.at(position), batch_indices(seed, 2, position, *size))


def test_another_client_in_between_changes_nothing() -> None:
    mine = BatchOrder(5, 1, 40, 8)
    before = mine.at(3)
    BatchOrder(5, 0, 1000, 8).at(77)
    np.random.default_rng(0).random(10)
    assert np.array_equal(before, BatchOrder(5, 1, 40, 8).at(3))


def test_seeds_ranks_and_passes_have_their_own_orders() -> None:
    orders = {
        tuple(batch_indices(seed, rank, position, 100, 100))
        for seed in (0, 1)
        for rank in (0, 1)
        for position in (0, 1)
    }
    assert len(orders) == 8


def test_a_caller_may_change_its_batch() -> None:
    order = BatchOrder(0, 0, 10, 5)
    expected = order.at(0).copy()
    order.at(0)[:] = -1
    assert np.array_equal(order.at(0), expected)


def test_too_few_samples_for_a_batch_name_both_numbers() -> None:
    with pytest.raises(DataError, match=r"rank 4 has 31 samples, one batch needs 32; lower"):
        batch_indices(0, 4, 0, 31, 32)


def test_the_order_of_today_is_that_of_tomorrow() -> None:
    assert [batch_indices(0, 1, position, 7, 3).tolist() for position in range(3)] == [
        [1, 0, 5],
        [6, 2, 4],
        [4, 6, 5],
    ]


@given(size=sizes(), seed=SEEDS, pool=st.integers(1, 4), data=st.data())
def test_by_length_a_pass_shows_the_same_samples_in_batches_of_like_length(
    size: tuple[int, int], seed: int, pool: int, data: st.DataObject
) -> None:
    num_samples, _ = size
    lengths = np.array(data.draw(st.lists(st.integers(1, 9), min_size=num_samples, max_size=num_samples)))
    plain, sorted_ = BatchOrder(seed, 1, *size), BatchOrder(seed, 1, *size, lengths, pool)
    number = plain.batches_per_pass
    before, after = (np.concatenate([order.at(i) for i in range(number)]) for order in (plain, sorted_))
    assert sorted(before) == sorted(after)
    padded = [sum(lengths[order.at(i)].max() for i in range(number)) for order in (plain, sorted_)]
    assert padded[1] <= padded[0] and np.array_equal(after, np.concatenate([sorted_.at(i) for i in range(number)]))


def test_by_length_0_is_the_order_without_lengths() -> None:
    lengths = np.arange(40)
    assert np.array_equal(BatchOrder(5, 1, 40, 8).at(3), BatchOrder(5, 1, 40, 8, lengths, 0).at(3))
