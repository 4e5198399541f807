from __future__ import annotations

import numpy as np
import pytest

from heron_core.arrays import Array
from heron_server.aggregation.rules import RULES, average, by_samples, uniform


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
    assert set(RULES) == {"uniform", "samples"}


@pytest.mark.parametrize("rule", RULES)
def test_floats_are_summed_in_float64_in_client_order_and_rounded_once(rule: str) -> None:
    given = states()
    weights = RULES[rule]([3, 1, 4, 1, 5])
    got = average(given, weights)
    for name in ("w", "half", "scalar"):
        total = np.zeros(given[0][name].shape)
        for state, weight in zip(given, weights, strict=True):
            total = total + state[name].astype(np.float64) * weight
        assert got[name].dtype == given[0][name].dtype and got[name].shape == given[0][name].shape
        assert np.array_equal(got[name], total.astype(given[0][name].dtype))


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


def test_one_client_s_average_is_its_own_state_bit_for_bit() -> None:
    (state,) = states(1)
    got = average([state], uniform([9]))
    assert list(got) == list(state)
    assert all(np.array_equal(got[n], state[n]) for n in state)


def test_the_inputs_are_left_as_they_were() -> None:
    given, again = states(), states()
    average(given, uniform([1] * 5))
    assert all(np.array_equal(a[n], b[n]) for a, b in zip(given, again, strict=True) for n in a)
