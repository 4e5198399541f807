"""Slopes on the server's cut gradient: what they cost, what is held meanwhile, and that they are those of its loss."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import plain
import pytest
import tiny
import torch
from client.compute.made import backend_of, same
from torch import Tensor, nn

from heron_client.compute.backend import MicroBatch
from heron_client.compute.backends.torch_backend import TorchBackend
from heron_client.compute.batch import Batch
from heron_client.compute.client_state import ClientState
from heron_client.compute.steps import make_stepper
from heron_core.arrays import Array, TensorSpec
from heron_core.errors import DataError
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import RunSpec
from heron_core.streams import direction, generator

ROWS = 4
SCOPES = pytest.mark.parametrize("scope", ["batch", "micro_batch"])
PATH = ("round", 1, "client", 0, "step", 0)


def spec_of(scope: str = "batch", micro_batch: int = 2, lr: float = 1.0, **zo: Any) -> RunSpec:
    """With plain gradient descent, so that a step shows the gradient."""
    zo = {"scope": scope, "mu": 1e-2, **zo}
    optimizer = {"name": "sgd", "lr": lr, "momentum": 0.0}
    return tiny.spec(method={"objective": "cut_gradient", "micro_batch": micro_batch, "zo": zo, "optimizer": optimizer})


def batch_of(spec: RunSpec, model: SplitModel) -> Batch:
    (x,), labels = tiny.source(model).batch(np.arange(ROWS))
    rows = spec.method.micro_batch_rows
    micro_batches = [
        MicroBatch((x[i : i + rows],), labels[i : i + rows], (*PATH, "masks", number))
        for number, i in enumerate(range(0, ROWS, rows))
    ]
    return Batch(PATH, micro_batches, ROWS, sends=True, lr=spec.method.optimizer.lr)


class OneStep:
    """Up to where the step waits, and from there to its end."""

    def __init__(self, spec: RunSpec, model: SplitModel) -> None:
        self.spec, self.model, self.backend = spec, model, backend_of(spec, model)
        self.stepper = make_stepper(spec.method, spec.seed, ClientState(self.backend, spec.method))
        self.batch = batch_of(spec, model)
        self.began = self.backend.theta()
        self.steps = self.stepper.step(self.batch)

    def until_it_waits(self) -> list[list[Array]]:
        sent = []
        while activations := next(self.steps):
            sent.append(list(activations))
            activations.clear()
        return sent

    def answered(self, gradients: list[Array]) -> Array:
        """The gradient [D] that it stepped along."""
        with pytest.raises(StopIteration) as end:
            self.steps.send((2.5, gradients))
        assert end.value.value == 2.5 and gradients == [], "the server's loss; the gradients are let go"
        return self.began - self.backend.theta()

    def gradients_at_cut(self) -> list[Array]:
        """Some gradients, as a server's would be: those of a mean over the batch."""
        rng = np.random.default_rng(3)
        specs = [spec for spec in self.model.activations if spec.is_floating]
        return [(rng.standard_normal((ROWS, *s.shape)) / ROWS).astype(s.dtype) for s in specs]

    def true_gradients(self, gradients: list[Array]) -> list[Array]:
        """Autograd's, for each micro-batch what its own rows of the cut gradient give."""
        front = self.model.build("front", self.spec.seed).train()
        found, start = [], 0
        for micro_batch in self.batch.micro_batches:
            z = front(torch.from_numpy(micro_batch.inputs[0]))
            floats = [t for t in (z if isinstance(z, tuple) else (z,)) if t.is_floating_point()]
            own = [torch.from_numpy(g[start : start + micro_batch.rows]) for g in gradients]
            each = torch.autograd.grad(floats, list(front.parameters()), own)
            found.append(torch.cat([g.reshape(-1) for g in each]).numpy())
            start += micro_batch.rows
        return found


