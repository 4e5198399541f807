"""What a client fetches, keeps and gives back, for each method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plain
import pytest
import tiny
import torch
from client.compute.made import backend_of, round_of, same
from torch import nn

from heron_client.compute.client_state import ClientState
from heron_client.compute.steps.moving import Moving
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec

FRONT = ["front.0.weight", "front.0.bias"]
HEAD = ["auxiliary.weight", "auxiliary.bias"]
BACK = ["back.0.weight", "back.0.bias", "back.2.weight", "back.2.bias"]
MOMENTS = ["moments.first", "moments.second", "moments.steps"]


def state_of(spec: RunSpec, model: SplitModel | None = None) -> ClientState:
    return ClientState(backend_of(spec, model or tiny.mlp()), spec.method)


def names_of(state: ClientState) -> list[str]:
    return [name for name, _, _ in state.expected]


@pytest.mark.parametrize(
    ("method", "down", "up"),
    [
        ({"name": "heron"}, FRONT + HEAD, FRONT + HEAD),
        ({"name": "heron", "auxiliary_update": "zo"}, FRONT + HEAD, FRONT + HEAD),
        ({"name": "heron", "auxiliary_update": "server"}, FRONT + HEAD, FRONT),
        ({"name": "heron", "auxiliary_update": "aligned"}, FRONT + HEAD, FRONT),
        ({"name": "cse_fsl"}, FRONT + HEAD, FRONT + HEAD),
        ({"name": "fsl_sage"}, FRONT + HEAD, FRONT),
        ({"name": "sflv1"}, FRONT, FRONT),
        ({"name": "sflv2"}, FRONT, FRONT),
        ({"name": "fedavg"}, FRONT + BACK, FRONT + BACK),
        ({"name": "frozen"}, FRONT + HEAD, []),
    ],
)
def test_each_method_s_state_comes_down_and_what_is_the_client_s_goes_up(method: Any, down: Any, up: Any) -> None:
    state = state_of(tiny.spec(method=method))
    assert names_of(state) == down
    assert list(state.update({})) == up


def test_buffers_stand_after_the_parameters_of_all_parts_and_moments_last() -> None:
    names = names_of(state_of(tiny.spec(method={"name": "fedavg", "moments": "averaged"}), tiny.conv("batch")))
    kinds = ["moments" if n.startswith("moments") else "buffer" if ".running" in n or "num_" in n else "parameter"
             for n in names]  # fmt: skip
    assert kinds == sorted(kinds, key=["parameter", "buffer", "moments"].index)
    assert {n.split(".")[0] for n, kind in zip(names, kinds, strict=True) if kind == "buffer"} == {"front", "back"}


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [({"name": "adam"}, MOMENTS), ({"name": "sgd", "momentum": 0.9}, ["moments.velocity"]), ({"name": "sgd"}, [])],
)
@pytest.mark.parametrize(("name", "size"), [("cse_fsl", 57), ("fsl_sage", 36), ("fedavg", 36 + 73)])
def test_moments_that_persist_travel_at_the_size_of_what_moves(
    name: str, size: int, optimizer: Any, names: Any
) -> None:
    state = state_of(tiny.spec(method={"name": name, "optimizer": optimizer, "moments": "kept"}))
    moments = [(n, dtype, shape) for n, dtype, shape in state.expected if n.startswith("moments.")]
    assert moments == [(n, "int64", ()) if n == "moments.steps" else (n, "float32", (size,)) for n in names]


@pytest.mark.parametrize("moments", ["kept", "averaged"])
@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "sgd", "lr": 0.1, "momentum": 0.9}])
def test_two_rounds_with_moments_that_persist_are_one_long_round(moments: str, optimizer: Any) -> None:
    common = {"name": "cse_fsl", "moments": moments, "optimizer": optimizer}
    long, once = tiny.spec(method={**common, "local_steps": 4}), tiny.spec(method={**common, "local_steps": 2})
    model = tiny.mlp()
    zero = {n: np.zeros(shape, dtype) for n, dtype, shape in state_of(long).expected}
    backend, local = plain.local_round(long, model, start := {**zero, **backend_of(long, model).state()})
    plain.drive(local)
    expected = {**backend.state(), **local.update()}
    _, first = plain.local_round(once, model, start)
    plain.drive(first)
    state = first.update()
    _, second = plain.local_round(once, model, state, round_number=2)
    plain.drive(second)
    assert same(second.update(), expected)


def test_moments_that_are_reset_neither_come_nor_go() -> None:
    spec, model = tiny.spec(method={"name": "cse_fsl"}), tiny.mlp()
    _, local = plain.local_round(spec, model)
    plain.drive(local)
    assert not [name for name in names_of(state_of(spec)) if name.startswith("moments")]
    assert list(local.update()) == FRONT + HEAD


@pytest.mark.parametrize("keeps", [True, False])
def test_a_frozen_client_moves_its_running_statistics_or_normalises_by_those_it_has(keeps: bool) -> None:
    spec = tiny.spec(method={"name": "frozen", "running_statistics": "keep" if keeps else "update"})
    model = tiny.conv("batch")
    backend, local = plain.local_round(spec, model)
    before = backend.state()
    (upload, *_) = plain.drive(local)
    after = backend.state()
    assert same(before, after) == keeps
    assert sorted(local.update()) == ([] if keeps else sorted(n for n in before if "running" in n or "num_" in n))
    x, _ = tiny.source(model).batch(local._batches._order.at(0))
    by_running_statistics = np.array_equal(upload.tensors["activations"], backend.evaluation_activations(x)[0])
    assert by_running_statistics == keeps


def test_a_frozen_client_that_keeps_its_statistics_keeps_them_after_an_evaluation() -> None:
    spec = tiny.spec(method={"name": "frozen", "running_statistics": "keep"})
    backend, local = plain.local_round(spec, tiny.conv("batch"))
    before = backend.state()
    backend.evaluation_activations(tiny.source(tiny.conv("batch")).batch(np.arange(3))[0])
    plain.drive(local)
    assert same(before, backend.state())


class Counting(nn.Module):
    """Its buffer counts forward passes and decides what it gives; it is saved, and nobody learns it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 6)
        self.register_buffer("passes", torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return torch.tanh(self.linear(x)) * self.passes


@pytest.mark.parametrize("method", [{"name": "heron"}, {"name": "cse_fsl"}], ids=lambda m: m["name"])
def test_a_buffer_that_does_not_travel_starts_each_round_as_built(method: dict[str, Any]) -> None:
    model = replace(tiny.mlp(), front=Counting, learned=lambda name: False)
    spec = tiny.spec(method=method)
    backend, first = plain.local_round(spec, model)
    start = {name: array.copy() for name, array in backend.state().items()}
    assert "front.passes" not in start
    plain.drive(first)
    second = round_of(spec, backend, state=start)
    plain.drive(second)
    assert second.figures.losses == first.figures.losses


def test_a_probe_sees_the_buffers_of_the_base_point_whether_they_travel_or_not() -> None:
    model = replace(tiny.mlp(), front=Counting, learned=lambda name: False)
    backend, local = plain.local_round(tiny.spec(method={"name": "heron"}), model)
    plain.drive(local)
    assert backend.buffers()["front.passes"] == 1 + 4, "one base forward in each of four local steps"


def test_a_proximal_step_adds_the_exact_gradient_of_its_term_and_the_first_step_is_as_without() -> None:
    thetas = {}
    for proximal in (0.0, 0.5):
        spec = tiny.spec(method={"proximal": proximal, "optimizer": {"name": "sgd", "lr": 0.5}})
        backend = backend_of(spec, tiny.mlp())
        moving = Moving(ClientState(backend, spec.method))
        start, ones = moving.theta_D.copy(), np.ones_like(moving.theta_D)
        for _ in range(2):
            moving.step(ones.copy(), 0.5)
        thetas[proximal] = moving.theta_D - start
        assert np.array_equal(backend.theta(), moving.theta_D)
    np.testing.assert_allclose(thetas[0.0], -1.0, rtol=1e-5)
    np.testing.assert_allclose(thetas[0.5], -0.5 - 0.5 * (1 + 0.5 * -0.5), rtol=1e-5)
