"""The torch backend's parameters, buffers and evaluation; its passes are tested through the steps."""

from __future__ import annotations

import numpy as np
import tiny
import torch
from client.compute.made import backend_of, same


def test_theta_and_state_are_copies_and_round_trip() -> None:
    backend = backend_of(tiny.spec(), tiny.conv("batch"))
    state, theta_D = backend.state(), backend.theta()
    assert [(n, a.dtype.name, a.shape) for n, a in state.items()] == [tensor[:3] for tensor in backend.state_tensors]
    backend.set_theta(theta_D + 1)
    assert np.array_equal(backend.theta(), theta_D + 1)
    assert not same(state, backend.state())
    backend.load_state(state)
    assert np.array_equal(backend.theta(), theta_D) and same(state, backend.state())


def test_evaluation_uses_running_statistics_and_changes_nothing() -> None:
    model = tiny.conv("batch")
    backend = backend_of(tiny.spec(), model)
    before = backend.state()
    x, _ = tiny.source(model).batch(np.arange(5))
    (activations,) = backend.evaluation_activations(x)
    front = model.build("front", 0).eval()
    with torch.inference_mode():
        np.testing.assert_allclose(activations, front(torch.from_numpy(x[0])).numpy(), rtol=1e-5, atol=1e-6)
    assert activations.flags.c_contiguous
    assert same(before, backend.state()) and backend.modules.net.training


def test_parts_are_initialised_by_seed_whatever_was_drawn_before() -> None:
    first = backend_of(tiny.spec(seed=7), tiny.mlp()).state()
    torch.rand(3)
    assert same(first, backend_of(tiny.spec(seed=7), tiny.mlp()).state())
    assert not same(first, backend_of(tiny.spec(seed=8), tiny.mlp()).state())
