from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch

from heron_core.errors import TensorError
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_server.aggregation.aggregator import Updates
from heron_server.aggregation.client_states import ClientStates
from heron_server.aggregation.mean import Mean, uniform
from heron_server.planning.client_state import client_state, state_bytes
from heron_server.planning.measuring import measure_model
from heron_server.training.trainer import Trainer

FRONT, HEAD = ["front.0.weight", "front.0.bias"], ["auxiliary.weight", "auxiliary.bias"]
BACK = ["back.0.weight", "back.0.bias", "back.2.weight", "back.2.bias"]
ADAM = ["moments.first", "moments.second", "moments.steps"]
KEPT = {"name": "heron", "moments": "kept"}


def states(**method: Any) -> ClientStates:
    return made(tiny.spec(method=method))[0]


def made(spec: RunSpec) -> tuple[ClientStates, SplitModel]:
    model = tiny.mlp()
    start = Trainer(spec, model, torch.device("cpu")).client_tensors()
    most_steps = spec.rounds * spec.method.local_steps
    return ClientStates(spec.method, most_steps, start.tensors, start.buffers), model


def advance(held: ClientStates, given: dict[int, dict[str, Any]], shared: dict[str, Any] | None = None) -> None:
    """The version after the first, by the uniform mean."""
    parts = {rank: held.averaged_part(state) for rank, state in given.items()}
    before = held.averaged_part(held.common(0))
    averaged = Mean(uniform).aggregate(Updates(parts, dict.fromkeys(given, 1), before, held.buffers)).state
    held.advance(0, averaged, shared or {}, given, {})


def update(held: ClientStates, add: float, rank: int = 0, version: int = 0) -> dict[str, Any]:
    fetched = held.of(version, rank)
    return {name: (fetched[name] + add).astype(dtype) for name, dtype, _ in held.expected_update}