# -- what it costs, and what it leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize(("difference", "each"), [("forward", 1), ("central", 2)])
@pytest.mark.parametrize("q", [1, 3])
@SCOPES
def test_the_front_alone_runs_in_q_and_one_passes_without_a_graph(
    scope: str, q: int, difference: str, each: int
) -> None:
    spec, model = spec_of(scope, num_directions=q, difference=difference), tiny.mlp()
    backend, local = plain.local_round(spec, model)
    rows, packed, graphs = [], [], []

    def seen(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        rows.append(len(inputs[0]))
        graphs.append(out.requires_grad or torch.is_grad_enabled())

    backend.modules.front.register_forward_hook(seen)
    back = plain.Back(spec, model)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        uploads = plain.drive(local, _Constant(back))
    assert list(backend.modules.net) == ["front"]
    assert sum(rows) == (q * each + 1) * ROWS * spec.method.local_steps and not any(graphs) and not packed
    assert local.figures.forward_passes == (q * each + 1) * spec.method.local_steps
    assert [len(u.gradients) for u in uploads] == [1] * spec.method.local_steps, "small micro-batches travel together"


class _Constant(plain.Back):
    """Answers without a graph of its own."""

    def __init__(self, back: plain.Back) -> None:
        pass

    def answer(self, activations: Array, labels: Array) -> Any:
        return 1.0, [np.full_like(activations, 0.1)]


@SCOPES
def test_all_probes_are_done_before_it_waits_and_no_activations_are_held_then(scope: str) -> None:
    step = OneStep(spec_of(scope, num_directions=2), tiny.mlp())
    calls: list[int] = []
    step.backend.modules.front.register_forward_hook(lambda *_: calls.append(1))
    held = [weakref.ref(array) for arrays in step.until_it_waits() for array in arrays]
    gc.collect()
    assert len(calls) == 2 * (1 + 2) and all(ref() is None for ref in held)
    assert np.array_equal(step.backend.theta(), step.began), "no probe is left in the parameters"
    step.answered(step.gradients_at_cut())
    assert len(calls) == 2 * (1 + 2)


@SCOPES
def test_only_base_forwards_move_running_statistics(scope: str) -> None:
    step = OneStep(spec_of(scope, mu=1.0, num_directions=2, difference="central"), tiny.conv("batch"))
    step.until_it_waits()
    front = step.model.build("front", step.spec.seed).train()
    with torch.inference_mode():
        for micro_batch in step.batch.micro_batches:
            front(torch.from_numpy(micro_batch.inputs[0]))
    wanted = {name: buffer.numpy() for name, buffer in front.named_buffers(prefix="front")}
    assert same(step.backend.buffers(), wanted)


def test_a_probe_has_the_base_forward_s_dropout_masks() -> None:
    step = OneStep(spec_of(mu=1e-30, num_directions=2), tiny.mlp(dropout=0.5))
    step.until_it_waits()
    assert not step.answered(step.gradients_at_cut()).any(), "theta + mu u is theta, so that nothing differs"


# -- that the slopes are those of the server's loss ----------------------------------------------------------------


class Linear(nn.Module):
    """Two outputs that are linear in the parameters, and an integer one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 6), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.one(x), x.argmax(1), self.two(x)


def linear() -> SplitModel:
    activations = (TensorSpec("one", (6,)), TensorSpec("place", (), "int64"), TensorSpec("two", (2,)))
    return replace(tiny.mlp(), front=Linear, activations=activations)


@pytest.mark.parametrize("difference", ["forward", "central"])
@SCOPES
def test_of_a_linear_front_each_slope_is_exact_over_all_floats_at_the_cut(scope: str, difference: str) -> None:
    step = OneStep(spec_of(scope, difference=difference, distribution="rademacher"), linear())
    step.until_it_waits()
    gradients = step.gradients_at_cut()
    true = step.true_gradients(gradients)
    found = step.answered(list(gradients))
    expected = np.zeros_like(found)
    for number, own in enumerate([sum(true)] if scope == "batch" else true):
        path = (*PATH, "direction", 0, *(() if scope == "batch" else ("piece", number)))
        u = direction("rademacher", len(found), generator(step.spec.seed, *path))
        expected += np.float32(own @ u) * u
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("distribution", ["sphere", "gaussian", "rademacher"])
@SCOPES
def test_the_mean_over_many_directions_is_the_backpropagated_gradient(scope: str, distribution: str) -> None:
    q = 400
    step = OneStep(spec_of(scope, num_directions=q, mu=2e-3, distribution=distribution), tiny.mlp())
    step.until_it_waits()
    gradients = step.gradients_at_cut()
    true = np.array(step.true_gradients(gradients))
    found, wanted = step.answered(gradients), true.sum(0)
    groups = wanted[None] if scope == "batch" else true
    # One direction's error is about sqrt(size + 1) gradients of its group at most; four standard errors.
    bound = 4 * ((len(wanted) + 1) / q) ** 0.5 * np.linalg.norm(groups) + 2e-2 * np.linalg.norm(wanted)
    assert np.linalg.norm(found - wanted) < bound
    assert found @ wanted > 0.8 * np.linalg.norm(found) * np.linalg.norm(wanted)


def test_normalise_divides_by_the_spread_of_the_step_s_slopes() -> None:
    found = []
    for normalise in (False, True):
        step = OneStep(spec_of("micro_batch", num_directions=3, normalise=normalise), tiny.mlp())
        step.until_it_waits()
        found.append(step.answered(step.gradients_at_cut()))
    ratios = found[0] / found[1]
    assert np.allclose(ratios, ratios[0], rtol=1e-2) and not np.isclose(ratios[0], 1.0)


def test_a_perturbation_that_overflows_is_a_data_error_naming_round_and_step() -> None:
    step = OneStep(spec_of(mu=3e38, distribution="rademacher"), linear())
    step.until_it_waits()
    with pytest.raises(DataError, match="round 1, step 0: the slope on the cut gradient must be finite"):
        step.steps.send((1.0, step.gradients_at_cut()))


def test_the_server_s_loss_is_what_the_figures_say() -> None:
    spec, model = spec_of(lr=1e-3), tiny.mlp()
    _, local = plain.local_round(spec, model)
    plain.drive(local, _Constant(plain.Back(spec, model)))
    assert local.figures.losses == [1.0] * spec.method.local_steps


def test_a_backend_is_asked_for_passes_of_the_front_and_for_nothing_else() -> None:
    class InferenceOnly(TorchBackend):
        def forward(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("there is no head")

        head_gradient = loss_gradient = cut_pass = forward

    step = OneStep(spec_of(), tiny.mlp())
    step.backend.__class__ = InferenceOnly
    step.until_it_waits()
    assert step.answered(step.gradients_at_cut()).any()
