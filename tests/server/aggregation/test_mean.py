from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from heron_core.arrays import Array
from heron_server.aggregation.aggregator import Updates
from heron_server.aggregation.mean import Mean, average, by_samples, uniform


def states(count: int = 5, size: int = 257) -> list[dict[str, Array]]:
    rng = np.random.Generator(np.random.Philox(1))
    return [
        {
            "w": (rng.standard_normal(size) * 10.0 ** rng.integers(-6, 6, size)).astype(np.float32),
            "half": rng.standard_normal(3).astype(np.float16),
            "scalar": np.array(rng.standard_normal(), dtype=np.float64),
            "tracked": np.array(i, dtype=np.int64),
            "flags": np.array([i == 0, False, True]),
        }
        for i in range(count)
    ]


def test_weights_are_uniform_or_by_samples() -> None:
    assert uniform([1, 7, 100]) == [1 / 3] * 3
    assert by_samples([1, 3, 4]) == [0.125, 0.375, 0.5]


@pytest.mark.parametrize("weigh", [uniform, by_samples])
def test_floats_are_summed_in_float64_in_client_order_and_rounded_once(
    weigh: Callable[[Sequence[int]], list[float]],
) -> None:
    given = states()
    weights = weigh([3, 1, 4, 1, 5])
    got = average(given, weights)
    for name in ("w", "half", "scalar"):
        total = np.zeros(given[0][name].shape)
        for state, weight in zip(given, weights, strict=True):
            total = total + state[name].astype(np.float64) * weight
        assert got[name].dtype == given[0][name].dtype and got[name].shape == given[0][name].shape
        assert np.array_equal(got[name], total.astype(given[0][name].dtype))


def test_the_mean_selects_everyone_with_its_weight_in_rank_order() -> None:
    given = states(3)
    made = Mean(by_samples).aggregate(Updates({7: given[1], 0: given[0], 9: given[2]}, {0: 1, 7: 1, 9: 2}, given[0]))
    assert list(made.weights.items()) == [(0, 0.25), (7, 0.25), (9, 0.5)]
    expected = average(given, [0.25, 0.25, 0.5])
    assert all(np.array_equal(made.state[n], t) for n, t in expected.items())


def test_the_order_of_clients_decides_the_bits() -> None:
    given = [{"w": np.array(v)} for v in (1e16, 1.0, -1e16)]
    forward, backward = (
        average(list(order), [1.0, 1.0, 1.0])["w"] for order in (given, (given[0], given[2], given[1]))
    )
    assert float(forward) == 0.0 and float(backward) == 1.0


def test_integer_and_boolean_buffers_are_aggregated_by_maximum() -> None:
    got = average(states(), uniform([1] * 5))
    assert got["tracked"] == 4 and got["tracked"].dtype == np.int64 and got["tracked"].shape == ()
    assert got["flags"].tolist() == [True, False, True] and got["flags"].dtype == bool
