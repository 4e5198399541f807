"""Partitions hold every sample once, are the same every time, and refuse a client without samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from heron_core.data import class_histogram
from heron_core.data.partition import dirichlet, iid, shards
from heron_core.errors import DataError

Divide = Callable[[NDArray[np.int64], int, int], list[NDArray[np.int64]]]
GOLDEN = {
    "iid": [[3, 4, 6, 10], [1, 7, 8, 11], [0, 2, 5, 9]],
    "dirichlet": [[2, 3, 6, 9], [0, 1, 4, 5, 7, 8, 10, 11]],
    "shards": [[2, 4, 5, 10], [3, 6, 8, 11], [0, 1, 7, 9]],
}
DIVISIONS: dict[str, Divide] = {
    "iid": iid,
    "dirichlet": lambda labels, parts, seed: dirichlet(labels, parts, seed, alpha=100.0),
    "shards": lambda labels, parts, seed: shards(labels, parts, seed, shards_per_client=2),
}
SEEDS = st.integers(0, 2**63 - 1)
LABELS = st.lists(st.integers(0, 3), min_size=200, max_size=300).map(lambda xs: np.array(xs, dtype=np.int64))


@pytest.mark.parametrize("kind", list(DIVISIONS))
@given(labels=LABELS, parts=st.integers(1, 5), seed=SEEDS)
def test_parts_hold_each_sample_once_and_come_again(
    kind: str, labels: NDArray[np.int64], parts: int, seed: int
) -> None:
    out = DIVISIONS[kind](labels, parts, seed)
    assert len(out) == parts and all(part.dtype == np.int64 for part in out)
    assert np.array_equal(np.sort(np.concatenate(out)), np.arange(len(labels)))
    again = DIVISIONS[kind](labels.copy(), parts, seed)
    assert all(np.array_equal(a, b) for a, b in zip(out, again, strict=True))


@pytest.mark.parametrize("kind", list(DIVISIONS))
def test_another_seed_divides_otherwise(kind: str) -> None:
    labels = np.arange(1000) % 10
    assert not np.array_equal(DIVISIONS[kind](labels, 3, 0)[0], DIVISIONS[kind](labels, 3, 1)[0])


@given(parts=st.integers(1, 20), seed=SEEDS)
def test_iid_parts_differ_by_one_sample_at_most(parts: int, seed: int) -> None:
    sizes = [len(part) for part in iid(np.zeros(101, np.int64), parts, seed)]
    assert max(sizes) - min(sizes) <= 1


def test_small_alpha_is_more_skewed_than_large() -> None:
    labels = np.arange(10_000) % 10

    def largest_class_share(alpha: float) -> float:
        parts = dirichlet(labels, 5, 0, alpha)
        return float(np.mean([max(class_histogram(labels[p], 10)) / len(p) for p in parts]))

    assert largest_class_share(1000.0) < 0.12 < 0.3 < largest_class_share(0.1)


def test_shards_give_a_client_few_classes() -> None:
    labels = np.arange(1000) % 10
    for part in shards(labels, 5, 3, shards_per_client=2):
        assert len(np.unique(labels[part])) <= 2 and len(part) == 200


@pytest.mark.parametrize("alpha", [1e-3, 1e-300])
def test_dirichlet_without_samples_for_a_client_names_alpha_and_the_client(alpha: float) -> None:
    with pytest.raises(DataError, match=rf"client rank \d+ of 20 .*alpha = {alpha}; raise alpha"):
        dirichlet(np.arange(100) % 10, 20, 0, alpha)


def test_fewer_samples_than_clients_are_refused() -> None:
    with pytest.raises(DataError, match=r"client rank 3 of 5 would get no samples: there are 3"):
        iid(np.zeros(3, np.int64), 5, 0)
    with pytest.raises(DataError, match=r"3 clients x 2 shards_per_client need 6 samples, got 5"):
        shards(np.zeros(5, np.int64), 3, 0, 2)


def test_a_histogram_counts_each_class_and_refuses_others() -> None:
    counts = class_histogram(np.array([0, 2, 2]), 4)
    assert counts == [1, 0, 2, 0] and all(type(count) is int for count in counts)
    with pytest.raises(DataError, match="labels must be 0 to 1, got 2 for sample 1"):
        class_histogram(np.array([0, 2, 2]), 2)


def test_the_division_of_today_is_that_of_tomorrow() -> None:
    labels = np.arange(12) % 3
    assert [p.tolist() for p in iid(labels, 3, 7)] == GOLDEN["iid"]
    assert [p.tolist() for p in dirichlet(labels, 2, 7, 1.0)] == GOLDEN["dirichlet"]
    assert [p.tolist() for p in shards(labels, 3, 7, 2)] == GOLDEN["shards"]