@pytest.mark.parametrize(
    ("method", "down", "up"),
    [
        ({}, FRONT + HEAD, FRONT + HEAD),
        ({"name": "cse_fsl"}, FRONT + HEAD, FRONT + HEAD),
        ({"name": "fsl_sage"}, FRONT + HEAD, FRONT),
        ({"name": "sflv1"}, FRONT, FRONT),
        ({"name": "sflv2", "moments": "averaged"}, FRONT + ADAM, FRONT + ADAM),
        ({"name": "fedavg"}, FRONT + BACK, FRONT + BACK),
        ({"name": "frozen"}, FRONT + HEAD, []),
        ({"auxiliary_update": "zo"}, FRONT + HEAD, FRONT + HEAD),
        ({"auxiliary_update": "server"}, FRONT + HEAD, FRONT),
        ({"auxiliary_update": "aligned", "moments": "kept"}, FRONT + HEAD + ADAM, FRONT + ADAM),
        ({"moments": "kept", "optimizer": {"name": "sgd"}}, FRONT + HEAD, FRONT + HEAD),
        (
            {"moments": "kept", "optimizer": {"name": "sgd", "momentum": 0.5}},
            [*FRONT, *HEAD, "moments.velocity"], [*FRONT, *HEAD, "moments.velocity"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_what_goes_down_and_what_comes_up_is_the_method_s(
    method: dict[str, Any], down: list[str], up: list[str]
) -> None:
    held = states(**method)
    assert list(held.of(0, 0)) == list(held.of(0, None)) == down
    assert [name for name, _, _ in held.expected_update] == up


@pytest.mark.parametrize("name", ["heron", "cse_fsl", "fsl_sage", "sflv1", "fedavg", "frozen"])
@pytest.mark.parametrize("moments", ["reset", "kept"])
def test_the_plan_counts_the_bytes_that_really_travel(name: str, moments: str) -> None:
    spec = tiny.spec(method={"name": name, "moments": moments})
    held, model = made(spec)
    planned = state_bytes(client_state(spec.method, measure_model(model, spec.seed)))
    assert planned.down == sum(t.nbytes for t in held.of(0, 0).values())
    assert planned.up == sum(t.nbytes for t in update(held, 0).values())


@pytest.mark.parametrize(
    ("method", "size"),
    [({}, 57), ({"auxiliary_update": "zo"}, 57), ({"auxiliary_update": "server"}, 36),
     ({"name": "fsl_sage"}, 36), ({"name": "sflv1"}, 36), ({"name": "fedavg"}, 36 + 49 + 24)],
)  # fmt: skip
def test_moments_cover_what_the_client_s_optimiser_moves_and_start_at_zero(method: dict[str, Any], size: int) -> None:
    fetched = states(**method, moments="kept").of(0, 0)
    assert [(fetched[n].dtype, fetched[n].shape) for n in ADAM] == [
        (np.float32, (size,)), (np.float32, (size,)), (np.int64, ()),
    ]  # fmt: skip
    assert not any(fetched[n].any() for n in ADAM)


def test_kept_tensors_come_back_to_their_own_client_and_the_average_to_all() -> None:
    held = states(**KEPT)
    given = {0: update(held, 1.0), 2: update(held, 5.0)}
    advance(held, given)
    for rank, first in ((0, 1.0), (1, 0.0), (2, 5.0)):
        fetched = held.of(1, rank)
        assert np.all(fetched["moments.first"] == first) and fetched["moments.steps"] == first
        np.testing.assert_allclose(fetched[FRONT[0]], held.of(0, rank)[FRONT[0]] + 3.0, rtol=1e-6)
        assert list(fetched) == FRONT + HEAD + ADAM
    assert np.all(held.of(0, 0)["moments.first"] == 0), "the older version is as it was"


def test_averaged_moments_are_common_and_steps_the_maximum() -> None:
    held = states(name="heron", moments="averaged")
    given = {0: update(held, 1.0), 1: update(held, 4.0)}
    advance(held, given)
    for rank in (0, 1, 2):
        assert np.all(held.of(1, rank)["moments.first"] == 2.5) and held.of(1, rank)["moments.steps"] == 4


def test_shared_tensors_are_the_server_s_and_updates_may_be_empty() -> None:
    held = states(name="frozen")
    shared = {n: t + 2 for n, t in held.common(0).items()}
    advance(held, {0: {}, 1: {}}, shared)
    assert all(np.array_equal(t, shared[n]) for n, t in held.of(1, 0).items())


def test_own_tensors_are_one_client_s_alone() -> None:
    held = states(name="fsl_sage")
    given = {0: update(held, 1.0), 1: update(held, 1.0)}
    advance(held, given)
    assert list(held.own(1, 0)) == HEAD
    held.set_own(1, 0, {n: t + 9 for n, t in held.own(1, 0).items()})
    np.testing.assert_array_equal(held.of(1, 0)[HEAD[0]], held.of(0, 0)[HEAD[0]] + 9)
    np.testing.assert_array_equal(held.of(1, 1)[HEAD[0]], held.of(0, 1)[HEAD[0]])
    assert not set(HEAD) & set(held.common(1)), "own heads are not in the model's fingerprint"


def test_a_checkpoint_gives_every_client_its_own_state_back() -> None:
    held = states(**KEPT)
    given = {0: update(held, 1.0), 12: update(held, 5.0)}
    advance(held, given)
    saved = held.tensors(1)
    assert {"clients.12.moments.first", "clients.0.moments.steps"} <= set(saved)
    again = states(**KEPT)
    assert not again.mismatches(saved)
    again.load(1, dict(reversed(saved.items())))
    for rank in (0, 1, 12):
        before, after = held.of(1, rank), again.of(1, rank)
        assert list(before) == list(after) and all(np.array_equal(t, after[n]) for n, t in before.items())


@pytest.mark.parametrize("harm", ["client.front.0.weight", "clients.0.moments.first", "clients.0.unknown"])
def test_a_checkpoint_that_does_not_fit_is_told_by_name(harm: str) -> None:
    held = states(**KEPT)
    given = {0: update(held, 1.0)}
    advance(held, given)
    assert states(**KEPT).mismatches({**held.tensors(1), harm: np.zeros(3, np.float32)}) == [harm]
    without = {name: t for name, t in held.tensors(1).items() if name != harm}
    assert states(**KEPT).mismatches(without) == ([] if harm == "clients.0.unknown" else [harm])


def test_a_client_whose_head_was_aligned_but_whose_update_never_counted_has_no_moments_in_the_checkpoint() -> None:
    held = states(name="fsl_sage", moments="kept")
    held.set_own(0, 1, held.own(0, 1))
    assert states(name="fsl_sage", moments="kept").mismatches(held.tensors(0)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("moments.second", -1.0), ("moments.steps", -1), ("moments.steps", 2**63 - 1), ("front.0.bias", np.nan)],
)
def test_values_that_no_client_reaches_are_refused(name: str, value: float) -> None:
    held = states(**KEPT)
    spoiled = update(held, 0.0)
    spoiled[name] = np.full_like(spoiled[name], value)
    with pytest.raises(TensorError, match=f"tensor {name} must"):
        held.check_values(spoiled, "client 'a'")


def test_a_batch_counter_that_no_client_reaches_is_refused() -> None:
    """By maximum it would be everybody's for good."""
    spec, model = tiny.spec(method={"batch_size": 4, "micro_batch": 2, "ghost_batch_norm": True}), tiny.conv("batch")
    start = Trainer(spec, model, torch.device("cpu")).client_tensors()
    held = ClientStates(spec.method, 5, start.tensors, start.buffers)
    [name, *_] = [n for n in start.tensors if n.endswith("num_batches_tracked")]
    for count in (0, 10):
        held.check_values({**start.tensors, name: np.array(count)}, "client 'a'")
    for count in (-1, 11, 2**63 - 1):
        with pytest.raises(TensorError, match=rf"tensor {name} must lie in 0\.\.10, the run's batches, got {count}"):
            held.check_values({**start.tensors, name: np.array(count)}, "client 'a'")
