"""What every aggregation rule promises; one suite over all of them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from heron_core.arrays import Array
from heron_core.spec.run_spec import FederationSpec
from heron_server.aggregation.rules import RULES

EVERY = pytest.mark.parametrize("rule", RULES)


def state(rank: int) -> dict[str, Array]:
    rng = np.random.Generator(np.random.Philox(rank))
    return {
        "w": (rng.standard_normal(257) * 10.0 ** rng.integers(-6, 6, 257)).astype(np.float32),
        "half": rng.standard_normal((2, 3)).astype(np.float16),
        "scalar": np.array(rng.standard_normal()),
        "tracked": np.array(rank, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }


def states() -> dict[int, dict[str, Array]]:
    return {rank: state(rank) for rank in (0, 2, 3, 7, 11)}


SAMPLES = {0: 3, 2: 1, 3: 4, 7: 1, 11: 5}


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return list(a) == list(b) and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


def test_there_is_a_rule_for_each_name_that_a_run_file_may_say() -> None:
    assert set(RULES) == set(get_args(FederationSpec.model_fields["aggregation"].annotation))


@EVERY
def test_it_gives_the_same_tensors_in_the_same_order(rule: str) -> None:
    made = RULES[rule].aggregate(states(), SAMPLES).state
    told = [(n, t.dtype, t.shape) for n, t in made.items()]
    assert told == [(n, t.dtype, t.shape) for n, t in state(0).items()]


@EVERY
def test_it_selects_some_of_the_clients_with_weights_that_sum_to_one_in_rank_order(rule: str) -> None:
    weights = RULES[rule].aggregate(states(), SAMPLES).weights
    assert weights and set(weights) <= set(SAMPLES) and list(weights) == sorted(weights)
    assert sum(weights.values()) == pytest.approx(1.0) and min(weights.values()) >= 0


@EVERY
def test_the_order_in_which_updates_came_changes_no_bit(rule: str) -> None:
    first = RULES[rule].aggregate(states(), SAMPLES)
    second = RULES[rule].aggregate(dict(reversed(states().items())), dict(reversed(SAMPLES.items())))
    assert same(first.state, second.state) and list(first.weights.items()) == list(second.weights.items())


@EVERY
def test_one_client_s_state_is_itself_bit_for_bit(rule: str) -> None:
    made = RULES[rule].aggregate({7: state(7)}, {7: 9})
    assert same(made.state, state(7)) and made.weights == {7: 1.0}


@EVERY
def test_states_without_tensors_make_one_without_tensors(rule: str) -> None:
    assert RULES[rule].aggregate({0: {}, 1: {}}, {0: 1, 1: 1}).state == {}


@EVERY
def test_what_it_is_given_is_left_as_it_was(rule: str) -> None:
    given = states()
    RULES[rule].aggregate(given, SAMPLES)
    assert all(same(given[rank], held) for rank, held in states().items())
