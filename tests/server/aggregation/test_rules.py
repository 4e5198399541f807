"""What every aggregation rule promises; one suite over all of them."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integration import reference_aggregation

from heron_core.arrays import Array
from heron_core.spec.run_spec import FederationSpec
from heron_server.aggregation.aggregator import Aggregated, Updates
from heron_server.aggregation.rules import RULES

EVERY = pytest.mark.parametrize("rule", RULES)
HOSTILE = {"uniform": 0, "samples": 0, "bulyan": 1}
"""f of these tests, where it is not 2."""
ROBUST = [rule for rule in RULES if rule not in ("uniform", "samples")]
State = dict[str, Array]


def spec(rule: str, hostile: int | None = None, **more: Any) -> FederationSpec:
    hostile = HOSTILE.get(rule, 2) if hostile is None else hostile
    return FederationSpec.model_validate({"clients": 50, "aggregation": rule, "hostile": hostile, **more})


def fewest(rule: str) -> int:
    return RULES[rule].fewest(spec(rule).hostile)


def state(rank: int) -> State:
    rng = np.random.Generator(np.random.Philox(rank))
    return {
        "w": (rng.standard_normal(257) * 10.0 ** rng.integers(-6, 6, 257)).astype(np.float32),
        "half": rng.standard_normal((2, 3)).astype(np.float16),
        "bn.running_mean": rng.standard_normal(5).astype(np.float32) * 100,
        "bn.tracked": np.array(rank, dtype=np.int64),
        "scalar": np.array(rng.standard_normal()),
        "flags": rng.random(4) < 0.5,
        "empty": np.zeros((0, 4), dtype=np.float32),
        "moments.first": rng.standard_normal(9).astype(np.float32) / 1000,
        "moments.steps": np.array(7 + rank % 2, dtype=np.int64),
    }


BUFFERS = frozenset({"bn.running_mean", "bn.tracked", "flags"})


def states(count: int) -> dict[int, State]:
    return {2 * rank + rank // 3: state(rank) for rank in range(count)}


def updates(given: dict[int, State], before: State | None = None, samples: int = 1) -> Updates:
    first = next(iter(given.values()))
    start = {n: np.zeros_like(t) for n, t in first.items()} if before is None else before
    return Updates(given, {rank: 1 + samples * rank for rank in given}, start, BUFFERS)


def made(rule: str, given: dict[int, State], before: State | None = None) -> Aggregated:
    return RULES[rule].make(spec(rule)).aggregate(updates(given, before))


def same(a: Any, b: Any) -> bool:
    return list(a) == list(b) and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


def test_there_is_a_rule_for_each_name_that_a_run_file_may_say() -> None:
    assert set(RULES) == set(get_args(FederationSpec.model_fields["aggregation"].annotation))


@EVERY
def test_it_gives_the_same_tensors_in_the_same_order(rule: str) -> None:
    told = [(n, t.dtype, t.shape) for n, t in made(rule, states(fewest(rule))).state.items()]
    assert told == [(n, t.dtype, t.shape) for n, t in state(0).items()]


@EVERY
def test_it_selects_some_of_the_clients_with_weights_that_sum_to_one_in_rank_order(rule: str) -> None:
    given = states(fewest(rule) + 1)
    weights = made(rule, given).weights
    assert weights and set(weights) <= set(given) and list(weights) == sorted(weights)
    assert sum(weights.values()) == pytest.approx(1.0) and min(weights.values()) >= 0


@EVERY
def test_the_order_in_which_updates_came_changes_no_bit(rule: str) -> None:
    given = states(fewest(rule))
    first, second = made(rule, given), made(rule, dict(reversed(given.items())))
    assert same(first.state, second.state) and list(first.weights.items()) == list(second.weights.items())


@EVERY
def test_what_all_clients_agree_on_is_the_result_bit_for_bit(rule: str) -> None:
    given = dict.fromkeys(states(fewest(rule)), state(7))
    result = made(rule, given).state
    for name, tensor in state(7).items():
        exact = tensor.dtype.kind != "f" or rule not in ("uniform", "samples")
        assert np.array_equal(result[name], tensor) or not exact or tensor.dtype == np.float64
        np.testing.assert_allclose(result[name], tensor, rtol=1e-6)


@EVERY
def test_states_without_tensors_make_one_without_tensors(rule: str) -> None:
    assert made(rule, {rank: {} for rank in range(fewest(rule))}).state == {}


@EVERY
def test_what_it_is_given_is_left_as_it_was(rule: str) -> None:
    given = states(fewest(rule))
    made(rule, given)
    assert all(same(given[rank], held) for rank, held in states(fewest(rule)).items())


# -- by their papers' definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [0, 1, 4])
@EVERY
def test_it_is_what_its_paper_defines_bit_for_bit(rule: str, more: int) -> None:
    is_literal(rule, updates(states(fewest(rule) + more), state(99)))


@pytest.mark.parametrize("hostile", [0, 1, 3])
@pytest.mark.parametrize("rule", [rule for rule in ROBUST if rule != "trimmed_mean"])
def test_it_is_what_its_paper_defines_for_each_number_of_hostile_clients(rule: str, hostile: int) -> None:
    is_literal(rule, updates(states(RULES[rule].fewest(hostile)), state(99)), hostile=hostile)


def test_options_of_a_rule_are_as_defined() -> None:
    is_literal("samples", updates(states(5), samples=100), most_samples=150)
    is_literal("norm_clipping", updates(states(5), state(99)), clip_norm=3.0)


def is_literal(rule: str, given: Updates, **more: Any) -> None:
    result = RULES[rule].make(spec(rule, **more)).aggregate(given)
    sizes = [given.num_samples[rank] for rank in given.ranks]
    wanted, weights = reference_aggregation.aggregate(
        spec(rule, **more), given.in_order, given.before, sizes, BUFFERS, given.reach
    )
    assert all(np.array_equal(result.state[n], wanted[n]) for n in given.before)
    assert [result.weights.get(rank, 0.0) for rank in given.ranks] == weights


# -- what they bear ------------------------------------------------------------------------------------------------

LIES = st.sampled_from([0.0, 1.0, -1.0, 30.0, -1e6, 1e18, 3e38])


@st.composite
def rounds(draw: st.DrawFn, rule: str) -> tuple[list[Array], list[Array]]:
    """Honest vectors, and those of f hostile clients who know them all."""
    f = spec(rule).hostile
    count = draw(st.integers(RULES[rule].fewest(f), RULES[rule].fewest(f) + 3)) - f
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32))))
    honest = [(3 + rng.standard_normal(6)).astype(np.float32) for _ in range(count)]
    middle = np.mean(honest, axis=0, dtype=np.float64)
    hostile = [middle * draw(LIES) + draw(LIES) * rng.standard_normal(6) for _ in range(f)]
    return honest, [np.clip(vector, -3e38, 3e38).astype(np.float32) for vector in hostile]


def result_of(rule: str, vectors: list[Array], before: float = 3.0) -> Array:
    given = {rank: {"w": vector} for rank, vector in enumerate(vectors)}
    start = {"w": np.full_like(vectors[0], before)}
    return RULES[rule].make(spec(rule)).aggregate(updates(given, start, 0)).state["w"].astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(["median", "trimmed_mean", "bulyan"]))
def test_no_number_leaves_the_range_of_the_honest_whatever_f_clients_send(data: st.DataObject, rule: str) -> None:
    """Bulyan's may, by at most the range's width: the values that it averages are as near to the median as an honest
    one, and the median is in the range, but a hostile one may be on its other side."""
    honest, hostile = data.draw(rounds(rule))
    result = result_of(rule, data.draw(st.permutations([*honest, *hostile])))
    low, high = np.min(honest, axis=0), np.max(honest, axis=0)
    slack = 1e-5 + (high - low if rule == "bulyan" else 0)
    assert np.all(result >= low - slack) and np.all(result <= high + slack)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(ROBUST))
def test_the_result_stays_near_the_honest_whatever_f_clients_send(data: st.DataObject, rule: str) -> None:
    honest, hostile = data.draw(rounds(rule))
    everyone = data.draw(st.permutations([*honest, *hostile]))
    n, f = len(everyone), len(hostile)
    apart = max(float(np.linalg.norm(a.astype(np.float64) - b)) for a in honest for b in honest)
    norms = max(float(np.linalg.norm(a - 3.0)) for a in honest)
    bound = {"geometric_median": 2 * (n - f) / (n - 2 * f) * apart, "norm_clipping": norms + apart}
    gone = float(np.linalg.norm(result_of(rule, everyone) - np.mean(honest, axis=0)))
    assert gone <= bound.get(rule, np.sqrt(n + 6) * apart) * (1 + 1e-5)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([rule for rule in RULES if rule != "samples"]))
def test_it_moves_with_the_model_and_asks_not_who_sent_what(data: st.DataObject, rule: str) -> None:
    """But for ties, which Krum has with one neighbour, as Bulyan always does in the end: the lower rank is taken."""
    honest, _ = data.draw(rounds(rule))
    vectors = [*honest, *(vector + 1 for vector in honest), *(vector / 2 for vector in honest)]
    result = result_of(rule, vectors)
    moved = result_of(rule, [vector + 8 for vector in vectors], before=11.0)
    np.testing.assert_allclose(moved - 8, result, rtol=1e-4, atol=1e-4)
    others = result_of(rule, data.draw(st.permutations(vectors)))
    if rule != "bulyan":
        np.testing.assert_allclose(others, result, rtol=1e-5, atol=1e-5)


LARGEST = np.iinfo(np.int64).max


@pytest.mark.parametrize(
    ("name", "lie"),
    [("bn.tracked", LARGEST), ("bn.tracked", -LARGEST), ("moments.steps", LARGEST), ("bn.running_mean", 3e38),
     ("moments.first", 3e38), ("half", 6e4)],
)  # fmt: skip
@pytest.mark.parametrize("rule", ROBUST)
def test_no_part_of_a_state_is_a_back_door(rule: str, name: str, lie: float) -> None:
    """A client that is honest but for one tensor, and right in the middle with all others."""
    rng = np.random.Generator(np.random.Philox(5))
    honest = {
        rank: {n: t + rng.normal(0, 0.01, t.shape).astype(t.dtype) if t.dtype.kind == "f" else t
               for n, t in state(1).items()}
        for rank in range(fewest(rule))
    }  # fmt: skip
    f = spec(rule).hostile
    given = {**honest, **{rank: {**state(1), name: np.full_like(state(1)[name], lie)} for rank in range(f)}}
    result = made(rule, given, state(1)).state[name].astype(np.float64)
    np.testing.assert_allclose(result, state(1)[name].astype(np.float64), atol=0.2)


def test_a_client_weighs_no_more_than_the_most_samples_that_count() -> None:
    given = updates({0: state(0), 1: state(1)})
    given = Updates(given.states, {0: 100, 1: 10**12}, given.before)
    assert RULES["samples"].make(spec("samples", most_samples=300)).aggregate(given).weights == {0: 0.25, 1: 0.75}


def test_each_rule_needs_the_clients_that_its_paper_says() -> None:
    needed = {name: [rule.fewest(f) for f in (0, 1, 3)] for name, rule in RULES.items()}
    assert needed == {
        "uniform": [1, 1, 1], "samples": [1, 1, 1], "median": [1, 3, 7], "trimmed_mean": [1, 3, 7],
        "krum": [3, 5, 9], "multi_krum": [3, 5, 9], "geometric_median": [1, 3, 7], "norm_clipping": [1, 3, 7],
        "nearest_mixing": [1, 3, 7], "bulyan": [3, 7, 15],
    }  # fmt: skip
